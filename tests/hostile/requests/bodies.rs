//! Bodies: chunks that break off, trailers that say too much, and what is odd but sound.

use super::{SMUGGLED, audit_says, cases, is_well, record_of};
use crate::support::World;

const HEAD: &str = "POST /broken HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\n\r\n";

cases! { ends_both_connections {
    a_chunk_size_that_is_no_number: "g\r\nab\r\n0\r\n\r\n",
    a_chunk_size_with_0x: "0x2\r\nab\r\n0\r\n\r\n",
    a_negative_chunk_size: "-2\r\nab\r\n0\r\n\r\n",
    a_signed_chunk_size: "+2\r\nab\r\n0\r\n\r\n",
    an_empty_chunk_size: "\r\n0\r\n\r\n",
    an_extension_without_a_chunk_size: ";a=b\r\n0\r\n\r\n",
    a_chunk_size_beyond_64_bits: "10000000000000002\r\nab\r\n0\r\n\r\n",
    a_chunk_size_behind_many_zeros: "00000000000000000000000000000002\r\nab\r\n0\r\n\r\n",
    a_chunk_size_behind_a_space: " 2\r\nab\r\n0\r\n\r\n",
    two_numbers_in_a_chunk_size: "2 2\r\nab\r\n0\r\n\r\n",
    an_underscore_in_a_chunk_size: "0_2\r\nab\r\n0\r\n\r\n",
    a_bare_lf_after_the_chunk_size: "2\nab\r\n0\r\n\r\n",
    a_bare_cr_after_the_chunk_size: "2\rab\r\n0\r\n\r\n",
    a_bare_cr_in_the_extension: "2;a\rb\r\nab\r\n0\r\n\r\n",
    a_bare_lf_in_the_extension: "2;a\nb\r\nab\r\n0\r\n\r\n",
    a_nul_in_the_extension: "2;a\0\r\nab\r\n0\r\n\r\n",
    data_longer_than_its_chunk_size: "2\r\nabc\r\n0\r\n\r\n",
    data_shorter_than_its_chunk_size: "4\r\nab\r\n0\r\n\r\n",
    no_cr_after_the_data: "2\r\nab\n0\r\n\r\n",
    a_bare_lf_after_the_last_chunk: "2\r\nab\r\n0\n\r\n",
    a_bare_lf_as_the_last_line: "2\r\nab\r\n0\r\n\n",
    a_folded_trailer: "2\r\nab\r\n0\r\nX: a\r\n b\r\n\r\n",
    a_trailer_without_a_colon: "2\r\nab\r\n0\r\nX\r\n\r\n",
    a_trailer_that_ends_in_a_bare_lf: "2\r\nab\r\n0\r\nX: a\n\r\n",
    a_trailer_with_a_bare_cr: "2\r\nab\r\n0\r\nX: a\rb\r\n\r\n",
    a_trailer_with_a_nul: "2\r\nab\r\n0\r\nX: a\0\r\n\r\n",
    a_trailer_with_a_space_before_the_colon: "2\r\nab\r\n0\r\nX : a\r\n\r\n",
    a_request_as_the_trailer: "2\r\nab\r\n0\r\nGET /smuggled HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
} }

/// What went before may have been sent, what follows is never a request, and nobody else gets the origin's connection.
fn ends_both_connections(body: &str) {
    let world = World::agreeable();
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send(format!("{HEAD}{body}{SMUGGLED}"));
    let reply = conn.reply();
    reply.expect_own(400, "bad_request");
    assert_eq!(conn.read_rest(), "", "one answer, then the end");
    let record = audit_says(&world, "denied", "bad_request");
    assert_eq!((record["path"].as_str(), record["status"].as_u64()), (Some("/broken"), Some(400)), "{record}");
    let before = world.origin.accepted();
    is_well(&world);
    let got = world.origin.recorded();
    assert!(got.iter().all(|r| r.target != "/smuggled"), "{got:?}");
    // The request may not even have been dialled for; if it was, its connection is gone.
    assert!(got.len() <= 2 && world.origin.last().connection >= before, "on a connection of its own: {got:?}");
    assert!(got.iter().filter(|r| r.target == "/broken").all(|r| !r.body.ends_with(b"smuggled")), "{got:?}");
}

cases! { is_too_much_framing {
    extensions_without_end_on_one_chunk: format!("2;{}", "a".repeat(100_000)),
    zeros_without_end_before_a_size: "0".repeat(100_000),
    a_long_extension_on_each_of_many_small_chunks: format!("1;{}\r\na\r\n", "a".repeat(900)).repeat(1000),
    quoted_extensions_on_each_of_many_small_chunks: format!("1;a=\"{}\"\r\na\r\n", "b".repeat(200)).repeat(2000),
    a_trailer_without_end: format!("0\r\nX: {}", "a".repeat(100_000)),
    trailers_without_end: format!("0\r\n{}", "X: a\r\n".repeat(20_000)),
    more_trailers_than_there_may_be: format!("0\r\n{}\r\n", "X: a\r\n".repeat(100)),
} }

