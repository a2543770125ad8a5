//! Changes by commands, felt by a running `serve` within a second (CONTRACT 3), also in open tunnels and under load.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{World, fresh_key, within};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_new_credential_closes_the_blind_tunnel_and_the_next_one_is_intercepted() {
    let world = World::agreeable();
    let agent = world.agent();
    let mut blind = agent.open("example.net:443");
    assert!(!blind.intercepted());
    assert_eq!(blind.get("example.net", "/").status, 200);
    let mut unconcerned = agent.open("evilopenrouter.ai:443");
    let key = fresh_key();
    world.home.add_key("other", &["example.net"], &key);
    assert!(blind.closes_within(SECOND), "the tunnel is closed within a second");
    let mut next = agent.open("example.net:443");
    assert!(next.intercepted());
    assert_eq!(next.get("example.net", "/").status, 200);
    assert_eq!(world.origin.last().values("authorization"), [format!("Bearer {key}")]);
    assert_eq!(unconcerned.get("evilopenrouter.ai", "/").status, 200, "nothing else is dropped");
}

#[test]
fn rotate_disable_enable_and_revoke_are_felt_inside_an_open_tunnel() {
    let world = World::agreeable();
    let agent = world.agent();
    let mut conn = agent.open("openrouter.ai:443");
    assert_eq!(conn.get("openrouter.ai", "/").status, 200);

    let next = fresh_key();
    world.home.ok_with(&["credential", "rotate", "real"], &next);
    within(SECOND, "the rotated key is used", || {
        assert_eq!(conn.get("openrouter.ai", "/").status, 200);
        (world.origin.last().values("authorization") == [format!("Bearer {next}")]).then_some(())
    });

    world.home.ok(&["credential", "rollback", "real"]);
    within(SECOND, "the version before is used again", || {
        assert_eq!(conn.get("openrouter.ai", "/").status, 200);
        (world.origin.last().values("authorization") == [world.bearer()]).then_some(())
    });

    world.home.ok(&["credential", "disable", "real"]);
    let refused = within(SECOND, "a disabled credential refuses", || Some(conn.get("openrouter.ai", "/")).filter(|r| r.status != 200));
    refused.expect_own(503, "credential_unavailable");
    assert!(conn.closes_within(SECOND), "and the connection ends");
    let mut again = agent.open("openrouter.ai:443");
    assert!(again.intercepted(), "a disabled credential's host is intercepted still");
    again.get("openrouter.ai", "/").expect_own(503, "credential_unavailable");

    world.home.ok(&["credential", "enable", "real"]);
    within(SECOND, "enabled again", || (agent.get("openrouter.ai", "/").status == 200).then_some(()));

    let mut conn = agent.open("openrouter.ai:443");
    assert_eq!(conn.get("openrouter.ai", "/").status, 200);
    let mut blind = agent.open("example.net:443");
    world.home.ok(&["agent", "revoke", "default", "real"]);
    let refused = within(SECOND, "without the grant the open tunnel refuses", || Some(conn.get("openrouter.ai", "/")).filter(|r| r.status != 200));
    refused.expect_own(503, "credential_unavailable");
    assert!(!agent.open("openrouter.ai:443").intercepted(), "the next tunnel is an unmatched one");
    assert_eq!(blind.get("example.net", "/").status, 200, "nothing else is dropped");

    for got in world.origin.recorded().iter().filter(|r| r.sni.as_deref() == Some("openrouter.ai")) {
        let values = got.values("authorization");
        assert!(values == [world.bearer()] || values == [format!("Bearer {next}")], "no request went bare: {values:?}");
    }
}

#[test]
fn an_answer_in_flight_ends_when_its_credential_is_disabled() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = crate::support::Origin::start(&crate::support::world::HOSTS, move |exchange| {
        exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")?;
        wait.lock().unwrap().recv_timeout(Duration::from_secs(20)).map_err(std::io::Error::other)?;
        exchange.write("after")
    });
    let world = World::with_origin(origin, fresh_key());
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send("GET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    conn.read_until("first");
    let agent = world.agent();
    world.home.ok(&["credential", "disable", "real"]);
    within(SECOND, "felt", || (agent.get("openrouter.ai", "/").status == 503).then_some(()));
    go.send(()).unwrap();
    conn.read_until("after");
}

