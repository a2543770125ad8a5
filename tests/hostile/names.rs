//! Names that are checked in one form and could be meant in another: CONNECT, `Host` and the request target.

use super::raw;
use crate::support::raw::read_reply;
use crate::support::{Origin, World};

/// What a request inside a tunnel to `openrouter.ai:443` says, and the target that the origin gets, if it gets one.
const INSIDE: [(&str, &str, Option<&str>); 31] = [
    ("/x", "openrouter.ai", Some("/x")),
    ("/x", "OpenRouter.AI.", Some("/x")),
    ("/x", "openrouter.ai:443", Some("/x")),
    ("/x", "openrouter.ai:", Some("/x")),
    ("/x", "openrouter.ai:0443", Some("/x")),
    ("//evil.example/x", "openrouter.ai", Some("//evil.example/x")),
    ("https://openrouter.ai/x?y", "openrouter.ai", Some("/x?y")),
    ("HTTPS://OPENROUTER.AI:443/x", "openrouter.ai", Some("/x")),
    ("https://openrouter.ai", "openrouter.ai", Some("/")),
    ("https://openrouter.ai?y=1", "openrouter.ai", Some("/?y=1")),
    ("/x", "openrouter.ai:80", None),
    ("/x", "openrouter.ai:8443", None),
    ("/x", "openrouter.ai:443:443", None),
    ("/x", "openrouter.ai:65979", None),
    ("/x", "openrouter.ai..", None),
    ("/x", "user@openrouter.ai", None),
    ("/x", "openrouter.ai@evil.example", None),
    ("/x", "openrouter.ai, evil.example", None),
    ("/x", "openrouter.ai/evil.example", None),
    ("/x", "openrouter.ai#evil.example", None),
    ("/x", "openrouter%2eai", None),
    ("/x", "[openrouter.ai]", None),
    ("/x", "openrouter\u{3002}ai", None),
    ("/x", "127.0.0.1", None),
    ("/x", "", None),
    ("http://openrouter.ai/x", "openrouter.ai", None),
    ("https://openrouter.ai:8443/x", "openrouter.ai", None),
    ("https://evil.example/x", "openrouter.ai", None),
    ("https://user@openrouter.ai/x", "openrouter.ai", None),
    ("https://openrouter.ai@evil.example/x", "openrouter.ai", None),
    ("https://openrouter.ai/x", "evil.example", None),
];

#[test]
fn inside_a_tunnel_only_the_connect_host_gets_a_request_and_in_one_form() {
    let world = World::agreeable();
    let agent = world.agent();
    for (target, host, expected) in INSIDE {
        world.origin.forget();
        let reply = agent.open("openrouter.ai:443").ask(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let got = world.origin.recorded();
        match expected {
            Some(sent) => {
                assert_eq!(reply.status, 200, "{target} {host}: {reply:?}");
                assert_eq!((got[0].target.as_str(), got[0].value("host").as_str()), (sent, "openrouter.ai"), "{target} {host}");
                assert_eq!((got[0].values("authorization"), got[0].sni.as_deref()), (vec![world.bearer()], Some("openrouter.ai")), "{target} {host}");
            }
            None => {
                assert!(matches!(reply.status, 400 | 421), "{target} {host}: {reply:?}");
                assert!(got.is_empty(), "{target} {host}: {got:?}");
            }
        }
    }
}

/// A CONNECT target is either read as the host that it is, and then intercepted, or refused: never tunnelled past the rules.
#[test]
fn no_spelling_of_a_matched_host_is_tunnelled() {
    let world = World::agreeable();
    let agent = world.agent();
    let table = [
        ("openrouter.ai:443", true),
        ("OPENROUTER.AI:443", true),
        ("openrouter.ai.:443", true),
        ("openrouter.ai:0443", true),
        ("\u{ff4f}penrouter.ai:443", true),
        ("openrouter\u{3002}ai:443", true),
        ("openrouter.ai..:443", false),
        (".openrouter.ai:443", false),
        ("user@openrouter.ai:443", false),
        ("user:pass@openrouter.ai:443", false),
        ("openrouter.ai:443/", false),
        ("openrouter.ai:443?", false),
        ("http://openrouter.ai:443", false),
        ("[openrouter.ai]:443", false),
        ("openrouter%2eai:443", false),
        ("openrouter.ai%00.evil.example:443", false),
        ("openrouter.ai:+443", false),
        ("openrouter.ai:65979", false),
        ("openrouter.ai:443:443", false),
        ("*.openrouter.ai:443", false),
        ("openrouter.ai", false),
        (":443", false),
    ];
    for (target, read) in table {
        let (reply, stream) = agent.connect(target);
        if read {
            assert_eq!(reply.status, 200, "{target}: {reply:?}");
            let mut conn = agent.handshake(stream, "openrouter.ai", true).unwrap();
            assert!(conn.intercepted(), "{target}");
            assert_eq!(conn.get("openrouter.ai", "/").status, 200, "{target}");
            assert_eq!(world.origin.last().values("authorization"), [world.bearer()], "{target}");
        } else {
            assert_eq!(reply.status, 400, "{target}: {reply:?}");
        }
    }
}

#[test]
fn in_absolute_form_the_uri_and_host_must_agree() {
    let world = World::agreeable();
    let agent = world.agent();
    let table = [
        ("http://openrouter.ai/x", "openrouter.ai", Some("/x")),
        ("http://openrouter.ai:80/x", "OPENROUTER.AI.", Some("/x")),
        ("HTTP://openrouter.ai", "openrouter.ai:80", Some("/")),
        ("http://openrouter.ai?y=1", "openrouter.ai", Some("/?y=1")),
        ("http://openrouter.ai/x", "evil.example", None),
        ("http://openrouter.ai/x", "openrouter.ai:443", None),
        ("http://user:pass@openrouter.ai/x", "openrouter.ai", None),
        ("http://openrouter.ai@evil.example/x", "openrouter.ai", None),
        ("http://openrouter.ai:8443/x", "openrouter.ai", None),
        ("http:///x", "openrouter.ai", None),
        ("https://openrouter.ai/x", "evil.example", None),
        ("https://openrouter.ai/x", "openrouter.ai:80", None),
        ("https://openrouter.ai@evil.example/x", "openrouter.ai", None),
        ("ftp://openrouter.ai/x", "openrouter.ai", None),
        ("//openrouter.ai/x", "openrouter.ai", None),
        ("openrouter.ai/x", "openrouter.ai", None),
    ];
    for (uri, host, expected) in table {
        world.origin.forget();
        let all = raw(&agent, &format!("GET {uri} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: {{auth}}\r\nConnection: close\r\n\r\n"));
        let got = world.origin.recorded();
        match expected {
            Some(sent) => {
                assert!(all.starts_with("HTTP/1.1 200 "), "{uri}: {all}");
                assert_eq!((got[0].target.as_str(), got[0].value("host").as_str()), (sent, "openrouter.ai"), "{uri}");
                assert!(got[0].values("authorization").is_empty() && got[0].values("proxy-authorization").is_empty(), "{uri}: plain HTTP is bare");
            }
            None => {
                assert!(["400", "403", "421"].contains(&&all[9..12]), "{uri} {host}: {all}");
                assert!(got.is_empty(), "{uri} {host}: {got:?}");
            }
        }
    }
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
    assert!(world.origin.recorded().is_empty());
}
