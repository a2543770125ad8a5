//! Commands of a home with a store that ask Vault.

use serde_json::{Value, json};

use super::homes::{agent, made, origin};
use crate::support::{Bao, Home, fresh_key};

#[track_caller]
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name}: {list}"))
}

#[test]
fn an_origin_is_asked_with_the_value_that_vault_has() {
    let Some(bao) = Bao::dev("an_origin_is_asked_with_the_value_that_vault_has") else { return };
    let (origin, key) = origin();
    let home = made(&bao, &origin, "");
    bao.put("secret/openrouter", &[("api_key", &key), ("other", "x")]);
    home.ok(&["credential", "add", "openrouter", "--vault", "secret/openrouter#api_key"]);
    assert_eq!(home.json(&["credential", "test", "openrouter"]), json!({ "name": "openrouter", "status": 200, "accepted": true }));
    assert_eq!(origin.last().values("authorization"), [format!("Bearer {key}")]);

    let bad = fresh_key();
    bao.put("secret/bad", &[("api_key", &bad), ("empty", " "), ("two", "a\nb")]);
    let before = home.json(&["credential", "list"]);
    for (place, words) in [
        ("secret/bad#api_key", &["401", "nothing was changed"][..]),
        ("secret/openrouter#nope", &["no field `nope`", "it has: api_key, other"]),
        ("secret/bad#empty", &["field `empty` of secret/bad", "is empty"]),
        ("secret/bad#two", &["control character"]),
        ("secret/none#api_key", &["nothing at secret/data/none", "vault kv put"]),
        ("secret/openrouter#api_key?version=9", &["no version 9"]),
        ("nowhere/x#f", &["vault secrets list"]),
    ] {
        let said = home.say(&["credential", "rotate", "openrouter", "--test", "--vault", place], "");
        said.expect_error(1);
        assert!(words.iter().all(|w| said.stderr.contains(w)) && said.stderr.lines().count() == 1, "{place}: {said:?}");
        assert!(!said.stderr.contains(&bad), "{said:?}");
        assert_eq!(home.json(&["credential", "list"]), before, "{place}");
    }
    bao.mount("old", &json!({ "type": "kv", "options": { "version": "1" } }));
    bao.api("POST", "old/openrouter", json!({ "k": key }));
    home.ok(&["credential", "rotate", "openrouter", "--test", "--vault", "old/openrouter#k"]);
    assert_eq!(home.json(&["credential", "show", "openrouter"])["source"], "vault:old/openrouter#k");

    bao.stop();
    for command in [&["credential", "test", "openrouter"][..], &["credential", "rotate", "openrouter", "--test", "--vault", "old/openrouter#k"]] {
        let said = home.say(command, "");
        said.expect_error(1);
        assert!(said.stderr.contains(&bao.addr()) && said.stderr.contains("VAULT_ADDR") && said.stderr.lines().count() == 1, "{said:?}");
    }
}

/// The fingerprint in `credential show`, and whether there was a warning.
#[track_caller]
fn fingerprint(home: &Home, name: &str) -> (Value, bool) {
    let said = home.say(&["credential", "show", name, "--json"], "");
    assert_eq!(said.code, 0, "{said:?}");
    (said.json()["fingerprint"].clone(), said.stderr.contains("warning"))
}