/// Framing that carries nothing is bounded for a whole body, whatever its pieces.
fn is_too_much_framing(body: String) {
    let world = World::agreeable();
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send(HEAD);
    // The proxy may hang up before it has all.
    let _ = conn.try_send(&body);
    conn.reply().expect_own(400, "bad_request");
    assert_eq!(conn.read_rest(), "", "one answer, then the end");
    audit_says(&world, "denied", "bad_request");
    is_well(&world);
}

/// As much framing as content is what small pieces cost: a stream of single bytes is no attack.
#[test]
fn a_body_in_chunks_of_one_byte_arrives() {
    let world = World::agreeable();
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send(format!("{HEAD}{}0\r\n\r\n", "1;a\r\nx\r\n".repeat(20_000)));
    assert_eq!(conn.reply().status, 200);
    assert_eq!(world.origin.last().body.len(), 20_000);
    assert_eq!(record_of(&world, "ok")["bytes_up"].as_u64(), Some(20_000));
    is_well(&world);
}

cases! { arrives_as_one_request {
    an_empty_body_by_length: ("POST /1 HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 0\r\n\r\n", ""),
    zeros_before_a_length: ("POST /2 HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 0003\r\n\r\nabc", "abc"),
    a_get_with_a_body: ("GET /3 HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 3\r\n\r\nabc", "abc"),
    chunked_in_capitals: ("POST /4 HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"),
    extensions_and_zeros: (
        "POST /5 HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\n\r\n0003;a=\"b;c\"\r\nabc\r\n000\r\n\r\n",
        "abc",
    ),
    connection_names_the_framing: ("POST /6 HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: content-length, host\r\nContent-Length: 3\r\n\r\nabc", "abc"),
    an_upgrade_with_a_body: (
        "GET /7 HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
        "abc",
    ),
    an_upgrade_to_h2c: (
        "GET /8 HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n",
        "",
    ),
    one_empty_line_first: ("\r\nGET /9 HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n", ""),
    white_space_round_a_length: ("POST /10 HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: \t 3 \t\r\n\r\nabc", "abc"),
    white_space_round_chunked: ("POST /11 HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: \tchunked \r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"),
    bytes_beyond_ascii_in_a_value: ("GET /12 HTTP/1.1\r\nHost: openrouter.ai\r\nX: caf\u{e9}\r\n\r\n", ""),
    a_chunk_size_in_capitals: (
        "POST /13 HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nabcdefghij\r\n0\r\n\r\n",
        "abcdefghij",
    ),
    a_request_as_the_body: (
        "POST /14 HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 53\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: openrouter.ai\r\nA: b\r\n\r\n",
        "GET /smuggled HTTP/1.1\r\nHost: openrouter.ai\r\nA: b\r\n\r\n",
    ),
} }

/// What is framed well goes on with exactly one framing, and the next request is the next request.
fn arrives_as_one_request((request, body): (&str, &str)) {
    let world = World::agreeable();
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send(format!("{request}GET /next HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"));
    assert_eq!((conn.reply().status, conn.reply().status), (200, 200));
    let got = world.origin.recorded();
    assert_eq!(got.len(), 2, "{got:?}");
    assert_eq!((got[0].body.as_slice(), got[1].target.as_str()), (body.as_bytes(), "/next"));
    let framings = got[0].values("content-length").len() + got[0].values("transfer-encoding").len();
    assert_eq!(framings, usize::from(request.contains("Content-Length") || request.contains("Transfer-Encoding")));
    for name in ["upgrade", "http2-settings", "connection", "proxy-authorization"] {
        assert!(got[0].values(name).is_empty(), "{name}");
    }
    assert_eq!(got[0].values("authorization"), [world.bearer()]);
    assert_eq!(record_of(&world, "ok")["decision"].as_str(), Some("injected"));
    is_well(&world);
}

cases! { is_no_trailer {
    a_host_in_a_trailer: "Host: evil.example",
    a_length_in_a_trailer: "Content-Length: 5",
    chunked_in_a_trailer: "Transfer-Encoding: chunked",
    connection_in_a_trailer: "Connection: close",
    the_agents_own_key_in_a_trailer: "Authorization: Bearer own",
    the_agents_own_key_in_a_trailer_in_another_spelling: "X_Api_Key: own",
    a_proof_in_a_trailer: "Proxy-Authorization: Basic own",
    another_method_in_a_trailer: "X-HTTP-Method-Override: DELETE",
    a_placeholder_in_a_trailer: "X-Key: sk-or-keyhatch-placeholder-ruled",
} }

/// Fields that frame, route or authenticate do nothing in a trailer but confuse: they do not go on.
fn is_no_trailer(trailer: &str) {
    let world = World::agreeable();
    world.home.ok_with(&["credential", "add", "ruled", "--allow", "api.example.com", "--path", "/**"], &crate::support::fresh_key());
    let agent = world.agent();
    let mut conn = super::super::within(super::super::SECOND, "felt", || {
        let conn = agent.open("api.example.com:443");
        conn.intercepted().then_some(conn)
    });
    let request =
        format!("POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n{trailer}\r\nX-Sum: 7\r\n\r\n");
    assert_eq!(conn.ask(request).status, 200);
    let names: Vec<_> = world.origin.last().trailers.into_iter().map(|(n, _)| n).collect();
    assert_eq!(names, ["x-sum"]);
    assert_eq!(record_of(&world, "ok")["credential"].as_str(), Some("ruled"));
    is_well(&world);
}
