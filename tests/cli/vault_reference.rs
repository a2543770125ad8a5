//! `--vault`: where a secret is, not the secret. Nothing here has a Vault to ask.

use serde_json::{Value, json};

use crate::support::{Home, fresh_key, holds};

const PLACE: &str = "secret/team-x/openrouter#api_key";

/// What the audit log says of a credential's changes.
fn details(home: &Home, event: &str) -> Vec<String> {
    let text = std::fs::read_to_string(home.path().join("audit.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(|r| r["event"] == event);
    records.map(|r| r["detail"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn add_and_rotate_keep_the_place_and_ask_nobody() {
    let mut home = Home::with_key_file("");
    // Whoever asked there would be refused, and the command with it.
    home.set("VAULT_ADDR", Some("http://127.0.0.1:1"));
    let unread = fresh_key();
    let said = home.say(&["credential", "add", "openrouter", "--vault", PLACE], &unread);
    assert!(said.code == 0 && said.stdout.contains(&format!("vault:{PLACE}")), "{said:?}");
    assert!(said.stderr.contains("keyhatch credential test openrouter") && said.stderr.contains("keyhatch doctor"), "{said:?}");
    let shown = home.json(&["credential", "show", "openrouter"]);
    assert_eq!((&shown["source"], &shown["fingerprint"], &shown["broken"]), (&format!("vault:{PLACE}").into(), &Value::Null, &Value::Null));
    assert_eq!(details(&home, "credential.add"), [format!("*.openrouter.ai; vault:{PLACE}")]);
    let store = std::fs::read(home.store()).unwrap();
    assert!(!holds(&store, "team-x") && !holds(&store, "api_key"), "the place is sealed");
    assert!(home.files().iter().all(|(_, bytes)| !holds(bytes, &unread)), "standard input is not read");

    let key = fresh_key();
    let said = home.say(&["credential", "rotate", "openrouter"], &key);
    assert!(said.code == 0 && said.stderr.contains("now in the store, no longer in Vault"), "{said:?}");
    let print = home.json(&["credential", "show", "openrouter"])["fingerprint"].as_str().unwrap().to_owned();
    home.ok(&["credential", "rotate", "openrouter", "--vault", &format!("{PLACE}?version=3")]);
    let back = home.json(&["credential", "rollback", "openrouter"]);
    assert_eq!(back, json!({ "name": "openrouter", "source": "store", "fingerprint": print }));
    let forth = home.json(&["credential", "rollback", "openrouter"]);
    assert_eq!(forth, json!({ "name": "openrouter", "source": format!("vault:{PLACE}?version=3"), "fingerprint": null }));
    let said = details(&home, "credential.rotate");
    assert_eq!(said, [format!("fingerprint {print}"), format!("vault:{PLACE}?version=3")]);
    home.ok(&["store", "verify"]);
    home.ok(&["audit", "verify"]);
}

#[test]
fn the_place_goes_with_rekey_backup_and_restore() {
    let home = Home::with_key_file("");
    home.ok(&["credential", "add", "openrouter", "--vault", PLACE]);
    let before = home.json(&["credential", "list"]);
    let (backup, key) = (home.outside().join("b.db"), home.outside().join("new-key"));
    home.ok(&["store", "backup", backup.to_str().unwrap()]);
    home.ok(&["credential", "remove", "openrouter"]);
    home.ok(&["store", "restore", backup.to_str().unwrap()]);
    assert_eq!(home.json(&["credential", "list"]), before);
    home.ok(&["store", "rekey", "--new-key-file", key.to_str().unwrap()]);
    assert_eq!(home.json(&["credential", "list"]), before);
    home.ok(&["store", "verify"]);
}

#[test]
fn what_is_no_place_is_2_and_never_repeated() {
    let home = Home::with_key_file("");
    let key = fresh_key();
    for text in [key.as_str(), "", "openrouter", "secret/openrouter", "openrouter#f", "secret/../sys#f", "secret/x#", "secret/x#f?version=x"] {
        for command in [&["credential", "add", "x", "--allow", "a.example", "--vault"][..], &["credential", "rotate", "x", "--vault"]] {
            let said = home.say(&[command, &[text]].concat(), "");
            said.expect_error(2);
            assert!(said.stderr.contains("MOUNT/PATH#FIELD") && !said.stderr.contains(&key), "{text}: {said:?}");
        }
    }
    for other in [&["--allow-weak"][..], &["--from-env", "HOME"], &["--from-file", "/dev/null"]] {
        let said = home.say(&[&["credential", "add", "x", "--allow", "a.example", "--vault", PLACE], other].concat(), &key);
        assert_eq!(said.code, 2, "{other:?}: {said:?}");
    }
    assert_eq!(home.json(&["credential", "list"]), json!([]));
}
