//! A store that Vault's transit engine unlocks, through the binary.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::raw::PATIENCE;
use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Bao, Home, Origin, Said, Serve, fresh_key, holds, package_dir, within};

/// `[store]` of a home that Vault unlocks.
pub const STORE: &str = "[store]\nunlock = \"vault-transit\"\ntransit_key = \"keyhatch\"\n";

/// A server with the engine and a key.
#[track_caller]
pub fn server(test: &str) -> Option<Bao> {
    let bao = Bao::dev(test)?;
    bao.mount("transit", &json!({ "type": "transit" }));
    bao.api("POST", "transit/keys/keyhatch", Value::Null);
    Some(bao)
}

/// A home without a store, which knows where Vault is and has no passphrase.
pub fn bare(bao: &Bao, configuration: &str) -> Home {
    let mut home = Home::bare(configuration);
    home.set("KEYHATCH_PASSPHRASE", None);
    home.set("VAULT_ADDR", Some(&bao.addr()));
    home.set("VAULT_TOKEN", Some(bao.root_token()));
    home
}

/// A home whose store Vault opens, with one key in it.
#[track_caller]
fn sealed(bao: &Bao) -> Home {
    let home = bare(bao, STORE);
    home.ok(&["init"]);
    home.add_key("one", &["example.net"], &fresh_key());
    home
}

/// The command must fail as locked and name all of this, on one line.
#[track_caller]
fn locked(said: &Said, words: &[&str]) {
    said.expect_error(3);
    assert_eq!(said.stderr.trim_end().lines().count(), 1, "{said:?}");
    for word in words {
        assert!(said.stderr.contains(word), "{word}: {said:?}");
    }
}

#[track_caller]
fn listed(home: &Home) -> Value {
    home.json(&["credential", "list"])
}

fn copy_of(home: &Home, name: &str) -> String {
    home.outside().join(name).to_str().unwrap().to_owned()
}

/// The wrapped key, as it stands in the store's file.
#[track_caller]
fn ciphertext(home: &Home) -> String {
    let file = std::fs::read(home.store()).unwrap();
    let found = memchr::memmem::find_iter(&file, b"vault:v").map(|at| {
        let end = file[at..].iter().position(|b| !(b.is_ascii_alphanumeric() || b":+/=".contains(b))).unwrap();
        String::from_utf8(file[at..at + end].to_vec()).unwrap()
    });
    let found = found.collect::<Vec<_>>();
    assert_eq!(found.len(), 1, "it stands there once: {found:?}");
    found.into_iter().next().unwrap()
}

