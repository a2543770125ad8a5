//! A value is as fresh as it was promised, and costs Vault nothing by traffic.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::stage::{HOST, Load, Stage};
use crate::support::origin::Origin;
use crate::support::world::HOSTS;
use crate::support::{Bao, fresh_key, within};

#[test]
fn a_reference_is_read_and_carried() {
    let Some(bao) = Bao::dev("vault::freshness::a_reference_is_read_and_carried") else { return };
    let key = fresh_key();
    let stage = Stage::new(bao, &key, "");
    assert_eq!(stage.ask(), (200, Some(format!("Bearer {key}"))));
    // Neither the value nor the token is anywhere in the home.
    for (path, bytes) in stage.home.files() {
        assert!(!crate::support::holds(&bytes, &key) && !crate::support::holds(&bytes, stage.bao.root_token()), "{}", path.display());
    }
    assert!(!stage.serve.log().contains(&key) && !stage.serve.log().contains(stage.bao.root_token()));
}

#[test]
fn a_new_version_is_carried_within_the_refresh_time() {
    let Some(bao) = Bao::dev("vault::freshness::a_new_version_is_carried_within_the_refresh_time") else { return };
    let (first, second) = (fresh_key(), fresh_key());
    let stage = Stage::new(bao, &first, "refresh = \"1s\"\n");
    assert_eq!(stage.ask().1, Some(format!("Bearer {first}")));
    let agent = stage.agent();
    let mut open = agent.open(&format!("{HOST}:443"));
    stage.bao.put("secret/openrouter", &[("api_key", &second)]);
    // The margin beside the second is for a busy machine alone.
    within(Duration::from_secs(3), "the new value", || {
        stage.origin.forget();
        assert_eq!(open.get(HOST, "/api/v1/models").status, 200);
        (stage.origin.last().value("authorization") == format!("Bearer {second}")).then_some(())
    });
}

#[test]
fn after_a_401_the_next_request_carries_the_new_value() {
    let Some(bao) = Bao::dev("vault::freshness::after_a_401_the_next_request_carries_the_new_value") else { return };
    let (first, second) = (fresh_key(), fresh_key());
    let valid = Arc::new(Mutex::new(first.clone()));
    let taken = Arc::clone(&valid);
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.read_body()?;
        let good = exchange.request.values("authorization") == [format!("Bearer {}", taken.lock().unwrap())];
        exchange.json(if good { 200 } else { 401 }, "{}")
    });
    let token = bao.root_token().to_owned();
    let stage = Stage::with(bao, origin, &first, "refresh = \"1h\"\n", &[("VAULT_TOKEN", &token)]);
    let mut open = stage.agent().open(&format!("{HOST}:443"));
    let mut ask = || open.get(HOST, "/api/v1/models").status;
    assert_eq!(ask(), 200);
    stage.bao.put("secret/openrouter", &[("api_key", &second)]);
    *valid.lock().unwrap() = second;
    assert_eq!(ask(), 401, "nobody knows yet");
    assert_eq!(ask(), 200, "the very next request carries the new value");

    // The origin refuses everything now: Vault is asked once in ten seconds, not once a request.
    *valid.lock().unwrap() = fresh_key();
    let before = stage.bao.requests("secret/");
    let begin = Instant::now();
    (0..50).for_each(|_| assert_eq!(ask(), 401));
    assert!(begin.elapsed() < Duration::from_secs(8), "else the bound below says nothing");
    let asked = stage.bao.requests("secret/") - before;
    assert!(asked <= 1, "{asked}");
}

#[test]
fn reads_do_not_grow_with_traffic() {
    let Some(bao) = Bao::dev("vault::freshness::reads_do_not_grow_with_traffic") else { return };
    let stage = Stage::new(bao, &fresh_key(), "refresh = \"1h\"\n");
    assert_eq!(stage.ask().0, 200);
    let before = stage.bao.requests("");
    let load = Load::start(&stage, 4, 1000);
    within(Duration::from_secs(30), "a thousand requests", || (load.done() > 1000).then_some(()));
    let answers = load.stop();
    assert_eq!(answers.keys().collect::<Vec<_>>(), [&200], "{answers:?}");
    assert_eq!(stage.bao.requests(""), before, "not one question more");
}

#[test]
fn a_version_that_is_pinned_stays() {
    let Some(bao) = Bao::dev("vault::freshness::a_version_that_is_pinned_stays") else { return };
    let (first, second) = (fresh_key(), fresh_key());
    let stage = Stage::new(bao, &first, "refresh = \"1s\"\n");
    stage.home.ok(&["credential", "rotate", "real", "--vault", "secret/openrouter#api_key?version=1"]);
    stage.bao.put("secret/openrouter", &[("api_key", &second)]);
    let before = stage.bao.requests("secret/data/openrouter");
    within(Duration::from_secs(20), "it was read again twice", || (stage.bao.requests("secret/data/openrouter") >= before + 2).then_some(()));
    assert_eq!(stage.ask(), (200, Some(format!("Bearer {first}"))));
    stage.bao.destroy("secret/openrouter", 1);
    within(Duration::from_secs(20), "a destroyed version ends", || (stage.ask().0 == 503).then_some(()));
}

#[test]
fn kv_version_1_works_as_well() {
    let Some(bao) = Bao::dev("vault::freshness::kv_version_1_works_as_well") else { return };
    let (first, second) = (fresh_key(), fresh_key());
    bao.mount("old", &serde_json::json!({ "type": "kv", "options": { "version": "1" } }));
    bao.api("POST", "old/data/openrouter", serde_json::json!({ "api_key": first }));
    let stage = Stage::new(bao, &fresh_key(), "refresh = \"1s\"\n");
    stage.home.ok(&["credential", "rotate", "real", "--vault", "old/data/openrouter#api_key"]);
    within(Duration::from_secs(20), "the value of version 1", || (stage.ask() == (200, Some(format!("Bearer {first}")))).then_some(()));
    stage.bao.api("POST", "old/data/openrouter", serde_json::json!({ "api_key": second }));
    within(Duration::from_secs(20), "its next value", || (stage.ask() == (200, Some(format!("Bearer {second}")))).then_some(()));
}
