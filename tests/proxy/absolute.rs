//! `https://` in absolute form, as some libraries send it to a proxy: carried like a request inside an intercepted tunnel, and
//! without a credential only over verified TLS.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use crate::support::raw::{Reply, read_reply};
use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Home, Origin, Serve, World, fresh_key, within};

/// `GET` of a URI with that `Host`, on a connection of its own.
fn get(agent: &Agent, uri: &str, host: &str) -> Reply {
    agent.absolute(&format!("GET {uri} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer agents-own\r\nProxy-Authorization: {{auth}}\r\n\r\n"))
}

#[test]
fn a_covered_host_gets_the_key_over_tls() {
    let world = World::new();
    let agent = world.agent();
    for (uri, host) in [
        ("https://openrouter.ai/api/v1/models?x=%20", "openrouter.ai"),
        ("https://OpenRouter.AI.:443/api/v1/models?x=%20", "openrouter.ai"),
        ("HTTPS://openrouter.ai:/api/v1/models?x=%20", "openrouter.ai:443"),
    ] {
        let reply = get(&agent, uri, host);
        assert_eq!(reply.status, 200, "{uri}: {reply:?}");
        let got = world.origin.last();
        assert_eq!((got.tls, got.sni.as_deref(), got.target.as_str()), (true, Some("openrouter.ai"), "/api/v1/models?x=%20"), "{uri}");
        assert_eq!(got.values("authorization"), [world.bearer()], "{uri}");
        assert_eq!(got.value("host"), "openrouter.ai", "{uri}");
        assert!(got.values("proxy-authorization").is_empty(), "{uri}");
    }
    // HTTP/1.0 needs no Host.
    let reply = agent.absolute("GET https://openrouter.ai HTTP/1.0\r\nProxy-Authorization: {auth}\r\n\r\n");
    assert_eq!((reply.status, world.origin.last().target.as_str()), (200, "/"), "{reply:?}");
}

#[test]
fn one_connection_carries_requests_to_several_hosts_and_schemes() {
    let world = World::agreeable();
    let agent = world.agent();
    let mut stream = agent.dial();
    let uris =
        ["https://openrouter.ai/1", "http://openrouter.ai/2", "https://example.net/3", "https://api.openrouter.ai/4", "https://openrouter.ai/5"];
    for uri in uris {
        let host = uri.split('/').nth(2).unwrap();
        let head = format!("POST {uri} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\nProxy-Authorization: {}\r\n\r\nab", agent.authorization);
        stream.write_all(head.as_bytes()).unwrap();
        assert_eq!(read_reply(&mut stream, None).unwrap().status, 200, "{uri}");
        let got = world.origin.last();
        assert_eq!((got.tls, got.value("host").as_str(), got.body.as_slice()), (uri.starts_with("https"), host, &b"ab"[..]), "{uri}");
        let keyed = got.tls && host.ends_with("openrouter.ai");
        assert_eq!(got.values("authorization").len(), usize::from(keyed), "{uri}");
    }
}

#[test]
fn who_proves_nothing_may_try_again_on_the_same_connection() {
    let world = World::new();
    let agent = world.agent();
    let mut stream = agent.dial();
    let head = "GET https://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\n";
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    read_reply(&mut stream, None).unwrap().expect_own(407, "proxy_auth_required");
    stream.write_all(format!("{head}Proxy-Authorization: {}\r\n\r\n", agent.authorization).as_bytes()).unwrap();
    assert_eq!(read_reply(&mut stream, None).unwrap().status, 200);
}

#[test]
fn a_host_without_a_credential_is_reached_over_verified_tls_with_the_agents_own() {
    let world = World::agreeable();
    world.home.ok(&["agent", "add", "stranger"]);
    let stranger = within(Duration::from_secs(1), "the new agent is known", || {
        let said = world.home.say(&["env", "--agent", "stranger", "--format", "json"], "");
        (said.code == 0).then(|| Agent::named(&world.home, &world.serve, "stranger"))
    });
    for (agent, host, reason) in [(&world.agent(), "example.net", "ok"), (&stranger, "openrouter.ai", "not_granted")] {
        assert_eq!(get(agent, &format!("https://{host}/plain"), host).status, 200);
        let got = world.origin.last();
        assert_eq!((got.tls, got.values("authorization")), (true, vec!["Bearer agents-own".to_owned()]), "{host}");
        let record = within(Duration::from_secs(5), "the record", || {
            let log = std::fs::read_to_string(world.home.path().join("audit.jsonl")).unwrap_or_default();
            log.lines().rfind(|l| l.contains("/plain") && l.contains(host)).map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
        });
        assert_eq!((record["decision"].as_str(), record["reason"].as_str()), (Some("forwarded"), Some(reason)), "{record}");
    }
}

