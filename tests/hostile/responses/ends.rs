//! Answers that end before their end, and answers that come too early.

use std::io::Write as _;
use std::time::Duration;

use super::{HOSTS, SMUGGLED, cases, is_well, next_is_right, record_of, scripted};
use crate::support::{Origin, World, fresh_key};

cases! { cuts_the_answer_short {
    a_bad_chunk_size: "zz\r\nab\r\n0\r\n\r\n",
    a_negative_chunk_size: "-1\r\nab\r\n0\r\n\r\n",
    a_chunk_size_with_0x: "0x2\r\nab\r\n0\r\n\r\n",
    a_chunk_size_behind_a_space: " 2\r\nab\r\n0\r\n\r\n",
    data_longer_than_its_chunk_size: "1\r\nab\r\n0\r\n\r\n",
    a_bare_lf_in_chunks: "2\nab\n0\n\n",
    a_bare_cr_in_an_extension: "2;a\rb\r\nab\r\n0\r\n\r\n",
    a_chunk_size_beyond_64_bits: "ffffffffffffffff2\r\nab\r\n0\r\n\r\n",
    a_chunk_size_of_64_bits: "ffffffffffffffff\r\nab\r\n0\r\n\r\n",
    a_folded_trailer: "2\r\nab\r\n0\r\nX: a\r\n b\r\n\r\n",
    a_trailer_with_a_bare_lf: "2\r\nab\r\n0\r\nX: a\n\r\n",
    an_answer_for_a_trailer: "2\r\nab\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n",
} }

/// What came before arrives, and no end of the body: the agent sees that it is not whole.
fn cuts_the_answer_short(rest: &str) {
    let world = scripted(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n{rest}{SMUGGLED}"));
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send("GET /bad HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    let all = conn.read_rest();
    assert!(all.starts_with("HTTP/1.1 200 ") && all.contains("first"), "what came before arrives: {all:?}");
    assert!(!all.contains("\r\n0\r\n\r\n") && !all.contains("smuggled"), "and no end of the body: {all:?}");
    let record = record_of(&world, "upstream_closed");
    assert_eq!((record["decision"].as_str(), record["status"].as_u64()), (Some("failed"), Some(200)), "{record}");
    next_is_right(&world);
    is_well(&world);
}

cases! { is_too_much_framing {
    extensions_without_end_on_one_chunk: format!("2;{}", "a".repeat(100_000)),
    zeros_without_end_before_a_size: "0".repeat(100_000),
    a_long_extension_on_each_of_many_small_chunks: format!("1;{}\r\na\r\n", "a".repeat(900)).repeat(1000),
    trailers_without_end: format!("0\r\n{}", "X: a\r\n".repeat(20_000)),
} }

/// Framing that carries nothing is bounded in an answer, too.
fn is_too_much_framing(rest: String) {
    cuts_the_answer_short(&rest);
}

cases! { what_came_arrives {
    words_by_length: "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ndata: last words\n\n",
    words_by_chunks: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n12\r\ndata: last words\n\n\r\n",
    words_in_half_a_chunk: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n99\r\ndata: last words\n\n",
    words_in_events: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n12\r\ndata: last words\n\n\r\n",
} }

/// A model's last words before its server dies are paid for: they arrive, though they come with the end, and are not taken for a
/// whole answer.
fn what_came_arrives(bytes: &'static str) {
    let origin = Origin::start(&HOSTS, move |exchange| {
        if exchange.request.target != "/bad" {
            return exchange.json(200, "{\"ok\":true}");
        }
        exchange.write(bytes)?;
        exchange.close();
        Ok(())
    });
    let world = World::with_origin(origin, fresh_key());
    for _ in 0..5 {
        let mut conn = world.agent().open("openrouter.ai:443");
        conn.send("GET /bad HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
        let all = conn.read_rest();
        assert!(all.starts_with("HTTP/1.1 200 ") && all.contains("data: last words\n\n"), "{all:?}");
        assert!(!all.ends_with("0\r\n\r\n"), "it is no whole answer: {all:?}");
    }
    assert_eq!(record_of(&world, "upstream_closed")["decision"].as_str(), Some("failed"));
    is_well(&world);
}

/// An early answer to an upload ends the exchange in order, and the rest of the upload is never a request.
#[test]
fn an_early_refusal_of_an_upload_reaches_the_agent() {
    let origin = Origin::start(&HOSTS, |exchange| {
        if exchange.request.target != "/upload" {
            return exchange.json(200, "{\"ok\":true}");
        }
        exchange.write("HTTP/1.1 413 Too Large\r\nConnection: close\r\ncontent-length: 3\r\n\r\nbig")?;
        // The rest is not read: the peer's writes will fail.
        exchange.close();
        Ok(())
    });
    let world = World::with_origin(origin, fresh_key());
    for _ in 0..5 {
        let mut conn = world.agent().open("openrouter.ai:443");
        conn.stream.sock.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        conn.send(
            "POST /upload HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 10000000\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
        );
        let reply = conn.reply();
        assert_eq!((reply.status, reply.text().as_str()), (413, "big"), "{reply:?}");
        assert_eq!(reply.values("connection"), ["close"], "the agent is told that the connection ends");
        let _ = conn.stream.write_all(b"GET /smuggled HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
        assert_eq!(conn.read_rest(), "");
    }
    assert!(world.origin.recorded().iter().all(|r| r.target == "/upload"));
    assert_eq!(record_of(&world, "ok")["status"].as_u64(), Some(413));
    is_well(&world);
}
