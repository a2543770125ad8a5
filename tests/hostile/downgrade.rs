//! HTTP/2 that says what HTTP/1.1 must not hear (RFC 9113 8.2, 8.3, 10.3): from agents, towards an origin that speaks HTTP/1.1, and
//! from origins, towards agents that speak either.

mod answers;

use super::case::{audit_says, cases, is_well, nothing_was_sent, record_of};
use super::framed::{Ended, Framed, block, get, open, request};
use crate::support::World;
use crate::support::wire::frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, frame};

type Fields = &'static [(&'static str, &'static str)];

cases! { is_malformed {
    no_method: &[(":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x")],
    two_methods: &[(":method", "GET"), (":method", "POST"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x")],
    an_empty_method: &[(":method", ""), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x")],
    a_method_with_a_space: &[(":method", "GET /smuggled HTTP/1.1"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x")],
    a_method_with_a_line_break: &[(":method", "GET\r\n"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x")],
    no_scheme: &[(":method", "GET"), (":authority", "openrouter.ai"), (":path", "/x")],
    two_schemes: &[(":method", "GET"), (":scheme", "https"), (":scheme", "http"), (":authority", "openrouter.ai"), (":path", "/x")],
    a_scheme_with_a_space: &[(":method", "GET"), (":scheme", "https "), (":authority", "openrouter.ai"), (":path", "/x")],
    two_paths: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), (":path", "/y")],
    a_path_with_a_space: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x HTTP/1.1")],
    a_path_with_a_line_break: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x HTTP/1.1\r\nX: y\r\n\r\n")],
    a_path_with_a_nul: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x\0")],
    a_path_with_a_tab: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x\ty")],
    a_status_in_a_request: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), (":status", "200")],
    an_unknown_pseudo_field: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), (":what", "1")],
    an_empty_pseudo_field: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), (":", "1")],
    a_pseudo_field_behind_a_field: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), ("x-a", "1"), (":path", "/x")],
    a_line_break_in_a_value: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("x-a", "1\r\nx-b: 2")],
    a_whole_request_in_a_value: &[
        (":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"),
        ("x-a", "1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"),
    ],
    a_bare_cr_in_a_value: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("x-a", "1\rx")],
    a_bare_lf_in_a_value: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("x-a", "1\nx")],
    a_nul_in_a_value: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("x-a", "1\x002")],
    a_line_break_in_a_name: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("x-a: 1\r\nx-b", "2")],
    a_nul_in_a_name: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("x-\0a", "1")],
    a_space_in_a_name: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("x a", "1")],
    a_space_behind_a_name: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("transfer-encoding ", "chunked")],
    a_colon_in_a_name: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("x-a:", "1")],
    a_letter_beyond_ascii_in_a_name: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("x-\u{e9}", "1")],
    an_empty_name: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("", "1")],
    a_name_in_upper_case: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("X-A", "1")],
    a_name_with_one_capital: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("transfer-encodinG", "chunked")],
    connection: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("connection", "close")],
    connection_that_names_the_credentials_field: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("connection", "authorization")],
    keep_alive: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("keep-alive", "timeout=5")],
    proxy_connection: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("proxy-connection", "keep-alive")],
    transfer_encoding: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("transfer-encoding", "chunked")],
    upgrade: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("upgrade", "websocket")],
    te_gzip: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("te", "gzip")],
    te_trailers_and_gzip: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("te", "trailers, gzip")],
    a_length_without_content: &[(":method", "POST"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("content-length", "3")],
    two_lengths: &[(":method", "POST"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("content-length", "0"), ("content-length", "3")],
    two_equal_lengths: &[(":method", "POST"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("content-length", "0"), ("content-length", "0")],
    a_signed_length: &[(":method", "POST"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("content-length", "+0")],
    a_length_with_a_space: &[(":method", "POST"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("content-length", " 0")],
    an_empty_length: &[(":method", "POST"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("content-length", "")],
    a_protocol_without_connect: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), (":protocol", "websocket")],
    connect_with_a_path: &[(":method", "CONNECT"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x")],
} }

/// Refused by us, or by the HTTP/2 library before us: no part of it is sent, and the record says whose request it was.
fn is_malformed(fields: Fields) {
    let world = World::agreeable();
    let mut framed = Framed::in_tunnel(&world, "openrouter.ai");
    framed.send(&get(1, fields));
    let code = refusal(&mut framed);
    let record = audit_says(&world, "denied", code);
    assert_eq!((record["agent"].as_str(), record["host"].as_str()), (Some("default"), Some("openrouter.ai")), "{record}");
    assert_eq!(record["client_protocol"].as_str(), Some("HTTP/2"), "{record}");
    nothing_was_sent(&world);
    assert_eq!(world.origin.accepted(), 0, "nothing was dialled");
    is_well(&world);
}

/// Stream 1 is refused: the code of the record that says so.
#[track_caller]
fn refusal(framed: &mut Framed) -> &'static str {
    match framed.ended(1) {
        Ended::Answered(_, body) => {
            let codes = ["bad_request", "method_denied", "misdirected", "header_too_large"];
            codes.into_iter().find(|code| body.contains(&format!("\"code\":\"{code}\""))).unwrap_or_else(|| panic!("{body}"))
        }
        Ended::Reset(1) | Ended::Farewell(1 | 9) => "bad_request",
        ended => panic!("{ended:?}"),
    }
}

cases! { is_method_denied {
    connect_inside: &[(":method", "CONNECT"), (":authority", "openrouter.ai")],
    connect_to_another_protocol: &[(":method", "CONNECT"), (":protocol", "connect-udp"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x")],
    trace: &[(":method", "TRACE"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x")],
} }

fn is_method_denied(fields: Fields) {
    let world = World::agreeable();
    let mut framed = Framed::in_tunnel(&world, "openrouter.ai");
    framed.send(&get(1, fields));
    // A CONNECT has no content by which it would end, an END_STREAM on one is a fault of its own.
    assert!(["method_denied", "bad_request", "misdirected"].contains(&refusal(&mut framed)));
    nothing_was_sent(&world);
    assert_eq!(world.origin.accepted(), 0);
    is_well(&world);
}

cases! { is_never_whole {
    less_content_than_the_length: (&[("content-length", "10")], vec![frame(DATA, END_STREAM, 1, b"short")]),
    more_content_than_the_length: (&[("content-length", "3")], vec![frame(DATA, END_STREAM, 1, b"too long")]),
    more_content_than_the_length_in_pieces: (&[("content-length", "3")], vec![frame(DATA, 0, 1, b"abc"), frame(DATA, END_STREAM, 1, b"GET /smuggled HTTP/1.1\r\n\r\n")]),
    content_beyond_a_length_of_0: (&[("content-length", "0")], vec![frame(DATA, END_STREAM, 1, b"GET /smuggled HTTP/1.1\r\n\r\n")]),
    trailers_without_an_end: (&[], vec![frame(DATA, 0, 1, b"x"), frame(HEADERS, END_HEADERS, 1, &block(&[("x-a", "1")]))]),
    trailers_in_upper_case: (&[], vec![frame(DATA, 0, 1, b"x"), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("X-A", "1")]))]),
    trailers_with_a_line_break: (&[], vec![frame(DATA, 0, 1, b"x"), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("x-a", "1\r\n\r\nGET /smuggled HTTP/1.1")]))]),
    trailers_with_transfer_encoding: (&[], vec![frame(DATA, 0, 1, b"x"), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("transfer-encoding", "chunked")]))]),
    trailers_before_less_content_than_the_length: (&[("content-length", "10")], vec![frame(DATA, 0, 1, b"short"), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("x-a", "1")]))]),
    padding_beyond_the_frame: (&[], vec![frame(DATA, 8 | END_STREAM, 1, &[200, b'x'])]),
    data_on_the_connection: (&[], vec![frame(DATA, END_STREAM, 0, b"x")]),
    data_on_a_stream_that_nobody_opened: (&[], vec![frame(DATA, 0, 7, b"x")]),
    continuation_of_nothing: (&[], vec![frame(CONTINUATION, END_HEADERS, 1, &block(&[("x-a", "1")]))]),
    a_second_head_on_the_stream: (&[], vec![frame(HEADERS, END_HEADERS, 1, &block(&[(":method", "GET"), (":scheme", "https"), (":authority", "evil.example"), (":path", "/smuggled")]))]),
    a_window_of_more_than_the_most: (&[], vec![frame(8, 0, 1, &i32::MAX.to_be_bytes())]),
    a_frame_that_is_too_large: (&[], vec![frame(DATA, END_STREAM, 1, &[0; 70_000])]),
} }

