//! An outage of Vault hurts nobody who need not be hurt, and nothing goes out bare.

use std::time::{Duration, Instant};

use super::stage::{HOST, Load, Stage};
use crate::support::{Agent, Bao, fresh_key, within};

const QUICK: &str = "refresh = \"1s\"\nmax_stale = \"6s\"\n";

/// No request that reached the origin went without the key.
#[track_caller]
fn nothing_bare(stage: &Stage, key: &str) {
    let wanted = format!("Bearer {key}");
    let bare = stage.origin.recorded().iter().filter(|r| r.values("authorization") != [wanted.as_str()]).count();
    assert_eq!(bare, 0, "requests that went out otherwise");
}

#[test]
fn sealed_stopped_restarted_and_unsealed_under_load() {
    let Some(bao) = Bao::file("vault::outage::sealed_stopped_restarted_and_unsealed_under_load") else { return };
    let key = fresh_key();
    let stage = Stage::new(bao, &key, QUICK);
    assert_eq!(stage.ask().0, 200);
    let load = Load::start(&stage, 20, 500);
    within(Duration::from_secs(20), "a load", || (load.done() > 250).then_some(()));

    // Shorter than the grace: nobody notices.
    let down = Instant::now();
    stage.bao.seal();
    within(Duration::from_secs(5), "the log says so", || stage.serve.log().contains("the value known last is used on").then_some(()));
    assert_eq!(stage.metric("keyhatch_vault_paths_stale"), 1);
    assert!(stage.admin("/readyz").1.contains("secret/openrouter"), "{:?}", stage.admin("/readyz"));
    stage.bao.unseal();
    within(Duration::from_secs(5), "it is fresh again", || (stage.metric("keyhatch_vault_paths_stale") == 0).then_some(()));
    assert_eq!(load.between(down, Instant::now()).keys().collect::<Vec<_>>(), [&200]);

    // Longer: what was promised, then 503 for all.
    let down = Instant::now();
    stage.bao.stop();
    let ended = within(Duration::from_secs(30), "the grace ends", || load.first(503, down));
    assert!(ended - down >= Duration::from_secs(6), "not before its time: {:?}", ended - down);
    assert!(ended - down < Duration::from_secs(15), "and not long after it: {:?}", ended - down);
    assert_eq!(load.between(down, ended).keys().collect::<Vec<_>>(), [&200]);
    let settled = ended + Duration::from_millis(500);
    within(Duration::from_secs(10), "more of them", || (Instant::now() > settled + Duration::from_secs(1)).then_some(()));
    assert_eq!(load.between(settled, Instant::now()).keys().collect::<Vec<_>>(), [&503]);
    let reply = stage.agent().get(HOST, "/api/v1/models");
    reply.expect_own(503, "credential_unavailable");
    assert_eq!(reply.values("retry-after"), ["5"]);
    assert_eq!(stage.metric("keyhatch_vault_paths_unavailable"), 1);

    // It comes back by itself.
    stage.bao.restart();
    let up = Instant::now();
    let back = within(Duration::from_secs(20), "service is back", || load.first(200, up));
    assert!(back - up < Duration::from_secs(5), "{:?}", back - up);
    let settled = back + Duration::from_millis(500);
    within(Duration::from_secs(10), "more of them", || (Instant::now() > settled + Duration::from_secs(1)).then_some(()));
    assert_eq!(load.between(settled, Instant::now()).keys().collect::<Vec<_>>(), [&200]);
    let answers = load.stop();
    assert!(!answers.contains_key(&0), "every request was answered: {answers:?}");
    nothing_bare(&stage, &key);
}

