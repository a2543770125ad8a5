//! Limits of number: what one agent has too much of is refused, and another has its own.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::{Stage, get, http2_inside};
use crate::hostile::case::{audit_says, cases};
use crate::support::raw::{Reply, read_reply};
use crate::support::world::HOSTS;
use crate::support::{Agent, Origin, within};

/// How the flooder takes one place, and keeps it for as long as what this gives is kept.
type Take = fn(&Agent) -> (u16, Box<dyn std::any::Any>);

struct Limit {
    more: &'static str,
    take: Take,
    /// How many it gets.
    gets: usize,
}

cases! { is_refused {
    connections_by_connect: Limit { more: "[limits.per_agent]\nconnections = 3\n", take: connect, gets: 3 },
    connections_by_requests_in_absolute_form: Limit { more: "[limits.per_agent]\nconnections = 3\n", take: absolute, gets: 3 },
    a_quarter_of_all_connections_where_nothing_is_said: Limit { more: "[limits]\nconnections = 12\n", take: connect, gets: 3 },
    connections_where_some_other_limit_is_set: Limit { more: "[limits]\nconnections = 12\n[limits.per_agent]\ntunnels = 1\n", take: connect, gets: 3 },
    blind_tunnels: Limit { more: "[limits.per_agent]\ntunnels = 2\n", take: blind, gets: 2 },
    a_quarter_of_all_blind_tunnels_where_nothing_is_said: Limit { more: "[limits]\ntunnels = 8\n", take: blind, gets: 2 },
    requests_in_flight: Limit { more: "[limits.per_agent]\nrequests = 2\n", take: request, gets: 2 },
    a_quarter_of_all_requests_where_nothing_is_said: Limit { more: "[limits]\nrequests = 8\n", take: request, gets: 2 },
    requests_in_flight_in_absolute_form: Limit { more: "[limits.per_agent]\nrequests = 2\n", take: absolute_request, gets: 2 },
    tunnels_and_requests_in_flight_by_websockets: Limit { more: "[limits.per_agent]\ntunnels = 2\n", take: websocket, gets: 2 },
} }

fn connect(agent: &Agent) -> (u16, Box<dyn std::any::Any>) {
    let (reply, stream) = agent.connect("openrouter.ai:443");
    (reply.status, Box::new(stream))
}

fn blind(agent: &Agent) -> (u16, Box<dyn std::any::Any>) {
    let (reply, stream) = agent.connect("example.net:443");
    (reply.status, Box::new(stream))
}

/// A whole request; the connection stays.
fn absolute(agent: &Agent) -> (u16, Box<dyn std::any::Any>) {
    let (status, stream) = ask_absolute(agent, "/other");
    (status, Box::new(stream))
}

fn ask_absolute(agent: &Agent, target: &str) -> (u16, TcpStream) {
    let mut stream = agent.dial();
    let head = format!("GET http://openrouter.ai{target} HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {}\r\n\r\n", agent.authorization);
    stream.write_all(head.as_bytes()).unwrap();
    (read_reply(&mut stream, None).unwrap().status, stream)
}

/// A request that is answered in part: the rest never comes.
fn request(agent: &Agent) -> (u16, Box<dyn std::any::Any>) {
    let mut conn = agent.open("openrouter.ai:443");
    conn.send("GET /held HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    let head = crate::support::raw::read_reply_head(&mut conn.stream).unwrap();
    (head.status, Box::new(conn))
}

fn absolute_request(agent: &Agent) -> (u16, Box<dyn std::any::Any>) {
    let mut stream = agent.dial();
    let head = format!("GET http://openrouter.ai/held HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {}\r\n\r\n", agent.authorization);
    stream.write_all(head.as_bytes()).unwrap();
    let head = crate::support::raw::read_reply_head(&mut stream).unwrap();
    (head.status, Box::new(stream))
}

fn websocket(agent: &Agent) -> (u16, Box<dyn std::any::Any>) {
    let mut conn = agent.open("openrouter.ai:443");
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    conn.send(format!("GET /socket HTTP/1.1\r\nHost: openrouter.ai\r\n{fields}\r\n"));
    let head = crate::support::raw::read_reply_head(&mut conn.stream).unwrap();
    // A handshake that is accepted, as a success.
    (if head.status == 101 { 200 } else { head.status }, Box::new(conn))
}

/// Answers some requests in part, and says no more until the test has ended.
fn holding() -> Origin {
    Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        match exchange.request.target.as_str() {
            "/held" => {
                exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nab")?;
                exchange.wait_for_end(Duration::from_secs(20))
            }
            "/socket" => {
                exchange.write("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")?;
                exchange.wait_for_end(Duration::from_secs(20))
            }
            _ => {
                exchange.answer(200, "connection: close\r\n", b"{}")?;
                exchange.close();
                Ok(())
            }
        }
    })
}

