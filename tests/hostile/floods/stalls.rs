//! Connections on which nothing comes, or nothing is taken: they end by themselves.

use std::time::Duration;

use super::{Framed, block, cases, get, is_well, open, record_of, request};
use crate::support::wire::frames::{END_HEADERS, HEADERS, PING, SETTINGS, frame};
use crate::support::world::HOSTS;
use crate::support::{Origin, World, fresh_key};

/// An origin that answers `/large` with a mebibyte and everything else in a few bytes; the proxy waits for nobody longer than a second.
fn hasty() -> World {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        if exchange.request.target == "/large" { exchange.answer(200, "", &vec![b'x'; 1 << 20]) } else { exchange.json(200, "{\"ok\":true}") }
    });
    World::with_configuration(origin, fresh_key(), "[timeouts]\nrequest_head = \"1s\"\nidle = \"1s\"")
}

/// Windows of nothing: no content may be sent.
fn no_room() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])
}

cases! { ends_by_itself {
    a_short_answer_that_nobody_takes: ([no_room(), get(1, &request("GET", "/x", &[]))].concat(), "ok"),
    a_large_answer_that_nobody_takes: ([no_room(), get(1, &request("GET", "/large", &[]))].concat(), "upstream_timeout"),
    a_hundred_answers_that_nobody_takes: (
        [no_room(), (0..100).flat_map(|n| get(2 * n + 1, &request("GET", "/x", &[]))).collect()].concat(),
        "ok",
    ),
    a_refusal_that_nobody_takes: ([no_room(), get(1, &request("GET", "/x", &[("host", "evil.example")]))].concat(), "misdirected"),
    a_request_whose_content_never_comes: (open(1, &request("POST", "/x", &[("content-length", "5")])), "upstream_timeout"),
} }

/// A stream that nobody reads, or nobody writes on, does not hold its connection for ever.
fn ends_by_itself((bytes, reason): (Vec<u8>, &str)) {
    let world = hasty();
    let mut framed = Framed::in_tunnel(&world, "openrouter.ai");
    framed.patience(Duration::from_secs(25));
    framed.send(&bytes);
    // In order or not: it ends, and no frame of content was sent that there was no room for.
    let ended = framed.end();
    assert!(ended.is_of_connection(), "{ended:?}");
    let record = record_of(&world, reason);
    assert_eq!((record["agent"].as_str(), record["host"].as_str()), (Some("default"), Some("openrouter.ai")), "{record}");
    is_well(&world);
}

cases! { ends_without_a_request {
    nothing_after_the_preface: Vec::new(),
    half_a_head: frame(HEADERS, 0, 1, &block(&[(":method", "GET")])),
    half_a_frame: frame(HEADERS, END_HEADERS, 1, &block(&request("GET", "/x", &[])))[..12].to_vec(),
    half_the_head_of_a_frame: vec![0, 0, 9, 1],
    one_ping: frame(PING, 0, 0, &[0; 8]),
} }

/// What is begun and never ended has an end, inside a tunnel as well.
fn ends_without_a_request(bytes: Vec<u8>) {
    let world = hasty();
    let mut framed = Framed::in_tunnel(&world, "openrouter.ai");
    framed.patience(Duration::from_secs(15));
    framed.send(&bytes);
    // What it is told at the end it answers, and that may be a fault of its own in the midst of a head.
    assert!(framed.end().is_of_connection());
    super::super::case::nothing_was_sent(&world);
    assert_eq!(world.origin.accepted(), 0);
    is_well(&world);
}

cases! { half_a_preface_ends {
    half_a_preface_to_the_listener: ("", "PRI * HT"),
    all_but_the_end_of_a_preface_to_the_listener: ("", "PRI * HTTP/2.0\r\n\r\nSM"),
    half_a_preface_in_a_tunnel: ("openrouter.ai:443", "PRI * HT"),
    all_but_the_end_of_a_preface_in_a_tunnel: ("openrouter.ai:443", "PRI * HTTP/2.0\r\n\r\nSM"),
    a_preface_that_ends_in_something_else: ("openrouter.ai:443", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
} }

fn half_a_preface_ends((target, bytes): (&str, &str)) {
    use std::io::Write as _;
    let world = hasty();
    let agent = world.agent();
    let mut stream = if target.is_empty() { agent.dial() } else { agent.connect(target).1 };
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let said = super::super::rest_of(&mut stream);
    assert!(!said.contains("HTTP/1.1"), "{said}");
    super::super::case::nothing_was_sent(&world);
    assert_eq!(world.origin.accepted(), 0);
    is_well(&world);
}
