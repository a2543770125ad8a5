//! What `doctor` says of Vault, and the mend of each.

use serde_json::{Value, json};

use super::homes::{NO_STORE, agent, bare, made, origin, section};
use crate::support::{Bao, Home};

/// What was found of Vault: the level, and message and mend in one.
#[track_caller]
fn found(home: &Home) -> Vec<(String, String)> {
    let said = home.say(&["doctor", "--json"], "");
    said.expect_no_panic();
    let all = said.json();
    let all = all.as_array().unwrap();
    assert_eq!(said.code, i32::from(all.iter().any(|f| f["level"] == "wrong")), "{said:?}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.iter().filter(|f| f["check"] == "vault").map(|f| (text(&f["level"]), format!("{} | {}", text(&f["message"]), text(&f["mend"])))).collect()
}

#[track_caller]
fn has(found: &[(String, String)], level: &str, words: &[&str]) {
    let holds = |line: &str| words.iter().all(|w| line.contains(w));
    assert!(found.iter().any(|(l, line)| l == level && holds(line)), "{level} {words:?} in {found:#?}");
}

/// Nothing but what is as it should be, and notes.
#[track_caller]
fn is_well(found: &[(String, String)]) {
    assert!(found.iter().all(|(level, _)| level == "ok" || level == "note"), "{found:#?}");
}

#[test]
fn each_value_is_looked_at() {
    let Some(bao) = Bao::dev("each_value_is_looked_at") else { return };
    let (origin, key) = origin();
    let mut home = made(&bao, &origin, "");
    bao.put("secret/good", &[("api_key", &key)]);
    bao.put("secret/good", &[("api_key", &key), ("other", "x")]);
    bao.put("secret/bad", &[("empty", ""), ("two", "a\nb-and-more-than-16"), ("short", "short"), ("plain", "no-user-and-no-password")]);
    for path in ["secret/denied", "secret/nometa", "secret/gone"] {
        bao.put(path, &[("k", &key)]);
    }
    bao.delete("secret/gone");
    bao.mount("old", &json!({ "type": "kv", "options": { "version": "1" } }));
    bao.api("POST", "old/x", json!({ "k": key }));
    bao.mount("totp", &json!({ "type": "totp" }));
    bao.api("POST", "totp/keys/x", json!({ "generate": true, "issuer": "i", "account_name": "a" }));
    bao.policy(
        "most",
        "path \"secret/*\" { capabilities = [\"read\"] }\npath \"old/*\" { capabilities = [\"read\"] }\npath \"totp/code/x\" { capabilities = [\"read\"] }\n\
         path \"secret/data/denied\" { capabilities = [\"deny\"] }\npath \"secret/metadata/nometa\" { capabilities = [\"deny\"] }",
    );
    home.set("VAULT_TOKEN", Some(&bao.token(&["most"], "1h", None)));
    let table: [(&str, &str, &str, &[&str]); 16] = [
        ("good", "secret/good#api_key", "ok", &["(version 2)"]),
        (
            "pinned",
            "secret/good#api_key?version=1",
            "note",
            &["version 1", "the current one is 2", "keyhatch credential rotate pinned --vault secret/good#api_key"],
        ),
        ("field", "secret/good#nope", "wrong", &["no field `nope`", "it has: api_key, other", "secret/good#FIELD"]),
        ("nobody", "secret/none#k", "wrong", &["nothing at secret/data/none", "vault kv put"]),
        ("gone", "secret/gone#k", "wrong", &["deleted", "vault kv undelete"]),
        ("denied", "secret/denied#k", "wrong", &["path \"secret/data/denied\" { capabilities = [\"read\"] }"]),
        ("mount", "nowhere/x#k", "wrong", &["nowhere/", "vault secrets list"]),
        ("apiform", "secret/data/good#api_key", "wrong", &["leave the `data/` out", "--vault secret/good#api_key"]),
        ("empty", "secret/bad#empty", "wrong", &["is empty", "vault kv put secret/bad empty="]),
        ("two", "secret/bad#two", "wrong", &["control character"]),
        ("short", "secret/bad#short", "note", &["not scrubbed"]),
        ("basic", "secret/bad#plain", "wrong", &["`basic`", "user:password"]),
        ("nometa", "secret/nometa#k", "ok", &["secret/nometa#k can be read"]),
        ("nometa2", "secret/nometa#k", "note", &["every 30 s", "path \"secret/metadata/nometa\" { capabilities = [\"read\"] }"]),
        ("old", "old/x#k", "ok", &["old/x#k can be read"]),
        ("other", "totp/code/x#code", "ok", &["totp/code/x#code can be read"]),
    ];
    for (name, place, ..) in &table {
        let kind = if *name == "basic" { "basic" } else { "bearer" };
        home.ok(&["credential", "add", name, "--type", kind, "--allow", &format!("{name}.example"), "--vault", place]);
    }
    let said = found(&home);
    has(&said, "ok", &["serves (version "]);
    has(&said, "ok", &["policies", "most", "is renewed"]);
    for (name, _, level, words) in &table {
        has(&said, level, &[&[format!("`{name}`").as_str()], *words].concat());
    }
    assert!(said.iter().all(|(_, line)| !line.contains(&key)), "{said:#?}");
    let text = home.say(&["doctor"], "").stdout;
    assert!(text.contains("WRONG    vault") && text.contains("mend: "), "{text}");
    // One that is disabled is not asked for.
    home.ok(&["credential", "disable", "denied"]);
    assert!(!found(&home).iter().any(|(_, line)| line.contains("`denied`")));
}

#[test]
fn the_way_there_and_the_token() {
    let Some(bao) = Bao::dev("the_way_there_and_the_token") else { return };
    let (origin, key) = origin();
    let mut home = made(&bao, &origin, "");
    bao.put("secret/good", &[("api_key", &key)]);
    home.ok(&["credential", "add", "good", "--allow", "a.example", "--vault", "secret/good#api_key"]);
    has(&found(&home), "note", &["may do anything", "deploy/vault"]);
    is_well(&found(&home));

    bao.policy("good", "path \"secret/+/good\" { capabilities = [\"read\"] }");
    let short = bao.api("POST", "auth/token/create", json!({ "policies": ["good"], "ttl": "3h", "renewable": false, "no_parent": true }));
    let unseen = bao.api("POST", "auth/token/create", json!({ "policies": ["good"], "no_default_policy": true, "no_parent": true }));
    let token = |made: &Value| made["auth"]["client_token"].as_str().unwrap().to_owned();
    for (token, level, words) in [
        (Some(token(&short)), "warning", &["ends in", "cannot be renewed", "-period="][..]),
        (Some(token(&unseen)), "note", &["may not look itself up", "path \"auth/token/lookup-self\""]),
        (Some("hvs.nobody-knows-this".to_owned()), "wrong", &["VAULT_TOKEN", "expired or revoked"]),
        (None, "wrong", &["vault.auth", "vault login"]),
    ] {
        home.set("VAULT_TOKEN", token.as_deref());
        let said = found(&home);
        has(&said, level, words);
        assert!(said.iter().all(|(_, line)| !line.contains("hvs.nobody")), "{said:#?}");
    }
    home.set("VAULT_TOKEN", Some(bao.root_token()));

    home.set("VAULT_SKIP_VERIFY", Some("perhaps"));
    has(&found(&home), "wrong", &["VAULT_SKIP_VERIFY"]);
    home.set("VAULT_SKIP_VERIFY", None);
    bao.seal();
    has(&found(&home), "wrong", &["is sealed", "vault operator unseal"]);
    bao.unseal();
    is_well(&found(&home));
    bao.stop();
    has(&found(&home), "wrong", &[&bao.addr(), "cannot be reached", "VAULT_ADDR"]);
    home.configure("[vault]\naddress = \"http://vault.invalid:8200\"\n");
    let said = found(&home);
    has(&said, "warning", &["plain http at", "vault.invalid", "https://"]);
    has(&said, "wrong", &["vault.invalid", "cannot be reached"]);
    home.configure("[vault]\nca_file = \"/no/such/file\"\n");
    has(&found(&home), "wrong", &["keyhatch.toml:", "vault.ca_file", "/no/such/file"]);
}

#[test]
fn a_certificate_that_is_not_believed() {
    let Some(bao) = Bao::tls("a_certificate_that_is_not_believed") else { return };
    let mut home = Home::with_key_file(&section(&bao, ""));
    home.set("VAULT_TOKEN", Some(bao.root_token()));
    has(&found(&home), "wrong", &["TLS with Vault at", &bao.addr(), "VAULT_CACERT"]);
    home.set("VAULT_SKIP_VERIFY", Some("true"));
    has(&found(&home), "warning", &["is not verified", "VAULT_CACERT"]);
    home.set("VAULT_SKIP_VERIFY", None);
    home.set("VAULT_CACERT", bao.ca_file().to_str());
    is_well(&found(&home));
}

#[test]
fn variables_of_vaults_tools_are_no_fault_of_a_set_up_without_it() {
    let mut home = Home::with_key_file("");
    assert!(found(&home).is_empty());
    home.set("VAULT_ADDR", Some("http://127.0.0.1:1"));
    let said = found(&home);
    is_well(&said);
    has(&said, "note", &["vault.auth"]);
    home.set("VAULT_TOKEN", Some("hvs.test"));
    has(&found(&home), "note", &["http://127.0.0.1:1", "cannot be reached"]);
}

#[test]
fn what_is_discovered_and_shared() {
    let Some(bao) = Bao::dev("what_is_discovered_and_shared") else { return };
    let (origin, key) = origin();
    let mut home = bare(&bao, &origin, NO_STORE);
    let said = found(&home);
    for words in [
        &["secret/keyhatch can be listed: 0 credentials", "vault kv put secret/keyhatch/NAME"][..],
        &["secret/keyhatch-agents can be listed: 0 agents"],
        &["discover_allow"],
        &["no CA at secret/keyhatch-ca yet", "keyhatch serve"],
        &["no signing key at secret/keyhatch-keys yet"],
    ] {
        has(&said, "note", words);
    }
    is_well(&said);

    bao.put("secret/keyhatch/openrouter", &[("api_key", &key)]);
    agent(&bao, "default");
    home.ok(&["run", "--", "true"]);
    let said = found(&home);
    for words in [
        &["secret/keyhatch can be listed: 1 credential discovered"][..],
        &["`openrouter`: its value at secret/keyhatch/openrouter#api_key can be read"],
        &["the CA at secret/keyhatch-ca can be read, and is good until 20"],
        &["the signing key at secret/keyhatch-keys can be read"],
    ] {
        has(&said, "ok", words);
    }
    is_well(&said);

    bao.put("secret/keyhatch/nohosts", &[("api_key", &key)]);
    bao.put("secret/keyhatch/far", &[("api_key", &key)]);
    bao.custom_metadata("secret/keyhatch/far", &[("allowed_domains", "far.example")]);
    bao.put("secret/keyhatch/near", &[("value", "")]);
    bao.custom_metadata("secret/keyhatch/near", &[("allowed_domains", "near.example.net"), ("agents", "default nobody")]);
    bao.put("secret/malformed", &[("key", "not base64"), ("certificate", "x"), ("private_key", "y")]);
    bao.mount("pki", &json!({ "type": "pki" }));
    let with = |from: &str, to: &str| {
        let text = format!("discover_allow = [\"*.openrouter.ai\", \"*.example.net\"]\n{NO_STORE}").replace(from, to);
        home.configure(&section(&bao, &text));
    };
    with("secret/keyhatch-keys", "secret/malformed");
    let said = found(&home);
    assert!(!said.iter().any(|(level, line)| level == "note" && line.contains("discover_allow")), "{said:#?}");
    has(&said, "warning", &["secret/keyhatch/nohosts", "allowed_domains"]);
    has(&said, "warning", &["secret/keyhatch/far", "far.example", "discover_allow"]);
    has(&said, "warning", &["secret/keyhatch/near", "`nobody`"]);
    has(&said, "wrong", &["`near`", "is empty", "vault kv put secret/keyhatch/near"]);
    has(&said, "wrong", &["vault.signing_key", "openssl rand -base64 32"]);
    with("secret/keyhatch-ca", "secret/malformed");
    has(&found(&home), "wrong", &["vault.ca", "secret/malformed"]);
    with("secret/keyhatch-ca", "pki/root/sign-intermediate");
    has(&found(&home), "ok", &["pki/root/sign-intermediate", "not tried"]);
    with("secret/keyhatch-ca", "secret/root/sign-intermediate");
    has(&found(&home), "wrong", &["secret/ is no PKI engine"]);
    with("secret/keyhatch-ca", "nowhere/root/sign-intermediate");
    has(&found(&home), "wrong", &["nowhere/"]);
    with("", "");
    bao.policy("little", "path \"secret/data/*\" { capabilities = [\"read\"] }");
    let little = bao.token(&["little"], "1h", None);
    home.set("VAULT_TOKEN", Some(&little));
    has(&found(&home), "wrong", &["vault.discover", "path \"secret/metadata/keyhatch", "capabilities = [\"list\"]"]);
}
