//! A Vault that fails now and then, or hangs: the token's life goes on, and the end comes in time. No real server can be had to do so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyhatch::vault::hashicorp::{Login, Vault};
use serde_json::json;

use super::{Stub, settings, token, until};

/// More than close may take, and far less than a call may.
const SOON: Duration = Duration::from_millis(2300);

fn approle() -> Login {
    Login::AppRole { mount: "approle".into(), role_id: "r".into(), secret_id_file: None, wrapped: false }
}

/// A Vault whose tokens live for so many seconds. `renew` answers renewals by their number, from 1; `None` is a renewal that works.
fn server(ttl: u64, renew: impl Fn(usize) -> Option<(&'static str, &'static str)> + Send + 'static) -> (Stub, [Arc<AtomicUsize>; 2]) {
    let counts = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let [logins, renewals] = counts.clone();
    let stub = Stub::start(move |request| {
        let auth = json!({ "auth": { "client_token": "s.own", "lease_duration": ttl, "renewable": true } }).to_string();
        if request.contains("/auth/token/renew-self") {
            return match renew(renewals.fetch_add(1, Ordering::SeqCst) + 1) {
                Some((status, said)) => Stub::json(status, &json!({ "errors": [said] }).to_string()),
                None => Stub::json("200 OK", &auth),
            };
        }
        if request.contains("/auth/approle/login") {
            logins.fetch_add(1, Ordering::SeqCst);
            return Stub::json("200 OK", &auth);
        }
        let data = if request.contains("/auth/token/lookup-self") {
            json!({ "ttl": ttl, "expire_time": "later", "renewable": true })
        } else if request.contains("/mounts/") {
            json!({ "path": "secret/", "type": "kv", "options": { "version": "2" } })
        } else {
            json!({ "data": { "key": "sixteen-bytes-long" }, "metadata": { "version": 1 } })
        };
        Stub::json("200 OK", &json!({ "data": data }).to_string())
    });
    (stub, counts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_server_ends_no_renewal() {
    // Failover: some renewals fail, with words that say nothing of the token.
    let failing = |n| (n <= 3).then_some(("500 Internal Server Error", "1 error occurred: * internal error"));
    for login in [token("hvs.given"), approle()] {
        let (stub, [logins, renewals]) = server(6, failing);
        let own = matches!(login, Login::AppRole { .. });
        let client = Vault::new(settings(&stub.url(), login)).unwrap();
        let renewal = client.spawn_renewal();
        until("it is renewed after all", || async { (client.stats().renewals >= 1).then_some(()) }).await;
        assert!(renewals.load(Ordering::SeqCst) >= 4);
        assert_eq!((logins.load(Ordering::SeqCst), client.stats().logins), (usize::from(own), 1), "no storm of log-ins");
        renewal.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_at_its_maximum_is_renewed_no_more() {
    let at_end = |_| Some(("500 Internal Server Error", "past the max TTL, cannot renew"));
    let (stub, [_, renewals]) = server(4, at_end);
    let client = Vault::new(settings(&stub.url(), token("hvs.given"))).unwrap();
    let renewal = client.spawn_renewal();
    // Its time comes, and goes by. Then it is looked up again, which shows that the task went on.
    until("it is looked up again", || async { (client.stats().logins >= 2).then_some(()) }).await;
    assert_eq!(renewals.load(Ordering::SeqCst), 1);
    renewal.abort();
    // A token of our own is replaced in good time.
    let (stub, [logins, _]) = server(4, at_end);
    let client = Vault::new(settings(&stub.url(), approle())).unwrap();
    let (renewal, start) = (client.spawn_renewal(), Instant::now());
    until("it logs in anew", || async { (logins.load(Ordering::SeqCst) >= 2).then_some(()) }).await;
    assert!(start.elapsed() < Duration::from_secs(4), "before the first token ended: {:?}", start.elapsed());
    renewal.abort();
}

/// Answers until a request has this in its head; then it says nothing more, to nobody.
fn hanging_at(path: &'static str) -> Stub {
    Stub::start(move |request| {
        if request.contains(path) {
            loop {
                std::thread::park();
            }
        }
        Stub::json("200 OK", &json!({ "auth": { "client_token": "s.own", "lease_duration": 3600, "renewable": true }, "data": {} }).to_string())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_does_not_wait_for_a_vault_that_hangs() {
    for path in ["/revoke-self", "/auth/approle/login"] {
        let stub = hanging_at(path);
        let client = Vault::new(settings(&stub.url(), approle())).unwrap();
        let asking = Arc::clone(&client);
        let asking = tokio::spawn(async move { asking.token_info().await.map(drop) });
        until("it has logged in, or waits for that", || async {
            (stub.asked() >= 1 && (path != "/revoke-self" || asking.is_finished())).then_some(())
        })
        .await;
        let start = Instant::now();
        client.close().await;
        assert!(start.elapsed() < SOON, "{path}: {:?}", start.elapsed());
        assert_eq!(stub.asked(), if path == "/revoke-self" { 3 } else { 1 }, "{path}");
        asking.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_that_ends_after_the_close_leaves_no_token() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let revoked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&revoked);
    let stub = Stub::start(move |request| {
        if request.contains("/auth/approle/login") {
            wait.recv().unwrap();
        }
        count.fetch_add(usize::from(request.contains("/revoke-self") && request.contains("s.own")), Ordering::SeqCst);
        Stub::json("200 OK", &json!({ "auth": { "client_token": "s.own", "lease_duration": 3600, "renewable": true } }).to_string())
    });
    let client = Vault::new(settings(&stub.url(), approle())).unwrap();
    let asking = Arc::clone(&client);
    let asking = tokio::spawn(async move { asking.token_info().await.map(drop) });
    until("it waits for the log-in", || async { (stub.asked() >= 1).then_some(()) }).await;
    client.close().await;
    assert_eq!(revoked.load(Ordering::SeqCst), 0);
    go.send(()).unwrap();
    until("the token is revoked", || async { (revoked.load(Ordering::SeqCst) == 1).then_some(()) }).await;
    assert!(asking.await.unwrap().is_err());
    assert_eq!(client.stats().logins, 1);
}
