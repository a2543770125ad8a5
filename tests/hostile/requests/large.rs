//! Heads that are too large.

use super::{audit_says, cases, is_well, nothing_was_sent};
use crate::support::World;

cases! { is_too_large {
    a_target_of_100_kib: (format!("GET /{}", "a".repeat(100 << 10)), 414, "uri_too_long"),
    a_method_without_end: ("G".repeat(100 << 10), 414, "uri_too_long"),
    a_field_of_100_kib: (format!("GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX: {}", "a".repeat(100 << 10)), 431, "header_too_large"),
    a_name_of_100_kib: (format!("GET / HTTP/1.1\r\nHost: openrouter.ai\r\n{}", "a".repeat(100 << 10)), 431, "header_too_large"),
    a_hundred_kib_of_fields: (format!("GET / HTTP/1.1\r\nHost: openrouter.ai\r\n{}", "X: a\r\n".repeat(20 << 10)), 431, "header_too_large"),
    two_hundred_fields: (format!("GET / HTTP/1.1\r\nHost: openrouter.ai\r\n{}\r\n", "X: a\r\n".repeat(200)), 431, "header_too_large"),
    a_head_that_ends_a_byte_beyond_the_limit: (a_head_of((64 << 10) + 1), 431, "header_too_large"),
} }

/// A whole head of so many bytes.
fn a_head_of(size: usize) -> String {
    let begin = "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX: ";
    format!("{begin}{}\r\n\r\n", "a".repeat(size - begin.len() - 4))
}

fn is_too_large((request, status, code): (String, u16, &str)) {
    let world = World::agreeable();
    let mut conn = world.agent().open("openrouter.ai:443");
    // The proxy may hang up before it has all.
    let _ = conn.try_send(&request);
    conn.reply().expect_own(status, code);
    assert_eq!(conn.read_rest(), "", "one answer, then the end");
    let record = audit_says(&world, "denied", code);
    assert_eq!((record["agent"].as_str(), record["host"].as_str()), (Some("default"), Some("openrouter.ai")), "{record}");
    nothing_was_sent(&world);
    is_well(&world);
}

/// The limit is where it is said to be.
#[test]
fn a_head_of_64_kib_is_taken() {
    let world = World::agreeable();
    assert_eq!(world.agent().open("openrouter.ai:443").ask(a_head_of(64 << 10)).status, 200);
    is_well(&world);
}

cases! { is_too_large_for_the_listener {
    a_connect_target_of_100_kib: ("CONNECT ", "a", 414, "uri_too_long"),
    a_uri_of_100_kib: ("GET http://openrouter.ai/", "a", 414, "uri_too_long"),
    a_proof_of_100_kib: ("CONNECT openrouter.ai:443 HTTP/1.1\r\nProxy-Authorization: Basic ", "a", 431, "header_too_large"),
    fields_without_end_from_nobody: ("CONNECT openrouter.ai:443 HTTP/1.1\r\n", "X: a\r\n", 431, "header_too_large"),
} }

/// From whoever has proved nothing yet.
fn is_too_large_for_the_listener((begin, rest, status, code): (&str, &str, u16, &str)) {
    use std::io::Write as _;
    let world = World::agreeable();
    let mut stream = world.agent().dial();
    let _ = stream.write_all(format!("{begin}{}", rest.repeat((100 << 10) / rest.len())).as_bytes());
    let all = super::super::rest_of(&mut stream);
    assert!(all.starts_with(&format!("HTTP/1.1 {status} ")) && all.matches("HTTP/1.1 ").count() == 1, "{all}");
    let record = audit_says(&world, "denied", code);
    assert!(record["agent"].is_null(), "{record}");
    nothing_was_sent(&world);
    is_well(&world);
}