#[test]
fn serve_restarts_without_a_passphrase_under_the_shipped_policy() {
    let Some(bao) = server("serve_restarts_without_a_passphrase_under_the_shipped_policy") else { return };
    let policy = std::fs::read_to_string(package_dir().join("deploy/vault/keyhatch-policy.hcl")).unwrap();
    bao.policy("keyhatch", &policy.replace("\n#path \"transit/", "\npath \"transit/"));
    let (role_id, secret_id) = bao.approle("keyhatch", &["keyhatch"], "1h", "1h");
    let key = fresh_key();
    let origin = Origin::demanding(&HOSTS, &key);
    let mut home = bare(&bao, "");
    home.set("VAULT_TOKEN", None);
    let file = home.outside().join("secret-id");
    std::fs::write(&file, &secret_id).unwrap();
    let auth = format!("[vault.auth]\nmethod = \"approle\"\nrole_id = \"{role_id}\"\nsecret_id_file = \"{}\"\n", file.display());
    home.configure(&configuration(&home, &origin, &format!("{STORE}{auth}")));
    let said = home.say(&["init"], "");
    assert!(said.code == 0 && said.stdout.contains("sealed with the transit key transit/keyhatch of Vault"), "{said:?}");
    home.add_key("real", &["*.openrouter.ai"], &key);
    let mut log = String::new();
    for start in 0..2 {
        let mut serve = Serve::start(&home);
        assert_eq!(Agent::new(&home, &serve).get("openrouter.ai", "/").status, 200, "start {start}");
        assert_eq!(origin.last().values("authorization"), [format!("Bearer {key}")], "start {start}");
        serve.stop();
        log.push_str(&serve.log());
    }
    home.ok(&["run", "--", "true"]);
    let opened = bao.requests("transit/decrypt/keyhatch");
    assert!(opened >= 4, "init looks whether it opens, then each start, `credential add` and `run` ask: {opened}");
    assert_eq!(bao.requests("transit/encrypt/keyhatch"), 1);
    // The dev server ends a token too, as root.
    let ends = bao.asked().iter().filter(|asked| asked.path == "auth/token/revoke-self" && asked.by == "approle").count();
    let logins = bao.requests("auth/approle/login");
    assert_eq!(logins, ends, "each token of a log-in of our own is ended");
    // What Vault unwraps is nowhere but in memory.
    let wrapped = ciphertext(&home);
    let plain = bao.api("POST", "transit/decrypt/keyhatch", json!({ "ciphertext": wrapped }))["data"]["plaintext"].as_str().unwrap().to_owned();
    assert_eq!(plain.len(), 44, "32 bytes in base64");
    let files = home.files();
    assert!(!files.iter().any(|(_, bytes)| holds(bytes, &plain)));
    assert!(!log.contains(&plain) && !log.contains(&secret_id) && !log.contains(&wrapped), "{log}");
}

#[test]
fn a_vault_that_does_not_answer_leaves_the_store_locked() {
    let Some(bao) = server("a_vault_that_does_not_answer_leaves_the_store_locked") else { return };
    let mut home = sealed(&bao);
    let before = listed(&home);
    bao.seal();
    for command in [&["credential", "list"][..], &["store", "verify"], &["run", "--", "true"], &["store", "rekey", "--new-key-file"]] {
        locked(&home.say(command, ""), &["stays locked", "is sealed", "vault operator unseal"]);
    }
    bao.unseal();
    assert_eq!(listed(&home), before);
    bao.policy("nothing", "path \"secret/data/none\" { capabilities = [\"read\"] }");
    home.set("VAULT_TOKEN", Some(&bao.token(&["nothing"], "1h", None)));
    locked(&home.say(&["credential", "list"], ""), &["transit/decrypt/keyhatch", "capabilities = [\"update\"]"]);
    home.set("VAULT_TOKEN", None);
    locked(&home.say(&["credential", "list"], ""), &["no way to log in", "VAULT_TOKEN"]);
    home.set("VAULT_TOKEN", Some(bao.root_token()));
    bao.stop();
    locked(&home.say(&["credential", "list"], ""), &["cannot be reached", "VAULT_ADDR"]);
    let said = home.say(&["credential", "list", "--json"], "");
    let error: Value = serde_json::from_str(said.expect_error(3).stderr.trim()).unwrap();
    assert_eq!((&error["error"]["kind"], &error["error"]["exit_code"]), (&json!("locked"), &json!(3)));
}

#[test]
fn serve_waits_for_a_vault_that_is_starting() {
    let Some(bao) = server("serve_waits_for_a_vault_that_is_starting") else { return };
    let home = sealed(&bao);
    bao.seal();
    let log = home.outside().join(format!("serve-{}.log", std::process::id()));
    std::thread::scope(|scope| {
        let serve = scope.spawn(|| Serve::start(&home));
        within(PATIENCE, "serve says that it waits", || std::fs::read_to_string(&log).ok().filter(|l| l.contains("cannot be unlocked yet")));
        bao.unseal();
        let mut serve = serve.join().unwrap();
        assert_eq!(serve.log().matches("cannot be unlocked yet").count(), 1, "{}", serve.log());
        serve.stop();
    });
}

/// What `init` leaves in a home where it fails: the configuration that was there.
#[track_caller]
fn nothing_was_made(home: &Home) {
    let left = home.files().into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    assert_eq!(left, [home.path().join("keyhatch.toml")]);
}

