//! What is discovered and cannot be used is guarded, and what cannot be found out is not guessed.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fleet::{Fleet, INTERNAL, OPENROUTER, SOON, bare, refused};
use crate::support::raw::PATIENCE;
use crate::support::{Bao, fresh_key, within};

const DISCOVER: &str = "discover = \"secret/keyhatch\"\n";
const ENTRY: &str = "secret/keyhatch/internal";
const PROVIDER: &str = "secret/keyhatch/openrouter";

/// The shipped policy, but for this path.
#[track_caller]
fn shut(fleet: &Fleet, path: &str) {
    fleet.bao.policy("shut", &format!("path \"{path}\" {{ capabilities = [\"deny\"] }}"));
}

#[track_caller]
fn open(fleet: &Fleet) {
    shut(fleet, "secret/data/nothing");
}

/// A replica whose policy can be taken away path by path.
#[track_caller]
fn stage(name: &str) -> Option<(Fleet, String)> {
    let bao = Bao::dev(name)?;
    let key = fresh_key();
    bao.custom_metadata(ENTRY, &[("allowed_domains", INTERNAL)]);
    bao.put(ENTRY, &[("api_key", &key)]);
    bao.put(PROVIDER, &[("api_key", &key)]);
    let mut fleet = Fleet::new(bao, DISCOVER);
    open(&fleet);
    fleet.token = fleet.bao.token(&["keyhatch", "shut"], "1h", None);
    fleet.start(1);
    Some((fleet, key))
}

#[test]
fn whatever_keeps_an_entry_from_being_used_its_hosts_stay_guarded() {
    let Some((fleet, key)) = stage("vault::discover_guard::whatever_keeps_an_entry_from_being_used_its_hosts_stay_guarded") else { return };
    fleet.carries(INTERNAL, &key);
    let ways: [(&str, &dyn Fn()); 5] = [
        ("its value is shut", &|| {
            shut(&fleet, "secret/data/keyhatch/internal");
            // As long as it has the same version nobody asks for it.
            fleet.bao.put(ENTRY, &[("api_key", &key)]);
        }),
        ("its metadata are shut", &|| shut(&fleet, "secret/metadata/keyhatch/internal")),
        ("its field is not clear", &|| {
            fleet.bao.put(ENTRY, &[("one", &key), ("two", &key)]);
        }),
        ("its value is deleted", &|| fleet.bao.delete(ENTRY)),
        ("its metadata are malformed", &|| fleet.bao.custom_metadata(ENTRY, &[("allowed_domains", INTERNAL), ("scrub", "perhaps")])),
    ];
    for (what, act) in ways {
        act();
        let (start, mut last) = (Instant::now(), Vec::new());
        while last.last() != Some(&refused(503)) {
            assert!(start.elapsed() < SOON, "{what}: {last:?}");
            let got = fleet.ask(INTERNAL, "/x");
            if last.last() != Some(&got) {
                last.push(got);
            }
        }
        assert!(!last.contains(&bare()), "{what}: {last:?}");
        fleet.carries(OPENROUTER, &key);
        let readyz = within(SOON, what, || Some(fleet.replicas[0].readyz()).filter(|r| r.1.contains(ENTRY)));
        assert!(readyz.0 == 200 && !readyz.1.contains("store verify"), "{what}: {readyz:?}");
        open(&fleet);
        fleet.bao.custom_metadata(ENTRY, &[("allowed_domains", INTERNAL)]);
        fleet.bao.put(ENTRY, &[("api_key", &key)]);
        fleet.carries(INTERNAL, &key);
    }
    fleet.bao.purge(ENTRY);
    fleet.answers(INTERNAL, &bare());
}

#[test]
fn a_replica_that_never_read_an_entry_guards_what_its_name_says() {
    let Some((mut fleet, key)) = stage("vault::discover_guard::a_replica_that_never_read_an_entry_guards_what_its_name_says") else { return };
    for path in ["secret/data/keyhatch/openrouter", "secret/metadata/keyhatch/openrouter"] {
        shut(&fleet, path);
        fleet.start(1);
        let young = fleet.replicas.pop().unwrap();
        assert_eq!(fleet.ask_as(&young.agent(), OPENROUTER, "/api/v1/models"), refused(503), "{path}");
        assert_eq!(fleet.ask_as(&young.agent(), INTERNAL, "/").0, 200);
        assert!(young.serve.log().contains("capabilities = [\"read\"]"), "{}", young.serve.log());
        open(&fleet);
        let carried = (200, Some(format!("Bearer {key}")));
        within(SOON, "it is used once it can be read", || (fleet.ask_as(&young.agent(), OPENROUTER, "/api/v1/x") == carried).then_some(()));
    }
    fleet.bao.purge(PROVIDER);
    fleet.answers(OPENROUTER, &bare());
    fleet.bao.put(PROVIDER, &[("one", &key), ("two", &key)]);
    fleet.answers(OPENROUTER, &refused(503));
}

