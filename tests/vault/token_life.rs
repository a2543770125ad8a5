//! The token's life: renewed, replaced in time, taken from a file that changes, lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::stage::{Load, Stage};
use crate::support::origin::Origin;
use crate::support::world::HOSTS;
use crate::support::{Bao, fresh_key, within};

const POLICY: &str =
    "path \"secret/data/openrouter\" { capabilities = [\"read\"] }\npath \"secret/metadata/openrouter\" { capabilities = [\"read\"] }\n";

/// What Vault refused of the program's: operation, path, error.
#[track_caller]
fn refusals(bao: &Bao) -> BTreeSet<String> {
    let log = std::fs::read_to_string(bao.dir().join("audit.jsonl")).unwrap();
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    let entries = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let foreign = entries.filter(|e| e["type"] == "response" && e["request"]["headers"].get("x-keyhatch-test").is_none());
    let refused = foreign.filter(|e| e["error"].as_str().is_some_and(|error| !error.is_empty()));
    refused.map(|e| format!("{} {}: {}", e["request"]["operation"], e["request"]["path"], e["error"])).collect()
}

/// A role with this TTL and maximum in seconds, under load for so long: no failure and no lapse. Returns its figures.
#[track_caller]
fn a_role_lives(test: &str, ttl: u64, max: u64, length: Duration, rate: u32) -> Option<String> {
    let bao = Bao::dev(test)?;
    bao.policy("mine", POLICY);
    let (role, secret) = bao.approle("keyhatch", &["mine"], &format!("{ttl}s"), &format!("{max}s"));
    let file = bao.dir().join("secret-id");
    std::fs::write(&file, secret).unwrap();
    let auth = format!("refresh = \"1s\"\n[vault.auth]\nmethod = \"approle\"\nrole_id = \"{role}\"\nsecret_id_file = \"{}\"\n", file.display());
    let key = fresh_key();
    let origin = Origin::start(&HOSTS, {
        let wanted = format!("Bearer {key}");
        move |exchange| {
            exchange.read_body()?;
            let good = exchange.request.values("authorization") == [wanted.as_str()];
            exchange.json(if good { 200 } else { 401 }, "{}")
        }
    });
    let stage = Stage::with(bao, origin, &key, &auth, &[]);
    let load = Load::start(&stage, 10, rate);
    let begin = Instant::now();
    let lapses = || stage.metric("keyhatch_vault_paths_stale") + stage.metric("keyhatch_vault_paths_unavailable");
    within(length + Duration::from_secs(20), "the time is over", || {
        assert_eq!(lapses(), 0, "{}", stage.serve.log());
        // What is kept of each request would grow without bounds.
        stage.origin.forget();
        (begin.elapsed() >= length).then_some(())
    });
    let lasted = begin.elapsed().as_secs();
    let answers = load.stop();
    assert_eq!(answers.keys().collect::<Vec<_>>(), [&200], "{answers:?}");
    let metric = |name: &str| stage.metric(&format!("keyhatch_vault_{name}_total"));
    let (logins, renewals, reads) = (metric("logins"), metric("token_renewals"), metric("reads"));
    assert_eq!((metric("login_failures"), metric("errors")), (0, 0));
    assert_eq!(refusals(&stage.bao), BTreeSet::new());
    let log = stage.serve.log();
    assert!(!log.contains("used on") && !log.contains("are refused") && !log.contains("no token"), "{log}");
    // A token is replaced somewhere in the second half of its longest life, and renewed before at each two thirds of its TTL at the latest.
    assert!((lasted / max..=lasted * 2 / max + 2).contains(&logins), "{logins} log-ins in {lasted} s");
    assert!(renewals >= logins - 1 && renewals <= lasted * 2 / ttl + 1, "{renewals} renewals in {lasted} s");
    let asked = |path: &str| stage.bao.requests(path) as u64;
    assert!(asked("auth/approle/login").abs_diff(logins) <= 1 && asked("auth/token/renew-self") >= renewals, "Vault counts the same");
    let requests: usize = answers.values().sum();
    Some(format!("{lasted} s, {requests} requests, all 200; {logins} log-ins, {renewals} renewals, {reads} reads, no failure"))
}

#[test]
fn a_short_lived_role_serves_without_a_lapse() {
    let test = "vault::token_life::a_short_lived_role_serves_without_a_lapse";
    if let Some(figures) = a_role_lives(test, 4, 12, Duration::from_secs(30), 100) {
        println!("{figures}");
    }
}