/// The head is in order and may have gone on; what follows is not. The origin never has a whole request of it, and nobody gets its
/// connection.
fn is_never_whole((more, frames): (Fields, Vec<Vec<u8>>)) {
    let world = World::agreeable();
    let mut framed = Framed::in_tunnel(&world, "openrouter.ai");
    framed.send(&open(1, &request("POST", "/x", more)));
    for bytes in frames {
        framed.send(&bytes);
    }
    match framed.ended(1) {
        Ended::Answered(_, body) => assert!(body.contains("\"code\":\"bad_request\""), "{body}"),
        Ended::Reset(code) | Ended::Farewell(code) => assert_ne!(code, 0),
        Ended::Closed => {}
    }
    // Whose stream it was is in the record of the request, or of the connection.
    let record = super::audited(&world.home, &["\"host\":\"openrouter.ai\"", "\"agent\":\"default\""]).remove(0);
    assert!(["agent_closed", "bad_request"].contains(&record["reason"].as_str().unwrap()), "{record}");
    is_well(&world);
    let got = world.origin.recorded();
    assert!(got.iter().all(|r| ["/x", "/after-the-case"].contains(&r.target.as_str())), "{got:?}");
    let broken = got.iter().find(|r| r.target == "/x");
    assert!(broken.is_none_or(|r| r.body.is_empty() && r.connection != world.origin.last().connection), "{got:?}");
}

