//! How paths are kept up to date: what Vault is asked, and what it is not.

use std::time::{Duration, Instant};

use super::stage::{HOST, Load, Stage};
use crate::support::origin::Origin;
use crate::support::world::{HOSTS, configuration};
use crate::support::{Bao, Home, Serve, fresh_key, within};

#[test]
fn an_entry_that_is_removed_and_made_anew_is_another() {
    let Some(bao) = Bao::dev("vault::keeping::an_entry_that_is_removed_and_made_anew_is_another") else { return };
    let (first, second) = (fresh_key(), fresh_key());
    let stage = Stage::new(bao, &first, "refresh = \"2s\"\n");
    assert_eq!(stage.ask().1, Some(format!("Bearer {first}")));
    // Between two looks, so that only the version is seen: and that is 1 again.
    stage.bao.purge("secret/openrouter");
    assert_eq!(stage.bao.put("secret/openrouter", &[("api_key", &second)]), 1);
    within(Duration::from_secs(8), "the new value", || (stage.ask() == (200, Some(format!("Bearer {second}")))).then_some(()));
}

#[test]
fn a_start_reads_each_path_once() {
    let Some(bao) = Bao::dev("vault::keeping::a_start_reads_each_path_once") else { return };
    let mut stage = Stage::new(bao, &fresh_key(), "refresh = \"1h\"\n");
    stage.home.ok(&["credential", "add", "other", "--type", "bearer", "--allow", "api.example.com", "--vault", "secret/openrouter#api_key"]);
    stage.serve.stop();
    let before = stage.bao.requests("secret/");
    let token = stage.bao.root_token().to_owned();
    stage.serve = Serve::start_with(&stage.home, &[], &[("VAULT_TOKEN", &token)]);
    assert_eq!((stage.ask().0, stage.agent().get("api.example.com", "/").status), (200, 200));
    assert_eq!(stage.bao.requests("secret/"), before + 1, "{:?}", stage.bao.asked());
}

#[test]
fn a_hanging_vault_holds_up_no_request_after_a_401() {
    let Some(bao) = Bao::dev("vault::keeping::a_hanging_vault_holds_up_no_request_after_a_401") else { return };
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        exchange.json(401, "{}")
    });
    let token = bao.root_token().to_owned();
    let stage = Stage::with(bao, origin, &fresh_key(), "refresh = \"1h\"\n", &[("VAULT_TOKEN", &token)]);
    let mut open = stage.agent().open(&format!("{HOST}:443"));
    stage.bao.freeze();
    assert_eq!(open.get(HOST, "/").status, 401);
    let begin = Instant::now();
    (0..5).for_each(|_| assert_eq!(open.get(HOST, "/").status, 401));
    assert!(begin.elapsed() < Duration::from_secs(3), "a second for all together, not for each: {:?}", begin.elapsed());
    stage.bao.thaw();
}

/// A home whose credentials are all in a folder in Vault, so many of them, all with this key.
fn many(bao: &Bao, origin: &Origin, count: usize, key: &str) -> Home {
    for i in 0..count {
        let path = format!("secret/keyhatch/c{i}");
        bao.put(&path, &[("api_key", key)]);
        let domain = if i == 0 { HOST.to_owned() } else { format!("h{i}.example.org") };
        bao.custom_metadata(&path, &[("allowed_domains", &domain)]);
    }
    let home = Home::with_key_file("");
    let vault = format!("[vault]\naddress = \"{}\"\nrefresh = \"10s\"\nmax_stale = \"10m\"\ndiscover = \"secret/keyhatch\"\n", bao.addr());
    home.configure(&configuration(&home, origin, &vault));
    home
}

#[test]
fn many_paths_ask_little_of_a_vault_that_is_sealed() {
    let Some(bao) = Bao::dev("vault::keeping::many_paths_ask_little_of_a_vault_that_is_sealed") else { return };
    let count = 300;
    let (origin, key) = (Origin::agreeable(&HOSTS), fresh_key());
    let home = many(&bao, &origin, count, &key);
    let token = bao.root_token().to_owned();
    let serve = Serve::start_with(&home, &[], &[("VAULT_TOKEN", &token)]);
    let stage = Stage { serve, origin, home, bao };
    within(Duration::from_secs(20), "it works", || (stage.ask().0 == 200).then_some(()));
    stage.bao.seal();
    within(Duration::from_secs(40), "all are stale", || (stage.metric("keyhatch_vault_paths_stale") == count as u64).then_some(()));
    let load = Load::start(&stage, 4, 100);
    let errors = || stage.metric("keyhatch_vault_errors_total");
    let (before, begin) = (errors(), Instant::now());
    within(Duration::from_secs(20), "five seconds", || (begin.elapsed() > Duration::from_secs(5)).then_some(()));
    let (asked, seconds) = (errors() - before, begin.elapsed().as_secs_f64());
    assert!(asked as f64 / seconds < 25.0, "{asked} questions in {seconds:.1} s");
    assert!(asked > 5, "but it is asked: {asked}");
    stage.bao.unseal();
    within(Duration::from_secs(5), "all are fresh", || (stage.metric("keyhatch_vault_paths_stale") == 0).then_some(()));
    let answers = load.stop();
    assert_eq!(answers.keys().collect::<Vec<_>>(), [&200], "{answers:?}");
}

#[test]
fn other_terms_leave_the_value_in_an_outage() {
    let Some(bao) = Bao::dev("vault::keeping::other_terms_leave_the_value_in_an_outage") else { return };
    let key = fresh_key();
    let stage = Stage::new(bao, &key, "refresh = \"1s\"\nmax_stale = \"10m\"\n");
    assert_eq!(stage.ask().0, 200);
    stage.bao.freeze();
    // The same place once more: another version of the credential, and a permit names its version.
    stage.home.ok(&["credential", "rotate", "real", "--vault", "secret/openrouter#api_key"]);
    let begin = Instant::now();
    within(Duration::from_secs(5), "it is used on", || {
        let (status, carried) = stage.ask();
        assert_eq!((status, carried), (200, Some(format!("Bearer {key}"))));
        (begin.elapsed() > Duration::from_secs(2)).then_some(())
    });
    stage.bao.thaw();
}
