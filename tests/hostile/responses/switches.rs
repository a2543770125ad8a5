//! Answers that switch protocols, or say that they do.

use super::{HOSTS, audit_says, cases, is_well, record_of, scripted};
use crate::support::raw::read_reply_head;
use crate::support::{Origin, World, fresh_key};

const ASKS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

cases! { is_no_switch {
    a_101_that_nobody_asked_for: ("", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
    a_101_to_an_upgrade_that_was_not_passed_on: (
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    ),
    a_101_to_another_protocol: (ASKS, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"),
    a_101_to_two_protocols: (ASKS, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c, websocket\r\nConnection: Upgrade\r\n\r\n"),
    a_101_to_no_protocol: (ASKS, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"),
    a_101_with_a_length_and_chunks: (
        ASKS,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    a_101_in_http_1_0_with_chunks: (ASKS, "HTTP/1.0 101 Switching Protocols\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n"),
    a_101_behind_a_100: ("", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
} }

/// 502, and nothing that follows passes raw.
fn is_no_switch((asks, bytes): (&str, &str)) {
    let world = scripted(format!("{bytes}raw bytes"));
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send(format!("GET /bad HTTP/1.1\r\nHost: openrouter.ai\r\n{asks}\r\n"));
    let reply = conn.reply();
    reply.expect_own(502, "upstream_closed");
    assert_eq!(audit_says(&world, "failed", "upstream_closed")["status"].as_u64(), Some(502));
    assert_eq!(conn.get("openrouter.ai", "/after").text(), "{\"ok\":true}", "the connection is the agent's as before");
    is_well(&world);
}

/// An interim answer by itself is passed on, and is no answer.
#[test]
fn unasked_interim_answers_pass_and_answer_nothing() {
    let world = scripted(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 What\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send("GET /bad HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    for status in [100, 102, 199] {
        let interim = read_reply_head(&mut conn.stream).unwrap();
        assert_eq!((interim.status, interim.values("content-length").len()), (status, 0));
    }
    assert_eq!(conn.reply().text(), "ok");
    assert_eq!(record_of(&world, "ok")["status"].as_u64(), Some(200));
    is_well(&world);
}

/// An answer that comes before its request, on a connection that is kept, is nobody's.
#[test]
fn an_answer_before_its_request_is_nobodys() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        if exchange.request.target != "/bad" {
            return exchange.json(200, "{\"ok\":true}");
        }
        exchange.answer(200, "", b"first")?;
        // After the whole answer was taken: an answer to a request that is not there yet.
        std::thread::sleep(std::time::Duration::from_millis(50));
        exchange.answer(200, "", b"smuggled")
    });
    let world = World::with_origin(origin, fresh_key());
    let mut conn = world.agent().open("openrouter.ai:443");
    assert_eq!(conn.get("openrouter.ai", "/bad").text(), "first");
    std::thread::sleep(std::time::Duration::from_millis(100));
    for _ in 0..2 {
        assert_eq!(conn.get("openrouter.ai", "/after").text(), "{\"ok\":true}", "the next answer is its own");
    }
    let got = world.origin.recorded();
    assert_ne!(got[0].connection, got[1].connection, "the connection was not used again");
    assert_eq!(record_of(&world, "ok")["path"].as_str(), Some("/bad"));
    is_well(&world);
}
