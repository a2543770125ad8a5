//! Requests over HTTP/2, which name their host in `:authority`, in `Host`, or in both.

use super::{audit_says, came_with_the_key, cases, is_well, nothing_was_sent, record_of};
use crate::hostile::framed::{Ended, Framed, get};
use crate::support::World;

type Fields = &'static [(&'static str, &'static str)];

cases! { goes_to_the_connect_host {
    authority_alone: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x")],
    authority_in_upper_case_with_a_trailing_dot: &[(":method", "GET"), (":scheme", "https"), (":authority", "OpenRouter.AI."), (":path", "/x")],
    authority_with_the_port: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai:443"), (":path", "/x")],
    host_alone: &[(":method", "GET"), (":scheme", "https"), (":path", "/x"), ("host", "openrouter.ai")],
    authority_and_host_that_agree: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("host", "OPENROUTER.AI:0443")],
} }

fn goes_to_the_connect_host(fields: Fields) {
    let world = World::agreeable();
    let mut framed = Framed::in_tunnel(&world, "openrouter.ai");
    framed.send(&get(1, fields));
    let Ended::Answered(_, body) = framed.ended(1) else { panic!("no answer") };
    assert_eq!(body, "{\"ok\":true}");
    came_with_the_key(&world, "/x");
    is_well(&world);
}

cases! { names_another_host {
    authority_of_another_host: &[(":method", "GET"), (":scheme", "https"), (":authority", "evil.example"), (":path", "/x")],
    authority_of_another_host_of_the_credential: &[(":method", "GET"), (":scheme", "https"), (":authority", "api.openrouter.ai"), (":path", "/x")],
    authority_at_port_80: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai:80"), (":path", "/x")],
    authority_at_port_8443: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai:8443"), (":path", "/x")],
    authority_at_a_port_that_wraps_to_443: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai:65979"), (":path", "/x")],
    authority_with_a_user: &[(":method", "GET"), (":scheme", "https"), (":authority", "user@openrouter.ai"), (":path", "/x")],
    authority_with_a_user_that_is_the_host: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai@evil.example"), (":path", "/x")],
    authority_with_two_trailing_dots: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai.."), (":path", "/x")],
    authority_that_is_an_address: &[(":method", "GET"), (":scheme", "https"), (":authority", "0x7f.1"), (":path", "/x")],
    authority_and_another_host: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("host", "evil.example")],
    authority_and_the_host_at_another_port: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("host", "openrouter.ai:80")],
    authority_of_another_host_and_the_host: &[(":method", "GET"), (":scheme", "https"), (":authority", "evil.example"), (":path", "/x"), ("host", "openrouter.ai")],
    authority_and_an_empty_host: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("host", "")],
    authority_and_a_host_with_a_space: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("host", " openrouter.ai")],
    authority_and_two_hosts: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("host", "openrouter.ai"), ("host", "openrouter.ai")],
    two_hosts_alone: &[(":method", "GET"), (":scheme", "https"), (":path", "/x"), ("host", "openrouter.ai"), ("host", "evil.example")],
    another_host_alone: &[(":method", "GET"), (":scheme", "https"), (":path", "/x"), ("host", "evil.example")],
    no_name_at_all: &[(":method", "GET"), (":scheme", "https"), (":path", "/x")],
    scheme_http_in_tls: &[(":method", "GET"), (":scheme", "http"), (":authority", "openrouter.ai"), (":path", "/x")],
    scheme_ftp: &[(":method", "GET"), (":scheme", "ftp"), (":authority", "openrouter.ai"), (":path", "/x")],
    scheme_wss: &[(":method", "GET"), (":scheme", "wss"), (":authority", "openrouter.ai"), (":path", "/x")],
} }

/// Refused by us, with a code and a record. A request before it on the same connection is served, one after it as well: names are
/// asked about each time.
fn names_another_host(fields: Fields) {
    let world = World::agreeable();
    let mut framed = Framed::in_tunnel(&world, "openrouter.ai");
    framed.send(&get(1, fields));
    let Ended::Answered(_, body) = framed.ended(1) else { panic!("no answer of ours") };
    let code = if body.contains("\"code\":\"misdirected\"") { "misdirected" } else { "bad_request" };
    assert!(body.contains(&format!("\"code\":\"{code}\"")), "{body}");
    let record = audit_says(&world, "denied", code);
    assert_eq!(record["status"].as_u64(), Some(if code == "misdirected" { 421 } else { 400 }), "{record}");
    nothing_was_sent(&world);
    assert_eq!(world.origin.accepted(), 0, "nothing was dialled");
    framed.send(&get(3, &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/own")]));
    assert!(matches!(framed.ended(3), Ended::Answered(_, body) if body == "{\"ok\":true}"));
    came_with_the_key(&world, "/own");
    is_well(&world);
}

cases! { is_no_request {
    authority_with_a_space: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai evil.example"), (":path", "/x")],
    authority_with_an_escaped_dot: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter%2eai"), (":path", "/x")],
    authority_with_a_path: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai/evil"), (":path", "/x")],
    authority_with_a_line_break: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai\r\nx: y"), (":path", "/x")],
    authority_in_utf_8: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter\u{3002}ai"), (":path", "/x")],
    authority_twice: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":authority", "openrouter.ai"), (":path", "/x")],
    a_path_that_is_a_uri: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "https://evil.example/x")],
    a_path_without_a_slash: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "x")],
    a_path_that_is_an_authority: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "evil.example:443")],
    an_asterisk_for_get: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "*")],
    an_empty_path: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "")],
    no_path: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai")],
} }

