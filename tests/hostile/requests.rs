//! Requests that two programs could frame in two ways, sent by an agent to smuggle one past the rules.

use super::case::{audit_says, cases, is_well, nothing_was_sent};
use super::raw;
use crate::support::World;
use crate::support::raw::read_reply;

/// What follows every bad request: it must never be taken for a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n";

cases! { is_refused {
    length_and_chunks: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    chunks_and_length: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    two_lengths: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
    two_equal_lengths: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    a_list_of_lengths: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 5, 5\r\n\r\nabcde",
    a_signed_length: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: +5\r\n\r\nabcde",
    a_negative_length: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: -1\r\n\r\n",
    a_hexadecimal_length: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 0x5\r\n\r\nabcde",
    an_underscored_length: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 1_0\r\n\r\nabcde",
    a_length_beyond_64_bits: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 18446744073709551621\r\n\r\nabcde",
    an_empty_length: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: \r\n\r\n",
    another_coding_before: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    another_coding_after: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    chunked_twice: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    almost_chunked: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    quoted_chunked: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    chunked_with_a_vertical_tab: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
    chunked_in_http_1_0: "POST / HTTP/1.0\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    a_space_before_the_colon: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    a_tab_before_the_colon: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length\t: 5\r\n\r\nabcde",
    a_folded_field: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nX: a\r\n Content-Length: 5\r\n\r\n",
    a_folded_first_field: "POST / HTTP/1.1\r\n Host: openrouter.ai\r\n\r\n",
    bare_lf_line_ends: "POST / HTTP/1.1\nHost: openrouter.ai\nContent-Length: 5\n\nabcde",
    a_bare_lf_before_the_blank_line: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nX: a\n\r\n",
    a_bare_cr_in_a_value: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nX: a\rContent-Length: 5\r\n\r\n",
    a_nul_in_a_value: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX: a\0b\r\n\r\n",
    no_colon: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX\r\n\r\n",
    an_empty_name: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\n: x\r\n\r\n",
    two_host_fields: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nHost: openrouter.ai\r\n\r\n",
    no_host_field: "GET / HTTP/1.1\r\nX: openrouter.ai\r\n\r\n",
    two_spaces_in_the_first_line: "GET  / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    another_version: "GET / HTTP/1.9\r\nHost: openrouter.ai\r\n\r\n",
    a_fragment: "GET /a#b HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    a_target_without_a_slash: "GET a HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
} }

/// What could be framed in two ways: refused in a tunnel and in absolute form, and nothing after it is read.
fn is_refused(request: &str) {
    let world = World::agreeable();
    let agent = world.agent();
    let mut conn = agent.open("openrouter.ai:443");
    conn.send(format!("{request}{SMUGGLED}"));
    let reply = conn.reply();
    assert_eq!(reply.status, 400, "{reply:?}");
    assert_eq!(conn.read_rest(), "", "one answer, then the end");
    audit_says(&world, "denied", "bad_request");
    let target = request.split([' ']).nth(1).unwrap_or_default();
    // To the proxy's own port the same in absolute form; what names no host there is another case.
    if target.starts_with('/') && request.contains("Host: openrouter.ai") {
        let request = request.replacen(" /", " http://openrouter.ai/", 1).replacen("Host:", "Proxy-Authorization: {auth}\r\nHost:", 1);
        let all = raw(&agent, &format!("{request}{SMUGGLED}"));
        assert!(all.starts_with("HTTP/1.1 400 ") && !all.contains("HTTP/1.1 2"), "{all}");
    }
    nothing_was_sent(&world);
    is_well(&world);
}

/// Chunked bodies that break off: what went before may have been sent, what follows is never a request.
#[test]
fn a_broken_chunk_ends_both_connections() {
    let world = World::agreeable();
    let agent = world.agent();
    let table = [
        ("a size that is no number", "g\r\nab\r\n0\r\n\r\n"),
        ("an 0x size", "0x2\r\nab\r\n0\r\n\r\n"),
        ("a negative size", "-2\r\nab\r\n0\r\n\r\n"),
        ("an empty size", "\r\n0\r\n\r\n"),
        ("a size beyond 64 bits", "10000000000000002\r\nab\r\n0\r\n\r\n"),
        ("a bare LF after the size", "2\nab\r\n0\r\n\r\n"),
        ("a bare CR in the extension", "2;a\rb\r\nab\r\n0\r\n\r\n"),
        ("data longer than its size", "2\r\nabc\r\n0\r\n\r\n"),
        ("no CR after the data", "2\r\nab\n0\r\n\r\n"),
        ("a folded trailer", "2\r\nab\r\n0\r\nX: a\r\n b\r\n\r\n"),
        ("a trailer without a colon", "2\r\nab\r\n0\r\nX\r\n\r\n"),
        ("a trailer that ends in a bare LF", "2\r\nab\r\n0\r\nX: a\n\r\n"),
    ];
    for (case, body) in table {
        let mut conn = agent.open("openrouter.ai:443");
        conn.send(format!("POST /broken HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}"));
        let reply = conn.reply();
        assert_eq!(reply.status, 400, "{case}: {reply:?}");
        assert_eq!(conn.read_rest(), "", "{case}: one answer, then the end");
        assert_eq!(agent.get("openrouter.ai", "/after").status, 200);
        assert_eq!(world.origin.last().target, "/after", "{case}: on a connection of its own");
    }
    assert!(!world.origin.recorded().iter().any(|r| r.target == "/smuggled"));
}