fn is_refused(case: Limit) {
    let stage = Stage::with_origin(holding(), case.more);
    let mut held = Vec::new();
    for n in 0..case.gets {
        let (status, place) = (case.take)(&stage.flooder);
        assert_eq!(status, 200, "the {n}th");
        held.push(place);
    }
    for _ in 0..3 {
        assert_eq!((case.take)(&stage.flooder).0, 503, "one too many");
    }
    let record = audit_says(&stage.world, "failed", "overloaded");
    assert_eq!(record["agent"], "flooder");
    let sent = stage.world.origin.recorded().into_iter().filter(|r| r.target != "/other").count();
    assert!(sent <= case.gets, "{sent} requests of the flooder's were sent");
    stage.other_is_served();
    drop(held);
    within(Duration::from_secs(5), "the places are free again", || ((case.take)(&stage.flooder).0 == 200).then_some(()));
    stage.ends_well();
}

/// What is refused says so in full, wherever it is refused.
#[test]
fn a_refusal_has_all_its_parts() {
    let stage = Stage::with_origin(holding(), "[limits.per_agent]\nconnections = 3\ntunnels = 1\nrequests = 1\n");
    let one = request(&stage.flooder);
    let reply: Reply = stage.flooder.open("openrouter.ai:443").get("openrouter.ai", "/");
    reply.expect_own(503, "overloaded");
    assert_eq!(reply.values("retry-after"), ["1"]);
    drop(one);
    let two = blind(&stage.flooder);
    let (reply, _) = stage.flooder.connect("example.net:443");
    reply.expect_own(503, "overloaded");
    assert!(reply.reason.contains("too many open tunnels"), "{reply:?}");
    drop(two);
    stage.ends_well();
}

/// How long a head may be.
struct Head {
    more: &'static str,
    /// At the listener, or inside a tunnel.
    inside: bool,
    bytes: usize,
    status: u16,
}

cases! { has_its_length {
    a_head_inside_beyond_the_agents_limit: Head { more: "[limits.per_agent]\nhead_bytes = \"2KiB\"\n", inside: true, bytes: 3 << 10, status: 431 },
    a_head_inside_within_the_agents_limit: Head { more: "[limits.per_agent]\nhead_bytes = \"2KiB\"\n", inside: true, bytes: 1 << 10, status: 200 },
    a_head_at_the_door_beyond_the_agents_limit: Head { more: "[limits.per_agent]\nhead_bytes = \"2KiB\"\n", inside: false, bytes: 3 << 10, status: 200 },
    a_head_at_the_door_beyond_the_limit_for_all: Head { more: "[limits]\nhead_bytes = \"2KiB\"\n", inside: false, bytes: 3 << 10, status: 431 },
    a_head_inside_beyond_the_limit_for_all: Head { more: "[limits]\nhead_bytes = \"2KiB\"\n", inside: true, bytes: 3 << 10, status: 431 },
    an_agents_limit_beyond_that_for_all: Head { more: "[limits]\nhead_bytes = \"2KiB\"\n[limits.per_agent]\nhead_bytes = \"8KiB\"\n", inside: true, bytes: 3 << 10, status: 431 },
} }

fn has_its_length(case: Head) {
    let stage = Stage::new(case.more);
    let field = format!("X: {}\r\n", "a".repeat(case.bytes));
    let reply = if case.inside {
        stage.flooder.open("openrouter.ai:443").ask(format!("GET /long HTTP/1.1\r\nHost: openrouter.ai\r\n{field}\r\n"))
    } else {
        let mut stream = stage.flooder.dial();
        let proof = &stage.flooder.authorization;
        let head = format!("GET http://openrouter.ai/long HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {proof}\r\n{field}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        read_reply(&mut stream, None).unwrap()
    };
    assert_eq!(reply.status, case.status, "{reply:?}");
    if case.status == 431 {
        audit_says(&stage.world, "denied", "header_too_large");
        stage.nothing_of_the_flooder_was_sent();
    } else {
        assert_eq!(stage.world.origin.last().target, "/long");
    }
    stage.ends_well();
}

/// Requests of one HTTP/2 connection are requests like others.
#[test]
fn streams_of_one_connection_are_counted() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let own = Arc::clone(&gate);
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.read_body()?;
        if exchange.request.target == "/held" {
            let (open, changed) = &*own;
            drop(changed.wait_timeout_while(open.lock().unwrap(), Duration::from_secs(20), |open| !*open).unwrap());
        }
        exchange.answer(200, "connection: close\r\n", b"{}")?;
        exchange.close();
        Ok(())
    });
    let stage = Stage::with_origin(origin, "[limits.per_agent]\nrequests = 4\n");
    let mut stream = http2_inside(&stage, &[]);
    for n in 0..20 {
        stream.write_all(&get(2 * n + 1, "/held")).unwrap();
    }
    let refused = || std::fs::read_to_string(stage.world.home.path().join("audit.jsonl")).unwrap().matches("\"reason\":\"overloaded\"").count();
    within(Duration::from_secs(10), "sixteen are refused", || (refused() == 16).then_some(()));
    within(Duration::from_secs(10), "four are sent", || (stage.world.origin.recorded().len() == 4).then_some(()));
    stage.other_is_served();
    let (open, changed) = &*gate;
    *open.lock().unwrap() = true;
    changed.notify_all();
    drop(stream);
    stage.ends_well();
}
