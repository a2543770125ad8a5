//! Names that are checked in one form and could be meant in another: CONNECT, SNI, `Host`, `:authority` and the request target.
//! Whatever disagrees is refused before anything is sent, or even dialled.

mod absolute;
mod hello;
mod http2;
mod inside;

use super::case::{audit_says, cases, is_well, nothing_was_sent, record_of};
use super::raw;
use crate::support::raw::{Reply, read_reply};
use crate::support::{Origin, World};

/// A request that names its host in two ways is 400 or 421, and nobody was dialled for it.
#[track_caller]
fn is_refused(world: &World, reply: &Reply) {
    let code = match reply.status {
        400 => "bad_request",
        421 => "misdirected",
        _ => panic!("neither 400 nor 421: {reply:?}"),
    };
    reply.expect_own(reply.status, code);
    let record = audit_says(world, "denied", code);
    assert_eq!((record["status"].as_u64(), record["upstream_addr"].is_null()), (Some(reply.status.into()), true), "{record}");
    nothing_was_sent(world);
    assert_eq!(world.origin.accepted(), 0, "nothing was dialled");
}

/// The one request that came is for this target at `openrouter.ai`, with the key, to that name's certificate.
#[track_caller]
fn came_with_the_key(world: &World, target: &str) {
    let got = world.origin.recorded();
    let [one] = got.as_slice() else { panic!("one request: {got:?}") };
    assert_eq!((one.target.as_str(), one.value("host").as_str()), (target, "openrouter.ai"));
    assert_eq!((one.values("authorization"), one.sni.as_deref()), (vec![world.bearer()], Some("openrouter.ai")));
    let record = record_of(world, "ok");
    assert_eq!((record["decision"].as_str(), record["host"].as_str(), record["port"].as_u64()), (Some("injected"), Some("openrouter.ai"), Some(443)));
}

cases! { is_read_as_the_host_that_it_is {
    connect_as_it_is: "openrouter.ai:443",
    connect_in_upper_case: "OPENROUTER.AI:443",
    connect_with_a_trailing_dot: "openrouter.ai.:443",
    connect_with_a_zero_before_the_port: "openrouter.ai:0443",
    connect_with_a_full_width_letter: "\u{ff4f}penrouter.ai:443",
    connect_with_an_ideographic_full_stop: "openrouter\u{3002}ai:443",
    connect_with_a_full_width_full_stop_at_the_end: "openrouter.ai\u{ff0e}:443",
    connect_with_a_kelvin_sign_elsewhere_in_the_name: "openrouter.a\u{2139}:443",
} }

/// A CONNECT target is either read as the host that it is, and then intercepted, or refused: never tunnelled past the rules.
fn is_read_as_the_host_that_it_is(target: &str) {
    let world = World::agreeable();
    let agent = world.agent();
    let (reply, stream) = agent.connect(target);
    assert_eq!(reply.status, 200, "{reply:?}");
    let mut conn = agent.handshake(stream, "openrouter.ai", true).unwrap();
    assert!(conn.intercepted());
    assert_eq!(conn.get("openrouter.ai", "/").status, 200);
    came_with_the_key(&world, "/");
    is_well(&world);
}