#[test]
fn a_removed_agents_tunnels_are_closed_and_it_is_407_from_then_on() {
    let world = World::agreeable();
    world.home.ok(&["agent", "add", "second", "--grant", "real"]);
    let second = within(SECOND, "the agent is known", || {
        let said = world.home.say(&["env", "--agent", "second", "--format", "json"], "");
        (said.code == 0).then(|| crate::support::Agent::named(&world.home, &world.serve, "second"))
    });
    let first = world.agent();
    let (mut theirs, mut ours) = (second.open("example.net:443"), first.open("example.net:443"));
    let mut inside = second.open("openrouter.ai:443");
    assert_eq!(inside.get("openrouter.ai", "/").status, 200);
    world.home.ok(&["agent", "remove", "second"]);
    assert!(theirs.closes_within(SECOND));
    assert_eq!(second.connect("example.net:443").0.status, 407);
    let before = world.origin.recorded().len();
    let answered = inside.try_send("GET /late HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n").and_then(|()| inside.try_reply());
    assert!(answered.as_ref().map_or(true, |r| r.status >= 400), "{answered:?}");
    assert_eq!(world.origin.recorded().len(), before);
    assert_eq!(ours.get("example.net", "/").status, 200, "another agent's tunnel stays");
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Rotations, additions, grants and revocations of others while four agents ask without a pause: every request that was not
/// meant to fail succeeds, and none that begins after a change is felt still carries the old key.
#[test]
fn changes_under_load_fail_no_request() {
    let world = World::agreeable();
    let agent = world.agent();
    let (phase, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut keys = HashMap::from([(0, world.key.clone())]);
    let asked: usize = std::thread::scope(|scope| {
        let load = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut conn, mut count) = (agent.open("openrouter.ai:443"), 0);
                    while !stop.load(Ordering::SeqCst) {
                        let now = phase.load(Ordering::SeqCst);
                        let request = format!("GET /load HTTP/1.1\r\nHost: openrouter.ai\r\nX-Phase: {now}\r\n\r\n");
                        let reply = conn.ask(request);
                        assert_eq!(reply.status, 200, "{reply:?}");
                        count += 1;
                    }
                    count
                })
            })
            .collect::<Vec<_>>();
        let mut probe = agent.open("openrouter.ai:443");
        // Also where a round fails: the load must end.
        let stop = Stop(&stop);
        for round in 1..=4 {
            let key = fresh_key();
            world.home.ok_with(&["credential", "rotate", "real"], &key);
            let done = Instant::now();
            within(SECOND, "the rotated key is used", || {
                let reply = probe.ask(format!("GET /probe-{round} HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"));
                assert_eq!(reply.status, 200, "{reply:?}");
                let seen = world.origin.recorded().iter().rev().find(|r| r.target == format!("/probe-{round}")).unwrap().value("authorization");
                (seen == format!("Bearer {key}")).then_some(())
            });
            assert!(done.elapsed() < SECOND);
            keys.insert(round, key);
            phase.store(round, Ordering::SeqCst);
            world.home.add_key(&format!("extra-{round}"), &["api.example.com"], &fresh_key());
            world.home.ok(&["agent", "revoke", "default", &format!("extra-{round}")]);
        }
        drop(stop);
        load.into_iter().map(|t| t.join().expect("no request failed")).sum()
    });
    assert!(asked > 50, "there was load: {asked}");
    for got in world.origin.recorded().iter().filter(|r| r.target == "/load") {
        let phase: usize = got.value("x-phase").parse().unwrap();
        let value = got.value("authorization");
        let later = (phase..=4).any(|p| keys.get(&p).is_some_and(|k| value == format!("Bearer {k}")));
        assert!(later, "a request of phase {phase} carried an older key");
    }
}

#[test]
fn session_tokens_are_valid_across_a_restart() {
    let mut world = World::agreeable();
    let url = world.serve.env["HTTPS_PROXY"].clone();
    let port = world.serve.proxy().port();
    world.serve.stop();
    let text = std::fs::read_to_string(world.home.path().join("keyhatch.toml")).unwrap();
    std::fs::write(world.home.path().join("keyhatch.toml"), text.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1)).unwrap();
    world.serve = crate::support::Serve::start(&world.home);
    let agent = crate::support::Agent::from_url(&world.home, &world.serve, &url);
    assert_eq!(agent.get("openrouter.ai", "/").status, 200);
}