#[test]
fn egress_decides_as_for_a_connect() {
    let more = "[egress]\ndeny_hosts = [\"api.example.com\"]\nallow_hosts = [\"example.net\"]\ndefault = \"deny\"\n";
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), more);
    world.home.add_key("other", &["api.example.com"], &fresh_key());
    let agent = world.agent();
    get(&agent, "https://api.example.com/", "api.example.com").expect_own(403, "egress_denied");
    get(&agent, "https://evilopenrouter.ai/", "evilopenrouter.ai").expect_own(403, "egress_denied");
    get(&agent, "https://example.net:8443/", "example.net:8443").expect_own(403, "port_denied");
    get(&agent, "https://openrouter.ai:8443/", "openrouter.ai:8443").expect_own(403, "egress_denied");
    assert!(world.origin.recorded().is_empty(), "{:?}", world.origin.recorded());
    assert_eq!(get(&agent, "https://example.net/", "example.net").status, 200);
    assert_eq!(get(&agent, "https://openrouter.ai/", "openrouter.ai").status, 200);
}

#[test]
fn a_pattern_with_a_port_covers_that_port_alone() {
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), "[egress]\nports = [443, 8443]\n");
    let key = fresh_key();
    world.home.add_key("other", &["example.net:8443"], &key);
    let agent = world.agent();
    within(Duration::from_secs(1), "felt", || {
        assert_eq!(get(&agent, "https://example.net:8443/", "example.net:8443").status, 200);
        (world.origin.last().values("authorization") == [format!("Bearer {key}")]).then_some(())
    });
    assert_eq!(world.origin.last().value("host"), "example.net:8443");
    for (host, at) in [("example.net", "example.net"), ("openrouter.ai:8443", "openrouter.ai:8443")] {
        assert_eq!(get(&agent, &format!("https://{at}/"), host).status, 200);
        assert_eq!(world.origin.last().values("authorization"), ["Bearer agents-own"], "{at}");
    }
}

#[test]
fn a_host_field_or_a_scheme_that_does_not_fit_sends_nothing() {
    let world = World::agreeable();
    let agent = world.agent();
    for host in ["example.net", "openrouter.ai:80", "openrouter.ai:8443", "openrouter.ai@example.net"] {
        get(&agent, "https://openrouter.ai/", host).expect_own(421, "misdirected");
    }
    get(&agent, "ftp://openrouter.ai/", "openrouter.ai").expect_own(400, "bad_request");
    get(&agent, "https://u:p@openrouter.ai/", "openrouter.ai").expect_own(400, "bad_request");
    agent
        .absolute("TRACE https://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {auth}\r\n\r\n")
        .expect_own(405, "method_denied");
    world.home.ok(&["credential", "disable", "real"]);
    within(Duration::from_secs(1), "felt", || {
        let reply = get(&agent, "https://openrouter.ai/disabled", "openrouter.ai");
        (reply.status == 503).then(|| reply.expect_own(503, "credential_unavailable"))
    });
    assert!(!world.origin.recorded().iter().any(|r| r.target == "/"), "{:?}", world.origin.recorded());
}

#[test]
fn it_is_never_sent_in_plaintext() {
    // One that never saw TLS, and one whose certificate is for another name.
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = Origin::agreeable(&["example.net"]);
    let home = Home::bare("");
    let mut text = configuration(&home, &other, "");
    text = text
        .replace(&format!("\"example.net:443\" = \"{}\"", other.address()), &format!("\"example.net:443\" = \"{}\"", plain.local_addr().unwrap()));
    home.configure(&text);
    home.ok(&["init"]);
    home.add_key("real", &["openrouter.ai"], &fresh_key());
    let serve = Serve::start(&home);
    let agent = Agent::new(&home, &serve);
    get(&agent, "https://openrouter.ai/", "openrouter.ai").expect_own(502, "tls_error");
    get(&agent, "https://api.example.com/", "api.example.com").expect_own(502, "tls_error");
    assert!(other.recorded().is_empty());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = plain.accept().unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").unwrap();
        first[0]
    });
    get(&agent, "https://example.net/", "example.net").expect_own(502, "tls_error");
    assert_eq!(answering.join().unwrap(), 22, "a TLS handshake record");
}

#[test]
fn a_websocket_may_be_asked_for_in_absolute_form() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")?;
        let mut buffer = [0; 1024];
        loop {
            match exchange.read(&mut buffer)? {
                0 => return Ok(()),
                got => exchange.write(&buffer[..got])?,
            }
        }
    });
    let world = World::with_origin(origin, fresh_key());
    let agent = world.agent();
    for (uri, tls) in
        [("https://openrouter.ai/ws", true), ("wss://openrouter.ai/ws", true), ("http://openrouter.ai/ws", false), ("ws://openrouter.ai/ws", false)]
    {
        let mut stream = agent.dial();
        let head = format!(
            "GET {uri} HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            agent.authorization
        );
        stream.write_all(head.as_bytes()).unwrap();
        assert_eq!(read_reply(&mut stream, None).unwrap().status, 101, "{uri}");
        stream.write_all(b"ping").unwrap();
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"ping", "{uri}");
        let got = world.origin.last();
        assert_eq!((got.tls, got.target.as_str(), got.values("authorization").len()), (tls, "/ws", usize::from(tls)), "{uri}");
    }
}