cases! { is_no_connect_target {
    connect_with_two_trailing_dots: "openrouter.ai..:443",
    connect_with_a_leading_dot: ".openrouter.ai:443",
    connect_with_a_user: "user@openrouter.ai:443",
    connect_with_a_user_and_a_password: "user:pass@openrouter.ai:443",
    connect_with_a_path: "openrouter.ai:443/",
    connect_with_a_query: "openrouter.ai:443?",
    connect_with_a_fragment: "openrouter.ai:443#",
    connect_with_a_scheme: "http://openrouter.ai:443",
    connect_with_a_name_in_brackets: "[openrouter.ai]:443",
    connect_with_an_escaped_dot: "openrouter%2eai:443",
    connect_with_an_escaped_nul: "openrouter.ai%00.evil.example:443",
    connect_with_a_signed_port: "openrouter.ai:+443",
    connect_with_a_port_that_wraps_to_443: "openrouter.ai:65979",
    connect_with_port_0: "openrouter.ai:0",
    connect_with_a_hexadecimal_port: "openrouter.ai:0x1bb",
    connect_with_a_full_width_port: "openrouter.ai:\u{ff14}\u{ff14}\u{ff13}",
    connect_with_two_ports: "openrouter.ai:443:443",
    connect_with_a_wildcard: "*.openrouter.ai:443",
    connect_without_a_port: "openrouter.ai",
    connect_with_an_empty_port: "openrouter.ai:",
    connect_without_a_host: ":443",
    connect_to_a_slash: "/",
    connect_with_a_backslash: "openrouter.ai\\:443",
    connect_with_a_comma: "openrouter.ai,evil.example:443",
    connect_with_a_label_that_is_too_long: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.openrouter.ai:443",
    connect_with_a_broken_a_label: "xn--\u{e4}.openrouter.ai:443",
    connect_with_a_zone: "[fe80::1%25lo]:443",
    connect_with_an_unbracketed_ipv6_address: "::1:443",
    connect_with_an_unclosed_bracket: "[::1:443",
    connect_with_a_number_too_large_for_an_address: "4294967296:443",
    connect_with_five_numbers: "1.2.3.4.5:443",
} }

fn is_no_connect_target(target: &str) {
    let world = World::agreeable();
    let (reply, _) = world.agent().connect(target);
    assert_eq!(reply.status, 400, "{reply:?}");
    is_refused(&world, &reply);
    is_well(&world);
}

cases! { is_the_address_that_it_means {
    loopback_in_hexadecimal_and_two_parts: "0x7f.1:443",
    loopback_in_octal: "0177.0.0.1:443",
    loopback_as_one_number: "2130706433:443",
    loopback_as_one_hexadecimal_number: "0x7f000001:443",
    loopback_with_a_trailing_dot: "127.0.0.1.:443",
    loopback_in_full_width_digits: "\u{ff11}\u{ff12}\u{ff17}.1:443",
    loopback_of_ipv6: "[::1]:443",
    loopback_of_ipv6_at_length: "[0:0:0:0:0:0:0:0001]:443",
    loopback_mapped_into_ipv6: "[::ffff:127.0.0.1]:443",
    loopback_mapped_into_ipv6_in_hexadecimal: "[::ffff:7f00:1]:443",
} }

/// No spelling of an address gets round the check of it.
fn is_the_address_that_it_means(target: &str) {
    let world = World::agreeable();
    let (reply, _) = world.agent().connect(target);
    assert_eq!(reply.status, 403, "{reply:?}");
    reply.expect_own(403, "private_address");
    let record = audit_says(&world, "denied", "private_address");
    assert!(["127.0.0.1", "::1", "::ffff:127.0.0.1"].contains(&record["host"].as_str().unwrap()), "in its one form: {record}");
    nothing_was_sent(&world);
    is_well(&world);
}

/// TRACE would have the origin send back what it got.
#[test]
fn trace_is_not_passed_on_by_any_way() {
    use std::io::Write as _;
    let world = World::with_origin(Origin::agreeable(&crate::support::world::HOSTS), crate::support::fresh_key());
    world.home.ok_with(&["credential", "add", "plain", "--allow", "example.net:80", "--allow-plaintext"], &crate::support::fresh_key());
    let agent = world.agent();
    super::within(super::SECOND, "felt", || {
        let reply =
            agent.absolute("GET http://example.net/ HTTP/1.1\r\nHost: example.net\r\nProxy-Authorization: {auth}\r\nConnection: close\r\n\r\n");
        (reply.status == 200 && !world.origin.last().values("authorization").is_empty()).then_some(())
    });
    world.origin.forget();
    let all = raw(&agent, "TRACE http://example.net/ HTTP/1.1\r\nHost: example.net\r\nProxy-Authorization: {auth}\r\nConnection: close\r\n\r\n");
    assert!(all.starts_with("HTTP/1.1 405 "), "{all}");
    let (_, mut stream) = agent.connect("example.net:80");
    stream.write_all(b"TRACE / HTTP/1.1\r\nHost: example.net\r\n\r\n").unwrap();
    read_reply(&mut stream, None).unwrap().expect_own(405, "method_denied");
    audit_says(&world, "denied", "method_denied");
    nothing_was_sent(&world);
    is_well(&world);
}