/// Refused by us, or by the HTTP/2 library before us.
fn is_no_request(fields: Fields) {
    let world = World::agreeable();
    let mut framed = Framed::in_tunnel(&world, "openrouter.ai");
    framed.send(&get(1, fields));
    match framed.ended(1) {
        Ended::Answered(_, body) => assert!(body.contains("\"code\":\"bad_request\""), "{body}"),
        Ended::Reset(code) => assert_eq!(code, 1, "PROTOCOL_ERROR"),
        ended => panic!("{ended:?}"),
    }
    let record = audit_says(&world, "denied", "bad_request");
    assert_eq!((record["agent"].as_str(), record["host"].as_str()), (Some("default"), Some("openrouter.ai")), "{record}");
    nothing_was_sent(&world);
    assert_eq!(world.origin.accepted(), 0, "nothing was dialled");
    is_well(&world);
}

cases! { in_plaintext_it_names_another {
    plaintext_authority_without_the_port_of_the_tunnel: &[(":method", "GET"), (":scheme", "http"), (":authority", "openrouter.ai"), (":path", "/x")],
    plaintext_scheme_https: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai:443"), (":path", "/x")],
    plaintext_another_authority: &[(":method", "GET"), (":scheme", "http"), (":authority", "evil.example:443"), (":path", "/x")],
    plaintext_another_host: &[(":method", "GET"), (":scheme", "http"), (":authority", "openrouter.ai:443"), (":path", "/x"), ("host", "api.openrouter.ai:443")],
} }

/// HTTP/2 by prior knowledge in a tunnel to `openrouter.ai:443`.
fn in_plaintext_it_names_another(fields: Fields) {
    let world = World::agreeable();
    let mut framed = Framed::in_plain_tunnel(&world, "openrouter.ai:443");
    framed.send(&get(1, fields));
    let Ended::Answered(_, body) = framed.ended(1) else { panic!("no answer of ours") };
    assert!(body.contains("\"code\":\"misdirected\""), "{body}");
    audit_says(&world, "denied", "misdirected");
    nothing_was_sent(&world);
    assert_eq!(world.origin.accepted(), 0, "nothing was dialled");
    is_well(&world);
}

cases! { to_the_listener_it_names_two {
    listener_authority_and_another_host: &[(":method", "GET"), (":scheme", "http"), (":authority", "openrouter.ai"), (":path", "/x"), ("host", "evil.example")],
    listener_authority_and_two_hosts: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("host", "openrouter.ai"), ("host", "openrouter.ai")],
    listener_authority_in_https_and_a_host_at_80: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", "/x"), ("host", "openrouter.ai:80")],
    listener_authority_with_a_user: &[(":method", "GET"), (":scheme", "https"), (":authority", "user@openrouter.ai"), (":path", "/x")],
    listener_host_alone: &[(":method", "GET"), (":scheme", "https"), (":path", "/x"), ("host", "openrouter.ai")],
    listener_scheme_ftp: &[(":method", "GET"), (":scheme", "ftp"), (":authority", "openrouter.ai"), (":path", "/x")],
    listener_an_authority_that_is_no_name: &[(":method", "GET"), (":scheme", "https"), (":authority", "openrouter..ai"), (":path", "/x")],
    listener_connect_to_no_name: &[(":method", "CONNECT"), (":authority", "openrouter..ai:443")],
    listener_connect_without_a_port: &[(":method", "CONNECT"), (":authority", "openrouter.ai")],
    listener_connect_with_a_user: &[(":method", "CONNECT"), (":authority", "user@openrouter.ai:443")],
    listener_connect_to_a_port_that_wraps_to_443: &[(":method", "CONNECT"), (":authority", "openrouter.ai:65979")],
} }

/// To the listener itself each request names its own authority, in one way.
fn to_the_listener_it_names_two(fields: Fields) {
    let world = World::agreeable();
    let agent = world.agent();
    let mut framed = Framed::to_listener(&agent);
    let fields = [fields, &[("proxy-authorization", agent.authorization.as_str())]].concat();
    framed.send(&get(1, &fields));
    let Ended::Answered(_, body) = framed.ended(1) else { panic!("no answer of ours") };
    let code = if body.contains("\"code\":\"misdirected\"") { "misdirected" } else { "bad_request" };
    assert!(body.contains(&format!("\"code\":\"{code}\"")), "{body}");
    audit_says(&world, "denied", code);
    nothing_was_sent(&world);
    assert_eq!(world.origin.accepted(), 0, "nothing was dialled");
    is_well(&world);
}

/// What agrees goes to the authority that each request names, side by side on one connection, each with its own decision.
#[test]
fn listener_requests_of_one_connection_are_decided_on_by_their_own_names() {
    let world = World::agreeable();
    let agent = world.agent();
    let mut framed = Framed::to_listener(&agent);
    for (stream, host) in [(1, "openrouter.ai"), (3, "example.net"), (5, "api.openrouter.ai")] {
        let proof = agent.authorization.as_str();
        framed.send(&get(stream, &[(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", "/x"), ("proxy-authorization", proof)]));
        assert!(matches!(framed.ended(stream), Ended::Answered(_, body) if body == "{\"ok\":true}"), "{host}");
        let got = world.origin.last();
        assert_eq!((got.value("host").as_str(), got.sni.as_deref()), (host, Some(host)));
        assert_eq!(got.values("authorization").len(), usize::from(host != "example.net"), "{host}");
        assert!(got.values("proxy-authorization").is_empty());
    }
    assert_eq!(record_of(&world, "ok")["decision"].as_str(), Some("injected"));
    is_well(&world);
}