cases! { goes_on_clean {
    crumbs_of_a_cookie: (&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")], "cookie", &["a=1; b=2; c=3"]),
    te_trailers: (&[("te", "trailers")], "te", &["trailers"]),
    a_host_beside_the_authority: (&[("host", "openrouter.ai")], "host", &["openrouter.ai"]),
    an_expectation: (&[("expect", "100-continue")], "expect", &["100-continue"]),
    the_agents_own_key: (&[("authorization", "Bearer own"), ("x-api-key", "own")], "x-api-key", &[]),
    a_proof_for_the_proxy: (&[("proxy-authorization", "Basic eDp5"), ("proxy_authorization", "Basic eDp5")], "proxy_authorization", &[]),
    settings_for_an_upgrade: (&[("http2-settings", "AAA")], "http2-settings", &[]),
    a_field_twice: (&[("x-a", "1"), ("x-a", "2")], "x-a", &["1", "2"]),
    bytes_beyond_ascii: (&[("x-a", "caf\u{e9}")], "x-a", &["caf\u{e9}"]),
    white_space_round_a_value: (&[("x-a", " 1\t")], "x-a", &["1"]),
} }

/// What may be said goes on in HTTP/1.1's form, with one length or none, the origin's name and the key.
fn goes_on_clean((more, name, values): (Fields, &str, &[&str])) {
    let world = World::agreeable();
    let mut framed = Framed::in_tunnel(&world, "openrouter.ai");
    framed.send(&get(1, &request("GET", "/x", more)));
    assert!(matches!(framed.ended(1), Ended::Answered(_, body) if body == "{\"ok\":true}"));
    let got = world.origin.last();
    let held: Vec<_> = got.values(name).iter().map(|v| v.trim().to_owned()).collect();
    assert_eq!(held, values, "{got:?}");
    assert_eq!((got.value("authorization"), got.value("host")), (world.bearer(), "openrouter.ai".to_owned()));
    assert!(got.values("content-length").is_empty() && got.values("transfer-encoding").is_empty(), "{got:?}");
    let record = record_of(&world, "ok");
    assert_eq!((record["decision"].as_str(), record["upstream_protocol"].as_str()), (Some("injected"), Some("HTTP/1.1")), "{record}");
    is_well(&world);
}

/// `h2` takes pseudo-fields off trailers without a word: nothing of them goes on.
#[test]
fn pseudo_fields_in_trailers_go_nowhere() {
    let world = World::agreeable();
    let mut framed = Framed::in_tunnel(&world, "openrouter.ai");
    framed.send(&open(1, &request("POST", "/x", &[])));
    framed.send(&frame(DATA, 0, 1, b"abc"));
    framed.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(":path", "/smuggled"), (":authority", "evil.example"), ("x-sum", "7")])));
    framed.ended(1);
    let got = world.origin.last();
    assert_eq!((got.target.as_str(), got.value("host").as_str(), got.body.as_slice()), ("/x", "openrouter.ai", &b"abc"[..]));
    assert_eq!(got.trailers, [("x-sum".to_owned(), b"7".to_vec())]);
    assert_eq!(record_of(&world, "ok")["decision"].as_str(), Some("injected"));
    is_well(&world);
}
