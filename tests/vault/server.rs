//! The test server itself: what the other tests here stand on.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::raw::PATIENCE;
use crate::support::{Asked, Bao, fresh_key, within};

#[test]
fn a_dev_server_takes_and_gives_values() {
    let Some(bao) = Bao::dev("a_dev_server_takes_and_gives_values") else { return };
    let key = fresh_key();
    assert_eq!(bao.put("secret/openrouter", &[("api_key", &key)]), 1);
    assert_eq!(bao.run(&["kv", "get", "-field=api_key", "secret/openrouter"]), key);
    assert_eq!(bao.run(&["kv", "put", "secret/openrouter", "api_key=other"]).matches("version").count(), 1);
    assert_eq!(bao.get("secret/openrouter")["data"], json!({ "api_key": "other" }));
    bao.custom_metadata("secret/openrouter", &[("allowed_domains", "*.example.com")]);
    let metadata = bao.json(&["kv", "metadata", "get", "secret/openrouter"]);
    assert_eq!((&metadata["data"]["current_version"], &metadata["data"]["custom_metadata"]["allowed_domains"]), (&json!(2), &json!("*.example.com")));
    let read = |version: u64| bao.api_as(bao.root_token(), "GET", &format!("secret/data/openrouter?version={version}"), &Value::Null).0;
    bao.delete("secret/openrouter");
    assert_eq!((read(1), read(2)), (200, 404));
    bao.undelete("secret/openrouter", 2);
    assert_eq!(read(2), 200);
    bao.destroy("secret/openrouter", 1);
    assert_eq!((read(1), read(2)), (404, 200));
    bao.purge("secret/openrouter");
    assert_eq!(read(2), 404);
    bao.mount("old", &json!({ "type": "kv", "options": { "version": "1" } }));
    bao.api("POST", "old/one", json!({ "field": "value" }));
    assert_eq!(bao.api("GET", "old/one", Value::Null)["data"], json!({ "field": "value" }));
    assert_ne!(bao.say(&["kv", "get", "secret/none"]).code, 0);
}

#[test]
fn tokens_and_roles_may_what_their_policies_say() {
    let Some(bao) = Bao::dev("tokens_and_roles_may_what_their_policies_say") else { return };
    bao.put("secret/one", &[("k", "v")]);
    bao.policy("one", "path \"secret/data/one\" { capabilities = [\"read\"] }");
    let read = |token: &str, path: &str| bao.api_as(token, "GET", path, &Value::Null).0;
    let token = bao.token(&["one"], "1h", None);
    assert_eq!((read(&token, "secret/data/one"), read(&token, "secret/data/two"), read("", "secret/data/one")), (200, 403, 403));
    assert_eq!(
        (bao.capabilities(&token, "secret/data/one"), bao.capabilities(&token, "secret/data/two")),
        (vec!["read".into()], vec!["deny".into()])
    );
    bao.revoke(&token);
    assert_eq!(read(&token, "secret/data/one"), 403);
    let short = bao.token(&["one"], "20s", Some("60s"));
    let about = bao.api_as(&short, "GET", "auth/token/lookup-self", &Value::Null).1;
    assert_eq!((&about["data"]["explicit_max_ttl"], &about["data"]["creation_ttl"]), (&json!(60), &json!(20)));
    let (role, secret) = bao.approle("keyhatch", &["one"], "20s", "60s");
    assert_eq!(read(&bao.login(&role, &secret), "secret/data/one"), 200);
    let (same, other) = bao.approle("keyhatch", &["one"], "20s", "60s");
    assert!(role == same && secret != other);
    let wrapped = bao.wrapped_secret_id("keyhatch");
    let (status, unwrapped) = bao.api_as(&wrapped, "POST", "sys/wrapping/unwrap", &Value::Null);
    assert_eq!(status, 200, "{unwrapped}");
    bao.login(&role, unwrapped["data"]["secret_id"].as_str().unwrap());
    assert_eq!(bao.api_as(&wrapped, "POST", "sys/wrapping/unwrap", &Value::Null).0, 400);
}

