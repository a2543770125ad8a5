//! Limits that hold for one agent, for those who prove nothing, and for what is left waiting.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::another_agent;
use crate::support::raw::read_reply;
use crate::support::world::HOSTS;
use crate::support::{Agent, Origin, World, fresh_key};

fn connect(agent: &Agent, target: &str) -> (u16, TcpStream) {
    let (reply, stream) = agent.connect(target);
    (reply.status, stream)
}

#[test]
fn one_agents_connections_tunnels_and_requests_are_counted() {
    let more = "[limits.per_agent]\nconnections = 3\ntunnels = 1";
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), more);
    let (one, two) = (world.agent(), another_agent(&world, "second", &["real"]));
    let held: Vec<_> = (0..3).map(|_| connect(&one, "openrouter.ai:443")).collect();
    assert!(held.iter().all(|(status, _)| *status == 200));
    let (reply, _) = one.connect("openrouter.ai:443");
    reply.expect_own(503, "overloaded");
    let absolute = "GET http://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {auth}\r\nConnection: close\r\n\r\n";
    one.absolute(absolute).expect_own(503, "overloaded");
    assert_eq!(two.get("openrouter.ai", "/").status, 200, "another agent has places of its own");
    drop(held);
    let mut tunnel =
        super::within(super::SECOND, "the places are free again", || Some(connect(&one, "example.net:443")).filter(|(s, _)| *s == 200)).1;
    let (reply, _) = one.connect("example.net:443");
    reply.expect_own(503, "overloaded");
    assert_eq!(connect(&two, "example.net:443").0, 200);
    tunnel.write_all(b"x").unwrap();
    // A connection that carries one request after the other has one place, not one a request.
    let mut stream = one.dial();
    for _ in 0..5 {
        stream.write_all(absolute.replace("{auth}", &one.authorization).replace("Connection: close\r\n", "").as_bytes()).unwrap();
        assert_eq!(read_reply(&mut stream, None).unwrap().status, 200);
    }
}

#[test]
fn who_proves_nothing_is_not_kept_for_long() {
    let more = "[timeouts]\nrequest_head = \"1s\"";
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), more);
    let agent = world.agent();
    for said in ["", "GET http://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n", "CONNECT openrouter.ai:443 HTTP/1.1\r\n\r\n"] {
        let mut stream = agent.dial();
        stream.write_all(said.as_bytes()).unwrap();
        let start = Instant::now();
        let all = super::rest_of(&mut stream);
        assert!(all.is_empty() || all.starts_with("HTTP/1.1 407 "), "{said:?}: {all}");
        assert!(start.elapsed() < Duration::from_secs(6), "{said:?}: closed after {:?}", start.elapsed());
    }
    // A head that comes byte by byte has an end too.
    let mut stream = agent.dial();
    stream.write_all(b"CONNECT openrouter.ai:443 HT").unwrap();
    assert!(super::rest_of(&mut stream).starts_with("HTTP/1.1 408 "));
}

/// A client of HTTP/1.0, or one that says `close`, reads to the end: it is not left waiting.
#[test]
fn a_refusal_honours_the_clients_close() {
    let world = World::agreeable();
    let agent = world.agent();
    for head in [
        "GET http://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: close\r\n\r\n",
        "GET http://openrouter.ai/ HTTP/1.0\r\nHost: openrouter.ai\r\n\r\n",
    ] {
        let mut stream = agent.dial();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let start = Instant::now();
        assert!(super::rest_of(&mut stream).starts_with("HTTP/1.1 407 "));
        assert!(start.elapsed() < Duration::from_secs(4), "{head}");
    }
}

/// Handshakes that nobody ends take places too: else a neighbour could open as many as there are descriptors. The oldest
/// goes for whoever comes.
#[test]
fn a_silent_handshake_on_the_tls_listener_takes_a_place() {
    // A port that was free a moment ago.
    let tls = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let more = format!("[proxy]\nlisten = \"127.0.0.1:0\"\ntls_listen = \"{tls}\"\ntls_names = [\"localhost\"]\n[limits]\nconnections = 3");
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), &more);
    let mut held: Vec<_> = (0..3).map(|_| TcpStream::connect(tls).unwrap()).collect();
    held[0].set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(std::io::Read::read(&mut held[0], &mut [0; 8]).is_err(), "there is room for three");
    let fourth = TcpStream::connect(tls).unwrap();
    super::within(super::SECOND, "the first is closed", || matches!(std::io::Read::read(&mut held[0], &mut [0; 8]), Ok(0)).then_some(()));
    drop((held, fourth));
    super::within(super::SECOND, "the places are free again", || (world.agent().connect("openrouter.ai:443").0.status == 200).then_some(()));
}
