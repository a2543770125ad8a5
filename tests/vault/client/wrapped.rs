//! A wrapped secret id opens once: that is left to the proxy.

use super::super::homes::{bare, origin, section};
use crate::support::world::configuration;
use crate::support::{Bao, Serve};

#[test]
fn a_command_leaves_the_one_unwrap_to_the_proxy() {
    let Some(bao) = Bao::dev("a_command_leaves_the_one_unwrap_to_the_proxy") else { return };
    let (origin, key) = origin();
    let mut home = bare(&bao, &origin, "");
    bao.put("secret/keyhatch/openrouter", &[("api_key", &key)]);
    bao.policy("all", "path \"secret/*\" { capabilities = [\"read\", \"list\"] }");
    let (role_id, _) = bao.approle("keyhatch", &["all"], "1h", "2h");
    let file = home.outside().join("wrapped");
    std::fs::write(&file, bao.wrapped_secret_id("keyhatch")).unwrap();
    let auth = format!(
        "discover = \"secret/keyhatch\"\nauth = {{ method = \"approle\", role_id = \"{role_id}\", secret_id_file = {file:?}, wrapped = true }}"
    );
    home.configure(&configuration(&home, &origin, &section(&bao, &auth)));
    let key_file = home.outside().join("key-file");
    home.ok(&["init", "--key-file", key_file.to_str().unwrap()]);

    home.set("VAULT_TOKEN", None);
    for command in [&["credential", "list"][..], &["credential", "show", "openrouter"], &["credential", "test", "openrouter"]] {
        let said = home.say(command, "");
        // A list shows what it can.
        assert_eq!(said.code == 0, command[1] == "list", "{said:?}");
        for words in ["vault.auth", "`wrapped` opens once", "set VAULT_TOKEN", "leave `wrapped` away"] {
            assert!(said.stderr.contains(words), "{words}: {said:?}");
        }
    }
    let found = home.say(&["doctor", "--json"], "").json();
    let found = found.as_array().unwrap().iter().filter(|f| f["check"] == "vault").collect::<Vec<_>>();
    assert!(found.len() == 1 && found[0]["level"] == "note", "{found:?}");
    assert!(found[0]["message"].as_str().unwrap().contains("opens once") && found[0]["mend"].as_str().unwrap().contains("VAULT_TOKEN"), "{found:?}");
    // With a token of its own a command may look.
    home.set("VAULT_TOKEN", Some(bao.root_token()));
    assert!(home.ok(&["credential", "list"]).contains("openrouter"));
    home.set("VAULT_TOKEN", None);
    assert_eq!((bao.requests("sys/wrapping/unwrap"), bao.requests("auth/approle/login")), (0, 0));

    let mut serve = Serve::start(&home);
    assert_eq!((bao.requests("sys/wrapping/unwrap"), bao.requests("auth/approle/login")), (1, 1));
    serve.stop();
}

#[test]
fn a_variable_that_is_not_heeded_is_told_by_serve_and_doctor() {
    let Some(bao) = Bao::dev("a_variable_that_is_not_heeded_is_told_by_serve_and_doctor") else { return };
    let (origin, key) = origin();
    let mut home = bare(&bao, &origin, "discover = \"secret/keyhatch\"");
    bao.put("secret/keyhatch/openrouter", &[("api_key", &key)]);
    let key_file = home.outside().join("key-file");
    home.ok(&["init", "--key-file", key_file.to_str().unwrap()]);
    home.set("VAULT_TLS_SERVER_NAME", Some("vault.example"));
    home.set("BAO_NAMESPACE", Some("team"));
    // It is set for another tool, and said otherwise here.
    home.set("BAO_ADDR", Some("http://other.example"));
    let found = home.say(&["doctor"], "").stdout;
    let mut serve = Serve::start(&home);
    for said in [&found, &serve.log()] {
        assert!(said.contains("VAULT_TLS_SERVER_NAME is set, but not heeded: ") && said.contains("set VAULT_NAMESPACE, or `namespace`"), "{said}");
        assert!(!said.contains("BAO_ADDR"), "{said}");
    }
    serve.stop();
}