/// The same as it is promised. CONTRIBUTING.md says how to run it.
#[test]
#[ignore = "takes three minutes"]
fn a_role_of_20_s_and_60_s_serves_for_three_minutes() {
    let test = "vault::token_life::a_role_of_20_s_and_60_s_serves_for_three_minutes";
    if let Some(figures) = a_role_lives(test, 20, 60, Duration::from_secs(180), 200) {
        println!("{figures}");
    }
}

#[test]
fn a_sink_file_that_is_replaced_is_taken_while_serving() {
    let Some(bao) = Bao::dev("vault::token_life::a_sink_file_that_is_replaced_is_taken_while_serving") else { return };
    bao.policy("mine", POLICY);
    let token = || bao.token(&["mine"], "1h", None);
    let (first, second, third) = (token(), token(), token());
    let sink = bao.dir().join("sink");
    std::fs::write(&sink, &first).unwrap();
    let (one, two) = (fresh_key(), fresh_key());
    let auth = format!("refresh = \"1s\"\n[vault.auth]\nmethod = \"token\"\ntoken_file = \"{}\"\n", sink.display());
    let stage = Stage::with(bao, Origin::agreeable(&HOSTS), &one, &auth, &[]);
    assert_eq!(stage.ask(), (200, Some(format!("Bearer {one}"))));
    let load = Load::start(&stage, 4, 100);
    let mut old = first;
    for (number, token) in [(2, second), (3, third)] {
        // As Vault Agent does it: another file in its place.
        let new = stage.bao.dir().join("sink.new");
        std::fs::write(&new, format!("{token}\n")).unwrap();
        std::fs::rename(&new, &sink).unwrap();
        within(Duration::from_secs(5), "the next token is taken", || (stage.metric("keyhatch_vault_logins_total") == number).then_some(()));
        stage.bao.revoke(&std::mem::replace(&mut old, token));
    }
    stage.bao.put("secret/openrouter", &[("api_key", &two)]);
    within(Duration::from_secs(5), "it reads", || {
        stage.origin.recorded().last().is_some_and(|r| r.values("authorization") == [format!("Bearer {two}")]).then_some(())
    });
    let answers = load.stop();
    assert_eq!(answers.keys().collect::<Vec<_>>(), [&200], "{answers:?}");
    assert_eq!(stage.metric("keyhatch_vault_login_failures_total"), 0);
    let log = stage.serve.log();
    assert!(!log.contains("used on") && !log.contains(&old), "{log}");
}

#[test]
fn a_token_that_expires_is_an_outage_with_its_grace() {
    let Some(bao) = Bao::dev("vault::token_life::a_token_that_expires_is_an_outage_with_its_grace") else { return };
    bao.policy("mine", POLICY);
    let token = bao.token(&["mine"], "5s", Some("5s"));
    let born = Instant::now();
    let stage = Stage::with(bao, Origin::agreeable(&HOSTS), &fresh_key(), "refresh = \"1s\"\nmax_stale = \"4s\"\n", &[("VAULT_TOKEN", &token)]);
    let load = Load::start(&stage, 4, 100);
    within(Duration::from_secs(12), "the path is stale", || (stage.metric("keyhatch_vault_paths_stale") == 1).then_some(()));
    assert!(born.elapsed() > Duration::from_millis(4500), "{:?}", born.elapsed());
    let said = "Vault does not know the token of VAULT_TOKEN: it is expired or revoked; give a new one";
    let log = stage.serve.log();
    assert!(log.contains("the token of VAULT_TOKEN ends in"), "told before: {log}");
    assert!(log.contains(said) && log.contains("secret/openrouter: the value known last is used on"), "{log}");
    let ended = within(Duration::from_secs(12), "the grace ends", || load.first(503, born));
    assert!(ended - born > Duration::from_millis(8500) && ended - born < Duration::from_secs(14), "{:?}", ended - born);
    assert_eq!(load.between(born, ended).keys().collect::<Vec<_>>(), [&200]);
    drop(load);
    stage.agent().get(super::stage::HOST, "/").expect_own(503, "credential_unavailable");
    assert!(stage.serve.log().contains("secret/openrouter: requests that need it are refused"), "{}", stage.serve.log());
    assert!(!stage.serve.log().contains(&token));
}
