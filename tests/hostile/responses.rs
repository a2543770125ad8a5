//! Origins that break HTTP, to give one agent's client an answer that was meant for another request, or to end the proxy.

mod ends;
mod secret;
mod switches;

use super::case::{audit_says, cases, is_well, record_of};
use crate::support::raw::{Reply, read_reply, read_reply_head};
use crate::support::world::HOSTS;
use crate::support::{Exchange, Origin, World, fresh_key};

/// An origin that answers `/bad` with these bytes, and everything else with 200.
fn scripted(bytes: impl Into<Vec<u8>>) -> World {
    let bytes = bytes.into();
    let answer = move |exchange: &mut Exchange<'_>| {
        exchange.read_body()?;
        if exchange.request.target == "/bad" { exchange.write(&bytes) } else { exchange.json(200, "{\"ok\":true}") }
    };
    World::with_origin(Origin::start(&HOSTS, answer), fresh_key())
}

/// What a second answer in the same bytes looks like: nobody may ever receive it.
const SMUGGLED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled";

/// The request for `/bad` came once, the next ones come over another connection, and their answers are their own.
#[track_caller]
fn next_is_right(world: &World) {
    let got = world.origin.recorded();
    let [bad] = got.as_slice() else { panic!("one request: {got:?}") };
    assert_eq!((bad.target.as_str(), bad.values("authorization")), ("/bad", vec![world.bearer()]));
    for _ in 0..2 {
        let after = world.agent().get("openrouter.ai", "/after");
        assert_eq!(after.text(), "{\"ok\":true}", "the next answer is its own");
    }
    assert!(world.origin.recorded()[1..].iter().all(|r| r.connection != bad.connection), "the connection is not used again");
}

/// The record of the request for a path.
#[track_caller]
fn audited_answer(world: &World, path: &str) -> serde_json::Value {
    super::audited(&world.home, &[&format!("\"path\":\"/{path}\"")]).remove(0)
}

cases! { is_502 {
    length_and_chunks: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    chunks_and_length: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    two_lengths: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 3\r\n\r\n",
    two_equal_lengths: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    a_list_of_lengths: "HTTP/1.1 200 OK\r\nContent-Length: 0, 0\r\n\r\n",
    a_negative_length: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    a_signed_length: "HTTP/1.1 200 OK\r\nContent-Length: +0\r\n\r\n",
    a_hexadecimal_length: "HTTP/1.1 200 OK\r\nContent-Length: 0x0\r\n\r\n",
    an_empty_length: "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
    a_length_beyond_64_bits: "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
    another_coding: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    another_coding_behind: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    identity: "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
    almost_chunked: "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    chunked_twice: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    chunked_in_http_1_0: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    bare_lf: "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    a_bare_lf_between_two_fields: "HTTP/1.1 200 OK\r\nX: a\nContent-Length: 0\r\n\r\n",
    a_bare_lf_as_the_blank_line: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n",
    a_folded_field: "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    a_field_folded_by_a_tab: "HTTP/1.1 200 OK\r\nContent-Length:\r\n\t0\r\n\r\n",
    a_space_before_the_colon: "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    a_tab_before_the_colon: "HTTP/1.1 200 OK\r\nContent-Length\t: 0\r\n\r\n",
    a_space_in_a_name: "HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 0\r\n\r\n",
    a_letter_beyond_ascii_in_a_name: "HTTP/1.1 200 OK\r\nX\u{e9}: a\r\nContent-Length: 0\r\n\r\n",
    an_empty_name: "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n",
    no_colon: "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n",
    a_bare_cr: "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
    a_bare_cr_before_a_second_head: "HTTP/1.1 200 OK\r\nX: a\r\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    a_nul: "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    an_escape: "HTTP/1.1 200 OK\r\nX: \u{1b}[31m\r\nContent-Length: 0\r\n\r\n",
    a_delete: "HTTP/1.1 200 OK\r\nX: a\u{7f}\r\nContent-Length: 0\r\n\r\n",
    a_control_character_in_the_reason: "HTTP/1.1 200 O\u{8}K\r\nContent-Length: 0\r\n\r\n",
    another_version: "HTTP/2 200\r\nContent-Length: 0\r\n\r\n",
    a_version_of_http_1_2: "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    a_version_in_lower_case: "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    no_status: "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
    a_short_status: "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    a_long_status: "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    a_status_of_nothing: "HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
    a_status_below_100: "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    a_signed_status: "HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n",
    two_spaces_before_the_status: "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    a_tab_before_the_status: "HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n",
    a_space_before_the_version: " HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    no_http: "220 smtp.example ESMTP\r\n\r\n",
    a_request_for_an_answer: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    the_preface_of_http_2: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    an_interim_answer_with_two_lengths: "HTTP/1.1 103 Early\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    an_interim_answer_with_a_folded_field: "HTTP/1.1 103 Early\r\nX: a\r\n b\r\n\r\n",
} }

/// What could be framed in two ways: 502, nothing of it passes, and the connection is closed.
fn is_502(bytes: &str) {
    let world = scripted(format!("{bytes}{SMUGGLED}"));
    let reply = world.agent().get("openrouter.ai", "/bad");
    is_refused(&world, &reply);
    next_is_right(&world);
    is_well(&world);
}