#[test]
fn init_makes_nothing_where_vault_refuses() {
    let Some(bao) = Bao::dev("init_makes_nothing_where_vault_refuses") else { return };
    let mut home = bare(&bao, STORE);
    locked(
        &home.say(&["init"], ""),
        &["no engine of Vault is mounted at transit/", "`vault secrets enable transit`", "`vault write -f transit/keys/keyhatch`"],
    );
    nothing_was_made(&home);
    bao.mount("transit", &json!({ "type": "transit" }));
    bao.policy("encrypt", "path \"transit/encrypt/keyhatch\" { capabilities = [\"update\"] }");
    home.set("VAULT_TOKEN", Some(&bao.token(&["encrypt"], "1h", None)));
    locked(&home.say(&["init"], ""), &["transit/encrypt/keyhatch", "capabilities = [\"update\"]", "`vault write -f transit/keys/keyhatch`"]);
    bao.api("POST", "transit/keys/keyhatch", Value::Null);
    // It may encrypt now, and could never open the store.
    locked(&home.say(&["init"], ""), &["path \"transit/decrypt/keyhatch\" { capabilities = [\"update\"] }"]);
    nothing_was_made(&home);
    home.set("VAULT_TOKEN", Some(bao.root_token()));
    bao.seal();
    locked(&home.say(&["init"], ""), &["is sealed", "vault operator unseal"]);
    nothing_was_made(&home);
    // Not even the directory, where the configuration lies elsewhere.
    let (config, other) = (home.path().join("keyhatch.toml"), home.outside().join("other"));
    locked(&home.say(&["--home", other.to_str().unwrap(), "--config", config.to_str().unwrap(), "init"], ""), &["is sealed"]);
    assert!(!other.exists());
    bao.unseal();
    let said = home.say(&["init", "--key-file"], "");
    said.expect_error(2);
    assert!(said.stderr.contains("contradicts [store] unlock = \"vault-transit\""), "{said:?}");
    nothing_was_made(&home);
    home.ok(&["--home", other.to_str().unwrap(), "--config", config.to_str().unwrap(), "init"]);
    home.ok(&["init"]);
    home.ok(&["store", "verify"]);
}

/// `[store]` with these lines.
fn store(home: &Home, lines: &str) {
    home.configure(&format!("[store]\n{lines}"));
}

