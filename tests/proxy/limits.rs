//! Limits of time, size and number: each has its own answer, and none leaves anything behind.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::raw::read_reply;
use crate::support::world::HOSTS;
use crate::support::{Agent, Home, Origin, Serve, World, fresh_key};

#[test]
fn an_origin_that_never_answers_a_connection_or_a_handshake_is_a_timeout() {
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::bare(&format!("[timeouts]\ntls = \"300ms\"\n[resolve]\n\"openrouter.ai:443\" = \"{}\"\n", silent.local_addr().unwrap()));
    home.ok(&["init"]);
    home.add_key("real", &["openrouter.ai"], &fresh_key());
    let serve = Serve::start(&home);
    let start = Instant::now();
    let reply = Agent::new(&home, &serve).get("openrouter.ai", "/");
    assert_eq!(reply.status, 504, "{reply:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_head_that_does_not_come_is_408_or_an_end() {
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), "[timeouts]\nrequest_head = \"300ms\"\n");
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send("GET / HTTP/1.1\r\nHost: openr");
    if let Ok(reply) = conn.try_reply() {
        assert_eq!(reply.status, 408, "{reply:?}");
    }
    let mut stream = world.agent().dial();
    stream.write_all(b"CONNECT openrouter.ai:443 HT").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    assert!(world.origin.recorded().is_empty());
}

#[test]
fn heads_and_targets_that_are_too_long_are_431_and_414() {
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), "[limits]\nhead_bytes = \"8KiB\"\n");
    let agent = world.agent();
    let long = "a".repeat(9 << 10);
    let reply = agent.open("openrouter.ai:443").ask(format!("GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX: {long}\r\n\r\n"));
    assert_eq!(reply.status, 431, "{reply:?}");
    let reply = agent.open("openrouter.ai:443").ask(format!("GET /{long} HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"));
    assert!(matches!(reply.status, 414 | 431), "{reply:?}");
    assert!(world.origin.recorded().is_empty());
    assert_eq!(agent.get("openrouter.ai", "/").status, 200);
}

#[test]
fn one_tunnel_too_many_is_overloaded_and_room_comes_back() {
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), "[limits]\ntunnels = 3\n[limits.per_agent]\ntunnels = 3\n");
    let agent = world.agent();
    let held = (0..3).map(|_| agent.open("example.net:443")).collect::<Vec<_>>();
    let (reply, _) = agent.connect("example.net:443");
    reply.expect_own(503, "overloaded");
    drop(held);
    crate::support::within(Duration::from_secs(2), "room again", || (agent.connect("example.net:443").0.status == 200).then_some(()));
}

#[test]
fn one_agent_cannot_take_the_room_of_another() {
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), "[limits.per_agent]\ntunnels = 2\n");
    world.home.ok(&["agent", "add", "second"]);
    let second = crate::support::within(Duration::from_secs(1), "the agent is known", || {
        let said = world.home.say(&["env", "--agent", "second", "--format", "json"], "");
        (said.code == 0).then(|| Agent::named(&world.home, &world.serve, "second"))
    });
    let first = world.agent();
    let _held = (0..2).map(|_| first.open("example.net:443")).collect::<Vec<_>>();
    first.connect("example.net:443").0.expect_own(503, "overloaded");
    assert_eq!(second.connect("example.net:443").0.status, 200);
}

#[test]
fn nothing_limits_a_requests_total_time() {
    // The head may come late, and parts of the body with pauses longer than every other limit.
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        // A slow origin is what is tested, nothing waits for something here.
        std::thread::sleep(Duration::from_millis(1200));
        exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")?;
        std::thread::sleep(Duration::from_millis(1200));
        exchange.write("cd")
    });
    let limits = "[timeouts]\nconnect = \"500ms\"\ntls = \"500ms\"\nrequest_head = \"500ms\"\n";
    let world = World::with_configuration(origin, fresh_key(), limits);
    assert_eq!(world.agent().get("openrouter.ai", "/").text(), "abcd");
}

#[test]
fn an_idle_tunnel_ends_at_its_limit() {
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), "[timeouts]\nidle = \"400ms\"\n");
    let agent = world.agent();
    for host in ["openrouter.ai", "example.net"] {
        let mut conn = agent.open(&format!("{host}:443"));
        assert_eq!(conn.get(host, "/").status, 200);
        assert!(conn.closes_within(Duration::from_secs(15)), "{host}");
    }
}

#[test]
fn spare_tunnels_cost_little_and_leave_nothing() {
    let world = World::agreeable();
    let agent = world.agent();
    let before = world.serve.memory().0;
    let mut held = Vec::new();
    for _ in 0..300 {
        let (reply, stream) = agent.connect("openrouter.ai:443");
        assert_eq!(reply.status, 200);
        held.push(stream);
    }
    let with = world.serve.memory().0;
    assert!(with < before + 300 * 40, "300 spare tunnels cost {} KiB", with.saturating_sub(before));
    drop(held);
    assert_eq!(agent.get("openrouter.ai", "/").status, 200);
    let mut probe = agent.dial();
    probe.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(read_reply(&mut probe, None).unwrap().status >= 400);
}
