//! Requests that two programs could frame in two ways, sent by an agent to smuggle one past the rules.

mod behind;
mod bodies;
mod large;

use std::io::Write as _;

use super::case::{audit_says, cases, is_well, nothing_was_sent, record_of};
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
    two_differing_lengths_far_apart: "POST / HTTP/1.1\r\nContent-Length: 0\r\nHost: openrouter.ai\r\nX: 1\r\ncontent-length: 5\r\n\r\n",
    a_length_in_full_width_digits: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: \u{ff15}\r\n\r\nabcde",
    a_length_with_a_fraction: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 5.0\r\n\r\nabcde",
    a_length_with_an_exponent: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 5e0\r\n\r\nabcde",
    a_length_with_a_space_inside: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 1 0\r\n\r\nabcde",
    a_quoted_length: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: \"5\"\r\n\r\nabcde",
    chunked_with_a_parameter: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    chunked_in_a_list_of_one: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
    chunked_twice_in_one_field: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    chunked_with_a_dotless_letter: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chun\u{212a}ed\r\n\r\n0\r\n\r\n",
    an_empty_transfer_encoding: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
    identity_as_a_transfer_encoding: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nabcde",
    a_vertical_tab_before_the_colon: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length\u{b}: 5\r\n\r\nabcde",
    a_nul_before_the_colon: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length\0: 5\r\n\r\nabcde",
    a_non_breaking_space_before_the_colon: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length\u{a0}: 5\r\n\r\nabcde",
    a_field_folded_by_a_tab: "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n",
    a_line_of_spaces: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\n  \r\n\r\n",
    a_bare_lf_in_the_first_line: "GET / HTTP/1.1\nHost: openrouter.ai\r\n\r\n",
    a_bare_lf_between_two_fields: "GET / HTTP/1.1\r\nHost: openrouter.ai\nX: a\r\n\r\n",
    a_bare_lf_as_the_blank_line: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\n\nGET /hidden HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    a_bare_cr_in_the_first_line: "GET /\rx HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    a_bare_cr_as_a_line_end: "GET / HTTP/1.1\rHost: openrouter.ai\r\n\r\n",
    a_bare_cr_in_a_name: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX\rY: a\r\n\r\n",
    two_crs_at_the_end_of_a_line: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\r\nX: a\r\n\r\n",
    a_nul_in_the_first_line: "GET /\0 HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    a_nul_in_a_name: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX\0: a\r\n\r\n",
    an_escape_in_a_value: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX: \u{1b}[31m\r\n\r\n",
    a_backspace_in_a_value: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX: a\u{8}b\r\n\r\n",
    a_vertical_tab_in_a_value: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX: a\u{b}b\r\n\r\n",
    a_form_feed_in_a_value: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX: a\u{c}b\r\n\r\n",
    a_delete_in_a_value: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX: a\u{7f}b\r\n\r\n",
    a_delete_in_a_name: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX\u{7f}: a\r\n\r\n",
    a_delete_in_the_target: "GET /\u{7f} HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    a_letter_beyond_ascii_in_a_name: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX\u{e9}: a\r\n\r\n",
    a_letter_beyond_ascii_in_the_method: "G\u{c9}T / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    a_bracket_in_a_name: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX[0]: a\r\n\r\n",
    a_space_in_a_name: "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX Y: a\r\n\r\n",
    a_version_of_http_2: "GET / HTTP/2.0\r\nHost: openrouter.ai\r\n\r\n",
    a_version_of_http_0_9: "GET / HTTP/0.9\r\nHost: openrouter.ai\r\n\r\n",
    a_version_in_lower_case: "GET / http/1.1\r\nHost: openrouter.ai\r\n\r\n",
    a_version_with_a_zero_before: "GET / HTTP/01.1\r\nHost: openrouter.ai\r\n\r\n",
    a_version_with_a_zero_behind: "GET / HTTP/1.10\r\nHost: openrouter.ai\r\n\r\n",
    a_version_of_another_protocol: "GET / ICAP/1.0\r\nHost: openrouter.ai\r\n\r\n",
    no_version: "GET /\r\nHost: openrouter.ai\r\n\r\n",
    a_space_behind_the_version: "GET / HTTP/1.1 \r\nHost: openrouter.ai\r\n\r\n",
    a_tab_in_the_first_line: "GET\t/ HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    two_spaces_before_the_version: "GET /  HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    a_space_before_the_method: " GET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    a_space_in_the_target: "GET /a b HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    no_method: " / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    a_method_that_is_no_token: "G(ET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    a_method_with_a_colon: "GET: / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    two_empty_lines_first: "\r\n\r\nGET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    a_bare_lf_first: "\nGET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    a_preface_of_http_2: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    an_asterisk_for_get: "GET * HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    an_empty_target: "GET  HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
    a_field_before_the_first_line: "Host: openrouter.ai\r\nGET / HTTP/1.1\r\n\r\n",
    http_0_9: "GET /\r\n\r\n",
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

cases! { is_refused_by_the_listener {
    connect_with_a_length: "CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\n{proof}Content-Length: 5\r\n\r\nabcde",
    connect_with_chunks: "CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\n{proof}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    connect_with_a_length_and_chunks: "CONNECT openrouter.ai:443 HTTP/1.1\r\n{proof}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    connect_with_two_hosts: "CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\nHost: openrouter.ai:443\r\n{proof}\r\n",
    connect_with_a_folded_field: "CONNECT openrouter.ai:443 HTTP/1.1\r\n{proof}X: a\r\n b\r\n\r\n",
    connect_with_a_bare_lf: "CONNECT openrouter.ai:443 HTTP/1.1\n{proof}\r\n",
    connect_in_http_2_0: "CONNECT openrouter.ai:443 HTTP/2.0\r\n{proof}\r\n",
    connect_without_a_target: "CONNECT  HTTP/1.1\r\n{proof}\r\n",
    connect_in_lower_case: "connect openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\n{proof}\r\n",
    connect_to_a_name_that_is_none: "CONNECT openrouter..ai:443 HTTP/1.1\r\nHost: openrouter..ai:443\r\n{proof}\r\n",
    the_first_line_alone: "GET http://openrouter.ai/\r\n\r\n",
    options_of_the_proxy: "OPTIONS * HTTP/1.1\r\nHost: openrouter.ai\r\n{proof}\r\n",
} }

/// To the listener, with bytes behind it that would be a request, or what a tunnel begins with: answered, closed, never read.
fn is_refused_by_the_listener(request: &str) {
    let world = World::agreeable();
    let request = request.replace("{proof}", "Proxy-Authorization: {auth}\r\n");
    let smuggled = "GET http://openrouter.ai/smuggled HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {auth}\r\n\r\n";
    let all = raw(&world.agent(), &format!("{request}{smuggled}"));
    assert!(all.starts_with("HTTP/1.1 400 ") && all.lines().filter(|line| line.starts_with("HTTP/1.1 ")).count() == 1, "{all}");
    assert!(all.to_ascii_lowercase().contains("connection: close\r\n"), "{all}");
    audit_says(&world, "denied", "bad_request");
    nothing_was_sent(&world);
    assert_eq!(world.origin.accepted(), 0);
    is_well(&world);
}

cases! { is_recorded_with_its_reason {
    a_refused_head_is_recorded: ("GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX : 1\r\n\r\n", 400, "bad_request", ""),
    another_host_is_recorded_with_the_path: ("GET /some/path?q=1 HTTP/1.1\r\nHost: evilopenrouter.ai\r\n\r\n", 421, "misdirected", "/some/path"),
    trace_is_recorded_with_the_path: ("TRACE /some/path HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n", 405, "method_denied", "/some/path"),
    connect_inside_is_recorded: ("CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\n\r\n", 405, "method_denied", ""),
} }

fn is_recorded_with_its_reason((request, status, code, path): (&str, u16, &str, &str)) {
    let world = World::agreeable();
    world.agent().open("openrouter.ai:443").ask(request).expect_own(status, code);
    let record = audit_says(&world, "denied", code);
    let said = (record["agent"].as_str(), record["host"].as_str(), record["path"].as_str(), record["status"].as_u64());
    assert_eq!(said, (Some("default"), Some("openrouter.ai"), Some(path), Some(status.into())), "{record}");
    nothing_was_sent(&world);
    is_well(&world);
}

/// A CONNECT without proof is recorded, with no agent's name.
#[test]
fn who_proves_nothing_is_recorded_without_a_name() {
    let world = World::agreeable();
    let mut stream = world.agent().dial();
    stream.write_all(b"CONNECT openrouter.ai:443 HTTP/1.1\r\n\r\n").unwrap();
    read_reply(&mut stream, Some("CONNECT")).unwrap().expect_own(407, "proxy_auth_required");
    let record = audit_says(&world, "denied", "proxy_auth_required");
    assert!(record["agent"].is_null(), "{record}");
    nothing_was_sent(&world);
    is_well(&world);
}

/// A client that does not take the leaf is worth a record: its person asks why nothing works. One that just goes away is not.
#[test]
fn a_handshake_that_fails_is_recorded_and_a_spare_tunnel_is_not() {
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
    is_well(&world);
}
