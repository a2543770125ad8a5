//! The life of a token: renewed, capped, replaced, with reads going on all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyhatch::vault::hashicorp::{Login, Vault};
use serde_json::json;

use super::{file, token, until, vault};
use crate::support::Bao;

/// Reads again and again until it is stopped; the count of reads, and the first failure.
fn reading(client: &Arc<Vault>, stop: &Arc<AtomicBool>, count: &Arc<AtomicUsize>) -> tokio::task::JoinHandle<Result<(), String>> {
    let (client, stop, count) = (Arc::clone(client), Arc::clone(stop), Arc::clone(count));
    tokio::spawn(async move {
        while !stop.load(Ordering::SeqCst) {
            client.read("secret/a", None).await.map_err(|e| format!("{:?}: {e}", e.kind))?;
            count.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    })
}

fn bao(test: &str) -> Option<Bao> {
    let bao = Bao::dev(test)?;
    bao.put("secret/a", &[("key", "sixteen-bytes-long")]);
    bao.policy("one", "path \"secret/data/a\" { capabilities = [\"read\"] }");
    Some(bao)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_lived_token_is_renewed_and_replaced_without_a_gap() {
    let Some(bao) = bao("a_short_lived_token_is_renewed_and_replaced_without_a_gap") else { return };
    let (role_id, secret_id) = bao.approle("keyhatch", &["one"], "3s", "7s");
    let path = file(&bao, "secret-id", &secret_id);
    let client = vault(&bao, Login::AppRole { mount: "approle".into(), role_id, secret_id_file: Some(path), wrapped: false });
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let renewal = client.spawn_renewal();
    let readers = (0..4).map(|_| reading(&client, &stop, &count)).collect::<Vec<_>>();
    // Three log-ins: two whole lives.
    until("a third token", || async { (client.stats().logins >= 3 || readers.iter().any(|r| r.is_finished())).then_some(()) }).await;
    stop.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap().unwrap();
    }
    let stats = client.stats();
    assert!(stats.renewals >= 2 && stats.login_failures == 0 && stats.errors == 0, "{stats:?}");
    assert!(count.load(Ordering::SeqCst) > 500, "{count:?}");
    // No read met a dead token: a 403 would have had it looked up.
    assert_eq!(bao.requests("auth/token/lookup-self"), 0, "{stats:?}");
    renewal.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_renewed_is_replaced_in_time() {
    let Some(bao) = bao("a_token_that_cannot_be_renewed_is_replaced_in_time") else { return };
    let (role_id, secret_id) = bao.approle("keyhatch", &["one"], "3s", "3s");
    bao.api("POST", "auth/approle/role/keyhatch", json!({ "token_type": "batch" }));
    let path = file(&bao, "secret-id", &secret_id);
    let client = vault(&bao, Login::AppRole { mount: "approle".into(), role_id, secret_id_file: Some(path), wrapped: false });
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let renewal = client.spawn_renewal();
    let reader = reading(&client, &stop, &count);
    until("a third token", || async { (client.stats().logins >= 3 || reader.is_finished()).then_some(()) }).await;
    stop.store(true, Ordering::SeqCst);
    reader.await.unwrap().unwrap();
    assert_eq!((client.stats().renewals, bao.requests("auth/token/lookup-self")), (0, 0));
    renewal.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_given_token_is_renewed_and_never_revoked() {
    let Some(bao) = bao("a_given_token_is_renewed_and_never_revoked") else { return };
    let own = bao.token(&["one"], "3s", None);
    let revoked = bao.requests("auth/token/revoke");
    let client = vault(&bao, token(&own));
    let renewal = client.spawn_renewal();
    let start = Instant::now();
    until("it lives longer than it would", || async {
        client.read("secret/a", None).await.unwrap();
        (start.elapsed() > Duration::from_secs(5)).then_some(())
    })
    .await;
    assert!(client.stats().renewals >= 2, "{:?}", client.stats());
    renewal.abort();
    client.close().await;
    assert_eq!(bao.requests("auth/token/revoke"), revoked);
    assert!(vault(&bao, token(&own)).read("secret/a", None).await.is_ok());
    // A token without an end needs nothing.
    let root = super::root(&bao);
    assert_eq!(root.token_info().await.unwrap().ttl, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ended_while_vault_was_away_is_replaced() {
    let Some(bao) = Bao::file("a_token_that_ended_while_vault_was_away_is_replaced") else { return };
    bao.put("secret/a", &[("key", "sixteen-bytes-long")]);
    bao.policy("one", "path \"secret/data/a\" { capabilities = [\"read\"] }");
    let (role_id, secret_id) = bao.approle("keyhatch", &["one"], "3s", "1h");
    let path = file(&bao, "secret-id", &secret_id);
    let client = vault(&bao, Login::AppRole { mount: "approle".into(), role_id, secret_id_file: Some(path), wrapped: false });
    let renewal = client.spawn_renewal();
    client.read("secret/a", None).await.unwrap();
    bao.stop();
    until("its time is over", || async {
        let error = client.read("secret/a", None).await.err().expect("Vault is away");
        assert!(error.kind.is_outage(), "{error}");
        (client.stats().login_failures > 0).then_some(())
    })
    .await;
    bao.restart();
    let back = Instant::now();
    until("service is back", || async { client.read("secret/a", None).await.ok() }).await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    assert!(client.stats().logins >= 2);
    renewal.abort();
}