#[test]
fn show_asks_vault_for_the_fingerprint_and_list_does_not() {
    let Some(bao) = Bao::dev("show_asks_vault_for_the_fingerprint_and_list_does_not") else { return };
    let (origin, key) = origin();
    let home = made(&bao, &origin, "");
    bao.put("secret/a", &[("k", &key)]);
    home.ok(&["credential", "add", "there", "--allow", "a.example", "--vault", "secret/a#k"]);
    home.add_key("here", &["b.example"], &key);
    let reads = bao.requests("secret/");
    assert_eq!(named(&home.json(&["credential", "list"]), "there")["fingerprint"], Value::Null);
    assert_eq!(bao.requests("secret/"), reads, "a list asks nothing");
    assert_eq!(fingerprint(&home, "there"), fingerprint(&home, "here"), "one value, one key, one fingerprint");

    // Under the key that replicas share it is the same in every home.
    let shared = "signing_key = \"secret/keys\"\n";
    bao.put("secret/keys", &[("key", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")]);
    let homes = [made(&bao, &origin, shared), made(&bao, &origin, shared)];
    for home in &homes {
        home.ok(&["credential", "add", "there", "--allow", "a.example", "--vault", "secret/a#k"]);
    }
    let prints: Vec<_> = homes.iter().map(|h| fingerprint(h, "there")).collect();
    assert!(prints[0] == prints[1] && prints[0].0.is_string() && prints[0].0 != fingerprint(&home, "there").0, "{prints:?}");

    // What is made anew at each read has none, and is not made for this.
    bao.mount("ssh", &json!({ "type": "ssh" }));
    bao.api("POST", "ssh/roles/otp", json!({ "key_type": "otp", "default_user": "u", "cidr_list": "0.0.0.0/0" }));
    home.ok(&["credential", "add", "leased", "--allow", "c.example", "--vault", "ssh/creds/otp#key"]);
    let before = bao.requests("ssh/");
    assert_eq!((fingerprint(&home, "leased"), bao.requests("ssh/")), ((Value::Null, false), before));

    bao.delete("secret/a");
    assert_eq!(fingerprint(&home, "there"), (Value::Null, true));
    bao.stop();
    assert_eq!(fingerprint(&home, "there"), (Value::Null, true));
    assert!(home.ok(&["credential", "show", "there"]).contains("fingerprint  -"));
}

const FOLDERS: &str = "discover = \"secret/keyhatch\"\ndiscover_agents = \"secret/keyhatch-agents\"\n";

#[test]
fn lists_show_what_is_discovered_beside_what_is_stored() {
    let Some(bao) = Bao::dev("lists_show_what_is_discovered_beside_what_is_stored") else { return };
    let (origin, key) = origin();
    let home = made(&bao, &origin, FOLDERS);
    home.add_key("stored", &["example.net"], &key);
    bao.put("secret/keyhatch/openrouter", &[("api_key", &key)]);
    bao.put("secret/keyhatch/nohosts", &[("api_key", &key)]);
    bao.put("secret/keyhatch/stored", &[("api_key", &key)]);
    bao.custom_metadata("secret/keyhatch/stored", &[("allowed_domains", "example.com")]);
    bao.custom_metadata("secret/keyhatch/openrouter", &[("agents", "default builder")]);
    let token = agent(&bao, "builder");

    let said = home.say(&["credential", "list", "--json"], "");
    assert!(said.code == 0 && !said.stderr.contains(&key), "{said:?}");
    let warnings: Vec<_> = said.stderr.lines().collect();
    assert!(warnings.len() == 2 && warnings.iter().all(|w| w.starts_with("keyhatch: warning: ")), "{said:?}");
    assert!(warnings[0].contains("secret/keyhatch/nohosts: ") && warnings[1].contains("`stored` already"), "{said:?}");
    let list = said.json();
    assert_eq!(list.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect::<Vec<_>>(), ["openrouter", "stored"]);
    let found = named(&list, "openrouter");
    assert_eq!((&found["source"], &found["created_at"]), (&json!("vault:secret/keyhatch/openrouter#api_key"), &Value::Null));
    assert_eq!((&found["agents"], &found["can_roll_back"]), (&json!(["builder", "default"]), &json!(false)));
    assert_eq!(named(&list, "stored")["source"], "store");
    assert!(home.json(&["credential", "show", "openrouter"])["fingerprint"].is_string());
    assert_eq!(home.json(&["credential", "test", "openrouter"])["status"], 200);

    let agents = home.json(&["agent", "list"]);
    let (builder, default) = (named(&agents, "builder"), named(&agents, "default"));
    assert_eq!((&builder["source"], &builder["created_at"]), (&json!("vault:secret/keyhatch-agents/builder"), &Value::Null));
    assert_eq!(
        (&builder["grants"], &default["grants"], &default["source"]),
        (&json!(["openrouter"]), &json!(["openrouter", "stored"]), &json!("store"))
    );
    assert_eq!(&home.json(&["agent", "show", "builder"]), builder);
    assert!(!home.ok(&["agent", "show", "builder"]).contains(&token));
    let explained = home.json(&["policy", "explain", "--agent", "builder", "GET", "https://openrouter.ai/api/v1/models"]);
    assert_eq!((&explained["decision"], &explained["credential"]), (&json!("injected"), &json!("openrouter")));

    bao.stop();
    for command in [&["credential", "list"][..], &["agent", "list"], &["policy", "explain", "GET", "https://example.net/"]] {
        let said = home.say(&[command, &["--json"]].concat(), "");
        assert!(said.code == 0 && said.stderr.contains("warning") && said.stderr.contains(&bao.addr()), "{said:?}");
    }
    assert_eq!(home.json(&["credential", "list"]).as_array().unwrap().len(), 1, "the store's part is shown");
    home.say(&["credential", "show", "openrouter"], "").expect_error(4);
}

#[test]
fn what_is_discovered_is_changed_in_vault_and_the_commands_say_where() {
    let Some(bao) = Bao::dev("what_is_discovered_is_changed_in_vault_and_the_commands_say_where") else { return };
    let (origin, key) = origin();
    let home = made(&bao, &origin, FOLDERS);
    bao.put("secret/keyhatch/openrouter", &[("api_key", &key)]);
    agent(&bao, "builder");
    for command in [
        &["credential", "rotate", "openrouter"][..],
        &["credential", "rollback", "openrouter"],
        &["credential", "remove", "openrouter"],
        &["credential", "disable", "openrouter"],
        &["credential", "enable", "openrouter"],
        &["agent", "grant", "default", "openrouter"],
        &["agent", "revoke", "default", "openrouter"],
        &["agent", "add", "new", "--grant", "openrouter"],
    ] {
        let said = home.say(command, &key);
        said.expect_error(4);
        assert!(said.stderr.contains("discovered in Vault") && said.stderr.contains("secret/keyhatch/openrouter"), "{command:?}: {said:?}");
    }
    home.add_key("stored", &["example.net"], &key);
    for command in [&["agent", "grant", "builder", "stored"][..], &["agent", "rotate", "builder"], &["agent", "remove", "builder"]] {
        let said = home.say(command, "");
        said.expect_error(4);
        assert!(said.stderr.contains("discovered in Vault") && said.stderr.contains("secret/keyhatch-agents/builder"), "{command:?}: {said:?}");
    }
    // Of what is in neither place nothing is said of Vault, nor where Vault is away.
    let said = home.say(&["credential", "remove", "none"], "");
    assert!(said.code == 4 && !said.stderr.contains("discovered"), "{said:?}");
    bao.stop();
    let said = home.say(&["credential", "remove", "openrouter"], "");
    assert!(said.code == 4 && !said.stderr.contains("discovered"), "{said:?}");
}

#[test]
fn a_command_logs_in_once_and_ends_its_token() {
    let Some(bao) = Bao::dev("a_command_logs_in_once_and_ends_its_token") else { return };
    let (origin, key) = origin();
    bao.policy("keyhatch", "path \"secret/*\" { capabilities = [\"read\", \"list\"] }");
    let (role, secret) = bao.approle("keyhatch", &["keyhatch"], "1h", "1h");
    let file = bao.dir().join("secret-id");
    std::fs::write(&file, secret).unwrap();
    let auth = format!("auth = {{ method = \"approle\", role_id = \"{role}\", secret_id_file = \"{}\" }}\n{FOLDERS}", file.display());
    let mut home = made(&bao, &origin, &auth);
    home.set("VAULT_TOKEN", None);
    bao.put("secret/keyhatch/openrouter", &[("api_key", &key)]);
    home.ok(&["credential", "show", "openrouter"]);
    let asked: Vec<_> = bao.asked().into_iter().filter(|a| !a.own).map(|a| format!("{} {} {}", a.operation, a.path, a.by)).collect();
    let last = asked.last().unwrap();
    assert!(last == "update auth/token/revoke-self approle", "{asked:#?}");
    assert_eq!(bao.requests("auth/approle/login"), 1, "{asked:#?}");
}
