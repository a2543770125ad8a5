//! Homes without a store: everything is in Vault.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::homes::{NO_STORE, agent, bare, origin, section};
use crate::support::{Agent, Bao, Home, Origin, Serve, within};

/// A home without a store, an agent `default` and a credential in Vault.
#[track_caller]
fn stage(bao: &Bao) -> (Home, Origin, String) {
    let (origin, key) = origin();
    let home = bare(bao, &origin, NO_STORE);
    bao.put("secret/keyhatch/openrouter", &[("api_key", &key)]);
    agent(bao, "default");
    (home, origin, key)
}

#[test]
fn every_command_that_shows_or_asks_works() {
    let Some(bao) = Bao::dev("every_command_that_shows_or_asks_works") else { return };
    let (home, origin, key) = stage(&bao);
    // Before any serve, nothing is made in Vault by looking.
    assert_eq!(home.json(&["credential", "list"])[0]["name"], "openrouter");
    let said = home.say(&["ca", "export"], "");
    assert!(said.code == 1 && said.stderr.contains("secret/keyhatch-ca") && said.stderr.contains("keyhatch serve"), "{said:?}");
    home.say(&["audit", "verify"], "").expect_error(1);
    assert_eq!(home.say(&["env"], "").code, 1);
    let doctor = home.json(&["doctor"]);
    assert!(doctor.as_array().unwrap().iter().any(|f| f["check"] == "store" && f["level"] == "ok"), "{doctor}");
    for path in ["secret/data/keyhatch-ca", "secret/data/keyhatch-keys"] {
        assert_eq!(bao.api_as(bao.root_token(), "GET", path, &Value::Null).0, 404, "{path}");
    }

    let mut serve = Serve::start(&home);
    let agent = Agent::new(&home, &serve);
    assert_eq!(agent.open("openrouter.ai:443").get("openrouter.ai", "/api/v1/models").status, 200);
    assert_eq!(origin.last().values("authorization"), [format!("Bearer {key}")]);
    assert!(home.ok(&["run", "--", "printenv", "OPENROUTER_API_KEY"]).contains("placeholder"));
    serve.stop();

    let shown = home.json(&["credential", "show", "openrouter"]);
    assert_eq!((&shown["source"], &shown["created_at"]), (&json!("vault:secret/keyhatch/openrouter#api_key"), &Value::Null));
    assert!(shown["fingerprint"].is_string(), "{shown}");
    assert_eq!(home.json(&["credential", "test", "openrouter"])["status"], 200);
    assert_eq!(home.json(&["agent", "list"])[0]["grants"], json!(["openrouter"]));
    assert_eq!(home.json(&["agent", "show", "default"])["source"], "vault:secret/keyhatch-agents/default");
    assert_eq!(home.json(&["policy", "explain", "GET", "https://openrouter.ai/api/v1/models"])["decision"], "injected");
    assert!(home.ok(&["audit", "tail"]).contains("openrouter.ai"));
    assert_eq!(home.json(&["audit", "verify"])["faults"], json!([]));
    let exported = home.ok(&["ca", "export"]);
    std::fs::remove_file(home.path().join("ca.pem")).unwrap();
    assert_eq!(home.ok(&["ca", "export"]), exported, "without the file, Vault is asked");
    let doctor = home.json(&["doctor"]);
    assert!(doctor.as_array().unwrap().iter().any(|f| f["check"] == "audit" && f["level"] == "ok"), "{doctor}");

    let log = home.path().join("audit.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.replacen("/api/v1/models", "/api/v1/nodels", 1)).unwrap();
    home.say(&["audit", "verify"], "").expect_error(1);
    assert_eq!(home.say(&["doctor"], "").code, 1, "a changed record is found");
    assert!(!home.store().exists() && home.files().iter().all(|(_, bytes)| !crate::support::holds(bytes, &key)));

    home.say(&["credential", "show", "none"], "").expect_error(4);
    home.say(&["agent", "show", "none"], "").expect_error(4);
    bao.stop();
    for command in [&["credential", "list"][..], &["agent", "list"], &["audit", "verify"], &["policy", "explain", "GET", "https://example.net/"]] {
        let said = home.say(command, "");
        said.expect_error(1);
        assert!(said.stderr.contains(&bao.addr()) && said.stderr.contains("VAULT_ADDR") && said.stderr.lines().count() == 1, "{said:?}");
    }
}

#[test]
fn a_run_makes_the_home_and_needs_no_passphrase() {
    let Some(bao) = Bao::dev("a_run_makes_the_home_and_needs_no_passphrase") else { return };
    let (mut home, _origin, _) = stage(&bao);
    let config = home.outside().join("elsewhere.toml");
    std::fs::rename(home.path().join("keyhatch.toml"), &config).unwrap();
    std::fs::remove_dir(home.path()).unwrap();
    home.set("KEYHATCH_CONFIG", Some(config.to_str().unwrap()));
    home.ok(&["credential", "list"]);
    let said = home.say(&["audit", "tail"], "");
    assert!(said.code == 1 && said.stderr.contains("nothing at") && !home.path().exists(), "looking makes nothing: {said:?}");
    home.ok(&["doctor"]);
    let script = "printenv HTTPS_PROXY SSL_CERT_FILE && ! printenv VAULT_TOKEN";
    let said = home.say(&["run", "--", "sh", "-c", script], "");
    assert!(said.code == 0 && said.stdout.contains("http://default:khs_"), "{said:?}");
    assert_eq!(home.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    home.ok(&["audit", "verify"]);
    // An agent that is not there is told as usual.
    home.say(&["run", "--agent", "none", "--", "true"], "").expect_error(4);
}

#[test]
fn a_change_is_refused_and_the_place_in_vault_named() {
    let Some(bao) = Bao::dev("a_change_is_refused_and_the_place_in_vault_named") else { return };
    let (home, _origin, key) = stage(&bao);
    for (command, place) in [
        (&["credential", "add", "x", "--allow", "a.example"][..], "vault kv put secret/keyhatch/NAME"),
        (&["credential", "add", "x", "--allow", "a.example", "--vault", "secret/x#f"], "vault kv put secret/keyhatch/NAME"),
        (&["credential", "rotate", "openrouter"], "secret/keyhatch/"),
        (&["credential", "rollback", "openrouter"], "secret/keyhatch/"),
        (&["credential", "remove", "openrouter"], "secret/keyhatch/"),
        (&["credential", "disable", "openrouter"], "secret/keyhatch/"),
        (&["credential", "enable", "openrouter"], "secret/keyhatch/"),
        (&["agent", "add", "x"], "vault kv put secret/keyhatch-agents/NAME"),
        (&["agent", "rotate", "default"], "secret/keyhatch-agents/"),
        (&["agent", "remove", "default"], "secret/keyhatch-agents/"),
        (&["agent", "grant", "default", "openrouter"], "secret/keyhatch"),
        (&["agent", "revoke", "default", "openrouter"], "secret/keyhatch"),
        (&["ca", "rotate"], "secret/keyhatch-ca"),
        (&["store", "rekey"], "keyhatch init"),
        (&["store", "verify"], "keyhatch init"),
        (&["store", "backup", "/nowhere/b.db"], "keyhatch init"),
    ] {
        let said = home.say(command, &key);
        said.expect_error(1);
        assert!(said.stderr.contains("has no store") && said.stderr.contains(place) && said.stderr.lines().count() == 1, "{command:?}: {said:?}");
        assert!(!said.stderr.contains(&key), "{said:?}");
    }
    assert_eq!(home.files().len(), 1, "the configuration alone");
}

#[test]
fn with_some_of_the_keys_the_missing_ones_are_named() {
    let Some(bao) = Bao::dev("with_some_of_the_keys_the_missing_ones_are_named") else { return };
    let home = Home::bare(&section(&bao, "discover = \"secret/keyhatch\"\nca = \"secret/keyhatch-ca\"\n"));
    for command in
        [&["serve"][..], &["run", "--", "true"], &["credential", "list"], &["agent", "add", "x"], &["store", "verify"], &["audit", "verify"]]
    {
        let said = home.say(command, "");
        said.expect_error(2);
        let names = ["`discover_agents`", "`signing_key`", "keyhatch init"];
        assert!(names.iter().all(|n| said.stderr.contains(n)) && !said.stderr.contains("`ca`"), "{command:?}: {said:?}");
    }
    assert_eq!(home.say(&["doctor"], "").code, 1);
    // The other way.
    home.ok(&["init"]);
    home.ok(&["store", "verify"]);
    // With none of them it is a home that was not made yet.
    let said = Home::bare("").say(&["credential", "list"], "");
    assert!(said.code == 1 && said.stderr.contains("keyhatch init"), "{said:?}");
}

#[test]
fn serve_waits_for_a_vault_that_is_not_up_yet() {
    let Some(bao) = Bao::dev("serve_waits_for_a_vault_that_is_not_up_yet") else { return };
    let (home, _origin, _) = stage(&bao);
    bao.seal();
    let log = home.outside().join(format!("serve-{}.log", std::process::id()));
    let waits = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("waiting for Vault, for up to 30 s")).then_some(());
    let mut serve = std::thread::scope(|scope| {
        scope.spawn(|| {
            within(Duration::from_secs(20), "serve says that it waits", waits);
            bao.unseal();
        });
        Serve::start(&home)
    });
    serve.stop();

    // A signal ends the waiting.
    bao.seal();
    std::fs::remove_file(&log).unwrap();
    let file = std::fs::File::create(&log).unwrap();
    let mut child = home.command(&["serve"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
    within(Duration::from_secs(20), "serve says that it waits", waits);
    rustix::process::kill_process(rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap(), rustix::process::Signal::TERM).unwrap();
    assert!(within(Duration::from_secs(10), "serve ends", || child.try_wait().unwrap()).success());
    // Who types `run` is told at once.
    let begun = Instant::now();
    home.say(&["run", "--", "true"], "").expect_error(1);
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[test]
fn what_waiting_does_not_mend_ends_serve_at_once() {
    let Some(bao) = Bao::dev("what_waiting_does_not_mend_ends_serve_at_once") else { return };
    let (mut home, origin, _) = stage(&bao);
    bao.policy("little", "path \"secret/data/keyhatch-keys\" { capabilities = [\"read\", \"create\"] }");
    let little = bao.token(&["little"], "1h", None);
    bao.put("secret/malformed", &[("key", "not base64"), ("certificate", "x"), ("private_key", "y")]);
    let with = |from: &str, to: &str| {
        let text = NO_STORE.replace(from, to);
        home.configure(&crate::support::world::configuration(&home, &origin, &section(&bao, &text)));
    };
    let begun = Instant::now();
    let ends = |home: &Home, code: i32, words: &[&str]| {
        let said = home.say(&["serve"], "");
        said.expect_error(code);
        let last = said.stderr.lines().last().unwrap();
        assert!(last.starts_with("keyhatch: ") && words.iter().all(|w| last.contains(w)), "{words:?}: {said:?}");
        assert!(!said.stderr.contains("waiting"), "{said:?}");
    };
    let file = home.path().join("keyhatch.toml").display().to_string();
    with("secret/keyhatch-keys", "secret/malformed");
    ends(&home, 2, &[&format!("{file}:"), "vault.signing_key", "openssl rand -base64 32"]);
    with("secret/keyhatch-ca", "secret/malformed");
    ends(&home, 2, &[&format!("{file}:"), "vault.ca", "secret/malformed"]);
    with("secret/keyhatch\"", "nowhere/keyhatch\"");
    ends(&home, 2, &[&format!("{file}:"), "vault.discover", "vault secrets list"]);
    with("discover =", "ca_file = \"/no/such/file\"\ndiscover =");
    ends(&home, 2, &[&format!("{file}:"), "vault.ca_file", "/no/such/file"]);
    with("", "");
    home.set("VAULT_TOKEN", Some("hvs.nobody-knows-this"));
    ends(&home, 1, &["VAULT_TOKEN", "vault.signing_key"]);
    home.set("VAULT_TOKEN", Some(&little));
    ends(&home, 1, &["vault.ca", "capabilities = [\"read\"]"]);
    home.set("VAULT_TOKEN", None);
    ends(&home, 2, &["vault.auth", "VAULT_TOKEN"]);
    assert!(begun.elapsed() < Duration::from_secs(25), "nothing was waited for");
}