#[test]
fn a_vault_that_hangs_is_an_outage_too() {
    let Some(bao) = Bao::dev("vault::outage::a_vault_that_hangs_is_an_outage_too") else { return };
    let key = fresh_key();
    let stage = Stage::new(bao, &key, "refresh = \"1s\"\nmax_stale = \"3s\"\n");
    assert_eq!(stage.ask().0, 200);
    let load = Load::start(&stage, 4, 100);
    let down = Instant::now();
    stage.bao.freeze();
    let ended = within(Duration::from_secs(30), "the grace ends", || load.first(503, down));
    // The question that hangs may have been on its way already.
    assert!(ended - down >= Duration::from_millis(2800) && ended - down < Duration::from_secs(10), "{:?}", ended - down);
    stage.bao.thaw();
    let up = Instant::now();
    let back = within(Duration::from_secs(30), "service is back", || load.first(200, up));
    assert!(back - up < Duration::from_secs(5), "{:?}", back - up);
    drop(load);
    nothing_bare(&stage, &key);
}

#[test]
fn without_grace_the_first_failure_ends_it() {
    let Some(bao) = Bao::dev("vault::outage::without_grace_the_first_failure_ends_it") else { return };
    let key = fresh_key();
    let stage = Stage::new(bao, &key, "refresh = \"1s\"\nmax_stale = \"0s\"\n");
    let load = Load::start(&stage, 4, 200);
    within(Duration::from_secs(20), "some refreshes", || (load.done() > 700).then_some(()));
    let down = Instant::now();
    stage.bao.seal();
    assert_eq!(load.between(down - Duration::from_secs(60), down).keys().collect::<Vec<_>>(), [&200], "refreshing alone disturbs nobody");
    let ended = within(Duration::from_secs(10), "it ends", || load.first(503, down));
    assert!(ended - down < Duration::from_secs(4), "{:?}", ended - down);
    drop(load);
    nothing_bare(&stage, &key);
}

#[test]
fn what_is_deleted_or_denied_ends_at_once_and_alone() {
    let Some(bao) = Bao::dev("vault::outage::what_is_deleted_or_denied_ends_at_once_and_alone") else { return };
    let key = fresh_key();
    let mine = |name: &str| {
        format!("path \"secret/data/{name}\" {{ capabilities = [\"read\"] }}\npath \"secret/metadata/{name}\" {{ capabilities = [\"read\"] }}\n")
    };
    bao.policy("mine", &format!("{}{}", mine("openrouter"), mine("other")));
    let token = bao.token(&["mine"], "1h", None);
    let origin = crate::support::Origin::agreeable(&crate::support::world::HOSTS);
    let stage = Stage::with(bao, origin, &key, "refresh = \"1s\"\nmax_stale = \"10m\"\n", &[("VAULT_TOKEN", &token)]);
    stage.bao.put("secret/other", &[("k", &key)]);
    stage.home.ok(&["credential", "add", "other", "--type", "bearer", "--allow", "api.example.com", "--vault", "secret/other#k"]);
    stage.home.add_key("local", &["example.net"], &key);
    let status = |host: &str| stage.agent().get(host, "/").status;
    within(Duration::from_secs(10), "all three work", || ([HOST, "api.example.com", "example.net"].map(status) == [200, 200, 200]).then_some(()));

    stage.bao.delete("secret/openrouter");
    within(Duration::from_secs(5), "a deleted one ends", || (status(HOST) == 503).then_some(()));
    assert_eq!(["api.example.com", "example.net"].map(status), [200, 200], "alone");
    stage.bao.undelete("secret/openrouter", 1);
    within(Duration::from_secs(5), "it comes back", || (status(HOST) == 200).then_some(()));

    // The policy allows one path only: the other is reported by name.
    stage.bao.policy("mine", &mine("openrouter"));
    within(Duration::from_secs(5), "a denied one ends", || (status("api.example.com") == 503).then_some(()));
    assert_eq!([HOST, "example.net"].map(status), [200, 200], "alone");
    let log = stage.serve.log();
    assert!(log.contains("secret/other: requests that need it are refused") && log.contains("capabilities = [\"read\"]"), "{log}");
    within(Duration::from_secs(5), "the audit log has it", || {
        let audit = stage.home.ok(&["audit", "tail", "--host", "api.example.com", "--json"]);
        audit.contains("credential_unavailable").then_some(())
    });
    nothing_bare(&stage, &key);
}

