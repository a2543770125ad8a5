//! What stands before Vault and answers in its stead: an ingress during a rollout, a login page, a firewall. It is never believed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyhatch::vault::hashicorp::{Login, Vault, VaultErrorKind};
use serde_json::json;

use super::{Stub, failed, field, settings, token};
use crate::support::Bao;

/// A way in to a Vault with `secret/a`. As soon as it is told so, it answers everything itself.
fn ingress(page: impl Fn() -> String + Send + 'static) -> (Stub, Arc<AtomicBool>) {
    let alone = Arc::new(AtomicBool::new(false));
    let closed = Arc::clone(&alone);
    let stub = Stub::start(move |request| {
        let answers = [
            ("/auth/token/lookup-self", json!({ "data": { "ttl": 0, "policies": ["root"] } })),
            ("/sys/internal/ui/mounts/", json!({ "data": { "path": "secret/", "type": "kv", "options": { "version": "2" } } })),
            ("/secret/data/a", json!({ "data": { "data": { "key": "sixteen-bytes-long" }, "metadata": { "version": 1 } } })),
            ("/secret/metadata/a", json!({ "data": { "current_version": 1, "versions": { "1": {} } } })),
            ("/secret/metadata", json!({ "data": { "keys": ["a"] } })),
        ];
        let target = request.split(' ').nth(1).unwrap_or_default();
        match answers.iter().find(|(path, _)| target.contains(path)) {
            Some((_, answer)) if !closed.load(Ordering::SeqCst) => Stub::json("200 OK", &answer.to_string()),
            _ => page(),
        }
    });
    (stub, alone)
}

fn page(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\n{more}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_page_ends_nothing() {
    const HTML: &str = "<html><body>Not here. secret</body></html>";
    for (status, more, body) in [
        ("404 Not Found", "", HTML),
        ("404 Not Found", "", ""),
        ("404 Not Found", "", "404 page not found"),
        ("403 Forbidden", "", HTML),
        ("403 Forbidden", "", "{\"message\":\"forbidden\"}"),
        ("400 Bad Request", "", HTML),
        ("401 Unauthorized", "", HTML),
        ("405 Not Allowed", "", HTML),
        ("410 Gone", "", HTML),
        ("503 Service Unavailable", "", HTML),
        ("302 Found", "Location: /login\r\n", ""),
        ("200 OK", "", HTML),
        ("200 OK", "", ""),
        ("200 OK", "", "{}"),
        ("200 OK", "", "{\"data\":{}}"),
        ("204 No Content", "", ""),
    ] {
        let (stub, alone) = ingress(move || page(status, more, body));
        let vault = Vault::new(settings(&stub.url(), token("hvs.secret"))).unwrap();
        assert_eq!(field(&vault.read("secret/a", None).await.unwrap(), "key"), "sixteen-bytes-long");
        assert_eq!((vault.list("secret").await.unwrap(), vault.metadata("secret/a").await.unwrap().version), (vec!["a".to_owned()], 1));
        alone.store(true, Ordering::SeqCst);
        let said = failed(vault.read("secret/a", None).await, VaultErrorKind::Unavailable, &["hvs.secret"]);
        assert!(!said.contains("Not here"), "{said}");
        failed(vault.metadata("secret/a").await, VaultErrorKind::Unavailable, &["hvs.secret"]);
        // A whole folder of credentials would vanish.
        failed(vault.list("secret").await, VaultErrorKind::Unavailable, &["hvs.secret"]);
        failed(vault.mount_of("elsewhere/a").await, VaultErrorKind::Unavailable, &["hvs.secret"]);
        assert_eq!((vault.stats().logins, vault.stats().login_failures), (1, 0), "{status}: the token was not doubted");
        alone.store(false, Ordering::SeqCst);
        assert_eq!(vault.read("secret/a", None).await.unwrap().version, Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_page_refuses_no_log_in() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret-id");
    std::fs::write(&file, "11111111-2222-3333-4444-555555555555").unwrap();
    let approle = |file: &Path, wrapped| Login::AppRole { mount: "approle".into(), role_id: "r".into(), secret_id_file: Some(file.into()), wrapped };
    for status in ["404 Not Found", "403 Forbidden", "400 Bad Request"] {
        let stub = Stub::start(move |_| page(status, "", "<html></html>"));
        for login in [token("hvs.secret"), approle(&file, false), approle(&file, true), Login::TokenFile(file.clone())] {
            let vault = Vault::new(settings(&stub.url(), login)).unwrap();
            failed(vault.read("secret/a", None).await, VaultErrorKind::Unavailable, &["hvs.secret", "11111111-2222"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_gets_versions_goes_on() {
    let Some(bao) = Bao::dev("a_mount_that_gets_versions_goes_on") else { return };
    for mount in ["read", "listed"] {
        bao.mount(mount, &json!({ "type": "kv", "options": { "version": "1" } }));
        bao.api("POST", &format!("{mount}/f/a"), json!({ "key": "first" }));
    }
    let vault = super::root(&bao);
    assert_eq!(field(&vault.read("read/f/a", None).await.unwrap(), "key"), "first");
    assert_eq!(vault.list("listed/f").await.unwrap(), ["a"]);
    for mount in ["read", "listed"] {
        bao.api("POST", &format!("sys/mounts/{mount}/tune"), json!({ "options": { "version": "2" } }));
        super::until("it was upgraded", || async {
            bao.api_as(bao.root_token(), "GET", &format!("{mount}/config"), &json!(null)).0.eq(&200).then_some(())
        })
        .await;
    }
    let asked = bao.requests("sys/internal/ui/mounts");
    let read = vault.read("read/f/a", None).await.unwrap();
    assert_eq!((field(&read, "key"), read.version), ("first".into(), Some(1)));
    assert_eq!(vault.list("listed/f").await.unwrap(), ["a"]);
    assert_eq!(vault.read("read/f/a", None).await.unwrap().version, Some(1));
    assert_eq!(bao.requests("sys/internal/ui/mounts"), asked + 2, "once for each mount");
    // Where there is nothing, the mount is not asked for without end.
    for _ in 0..3 {
        failed(vault.read("read/f/none", None).await, VaultErrorKind::NotFound, &[]);
    }
    assert_eq!(bao.requests("sys/internal/ui/mounts"), asked + 5);
}