#[test]
fn rekey_goes_round_all_the_ways() {
    let Some(bao) = server("rekey_goes_round_all_the_ways") else { return };
    bao.mount("team/kms", &json!({ "type": "transit" }));
    bao.api("POST", "team/kms/keys/other", Value::Null);
    let mut home = bare(&bao, "");
    let file = copy_of(&home, "passphrase");
    std::fs::write(&file, "first passphrase\n").unwrap();
    home.ok(&["--passphrase-file", &file, "init"]);
    home.set("KEYHATCH_PASSPHRASE_FILE", Some(&file));
    let key = fresh_key();
    home.add_key("one", &["example.net"], &key);
    let before = listed(&home);
    let outdated = |said: &Said, lines: &str| {
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.stderr.contains("write there") && said.stderr.contains(lines), "{said:?}");
    };

    // No name anywhere is bad usage, as are two ways at once.
    home.say(&["store", "rekey", "--new-transit-key"], "").expect_error(2);
    home.say(&["store", "rekey", "--new-transit-key", "keyhatch", "--new-key-file", "/k"], "").expect_error(2);
    home.say(&["store", "rekey", "--new-transit-key", "../sys/seal"], "").expect_error(2);
    // From a passphrase, with a configuration that is ahead.
    home.configure(STORE);
    let said = home.say(&["store", "rekey", "--new-transit-key"], "");
    assert!(said.code == 0 && !said.stderr.contains("write there"), "{said:?}");
    locked(&home.say(&["credential", "list"], ""), &["transit key transit/keyhatch", "KEYHATCH_PASSPHRASE_FILE"]);
    locked(&home.say(&["--passphrase-file", &file, "credential", "list"], ""), &["transit key transit/keyhatch", "--passphrase-file"]);
    home.set("KEYHATCH_PASSPHRASE_FILE", None);
    assert_eq!(listed(&home), before);

    // To a key file, with a configuration that is behind.
    let key_file = copy_of(&home, "key-file");
    outdated(&home.say(&["store", "rekey", "--new-key-file", &key_file], ""), &format!("unlock = \"key-file\" and key_file = \"{key_file}\""));
    locked(&home.say(&["credential", "list"], ""), &["key-file", "unlock = \"vault-transit\""]);
    store(&home, "unlock = \"key-file\"\n");
    assert_eq!(listed(&home), before);
    assert!(!std::fs::read(home.store()).unwrap().windows(8).any(|w| w == b"vault:v1"));

    // To another engine's key, and from that to the first.
    outdated(
        &home.say(&["store", "rekey", "--new-transit-key", "team/kms/other"], ""),
        "unlock = \"vault-transit\" and transit_key = \"team/kms/other\"",
    );
    store(&home, "unlock = \"vault-transit\"\ntransit_key = \"team/kms/other\"\n");
    assert_eq!(listed(&home), before);
    outdated(&home.say(&["store", "rekey", "--new-transit-key", "keyhatch"], ""), "transit_key = \"transit/keyhatch\"");
    locked(&home.say(&["credential", "list"], ""), &["transit key transit/keyhatch", "transit_key = \"team/kms/other\""]);
    home.configure(STORE);
    assert_eq!(listed(&home), before);

    // A Vault that refuses changes nothing.
    let content = std::fs::read(home.store()).unwrap();
    let said = home.say(&["store", "rekey", "--new-transit-key", "nowhere/other"], "");
    locked(&said, &["nothing was changed", "`vault secrets enable -path=nowhere transit`"]);
    assert!(std::fs::read(home.store()).unwrap() == content);

    // And to a passphrase.
    outdated(&home.say(&["store", "rekey", "--new-passphrase-file", &file], ""), "unlock = \"passphrase\" and nothing else");
    home.configure("");
    home.set("VAULT_TOKEN", None);
    home.set("KEYHATCH_PASSPHRASE_FILE", Some(&file));
    assert_eq!(listed(&home), before);
    home.ok(&["store", "verify"]);
    home.ok(&["audit", "verify"]);
}

#[test]
fn a_key_that_is_rotated_goes_on_opening_until_vault_says_no() {
    let Some(bao) = server("a_key_that_is_rotated_goes_on_opening_until_vault_says_no") else { return };
    let home = sealed(&bao);
    let before = listed(&home);
    bao.api("POST", "transit/keys/keyhatch/rotate", Value::Null);
    assert_eq!(listed(&home), before);
    let least = |version: u64| bao.api("POST", "transit/keys/keyhatch/config", json!({ "min_decryption_version": version }));
    least(2);
    locked(&home.say(&["credential", "list"], ""), &["too old", "min_decryption_version=1", "keyhatch store rekey --new-transit-key"]);
    // The mend does what it says.
    least(1);
    home.ok(&["store", "rekey", "--new-transit-key"]);
    least(2);
    assert_eq!(listed(&home), before);
    assert!(ciphertext(&home).starts_with("vault:v2:"));
}

