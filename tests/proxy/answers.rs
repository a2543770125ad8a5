//! The answers: the proxy's own, and the origin's as they are (CONTRACT 5).

use std::io::Write as _;
use std::net::TcpListener;

use crate::support::raw::read_reply;
use crate::support::world::HOSTS;
use crate::support::{Agent, Home, Origin, Serve, World, fresh_key};

#[test]
fn without_proof_of_identity_it_is_407_and_the_connection_stays_for_another_try() {
    let world = World::new();
    let agent = world.agent();
    let mut stream = agent.dial();
    for wrong in
        ["", "Proxy-Authorization: Basic ZGVmYXVsdDp3cm9uZw==\r\n", "Proxy-Authorization: Bearer kha_wrong\r\n", "Proxy-Authorization: Digest x\r\n"]
    {
        stream.write_all(format!("CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\n{wrong}\r\n").as_bytes()).unwrap();
        let reply = read_reply(&mut stream, Some("CONNECT")).unwrap();
        reply.expect_own(407, "proxy_auth_required");
        assert_eq!(reply.values("proxy-authenticate"), ["Basic realm=\"keyhatch\""]);
    }
    let head = format!("CONNECT openrouter.ai:443 HTTP/1.1\r\nProxy-Authorization: {}\r\n\r\n", agent.authorization);
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_reply(&mut stream, Some("CONNECT")).unwrap().status, 200);
    let mut conn = agent.handshake(stream, "openrouter.ai", true).unwrap();
    assert_eq!(conn.get("openrouter.ai", "/").status, 200);
}

#[test]
fn an_agents_own_token_serves_as_basic_and_as_bearer() {
    use base64::Engine as _;
    let world = World::new();
    let said = world.home.say(&["agent", "rotate", "default"], "");
    let token = said.stdout.trim_end().to_owned();
    assert!(said.code == 0 && token.starts_with("kha_") && token.len() == 47 && said.stdout.lines().count() == 1, "alone on stdout: {said:?}");
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("default:{token}"));
    let other = base64::engine::general_purpose::STANDARD.encode(format!("somebody:{token}"));
    let status = |value: &str| {
        let mut stream = std::net::TcpStream::connect(world.serve.proxy()).unwrap();
        stream.write_all(format!("CONNECT openrouter.ai:443 HTTP/1.1\r\nProxy-Authorization: {value}\r\n\r\n").as_bytes()).unwrap();
        read_reply(&mut stream, Some("CONNECT")).unwrap().status
    };
    crate::support::within(std::time::Duration::from_secs(1), "the new token is known", || (status(&format!("Basic {basic}")) == 200).then_some(()));
    assert_eq!(status(&format!("Bearer {token}")), 200);
    assert_eq!(status(&format!("basic {basic}")), 200, "the scheme's name has no case (RFC 9110 11.1)");
    assert_eq!(status(&format!("Basic {other}")), 407, "the name must be the token's");
    assert_eq!(status(&format!("Bearer {}x", &token[..46])), 407);
    let old = world.serve.env["HTTPS_PROXY"].clone();
    assert_eq!(status(&Agent::from_url(&world.home, &world.serve, &old).authorization), 407, "session tokens die with the rotation");
}