#[test]
fn a_first_look_that_vault_does_not_answer_is_repeated() {
    let Some((mut fleet, key)) = stage("vault::discover_guard::a_first_look_that_vault_does_not_answer_is_repeated") else { return };
    let quota = |rate: f64| {
        fleet.bao.api("POST", "sys/quotas/rate-limit/one", json!({ "path": "secret/data/keyhatch/openrouter", "rate": rate, "interval": "1h" }));
    };
    quota(1.0);
    assert_eq!(fleet.bao.api_as(&fleet.token, "GET", "secret/data/keyhatch/openrouter", &Value::Null).0, 200);
    assert_eq!(fleet.bao.api_as(&fleet.token, "GET", "secret/data/keyhatch/openrouter", &Value::Null).0, 429);
    let home = fleet.home();
    let log = home.outside().join(format!("serve-{}.log", std::process::id()));
    let serve = std::thread::scope(|scope| {
        let starts = scope.spawn(|| crate::support::Serve::start(&home));
        within(PATIENCE, "serve waits", || std::fs::read_to_string(&log).ok().filter(|l| l.contains("waiting for Vault")));
        fleet.bao.api("DELETE", "sys/quotas/rate-limit/one", Value::Null);
        starts.join().unwrap()
    });
    fleet.replicas = vec![super::fleet::Replica { serve, home }];
    assert_eq!(fleet.ask(OPENROUTER, "/api/v1/models"), (200, Some(format!("Bearer {key}"))), "at once");
}

#[test]
fn the_stores_own_credential_keeps_its_hosts() {
    let Some(bao) = Bao::dev("vault::discover_guard::the_stores_own_credential_keeps_its_hosts") else { return };
    let (own, there) = (fresh_key(), fresh_key());
    let fleet = Fleet::one(bao, DISCOVER);
    fleet.replicas[0].home.add_key("own", &["*.example.com"], &own);
    fleet.carries(INTERNAL, &own);
    // As narrow, and narrower.
    for hosts in ["*.example.com", INTERNAL] {
        fleet.bao.custom_metadata(ENTRY, &[("allowed_domains", hosts)]);
        fleet.bao.put(ENTRY, &[("api_key", &there)]);
        fleet.reports(&[ENTRY, &format!("`{hosts}`"), "the store's credential `own`"]);
        fleet.carries(INTERNAL, &own);
        fleet.bao.purge(ENTRY);
        within(SOON, "it is over", || (!fleet.replicas[0].readyz().1.contains(ENTRY)).then_some(()));
    }
    // Wider: the store's wins where both are, and nothing passes bare elsewhere.
    fleet.replicas[0].home.ok(&["credential", "remove", "own"]);
    fleet.replicas[0].home.add_key("own", &[INTERNAL], &own);
    fleet.bao.custom_metadata(ENTRY, &[("allowed_domains", "*.example.com, example.net")]);
    fleet.bao.put(ENTRY, &[("api_key", &there)]);
    fleet.answers("example.net", &refused(503));
    fleet.carries(INTERNAL, &own);
    fleet.replicas[0].home.ok(&["credential", "remove", "own"]);
    fleet.carries(INTERNAL, &there);
    fleet.carries("example.net", &there);
}

#[test]
fn what_appears_changes_and_vanishes_leaves_a_record() {
    let Some(bao) = Bao::dev("vault::discover_guard::what_appears_changes_and_vanishes_leaves_a_record") else { return };
    let (key, token) = (fresh_key(), fresh_key());
    bao.put(PROVIDER, &[("api_key", &key)]);
    let fleet = Fleet::one(bao, &format!("{DISCOVER}discover_agents = \"secret/keyhatch-agents\"\n"));
    let replica = &fleet.replicas[0];
    let told = |event: &str, words: &[&str]| {
        within(PATIENCE, &format!("a record of {event}"), || {
            let line = |l: &&str| l.contains(&format!("\"event\":\"{event}\"")) && words.iter().all(|w| l.contains(w));
            replica.audit().lines().any(|l| line(&l)).then_some(())
        });
    };
    told("discovered.start", &["1 credential(s): openrouter; 0 agent(s): none"]);
    fleet.bao.custom_metadata(ENTRY, &[("allowed_domains", INTERNAL)]);
    fleet.bao.put(ENTRY, &[("api_key", &key), ("methods", "GET")]);
    told("discovered.credential.add", &["\"credential\":\"internal\"", INTERNAL, "agents default"]);
    fleet.bao.custom_metadata(ENTRY, &[("allowed_domains", "example.net")]);
    told("discovered.credential.change", &["\"credential\":\"internal\"", "example.net"]);
    fleet.reports(&["`methods` of its value does not count"]);
    assert_eq!(replica.serve.log().matches("`methods` of its value does not count").count(), 1, "each note is logged once");
    assert!(!replica.serve.log().contains("not used: secret/keyhatch/internal"), "it is used");
    fleet.bao.purge(ENTRY);
    told("discovered.credential.remove", &["\"credential\":\"internal\""]);
    fleet.bao.put("secret/keyhatch-agents/builder", &[("token", &token)]);
    told("discovered.agent.add", &["\"agent\":\"builder\""]);
    fleet.bao.put("secret/keyhatch-agents/builder", &[("token", &key)]);
    told("discovered.agent.change", &["\"agent\":\"builder\""]);
    fleet.bao.purge("secret/keyhatch-agents/builder");
    told("discovered.agent.remove", &["\"agent\":\"builder\""]);
    assert!(replica.serve.log().contains("discovered.credential.add internal"));
    assert!(![&key, &token].iter().any(|secret| replica.audit().contains(secret.as_str()) || replica.serve.log().contains(secret.as_str())));
    replica.home.ok(&["audit", "verify"]);
}