#[test]
fn a_field_that_is_missing_says_which_there_are() {
    let Some(bao) = Bao::dev("vault::outage::a_field_that_is_missing_says_which_there_are") else { return };
    let stage = Stage::new(bao, &fresh_key(), "refresh = \"1s\"\n");
    stage.bao.put("secret/openrouter", &[("apiKey", "sk-or-v1-test-0001"), ("note", "x")]);
    within(Duration::from_secs(5), "it ends", || (stage.ask() == (503, None)).then_some(()));
    assert!(stage.serve.log().contains("has no field `api_key`; it has: apiKey, note"), "{}", stage.serve.log());
    assert!(!stage.serve.log().contains("sk-or-v1-test-0001"));
    assert_eq!(stage.metric("keyhatch_vault_paths_unavailable"), 1);
    let (status, ready) = stage.admin("/readyz");
    assert!(status == 200 && ready.contains("secret/openrouter#api_key"), "{ready}");
    // It is asked for again and again, and said once.
    let before = stage.bao.requests("secret/");
    within(Duration::from_secs(10), "it was read again", || (stage.bao.requests("secret/") >= before + 2).then_some(()));
    assert_eq!(stage.serve.log().matches("cannot be used: secret/openrouter").count(), 1, "{}", stage.serve.log());
}

#[test]
fn what_a_credential_opened_does_not_outlive_it() {
    let Some(bao) = Bao::dev("vault::outage::what_a_credential_opened_does_not_outlive_it") else { return };
    let origin = crate::support::Origin::start(&crate::support::world::HOSTS, |exchange| {
        exchange.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n")?;
        exchange.wait_for_end(Duration::from_secs(60))
    });
    let token = bao.root_token().to_owned();
    let stage = Stage::with(bao, origin, &fresh_key(), "refresh = \"1s\"\n", &[("VAULT_TOKEN", &token)]);
    let mut conn = stage.agent().open(&format!("{HOST}:443"));
    let reply = conn.ask(format!(
        "GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ));
    assert_eq!(reply.status, 101, "{reply:?}");
    // A new value lets it go on.
    stage.bao.put("secret/openrouter", &[("api_key", &fresh_key())]);
    let before = stage.bao.requests("secret/data/");
    within(Duration::from_secs(10), "the new value is read", || (stage.bao.requests("secret/data/") > before).then_some(()));
    stage.bao.put("secret/openrouter", &[("api_key", &fresh_key())]);
    assert!(!conn.closes_within(Duration::from_millis(500)));
    stage.bao.delete("secret/openrouter");
    assert!(conn.closes_within(Duration::from_secs(5)), "a deleted one ends it");
}

#[test]
fn a_vault_that_is_down_at_the_start_is_waited_for() {
    let Some(bao) = Bao::file("vault::outage::a_vault_that_is_down_at_the_start_is_waited_for") else { return };
    let key = fresh_key();
    let mut stage = Stage::new(bao, &key, QUICK);
    stage.serve.stop();
    stage.bao.stop();
    let token = stage.bao.root_token().to_owned();
    stage.serve = crate::support::Serve::start_with(&stage.home, &[], &[("VAULT_TOKEN", &token)]);
    stage.home.add_key("local", &["example.net"], &key);
    assert_eq!(stage.ask(), (503, None));
    let agent = Agent::new(&stage.home, &stage.serve);
    within(Duration::from_secs(5), "what is local works", || (agent.get("example.net", "/").status == 200).then_some(()));
    stage.bao.restart();
    within(Duration::from_secs(10), "service comes by itself", || (stage.ask().0 == 200).then_some(()));
}