#[test]
fn another_key_or_another_vault_does_not_open_it() {
    let Some(bao) = server("another_key_or_another_vault_does_not_open_it") else { return };
    let Some(stranger) = server("another_key_or_another_vault_does_not_open_it") else { return };
    let mut home = sealed(&bao);
    let before = listed(&home);
    store(&home, "unlock = \"vault-transit\"\ntransit_key = \"other\"\n");
    locked(&home.say(&["credential", "list"], ""), &["transit/keyhatch", "transit_key = \"transit/other\""]);
    store(&home, "transit_key = \"other\"\n");
    locked(&home.say(&["credential", "list"], ""), &["transit/keyhatch", "transit_key = \"transit/other\""]);
    store(&home, "unlock = \"passphrase\"\n");
    locked(&home.say(&["credential", "list"], ""), &["transit/keyhatch", "unlock = \"passphrase\""]);
    // Without a word in the configuration the store says it itself.
    home.configure("");
    assert_eq!(listed(&home), before);
    home.set("VAULT_ADDR", Some(&stranger.addr()));
    home.set("VAULT_TOKEN", Some(stranger.root_token()));
    locked(&home.say(&["credential", "list"], ""), &["transit/decrypt/keyhatch", "VAULT_ADDR", "VAULT_NAMESPACE"]);
    home.set("VAULT_ADDR", Some(&bao.addr()));
    home.set("VAULT_TOKEN", Some(bao.root_token()));
    assert_eq!(listed(&home), before);
    bao.api("POST", "transit/keys/keyhatch/config", json!({ "deletion_allowed": true }));
    bao.api("DELETE", "transit/keys/keyhatch", Value::Null);
    locked(&home.say(&["credential", "list"], ""), &["transit/decrypt/keyhatch", "the very key transit/keyhatch"]);
}

#[track_caller]
fn doctor_says(home: &Home) -> (String, String) {
    let found = home.say(&["doctor", "--json"], "").json();
    let store = found.as_array().unwrap().iter().find(|f| f["check"] == "store").unwrap_or_else(|| panic!("{found}"));
    (store["level"].as_str().unwrap().to_owned(), format!("{} {}", store["message"], store["mend"]))
}

#[test]
fn doctor_says_whether_vault_opens_it() {
    let Some(bao) = server("doctor_says_whether_vault_opens_it") else { return };
    let home = sealed(&bao);
    let (level, text) = doctor_says(&home);
    assert!(level == "ok" && text.contains("transit key transit/keyhatch of Vault"), "{level} {text}");
    bao.seal();
    let (level, text) = doctor_says(&home);
    assert!(level == "wrong" && text.contains("vault operator unseal"), "{level} {text}");
    bao.unseal();
    store(&home, "unlock = \"vault-transit\"\ntransit_key = \"other\"\n");
    let (level, text) = doctor_says(&home);
    assert!(level == "wrong" && text.contains("transit/other") && text.contains("keyhatch store rekey"), "{level} {text}");
}

#[test]
fn a_backup_opens_by_the_same_key_on_another_machine() {
    let Some(bao) = server("a_backup_opens_by_the_same_key_on_another_machine") else { return };
    let home = sealed(&bao);
    let before = listed(&home);
    let file = copy_of(&home, "backup.db");
    let said = home.say(&["store", "backup", &file], "");
    assert!(said.code == 0 && said.stderr.contains("opens with the transit key transit/keyhatch of Vault"), "{said:?}");
    // The store is sealed anew meanwhile: the copy has a wrapped key of its own.
    home.ok(&["credential", "remove", "one"]);
    home.ok(&["store", "rekey", "--new-transit-key"]);
    home.ok(&["store", "restore", &file]);
    assert_eq!(listed(&home), before);
    let elsewhere = bare(&bao, STORE);
    bao.seal();
    locked(&elsewhere.say(&["store", "restore", &file], ""), &["backup.db stays locked", "is sealed"]);
    assert!(!elsewhere.store().exists());
    bao.unseal();
    elsewhere.ok(&["store", "restore", &file]);
    assert_eq!(listed(&elsewhere), before);
    // In a home that is to be opened in another way it is not taken.
    let other = bare(&bao, "[store]\nunlock = \"key-file\"\n");
    locked(&other.say(&["store", "restore", &file], ""), &["transit key transit/keyhatch", "unlock = \"key-file\""]);
    assert!(!Path::new(&other.store()).exists());
}
