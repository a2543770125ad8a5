//! What comes behind a request on its connection, before the request is answered.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::{audit_says, cases, is_well, nothing_was_sent, record_of};
use crate::support::raw::{read_reply, read_reply_head};
use crate::support::world::HOSTS;
use crate::support::{Exchange, Origin, World, fresh_key};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

cases! { is_decided_on_by_itself {
    a_request_behind_an_upgrade_that_was_refused: (UPGRADE, "GET /behind HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n", 200),
    another_host_behind_an_upgrade_that_was_refused: (UPGRADE, "GET /behind HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    a_bad_request_behind_an_upgrade_that_was_refused: (UPGRADE, "GET /behind HTTP/1.1\r\nHost : openrouter.ai\r\n\r\n", 400),
    trace_behind_an_upgrade_that_was_refused: (UPGRADE, "TRACE /behind HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n", 405),
    a_request_behind_an_expectation_without_a_body: (
        "GET /ws HTTP/1.1\r\nHost: openrouter.ai\r\nExpect: 100-continue\r\n\r\n",
        "GET /behind HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
        200,
    ),
    another_host_behind_a_body: (
        "POST /ws HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 3\r\n\r\nabc",
        "GET /behind HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        421,
    ),
    a_request_behind_http_1_0_that_stays: (
        "GET /ws HTTP/1.0\r\nHost: openrouter.ai\r\nConnection: keep-alive\r\n\r\n",
        "GET /behind HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
        200,
    ),
} }

/// Both come in the same bytes; the second is a request of its own, once, with a decision of its own.
fn is_decided_on_by_itself((first, second, status): (&str, &str, u16)) {
    let world = World::agreeable();
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send(format!("{first}{second}"));
    assert_eq!(conn.reply().status, 200);
    let reply = conn.reply();
    assert_eq!(reply.status, status, "{reply:?}");
    let targets: Vec<_> = world.origin.recorded().into_iter().map(|r| r.target).collect();
    if status == 200 {
        assert_eq!(targets, ["/ws", "/behind"]);
    } else {
        assert_eq!(targets, ["/ws"]);
        let code = if status == 421 {
            "misdirected"
        } else if status == 405 {
            "method_denied"
        } else {
            "bad_request"
        };
        reply.expect_own(status, code);
        audit_says(&world, "denied", code);
        assert_eq!(conn.read_rest(), "");
    }
    assert_eq!(record_of(&world, "ok")["path"].as_str(), Some("/ws"));
    is_well(&world);
}

cases! { ends_the_connection {
    a_request_behind_connection_close: "GET /1 HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: close\r\n\r\n",
    a_request_behind_close_and_keep_alive: "GET /1 HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: close, keep-alive\r\n\r\n",
    a_request_behind_keep_alive_and_close: "GET /1 HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: keep-alive\r\nConnection: CLOSE\r\n\r\n",
    a_request_behind_http_1_0: "GET /1 HTTP/1.0\r\nHost: openrouter.ai\r\n\r\n",
    a_request_behind_http_1_0_with_close_and_keep_alive: "GET /1 HTTP/1.0\r\nHost: openrouter.ai\r\nConnection: keep-alive, close\r\n\r\n",
} }

/// After the answer nothing more is read.
fn ends_the_connection(first: &str) {
    let world = World::agreeable();
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send(format!("{first}GET /smuggled HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"));
    let reply = conn.reply();
    assert_eq!((reply.status, reply.values("connection")), (200, vec!["close"]), "{reply:?}");
    assert_eq!(conn.read_rest(), "");
    let targets: Vec<_> = world.origin.recorded().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/1"]);
    assert_eq!(record_of(&world, "ok")["path"].as_str(), Some("/1"));
    is_well(&world);
}

/// What follows an upgrade that the origin accepts is no request: it goes on as it is, once, and nothing of it is recorded as one.
#[test]
fn bytes_behind_an_accepted_upgrade_pass_raw() {
    let origin = Origin::start(&HOSTS, |exchange: &mut Exchange<'_>| {
        exchange.read_body()?;
        if exchange.request.target != "/ws" {
            return exchange.json(200, "{\"ok\":true}");
        }
        exchange.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")?;
        let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
        while !got.ends_with(b"\r\n\r\n") {
            let n = exchange.read(&mut buffer)?;
            got.extend_from_slice(&buffer[..n]);
        }
        exchange.write([b"got ", got.as_slice()].concat())?;
        exchange.close();
        Ok(())
    });
    let world = World::with_origin(origin, fresh_key());
    let mut conn = world.agent().open("openrouter.ai:443");
    let behind = "GET /behind HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    conn.send(format!("{UPGRADE}{behind}"));
    assert_eq!(read_reply_head(&mut conn.stream).unwrap().status, 101);
    assert_eq!(conn.read_rest(), format!("got {behind}"));
    let targets: Vec<_> = world.origin.recorded().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/ws"]);
    let record = record_of(&world, "opened");
    assert_eq!((record["status"].as_u64(), record["path"].as_str()), (Some(101), Some("/ws")), "{record}");
    is_well(&world);
}