/// What is framed well goes on with exactly one framing, and the next request is the next request.
#[test]
fn odd_but_sound_requests_arrive_as_one_request_each() {
    let world = World::agreeable();
    let agent = world.agent();
    let table = [
        ("an empty body by length", "POST /1 HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 0\r\n\r\n", ""),
        ("leading zeros", "POST /2 HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 0003\r\n\r\nabc", "abc"),
        ("a GET with a body", "GET /3 HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 3\r\n\r\nabc", "abc"),
        ("chunked in capitals", "POST /4 HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"),
        (
            "extensions and zeros",
            "POST /5 HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\n\r\n0003;a=\"b;c\"\r\nabc\r\n000\r\n\r\n",
            "abc",
        ),
        (
            "Connection names the framing",
            "POST /6 HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: content-length, host\r\nContent-Length: 3\r\n\r\nabc",
            "abc",
        ),
        (
            "an Upgrade with a body",
            "GET /7 HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
            "abc",
        ),
        (
            "an Upgrade to h2c",
            "GET /8 HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n",
            "",
        ),
    ];
    for (case, request, body) in table {
        world.origin.forget();
        let mut conn = agent.open("openrouter.ai:443");
        conn.send(format!("{request}GET /next HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"));
        assert_eq!((conn.reply().status, conn.reply().status), (200, 200), "{case}");
        let got = world.origin.recorded();
        assert_eq!(got.len(), 2, "{case}: {got:?}");
        assert_eq!((got[0].body.as_slice(), got[1].target.as_str()), (body.as_bytes(), "/next"), "{case}");
        let framings = got[0].values("content-length").len() + got[0].values("transfer-encoding").len();
        assert_eq!(framings, usize::from(request.contains("Content-Length") || request.contains("Transfer-Encoding")), "{case}");
        for name in ["upgrade", "http2-settings", "connection", "proxy-authorization"] {
            assert!(got[0].values(name).is_empty(), "{case}: {name}");
        }
        assert_eq!(got[0].values("authorization"), [world.bearer()], "{case}");
    }
}

/// Fields that frame, route or authenticate do nothing in a trailer but confuse: they do not go on.
#[test]
fn trailers_cannot_say_what_only_a_head_may() {
    let world = World::agreeable();
    world.home.ok_with(&["credential", "add", "ruled", "--allow", "api.example.com", "--path", "/**"], &crate::support::fresh_key());
    let agent = world.agent();
    super::within(super::SECOND, "felt", || agent.open("api.example.com:443").intercepted().then_some(()));
    let bad = [
        "Host: evil.example",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Connection: close",
        "Authorization: Bearer own",
        "X_Api_Key: own",
        "Proxy-Authorization: Basic own",
        "X-HTTP-Method-Override: DELETE",
        "X-Key: sk-or-keyhatch-placeholder-ruled",
    ];
    for trailer in bad {
        let request =
            format!("POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n{trailer}\r\nX-Sum: 7\r\n\r\n");
        assert_eq!(agent.open("api.example.com:443").ask(request).status, 200, "{trailer}");
        let names: Vec<_> = world.origin.last().trailers.into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["x-sum"], "{trailer}");
    }
}

/// A request line, then nothing more, is no record and no harm; a head that is refused is recorded.
#[test]
fn what_is_refused_is_recorded_with_its_reason() {
    let world = World::agreeable();
    let agent = world.agent();
    agent.open("openrouter.ai:443").ask("GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX : 1\r\n\r\n").expect_own(400, "bad_request");
    let records = super::audited(&world.home, &["bad_request"]);
    assert_eq!((records[0]["host"].as_str(), records[0]["decision"].as_str()), (Some("openrouter.ai"), Some("denied")), "{records:?}");
    agent.open("openrouter.ai:443").get("evilopenrouter.ai", "/some/path?q=1").expect_own(421, "misdirected");
    let records = super::audited(&world.home, &["misdirected"]);
    assert_eq!((records[0]["agent"].as_str(), records[0]["path"].as_str()), (Some("default"), Some("/some/path")), "{records:?}");
    let mut stream = agent.dial();
    use std::io::Write as _;
    stream.write_all(b"CONNECT openrouter.ai:443 HTTP/1.1\r\n\r\n").unwrap();
    read_reply(&mut stream, Some("CONNECT")).unwrap().expect_own(407, "proxy_auth_required");
    let records = super::audited(&world.home, &["proxy_auth_required"]);
    assert_eq!((records[0]["decision"].as_str(), records[0]["agent"].is_null()), (Some("denied"), true), "{records:?}");
}

/// A client that does not take the leaf is worth a record: its person asks why nothing works. One that just goes away is not.
#[test]
fn a_handshake_that_fails_is_recorded_and_a_spare_tunnel_is_not() {
    use std::io::Write as _;
    let world = World::agreeable();
    let agent = world.agent();
    drop(agent.connect("openrouter.ai:443"));
    let (_, mut stream) = agent.connect("openrouter.ai:443");
    stream.write_all(&[22, 3, 1]).unwrap();
    drop(stream);
    // A client that trusts nobody of ours.
    let (_, mut stream) = agent.connect("api.openrouter.ai:443");
    let nobody = std::sync::Arc::new(
        rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth(),
    );
    let mut session = rustls::ClientConnection::new(nobody, "api.openrouter.ai".try_into().unwrap()).unwrap();
    while session.is_handshaking() && session.complete_io(&mut stream).is_ok() {}
    let _ = session.complete_io(&mut stream);
    drop(stream);
    let records = super::audited(&world.home, &["agent_tls"]);
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!((records[0]["host"].as_str(), records[0]["decision"].as_str()), (Some("api.openrouter.ai"), Some("failed")), "{records:?}");
    assert_eq!(world.origin.accepted(), 0);
}