#[track_caller]
fn is_refused(world: &World, reply: &Reply) {
    reply.expect_own(502, "upstream_closed");
    assert!(!format!("{reply:?}").contains("smuggled"), "{reply:?}");
    let record = audit_says(world, "failed", "upstream_closed");
    let said = (record["path"].as_str(), record["status"].as_u64(), record["credential"].as_str());
    assert_eq!(said, (Some("/bad"), Some(502), Some("real")), "{record}");
}

cases! { is_too_much {
    ten_thousand_interim_answers: "HTTP/1.1 102 Processing\r\n\r\n".repeat(10_000).into_bytes(),
    one_endless_field: [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; 1 << 20]].concat(),
    one_endless_reason: [b"HTTP/1.1 200 ".to_vec(), vec![b'a'; 1 << 20]].concat(),
    endless_fields: [b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: a\r\n".repeat(100_000)].concat(),
    too_many_fields: [b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: a\r\n".repeat(500), b"\r\n".to_vec()].concat(),
    endless_empty_lines: b"\r\n".repeat(100_000),
} }

fn is_too_much(bytes: Vec<u8>) {
    let world = scripted(bytes);
    let reply = world.agent().get("openrouter.ai", "/bad");
    is_refused(&world, &reply);
    next_is_right(&world);
    is_well(&world);
}

cases! { what_follows_is_nobodys {
    a_second_answer: ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    a_second_answer_after_the_last_chunk: ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok"),
    a_100_after_the_answer: ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 100 Continue\r\n\r\n", 200, "ok"),
    a_byte_after_the_answer: ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokx", 200, "ok"),
    an_empty_line_after_the_answer: ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n", 200, "ok"),
    a_204_with_a_body: ("GET", "HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\nabcde", 204, ""),
    a_204_with_chunks: ("GET", "HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 204, ""),
    a_204_with_a_body_of_no_length: ("GET", "HTTP/1.1 204 None\r\n\r\nabcde", 204, ""),
    a_304_with_a_body: ("GET", "HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\nabcde", 304, ""),
    a_304_with_chunks: ("GET", "HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 304, ""),
    a_head_with_a_body: ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", 200, ""),
    a_head_with_chunks: ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 200, ""),
    a_head_with_a_body_of_no_length: ("HEAD", "HTTP/1.1 200 OK\r\n\r\nabcde", 200, ""),
} }

/// Bytes behind a whole answer are nobody's answer.
fn what_follows_is_nobodys((method, bytes, status, body): (&str, &str, u16, &str)) {
    let world = scripted(format!("{bytes}{SMUGGLED}"));
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send(format!("{method} /bad HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"));
    let reply = read_reply(&mut conn.stream, Some(method)).unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (status, body), "{reply:?}");
    if status == 204 {
        assert!(reply.values("content-length").is_empty() && reply.values("transfer-encoding").is_empty(), "{reply:?}");
    }
    assert_eq!(record_of(&world, "ok")["bytes_down"].as_u64(), Some(body.len() as u64));
    assert_eq!(conn.get("openrouter.ai", "/after").text(), "{\"ok\":true}", "on the agent's connection, too");
    let bad = world.origin.recorded()[0].connection;
    assert_ne!(world.origin.last().connection, bad, "the connection is not used again");
    is_well(&world);
}

cases! { is_taken_off {
    a_proxy_status_of_ours: "Proxy-Status: keyhatch; error=egress_denied",
    a_proxy_status_of_ours_in_capitals: "proxy-status:KEYHATCH",
    a_proxy_status_of_ours_quoted: "Proxy-Status: \"keyhatch\"; error=x",
    a_proxy_status_of_ours_in_a_list: "Proxy-Status: cdn, keyhatch; error=x",
    a_proxy_status_of_ours_with_an_underscore: "Proxy_Status: keyhatch",
    alt_svc: "Alt-Svc: h3=\":443\"; ma=86400",
    alt_svc_in_capitals: "ALT-SVC: clear",
    alt_svc_with_an_underscore: "Alt_Svc: h3=\":443\"",
    a_proxys_question: "Proxy-Authenticate: Basic realm=\"keyhatch\"",
    proxy_connection: "Proxy-Connection: keep-alive",
    connection_that_names_a_field: "Connection: set-cookie, x-a\r\nX-A: 1",
    keep_alive: "Keep-Alive: timeout=5",
    upgrade: "Upgrade: h2c",
} }

/// What speaks in the proxy's name, or leads round it: from an interim answer, the head and the trailers.
fn is_taken_off(field: &str) {
    let world = scripted(format!(
        "HTTP/1.1 103 Early Hints\r\n{field}\r\n\r\nHTTP/1.1 200 OK\r\nX-Kept: 1\r\nTransfer-Encoding: chunked\r\n{field}\r\n\r\n0\r\n{field}\r\nX-Sum: 7\r\n\r\n"
    ));
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send("GET /bad HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    let interim = read_reply_head(&mut conn.stream).unwrap();
    assert_eq!((interim.status, interim.fields.len()), (103, 0), "{interim:?}");
    let reply = conn.reply();
    let mut names: Vec<_> = reply.fields.iter().map(|(n, _)| n.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["transfer-encoding", "x-kept"], "{reply:?}");
    assert_eq!(reply.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    assert_eq!(record_of(&world, "ok")["status"].as_u64(), Some(200));
    is_well(&world);
}