#[test]
fn a_log_in_after_the_start_is_noticed() {
    let Some(bao) = Bao::dev("vault::discover_guard::a_log_in_after_the_start_is_noticed") else { return };
    let key = fresh_key();
    bao.put("secret/one", &[("api_key", &key)]);
    let mut fleet = Fleet::new(bao, "");
    let (mut home, root) = (fleet.home(), fleet.bao.root_token().to_owned());
    home.ok(&["credential", "add", "one", "--allow", INTERNAL, "--vault", "secret/one#api_key"]);
    home.set("VAULT_TOKEN", None);
    let token = home.outside().join("user/.vault-token");
    fleet.replicas.push(super::fleet::Replica { serve: crate::support::Serve::start(&home), home });
    assert_eq!(fleet.ask(INTERNAL, "/"), refused(503));
    fleet.reports(&["Vault cannot be asked", "VAULT_TOKEN"]);
    std::fs::write(token, root).unwrap();
    within(PATIENCE, "it is used", || (fleet.ask(INTERNAL, "/") == (200, Some(format!("Bearer {key}")))).then_some(()));
    assert_eq!(fleet.replicas[0].serve.log().matches("Vault cannot be asked").count(), 1, "said once");
    assert!(!fleet.replicas[0].readyz().1.contains("Vault cannot be asked"));
}

#[test]
fn without_a_first_look_nothing_starts() {
    let Some((fleet, _)) = stage("vault::discover_guard::without_a_first_look_nothing_starts") else { return };
    fleet.bao.seal();
    // A `serve` waits for half a minute before it says the same.
    let said = fleet.home().say(&["run", "--", "true"], "");
    said.expect_error(1);
    assert!(
        ["`vault.discover` cannot be had", "does not start without it", "which hosts to guard"].iter().all(|w| said.stderr.contains(w)),
        "{said:?}"
    );
}

/// Passes bytes on to Vault, each answer late.
fn late(bao: &Bao, delay: Duration) -> String {
    let to = bao.addr().strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let Ok(mut server) = TcpStream::connect(&to) else { return };
            let (mut asks, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut asks, &mut asked);
                let _ = asked.shutdown(Shutdown::Both);
            });
            std::thread::spawn(move || {
                let mut buffer = [0; 16384];
                while let Ok(n @ 1..) = server.read(&mut buffer) {
                    // The length of the way, not a wait for something.
                    std::thread::sleep(delay);
                    if client.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

#[test]
fn many_entries_are_taken_in_seconds() {
    let Some(bao) = Bao::dev("vault::discover_guard::many_entries_are_taken_in_seconds") else { return };
    let key = fresh_key();
    for i in 0..300 {
        bao.custom_metadata(&format!("secret/keyhatch/e{i:03}"), &[("allowed_domains", &format!("e{i:03}.example.org"))]);
        bao.put(&format!("secret/keyhatch/e{i:03}"), &[("api_key", &key)]);
    }
    bao.put(PROVIDER, &[("api_key", &key)]);
    let mut fleet = Fleet::new(bao, DISCOVER);
    fleet.by_way_of = Some(late(&fleet.bao, Duration::from_millis(20)));
    let start = Instant::now();
    fleet.start(1);
    // Two questions for each: one after the other they would take twelve seconds.
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    fleet.carries(OPENROUTER, &key);
    assert_eq!(fleet.replicas[0].home.json(&["credential", "list"]).as_array().unwrap().len(), 301);
    let next = fresh_key();
    fleet.bao.put(PROVIDER, &[("api_key", &next)]);
    within(PATIENCE, "a change among many is taken", || (fleet.ask(OPENROUTER, "/api/v1/x").1 == Some(format!("Bearer {next}"))).then_some(()));
}
