//! The way to Vault: TLS, time limits, redirects, proxies, namespaces, what is down.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use keyhatch::vault::hashicorp::{Vault, VaultErrorKind, VaultSettings};
use serde_json::{Value, json};

use super::{Stub, failed, field, file, root, settings, token, vault};
use crate::support::{Bao, fresh_key};

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified_against_the_ca_given() {
    let Some(bao) = Bao::tls("tls_is_verified_against_the_ca_given") else { return };
    bao.put("secret/a", &[("key", "sixteen-bytes-long")]);
    let own = || settings(&bao.addr(), token(bao.root_token()));
    let read = async |settings: VaultSettings| Vault::new(settings).unwrap().read("secret/a", None).await;
    assert!(read(VaultSettings { ca_file: Some(bao.ca_file()), ..own() }).await.is_ok());

    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let other = file(&bao, "other-ca.pem", &other.cert.pem());
    let said = failed(read(VaultSettings { ca_file: Some(other), ..own() }).await, VaultErrorKind::Tls, &[bao.root_token()]);
    assert!(said.contains("UnknownIssuer") && said.contains("VAULT_CACERT"), "{said}");
    // Without a CA the system's anchors count, which know it as little.
    match Vault::new(own()) {
        Ok(vault) => drop(failed(vault.read("secret/a", None).await, VaultErrorKind::Tls, &[])),
        Err(error) => assert!(error.to_string().contains("no trust anchors"), "{error}"),
    }
    let careless = Vault::new(VaultSettings { skip_verify: true, ..own() }).unwrap();
    assert!(careless.read("secret/a", None).await.is_ok());
    assert!(careless.warnings().iter().any(|w| w.contains("VAULT_SKIP_VERIFY")), "{:?}", careless.warnings());

    let missing = VaultSettings { ca_file: Some(bao.dir().join("none.pem")), ..own() };
    let said = failed(Vault::new(missing), VaultErrorKind::Settings, &[]);
    assert!(said.contains("none.pem") && said.contains("VAULT_CACERT"), "{said}");
    let empty = VaultSettings { ca_file: Some(file(&bao, "empty.pem", "nothing")), ..own() };
    failed(Vault::new(empty), VaultErrorKind::Settings, &[]);
    // Plain http to a port of TLS is no Vault.
    let plain = Vault::new(settings(&bao.addr().replace("https", "http"), token("t"))).unwrap();
    assert!(plain.read("secret/a", None).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown() {
    let Some(bao) = Bao::mutual_tls("a_client_certificate_is_shown") else { return };
    bao.put("secret/a", &[("key", "sixteen-bytes-long")]);
    let own = || VaultSettings { ca_file: Some(bao.ca_file()), ..settings(&bao.addr(), token(bao.root_token())) };
    let with = Vault::new(VaultSettings { client_cert: Some(bao.client_cert()), ..own() }).unwrap();
    assert!(with.read("secret/a", None).await.is_ok());
    let error = Vault::new(own()).unwrap().read("secret/a", None).await.err().expect("refused");
    assert!(error.kind.is_outage(), "{error}");
    let (certificate, key) = bao.client_cert();
    failed(Vault::new(VaultSettings { client_cert: Some((key, certificate)), ..own() }), VaultErrorKind::Settings, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_stopped_and_back() {
    let Some(bao) = Bao::file("sealed_stopped_and_back") else { return };
    bao.put("secret/a", &[("key", "sixteen-bytes-long")]);
    let vault = root(&bao);
    assert!(vault.read("secret/a", None).await.is_ok());
    let health = vault.health().await.unwrap();
    assert!(health.initialized && !health.sealed && health.version.starts_with("2."), "{health:?}");
    bao.seal();
    let said = failed(vault.read("secret/a", None).await, VaultErrorKind::Sealed, &[bao.root_token()]);
    assert!(said.contains("is sealed") && said.contains("vault operator unseal"), "{said}");
    assert!(vault.health().await.unwrap().sealed);
    bao.unseal();
    assert!(vault.read("secret/a", None).await.is_ok());
    bao.stop();
    let said = failed(vault.read("secret/a", None).await, VaultErrorKind::Unreachable, &[bao.root_token()]);
    assert!(said.contains("cannot be reached") && said.contains(&bao.addr()), "{said}");
    failed(vault.health().await, VaultErrorKind::Unreachable, &[]);
    bao.restart();
    assert!(vault.read("secret/a", None).await.is_ok());
    assert!(vault.stats().errors >= 3, "{:?}", vault.stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for scheme in ["http", "https"] {
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let vault = Vault::new(VaultSettings { skip_verify: true, ..settings(&address, token("hvs.secret")) }).unwrap();
        let start = Instant::now();
        failed(vault.health().await, VaultErrorKind::Timeout, &["hvs.secret"]);
        assert!(start.elapsed() < Duration::from_secs(13), "{scheme}: {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_none_is_unreachable() {
    let vault = Vault::new(settings("http://vault.invalid:8200", token("hvs.secret"))).unwrap();
    failed(vault.read("secret/a", None).await, VaultErrorKind::Unreachable, &["hvs.secret"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_vault_is_told_so() {
    let html = Stub::start(|_| Stub::json("200 OK", "<html>hello hvs.secret</html>"));
    let vault = Vault::new(settings(&html.url(), token("hvs.secret"))).unwrap();
    failed(vault.health().await, VaultErrorKind::Unavailable, &["hvs.secret"]);
    // A server that repeats what it was sent does not get it into an error.
    let echo = Stub::start(|_| Stub::json("400 Bad Request", &json!({ "errors": ["what is hvs.secret?"] }).to_string()));
    let vault = Vault::new(settings(&echo.url(), token("hvs.secret"))).unwrap();
    failed(vault.read("secret/a", None).await, VaultErrorKind::BadAnswer, &["hvs.secret"]);
    for (status, kind) in
        [("429 Too Many", VaultErrorKind::Unavailable), ("473 Standby", VaultErrorKind::Unavailable), ("500 Oh", VaultErrorKind::Unavailable)]
    {
        let busy = Stub::start(move |_| Stub::json(status, "{\"errors\":[\"busy\"]}"));
        failed(Vault::new(settings(&busy.url(), token("t"))).unwrap().read("secret/a", None).await, kind, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_names_the_active_node() {
    let Some(bao) = Bao::dev("a_standby_names_the_active_node") else { return };
    let key = fresh_key();
    bao.put("secret/a", &[("key", &key)]);
    let to = bao.addr();
    let standby = Stub::start(move |request| {
        let path = request.split(' ').nth(1).unwrap();
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}{path}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    });
    let client = Vault::new(settings(&standby.url(), token(bao.root_token()))).unwrap();
    assert_eq!(field(&client.read("secret/a", None).await.unwrap(), "key"), key);
    assert!(client.create("secret/b", &[("key", &keyhatch::credential::Secret::from_opened(b"x"))]).await.unwrap(), "a body goes along");

    // Never to another scheme, whichever.
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let elsewhere = format!("https://{}", trap.local_addr().unwrap());
    let crossing = Stub::start(move |_| format!("HTTP/1.1 307 T\r\nLocation: {elsewhere}/v1/x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
    let client = Vault::new(settings(&crossing.url(), token("hvs.secret"))).unwrap();
    let said = failed(client.read("secret/a", None).await, VaultErrorKind::Unavailable, &["hvs.secret"]);
    assert!(said.contains("sends requests elsewhere") && said.contains("VAULT_ADDR"), "{said}");
    assert!(trap.accept().is_err(), "nobody came");
    // Nor, without TLS, off this machine.
    for elsewhere in ["http://vault.invalid:8200", "http://127.0.0.1.example.invalid"] {
        let away = Stub::start(move |_| format!("HTTP/1.1 307 T\r\nLocation: {elsewhere}/v1/x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
        let client = Vault::new(settings(&away.url(), token("hvs.secret"))).unwrap();
        let said = failed(client.read("secret/a", None).await, VaultErrorKind::Unavailable, &["hvs.secret"]);
        assert!(said.contains("sends requests elsewhere"), "{said}");
    }
    // Nor without end.
    let looping = Stub::start(|_| "HTTP/1.1 307 T\r\nLocation: /v1/again\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned());
    let client = Vault::new(settings(&looping.url(), token("hvs.secret"))).unwrap();
    failed(client.health().await, VaultErrorKind::Unavailable, &[]);
    assert!((2..6).contains(&looping.asked()), "{}", looping.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_kept_apart() {
    let Some(bao) = Bao::dev("namespaces_are_kept_apart") else { return };
    bao.api("POST", "sys/namespaces/team", Value::Null);
    bao.api("POST", "team/sys/mounts/secret", json!({ "type": "kv", "options": { "version": "1" } }));
    bao.api("POST", "team/secret/a", json!({ "key": "of the team" }));
    bao.put("secret/a", &[("key", "of the root")]);
    let client = Vault::new(VaultSettings { namespace: Some("team/".into()), ..settings(&bao.addr(), token(bao.root_token())) }).unwrap();
    assert_eq!(field(&client.read("secret/a", None).await.unwrap(), "key"), "of the team");
    assert!(client.health().await.is_ok());
    assert_eq!(field(&vault(&bao, token(bao.root_token())).read("secret/a", None).await.unwrap(), "key"), "of the root");
    let bad = VaultSettings { namespace: Some("a\nb".into()), ..settings(&bao.addr(), token("t")) };
    failed(Vault::new(bad), VaultErrorKind::Settings, &[]);
}

/// Set for the child: where Vault is.
const CHILD: &str = "KEYHATCH_TEST_VAULT_CHILD";

#[test]
fn nothing_of_the_environment_is_used() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Some(address) = std::env::var_os(CHILD) {
        let (address, root) = address.to_str().unwrap().split_once(' ').unwrap();
        let client = Vault::new(settings(address, token(root))).unwrap();
        runtime.block_on(client.read("secret/a", None)).unwrap();
        return;
    }
    let Some(bao) = Bao::dev("nothing_of_the_environment_is_used") else { return };
    bao.put("secret/a", &[("key", "sixteen-bytes-long")]);
    let proxy = Stub::start(|_| Stub::json("502 Bad Gateway", "{}"));
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "vault::client::transport::nothing_of_the_environment_is_used", "--nocapture"]);
    child.env(CHILD, format!("{} {}", bao.addr(), bao.root_token())).env_remove("NO_PROXY").env_remove("no_proxy");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, proxy.url());
    }
    for (name, value) in [("VAULT_ADDR", proxy.url().as_str()), ("VAULT_TOKEN", "wrong"), ("VAULT_NAMESPACE", "wrong"), ("VAULT_CACERT", "/none")] {
        child.env(name, value);
    }
    let said = child.output().unwrap();
    assert!(said.status.success(), "{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(String::from_utf8_lossy(&said.stdout).contains("1 passed"), "the child ran the test");
    assert_eq!(proxy.asked(), 0, "the proxy was not asked");
}