#[test]
fn requests_that_are_for_no_proxy_or_no_request_are_refused() {
    let world = World::new();
    let table: [(&str, u16); 11] = [
        ("GET / HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {auth}\r\n\r\n", 400),
        ("GET ftp://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {auth}\r\n\r\n", 400),
        ("CONNECT openrouter.ai HTTP/1.1\r\nProxy-Authorization: {auth}\r\n\r\n", 400),
        ("CONNECT openrouter.ai:0 HTTP/1.1\r\nProxy-Authorization: {auth}\r\n\r\n", 400),
        ("CONNECT openrouter.ai:99999 HTTP/1.1\r\nProxy-Authorization: {auth}\r\n\r\n", 400),
        ("CONNECT open router.ai:443 HTTP/1.1\r\nProxy-Authorization: {auth}\r\n\r\n", 400),
        ("GET http://openrouter.ai/ HTTP/1.1\r\nProxy-Authorization: {auth}\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (
            "POST http://openrouter.ai/ HTTP/1.1\r\nProxy-Authorization: {auth}\r\nHost: openrouter.ai\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("GET http://openrouter.ai/ HTTP/1.1\nHost: openrouter.ai\nProxy-Authorization: {auth}\n\n", 400),
        ("GET http://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {auth}\r\nX : 1\r\n\r\n", 400),
        ("GET http://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {auth}\r\nX: 1\r\n folded\r\n\r\n", 400),
    ];
    for (head, status) in table {
        assert_eq!(world.agent().absolute(head).status, status, "{head}");
    }
    let long = format!(
        "GET http://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {{auth}}\r\nX-Long: {}\r\n\r\n",
        "a".repeat(70 << 10)
    );
    assert_eq!(world.agent().absolute(&long).status, 431);
    assert!(world.origin.recorded().is_empty());
}

#[test]
fn inside_a_tunnel_another_authority_is_misdirected() {
    let world = World::new();
    let agent = world.agent();
    for host in ["evilopenrouter.ai", "api.openrouter.ai", "openrouter.ai:8443", "openrouter.ai.", "OPENROUTER.AI", "openrouter.ai:443"] {
        let same = matches!(host, "openrouter.ai." | "OPENROUTER.AI" | "openrouter.ai:443");
        let reply = agent.open("openrouter.ai:443").get(host, "/");
        if same {
            assert_eq!(reply.status, 200, "{host}: {reply:?}");
        } else {
            reply.expect_own(421, "misdirected");
        }
    }
    let before = world.origin.recorded().len();
    let request = "GET https://evilopenrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n";
    assert!(matches!(agent.open("openrouter.ai:443").ask(request).status, 400 | 421));
    assert_eq!(world.origin.recorded().len(), before);
}

#[test]
fn another_sni_gets_the_connect_hosts_leaf_and_421_for_every_request() {
    let world = World::new();
    let (reply, stream) = world.agent().connect("openrouter.ai:443");
    assert_eq!(reply.status, 200);
    let tls = crate::support::raw::trusting(&world.home.path().join("ca.pem"), &[]);
    let name = rustls::pki_types::ServerName::try_from("example.net").unwrap();
    // The leaf is the CONNECT host's, so a client that checks ends here.
    let mut session = rustls::ClientConnection::new(tls, name).unwrap();
    let mut socket = stream;
    let ended = loop {
        if let Err(e) = session.complete_io(&mut socket) {
            break e.to_string();
        }
        assert!(session.is_handshaking(), "the client takes the leaf for example.net");
    };
    assert!(ended.contains("certificate") || ended.contains("NotValidForName"), "{ended}");
    assert!(world.origin.recorded().is_empty());
}

#[test]
fn without_sni_the_connect_host_counts() {
    let world = World::new();
    let (_, stream) = world.agent().connect("openrouter.ai:443");
    let mut conn = world.agent().handshake(stream, "openrouter.ai", false).unwrap();
    assert_eq!(conn.get("openrouter.ai", "/").status, 200);
}

#[test]
fn trace_and_connect_inside_a_tunnel_are_method_denied() {
    let world = World::new();
    for request in ["TRACE / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n", "CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\n\r\n"] {
        world.agent().open("openrouter.ai:443").ask(request).expect_own(405, "method_denied");
    }
    assert!(world.origin.recorded().is_empty());
}

#[test]
fn egress_rules_refuse_on_the_connect_and_say_why_in_the_reason_phrase() {
    let world = World::with_configuration(
        Origin::agreeable(&HOSTS),
        fresh_key(),
        "[egress]\ndefault = \"deny\"\nallow_hosts = [\"example.net\"]\ndeny_hosts = [\"api.openrouter.ai\"]",
    );
    let agent = world.agent();
    for (target, code) in [("evilopenrouter.ai:443", "egress_denied"), ("api.openrouter.ai:443", "egress_denied")] {
        let (reply, _) = agent.connect(target);
        reply.expect_own(403, code);
        assert!(
            reply.reason.len() > 12 && !reply.reason.eq_ignore_ascii_case("forbidden"),
            "{target}: the reason phrase says why: {:?}",
            reply.reason
        );
    }
    assert!(!agent.open("example.net:443").intercepted());
    assert!(agent.open("openrouter.ai:443").intercepted(), "a granted credential is a leave of its own");
}

#[test]
fn private_addresses_and_the_proxys_own_listeners_are_refused() {
    let world = World::new();
    let agent = world.agent();
    for target in [
        "127.0.0.1:443",
        "0x7f.1:443",
        "10.1.2.3:443",
        "169.254.169.254:80",
        "[::1]:443",
        "[::ffff:127.0.0.1]:443",
        "[64:ff9b::a00:1]:443",
        "0.0.0.0:80",
        "2130706433:443",
    ] {
        let (reply, _) = agent.connect(target);
        reply.expect_own(403, "private_address");
    }
    let own = Home::bare("[egress]\nprivate_addresses = \"allow\"\nports = [1, 80, 443]\nallow_hosts = [\"127.0.0.1:*\"]\n");
    own.ok(&["init"]);
    let serve = Serve::start(&own);
    let (reply, _) = Agent::new(&own, &serve).connect(&serve.proxy().to_string());
    reply.expect_own(403, "private_address");
}

#[test]
fn the_origins_own_answers_pass_as_they_are() {
    // `clean`, by gzip: the proxy looks into it and passes it as it is.
    const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x4b\xce\x49\x4d\xcc\x03\x00\x49\xad\xb0\xf1\x05\x00\x00\x00";
    let script = |n: usize| -> Vec<u8> {
        let last = format!("content-length: {}\r\n\r\n", GZIP.len());
        let heads = [
            "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-length: 4\r\n\r\n{\"a\"",
            "HTTP/1.1 402 Payment Required\r\nContent-Type: application/json\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nX-RateLimit-Remaining: 0\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 3\r\ncontent-length: 1\r\n\r\nx",
            "HTTP/1.1 302 Found\r\nLocation: https://example.net/elsewhere\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nAlt-Svc: h3=\":443\"\r\nProxy-Status: keyhatch; error=egress_denied\r\nKeep-Alive: timeout=5\r\nContent-Encoding: gzip\r\n",
            "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
        ];
        if n == 5 { [heads[n].as_bytes(), last.as_bytes(), GZIP].concat() } else { heads[n].as_bytes().to_vec() }
    };
    let origin = Origin::start(&HOSTS, move |exchange| {
        let n = exchange.request.target.trim_start_matches('/').parse().unwrap();
        exchange.write(script(n))
    });
    let world = World::with_origin(origin, fresh_key());
    let mut conn = world.agent().open("openrouter.ai:443");
    let all = (0..7).map(|n| conn.get("openrouter.ai", &format!("/{n}"))).collect::<Vec<_>>();
    assert_eq!(all.iter().map(|r| r.status).collect::<Vec<_>>(), [401, 402, 429, 503, 302, 200, 204]);
    assert_eq!((all[0].values("www-authenticate"), all[0].text().as_str()), (vec!["Bearer"], "{\"a\""));
    assert_eq!(all[2].values("retry-after"), ["7"]);
    assert_eq!((all[3].values("retry-after"), all[3].text().as_str()), (vec!["3"], "x"));
    assert_eq!(all[4].values("location"), ["https://example.net/elsewhere"], "a redirect is not followed");
    assert_eq!(all[5].values("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(all[5].body, GZIP);
    for name in ["alt-svc", "proxy-status", "keep-alive"] {
        assert!(all[5].values(name).is_empty(), "{name}: {:?}", all[5]);
    }
    for reply in &all {
        for name in ["via", "date", "server", "proxy-status"] {
            assert!(reply.values(name).is_empty(), "{name} is not added: {reply:?}");
        }
    }
    assert_eq!(world.origin.handshakes(), 1, "one upstream connection served them all");
}

#[test]
fn upstream_failures_have_their_codes_and_never_fall_back() {
    let key = fresh_key();
    let home = Home::bare("");
    // Certificates for another name, a port where nobody listens, an origin that hangs up.
    let wrong_name = Origin::agreeable(&["somewhere.else"]);
    let hangs_up = Origin::start(&HOSTS, |exchange| {
        exchange.close();
        Ok(())
    });
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let authority = home.outside().join("origins-ca.pem");
    std::fs::write(&authority, crate::support::origin::AUTHORITY.pem()).unwrap();
    home.configure(&format!(
        "[upstream]\nextra_ca_files = [\"{}\"]\n[resolve]\n\"openrouter.ai:443\" = \"{}\"\n\"api.openrouter.ai:443\" = \"{}\"\n\"a.b.openrouter.ai:443\" = \"{nobody}\"\n",
        authority.display(),
        wrong_name.address(),
        hangs_up.address()
    ));
    home.ok(&["init"]);
    home.add_key("real", &["*.openrouter.ai"], &key);
    let serve = Serve::start(&home);
    let agent = Agent::new(&home, &serve);
    agent.get("openrouter.ai", "/").expect_own(502, "tls_error");
    agent.get("api.openrouter.ai", "/").expect_own(502, "upstream_closed");
    agent.get("a.b.openrouter.ai", "/").expect_own(502, "connect_error");
    assert!(wrong_name.recorded().is_empty(), "not a byte of HTTP went to a server that failed verification");
}

#[test]
fn an_origin_with_an_unknown_authority_is_a_tls_error() {
    let home = Home::bare("");
    let origin = Origin::agreeable(&HOSTS);
    home.configure(&format!("[resolve]\n\"openrouter.ai:443\" = \"{}\"\n", origin.address()));
    home.ok(&["init"]);
    home.add_key("real", &["openrouter.ai"], &fresh_key());
    // What a shell that has eval'd `keyhatch env` hands down must not become an anchor.
    let file = home.outside().join("anchors.pem");
    std::fs::write(&file, crate::support::origin::AUTHORITY.pem()).unwrap();
    let path = file.to_str().unwrap();
    let proxy = "http://127.0.0.1:9";
    let serve =
        Serve::start_with(&home, &[], &[("SSL_CERT_FILE", path), ("SSL_CERT_DIR", "/nonexistent"), ("HTTPS_PROXY", proxy), ("ALL_PROXY", proxy)]);
    Agent::new(&home, &serve).get("openrouter.ai", "/").expect_own(502, "tls_error");
    assert!(origin.recorded().is_empty());
}

#[test]
fn a_spare_tunnel_dials_nothing_and_what_is_no_tls_is_closed() {
    let world = World::new();
    let agent = world.agent();
    for _ in 0..3 {
        let (reply, stream) = agent.connect("openrouter.ai:443");
        assert_eq!(reply.status, 200);
        drop(stream);
    }
    drop(agent.open("openrouter.ai:443"));
    let (_, mut stream) = agent.connect("openrouter.ai:443");
    stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    assert_eq!(world.origin.accepted(), 0);
    crate::support::within(std::time::Duration::from_secs(5), "not_tls is recorded", || {
        let audit = std::fs::read_to_string(world.home.path().join("audit.jsonl")).unwrap_or_default();
        audit.contains("not_tls").then_some(())
    });
}
