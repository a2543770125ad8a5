//! An agent whose answers carry the secret again and again loses its grant for a while; nobody else does.

use super::super::{SECOND, another_agent, audited};
use crate::support::raw::{Agent, Reply};
use crate::support::wire::{Ask, Protocol, Stage, run, stage::host};
use crate::support::world::HOSTS;
use crate::support::{Origin, World, fresh_key, within};

/// So many hits suspend.
const HITS: usize = 60;

/// An origin that echoes what came at `/echo`.
fn world() -> World {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        let echo = exchange.request.values("authorization").concat();
        match exchange.request.target.as_str() {
            "/echo" => exchange.json(200, &format!("{{\"echo\":\"{echo}\"}}")),
            "/field" => exchange.answer(200, &format!("x-echo: {echo}\r\n"), b""),
            _ => exchange.json(200, "{\"ok\":true}"),
        }
    });
    World::with_origin(origin, fresh_key())
}

/// Provokes so many hits over one connection; all must be answered.
fn provoke(agent: &Agent, count: usize) {
    let mut conn = agent.open("openrouter.ai:443");
    for n in 0..count {
        let reply = conn.get("openrouter.ai", if n % 2 == 0 { "/echo" } else { "/field" });
        assert_eq!(reply.status, 200, "hit {n}: {reply:?}");
    }
}

/// The next request's refusal.
#[track_caller]
fn refusal(agent: &Agent) -> Reply {
    let reply = agent.get("openrouter.ai", "/clean");
    reply.expect_own(503, "credential_unavailable");
    reply
}

#[test]
fn the_sixtieth_hit_suspends_the_grant_and_says_so() {
    let world = world();
    let agent = world.agent();
    provoke(&agent, HITS - 1);
    assert_eq!(agent.get("openrouter.ai", "/clean").status, 200, "one is left");
    provoke(&agent, 1);
    let came = world.origin.recorded().len();
    let text = refusal(&agent).text();
    for part in ["agent `default` may not use the credential `real` until 20", "60 answers within 10 minutes carried its secret"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    for mend in ["keyhatch credential rotate real", "keyhatch agent rotate default", "a restart of `keyhatch serve`"] {
        assert!(text.contains(mend), "{mend:?} in {text}");
    }
    assert!(refusal(&agent).values("retry-after").is_empty(), "nobody is to wait for an hour");
    assert_eq!(world.origin.recorded().len(), came, "nothing is sent");
    let event = audited(&world.home, &["\"event\":\"grant.suspend\""]).remove(0);
    assert_eq!((event["agent"].as_str(), event["credential"].as_str()), (Some("default"), Some("real")), "{event}");
    assert!(event["detail"].as_str().is_some_and(|d| d.contains("60 answers") && d.contains(" until 20")), "{event}");
    let record = audited(&world.home, &["\"reason\":\"credential_unavailable\""]).remove(0);
    assert_eq!((record["decision"].as_str(), record["status"].as_u64(), record["credential"].as_str()), (Some("failed"), Some(503), Some("real")));
    assert!(record["upstream_addr"].is_null(), "{record}");
    assert_eq!(audited(&world.home, &["\"reason\":\"scrubbed\""]).len(), HITS, "each hit has a record");
    let log = world.serve.log();
    assert!(log.contains("the grant is suspended") && log.contains("WARN") && !log.contains(&world.key), "{log}");
    let admin = world.serve.admin().to_string();
    let metrics = metrics(&world, &admin);
    assert!(metrics.contains("keyhatch_grant_suspensions_total 1\n"), "{metrics}");
    assert!(metrics.contains(&format!("keyhatch_scrubbed_responses_total {HITS}\n")), "{metrics}");
    assert!(metrics.contains("keyhatch_credential_failures_total{reason=\"suspended\"} 2\n"), "{metrics}");
}

fn metrics(world: &World, host: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(world.serve.admin()).unwrap();
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    all
}

#[test]
fn other_agents_and_other_credentials_go_on() {
    let world = world();
    let other = another_agent(&world, "other", &["real"]);
    world.home.add_key("second", &["example.net"], &fresh_key());
    within(SECOND, "both are felt", || {
        let felt = world.agent().try_open("example.net:443").is_ok_and(|conn| conn.intercepted());
        (felt && other.get("openrouter.ai", "/clean").status == 200).then_some(())
    });
    provoke(&world.agent(), HITS);
    refusal(&world.agent());
    assert_eq!(other.get("openrouter.ai", "/clean").status, 200);
    assert_eq!(world.agent().get("example.net", "/clean").status, 200);
}

#[test]
fn a_new_value_lifts_it() {
    let world = world();
    let agent = world.agent();
    provoke(&agent, HITS);
    refusal(&agent);
    let key = fresh_key();
    world.home.ok_with(&["credential", "rotate", "real"], &key);
    within(SECOND, "the new value is used", || (agent.get("openrouter.ai", "/clean").status == 200).then_some(()));
    assert_eq!(world.origin.last().values("authorization"), [format!("Bearer {key}")]);
}

#[test]
fn a_new_token_lifts_it() {
    let world = world();
    provoke(&world.agent(), HITS);
    refusal(&world.agent());
    world.home.ok(&["agent", "rotate", "default"]);
    let answered = || {
        let agent = Agent::named(&world.home, &world.serve, "default");
        agent.try_open("openrouter.ai:443").is_ok_and(|mut conn| conn.get("openrouter.ai", "/clean").status == 200).then_some(())
    };
    within(5 * SECOND, "the new token is used", answered);
}

#[test]
fn a_new_grant_does_not_lift_it() {
    let world = world();
    provoke(&world.agent(), HITS);
    refusal(&world.agent());
    for (change, intercepted) in [("revoke", false), ("grant", true)] {
        world.home.ok(&["agent", change, "default", "real"]);
        let felt = || world.agent().try_open("openrouter.ai:443").is_ok_and(|conn| conn.intercepted() == intercepted).then_some(());
        within(5 * SECOND, "the change is felt", felt);
    }
    refusal(&world.agent());
}

/// HTTP/2: many streams of one connection, all of whose answers carry it.
#[test]
fn over_http_2_it_is_the_same() {
    run(async {
        let stage = Stage::start(|mut turn| async move {
            turn.read_all().await?;
            let echo = turn.request.value("authorization").unwrap_or_default();
            turn.answer(200, &echo).await
        })
        .await;
        let line = stage.agent().open(host(Protocol::H2, true), Protocol::H2).await;
        for _ in 0..HITS {
            let answer = line.ask(&Ask::get("/echo")).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(answer.text().starts_with("Bearer ****"));
        }
        let came = stage.h2.seen().len();
        // The connection is over after the first refusal.
        for _ in 0..2 {
            let line = stage.agent().open(host(Protocol::H2, true), Protocol::H2).await;
            let answer = line.ask(&Ask::get("/echo")).await;
            assert!(answer.status == 503 && answer.text().contains("credential_unavailable"), "{answer:?}");
        }
        // The other protocol's origin is covered by the same credential.
        let line = stage.agent().open(host(Protocol::H1, true), Protocol::H1).await;
        assert_eq!(line.ask(&Ask::get("/echo")).await.status, 503);
        assert_eq!((stage.h2.seen().len(), stage.h1.seen().len()), (came, 0), "nothing is sent");
        audited(&stage.home, &["\"event\":\"grant.suspend\""]);
    });
}