cases! { a_refused_connect_closes {
    bytes_behind_a_connect_to_a_private_address: ("127.0.0.1:443", "{auth}", 403, "private_address"),
    bytes_behind_a_connect_to_a_denied_host: ("example.net:443", "{auth}", 403, "egress_denied"),
    bytes_behind_a_connect_to_no_name: ("openrouter..ai:443", "{auth}", 400, "bad_request"),
    bytes_behind_a_connect_without_proof: ("openrouter.ai:443", "Basic eDp5", 407, "proxy_auth_required"),
} }

/// Bytes in the same packet as a CONNECT that is refused were meant for the tunnel: they are never read as a request.
fn a_refused_connect_closes((target, proof, status, code): (&str, &str, u16, &str)) {
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), "[egress]\ndeny_hosts = [\"example.net\"]");
    let agent = world.agent();
    let smuggled = "GET http://openrouter.ai/smuggled HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {auth}\r\n\r\n";
    let all = super::raw(&agent, &format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {proof}\r\n\r\n{smuggled}"));
    assert!(all.starts_with(&format!("HTTP/1.1 {status} ")) && all.matches("HTTP/1.1 ").count() == 1, "{all}");
    audit_says(&world, "denied", code);
    nothing_was_sent(&world);
    is_well(&world);
}

/// Those of a CONNECT that is accepted, and that no credential covers, arrive as the first of the tunnel.
#[test]
fn bytes_behind_a_connect_to_a_blind_tunnel_arrive_first() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("[egress]\nallow_cidrs = [\"127.0.0.1/32\"]\nports = [443, {}]", listener.local_addr().unwrap().port());
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), &more);
    let agent = world.agent();
    let target = listener.local_addr().unwrap();
    let mut stream = agent.dial();
    let behind = "GET http://openrouter.ai/smuggled HTTP/1.1\r\n\r\n";
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nProxy-Authorization: {}\r\n\r\n{behind}", agent.authorization).as_bytes()).unwrap();
    assert_eq!(read_reply(&mut stream, Some("CONNECT")).unwrap().status, 200);
    let (mut far, _) = listener.accept().unwrap();
    let mut got = vec![0; behind.len()];
    far.read_exact(&mut got).unwrap();
    assert_eq!(got, behind.as_bytes());
    drop((far, stream));
    let record = record_of(&world, "unmatched");
    assert_eq!((record["decision"].as_str(), record["bytes_up"].as_u64()), (Some("tunnelled"), Some(behind.len() as u64)), "{record}");
    nothing_was_sent(&world);
    is_well(&world);
}

/// A body that was promised to an origin that refused it is still the body: what an agent sends in its place is no request.
#[test]
fn a_request_in_the_place_of_an_expected_body_is_the_body() {
    let origin = Origin::start(&HOSTS, |exchange: &mut Exchange<'_>| {
        if exchange.request.target == "/expects" {
            // Without a 100, and without reading on before the answer.
            return exchange.write("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n").and_then(|()| {
                exchange.each_part(|_| {})?;
                Ok(())
            });
        }
        exchange.read_body()?;
        exchange.json(200, "{\"ok\":true}")
    });
    let world = World::with_origin(origin, fresh_key());
    let mut conn = world.agent().open("openrouter.ai:443");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n";
    conn.send(format!("POST /expects HTTP/1.1\r\nHost: openrouter.ai\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", smuggled.len()));
    assert_eq!(conn.reply().status, 417);
    let _ = conn.try_send(smuggled);
    let _ = conn.try_send("GET /next HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    // The next answer, if the connection goes on, is that of the next request.
    if let Ok(reply) = conn.try_reply() {
        assert_eq!(reply.text(), "{\"ok\":true}");
    }
    let targets: Vec<_> = world.origin.recorded().into_iter().map(|r| r.target).collect();
    assert!(!targets.contains(&"/smuggled".to_owned()), "{targets:?}");
    assert_eq!(record_of(&world, "ok")["status"].as_u64(), Some(417));
    is_well(&world);
}