#[test]
fn the_audit_log_counts_what_was_asked() {
    let Some(bao) = Bao::dev("the_audit_log_counts_what_was_asked") else { return };
    bao.put("secret/one", &[("k", "v")]);
    assert_eq!((bao.requests("secret/"), bao.requests("auth/approle")), (0, 0), "{:?}", bao.asked());
    bao.approle("keyhatch", &["default"], "1h", "1h");
    for _ in 0..3 {
        bao.run(&["read", "secret/data/one"]);
    }
    bao.run(&["list", "secret/metadata/"]);
    assert_eq!(bao.say(&["write", "auth/approle/login", "role_id=none"]).code, 2);
    assert_eq!(
        (bao.requests("secret/"), bao.requests("secret/data/one"), bao.requests("secret/metadata/"), bao.requests("auth/approle")),
        (4, 3, 1, 1),
        "{:?}",
        bao.asked()
    );
    let wanted = Asked { operation: "list".into(), path: "secret/metadata/".into(), by: "token".into(), own: false };
    assert!(bao.asked().contains(&wanted), "{:?}", bao.asked());
}

#[test]
fn a_server_on_disk_survives_seal_stop_and_kill_on_the_same_port() {
    let Some(bao) = Bao::file("a_server_on_disk_survives_seal_stop_and_kill_on_the_same_port") else { return };
    let (address, root) = (bao.addr(), bao.root_token().to_owned());
    bao.put("secret/one", &[("k", "v")]);
    bao.seal();
    assert_eq!(bao.api_as(&root, "GET", "secret/data/one", &Value::Null).0, 503);
    bao.unseal();
    assert_eq!(bao.get("secret/one")["data"]["k"], "v");
    bao.stop();
    assert_eq!(bao.health(), None);
    bao.restart();
    assert_eq!(bao.get("secret/one")["data"]["k"], "v");
    bao.kill();
    assert_eq!(bao.health(), None);
    bao.restart_sealed();
    assert_eq!(bao.health(), Some(503));
    bao.unseal();
    assert_eq!((bao.get("secret/one")["data"]["k"].as_str(), bao.addr()), (Some("v"), address));
}

#[test]
fn a_dev_server_can_be_sealed_and_comes_back_empty() {
    let Some(bao) = Bao::dev("a_dev_server_can_be_sealed_and_comes_back_empty") else { return };
    bao.put("secret/one", &[("k", "v")]);
    bao.seal();
    assert_eq!(bao.health(), Some(503));
    bao.unseal();
    assert_eq!(bao.get("secret/one")["data"]["k"], "v");
    bao.kill();
    bao.restart();
    assert_eq!(bao.api_as(bao.root_token(), "GET", "secret/data/one", &Value::Null).0, 404);
}

#[test]
fn a_frozen_server_accepts_and_says_nothing() {
    let Some(bao) = Bao::dev("a_frozen_server_accepts_and_says_nothing") else { return };
    bao.freeze();
    let address = bao.addr();
    let mut stream = TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(stream.read(&mut [0; 1]).is_err(), "nothing comes");
    bao.thaw();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 1);
    within(PATIENCE, "it answers again", || (bao.health() == Some(200)).then_some(()));
}

#[test]
fn a_server_over_tls_is_known_by_its_own_ca_only() {
    let Some(bao) = Bao::tls("a_server_over_tls_is_known_by_its_own_ca_only") else { return };
    assert!(bao.addr().starts_with("https://127.0.0.1:"));
    bao.put("secret/one", &[("k", "v")]);
    assert_eq!(bao.run(&["kv", "get", "-field=k", "secret/one"]), "v");
    assert!(bao.ca_file().starts_with(bao.dir()));
    let mut without = bao.command(&["kv", "get", "secret/one"]);
    without.env_remove("BAO_CACERT");
    assert!(crate::support::home::said(without, b"").stderr.contains("certificate signed by unknown authority"));
    // No certificate is asked for here.
    let mut anonymous = bao.command(&["kv", "get", "secret/one"]);
    anonymous.env_remove("BAO_CLIENT_CERT").env_remove("BAO_CLIENT_KEY");
    assert_eq!(crate::support::home::said(anonymous, b"").code, 0);
}

#[test]
fn a_server_with_mutual_tls_demands_a_certificate() {
    let Some(bao) = Bao::mutual_tls("a_server_with_mutual_tls_demands_a_certificate") else { return };
    let (certificate, key) = bao.client_cert();
    assert!(certificate.exists() && key.exists());
    bao.put("secret/one", &[("k", "v")]);
    let mut anonymous = bao.command(&["kv", "get", "secret/one"]);
    anonymous.env_remove("BAO_CLIENT_CERT").env_remove("BAO_CLIENT_KEY");
    assert_ne!(crate::support::home::said(anonymous, b"").code, 0);
    assert_eq!(bao.run(&["kv", "get", "-field=k", "secret/one"]), "v");
}
