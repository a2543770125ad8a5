//! A 403: whether it is the policy's or the token's, and what is said of it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use keyhatch::vault::hashicorp::{Login, VaultErrorKind};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

use super::{failed, file, swap, token, until, vault};
use crate::support::{Bao, fresh_key};

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_the_line_that_the_policy_lacks() {
    let Some(bao) = Bao::dev("a_refusal_names_the_line_that_the_policy_lacks") else { return };
    let key = fresh_key();
    bao.put("secret/openrouter", &[("api_key", &key)]);
    bao.put("secret/github", &[("token", &key)]);
    bao.policy("one", "path \"secret/data/github\" { capabilities = [\"read\"] }");
    let own = bao.token(&["one"], "1h", None);
    let client = vault(&bao, token(&own));
    assert!(client.read("secret/github", None).await.is_ok());
    let said = failed(client.read("secret/openrouter", None).await, VaultErrorKind::Denied, &[&own, &key]);
    assert_eq!(
        said,
        "Vault refuses \"read\" on secret/data/openrouter: the token's policy needs  path \"secret/data/openrouter\" { capabilities = [\"read\"] }"
    );
    let said = failed(client.metadata("secret/github").await, VaultErrorKind::Denied, &[&own]);
    assert!(said.contains("path \"secret/metadata/github\" { capabilities = [\"read\"] }"), "{said}");
    let said = failed(client.list("secret/keyhatch").await, VaultErrorKind::Denied, &[&own]);
    assert!(said.contains("path \"secret/metadata/keyhatch\" { capabilities = [\"list\"] }"), "{said}");
    let said = failed(client.create("secret/new", &[]).await, VaultErrorKind::Denied, &[&own]);
    assert!(said.contains("path \"secret/data/new\" { capabilities = [\"create\"] }"), "{said}");
    assert!(client.read("secret/github", None).await.is_ok(), "a refusal of one path is none of another");

    // The line that is named is the one that helps.
    bao.policy("one", "path \"secret/data/*\" { capabilities = [\"read\"] }");
    assert!(client.read("secret/openrouter", None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_the_token_cannot_see_is_told_both_ways() {
    let Some(bao) = Bao::dev("a_mount_that_the_token_cannot_see_is_told_both_ways") else { return };
    let own = bao.token(&["default"], "1h", None);
    let client = vault(&bao, token(&own));
    for path in ["secret/openrouter", "nowhere/openrouter"] {
        let said = failed(client.read(path, None).await, VaultErrorKind::Denied, &[&own]);
        let (mount, _) = path.split_once('/').unwrap();
        assert!(said.contains(&format!("path \"{mount}/data/openrouter\" {{ capabilities = [\"read\"] }}")), "{said}");
        assert!(said.contains("`vault secrets list`"), "{said}");
    }
    // What it says works: with the line the mount shows.
    bao.put("secret/openrouter", &[("api_key", "sixteen-bytes-long")]);
    bao.policy("one", "path \"secret/data/openrouter\" { capabilities = [\"read\"] }");
    assert!(vault(&bao, token(&bao.token(&["one"], "1h", None))).read("secret/openrouter", None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_over_is_an_outage_and_no_refusal_of_the_path() {
    let Some(bao) = Bao::dev("a_token_that_is_over_is_an_outage_and_no_refusal_of_the_path") else { return };
    bao.put("secret/a", &[("key", "sixteen-bytes-long")]);
    bao.policy("one", "path \"secret/data/a\" { capabilities = [\"read\"] }");
    let own = bao.token(&["one"], "1h", None);
    let client = vault(&bao, token(&own));
    assert!(client.read("secret/a", None).await.is_ok());
    bao.revoke(&own);
    let said = failed(client.read("secret/a", None).await, VaultErrorKind::LoginRefused, &[&own]);
    assert!(said.contains("VAULT_TOKEN") && said.contains("expired or revoked"), "{said}");
    assert!(VaultErrorKind::LoginRefused.is_outage());
    // From the start too.
    failed(vault(&bao, token(&own)).read("secret/a", None).await, VaultErrorKind::LoginRefused, &[&own]);
    let said = failed(vault(&bao, token("s.never\u{e9}")).read("secret/a", None).await, VaultErrorKind::LoginRefused, &["s.never"]);
    assert!(!said.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_look_itself_up_works() {
    let Some(bao) = Bao::dev("a_token_that_may_not_look_itself_up_works") else { return };
    bao.put("secret/a", &[("key", "sixteen-bytes-long")]);
    bao.policy("one", "path \"secret/data/a\" { capabilities = [\"read\"] }");
    let made = bao.api("POST", "auth/token/create", serde_json::json!({ "policies": ["one"], "no_default_policy": true, "ttl": "1h" }));
    let own = made["auth"]["client_token"].as_str().unwrap();
    let client = vault(&bao, token(own));
    assert!(client.read("secret/a", None).await.is_ok());
    failed(client.read("secret/b", None).await, VaultErrorKind::Denied, &[own]);
    bao.revoke(own);
    failed(client.read("secret/a", None).await, VaultErrorKind::LoginRefused, &[own]);
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(event)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// One thread, so that everything is logged to this test's log.
#[tokio::test(flavor = "current_thread")]
async fn the_log_tells_of_log_ins_and_holds_no_secret() {
    let Some(bao) = Bao::dev("the_log_tells_of_log_ins_and_holds_no_secret") else { return };
    let log = Log::default();
    let writer = log.clone();
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    let all = Targets::new().with_target("keyhatch", tracing::Level::TRACE);
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(all).with(layer));
    let key = fresh_key();
    bao.put("secret/a", &[("key", &key)]);
    bao.policy("one", "path \"secret/data/a\" { capabilities = [\"read\"] }");
    let (role_id, secret_id) = bao.approle("keyhatch", &["one"], "2s", "4s");
    let path = file(&bao, "secret-id", &secret_id);
    let client = vault(&bao, Login::AppRole { mount: "approle".into(), role_id, secret_id_file: Some(path.clone()), wrapped: false });
    let renewal = client.spawn_renewal();
    client.read("secret/a", None).await.unwrap();
    until("it is logged in anew", || async { (client.stats().logins >= 2 && client.stats().renewals >= 1).then_some(()) }).await;
    // From now on log-ins are refused, and it is said once.
    swap(&path, "00000000-1111-2222-3333-444444444444");
    until("several log-ins failed", || async { (client.stats().login_failures >= 3).then_some(()) }).await;
    renewal.abort();
    let sink = vault(&bao, Login::TokenFile(file(&bao, "sink", &bao.token(&["one"], "1h", None))));
    sink.read("secret/a", None).await.unwrap();
    drop(guard);

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let count = |what: &str| text.lines().filter(|l| l.contains(what)).count();
    assert!(count("takes AppRole (auth/approle): for 2 s, policies default, one") >= 2, "{text}");
    assert_eq!(count("WARN"), 1, "{text}");
    assert_eq!(count("no token for Vault: Vault refuses the log-in by AppRole (auth/approle): invalid role or secret ID"), 1, "{text}");
    assert_eq!(count("takes the token in "), 1, "{text}");
    for secret in [key.as_str(), &secret_id, "00000000-1111-2222-3333-444444444444", bao.root_token(), "s.", "hvs."] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}
