//! What is put on and taken off a request, and what is left byte for byte as it was (CONTRACT 5).

use crate::support::{World, holds};

/// The mark of everything that the agent sends as a credential of its own.
const OWN: &str = "agents-own-value";

#[test]
fn the_agents_own_authorization_never_arrives_in_any_spelling() {
    let world = World::agreeable();
    let agent = world.agent();
    let table = [
        "Authorization: Bearer agents-own-value",
        "authorization: Bearer agents-own-value",
        "AUTHORIZATION: Basic agents-own-value",
        "aUtHoRiZaTiOn:agents-own-value",
        "Authorization: Bearer agents-own-value\r\nAuthorization: Bearer agents-own-value-2",
        "authorization: a agents-own-value\r\nX-Between: 1\r\nAUTHORIZATION: b agents-own-value",
        "X-Api-Key: agents-own-value",
        "x-api-key: agents-own-value",
        "X_Api_Key: agents-own-value",
        "x-api_key: agents-own-value",
        "X_API_KEY: agents-own-value",
        "Api-Key: agents-own-value",
        "api_key: agents-own-value",
        "X-Goog-Api-Key: agents-own-value",
        "x_goog_api_key: agents-own-value",
        "Connection: authorization\r\nAuthorization: Bearer agents-own-value",
        "Connection: close, x-api-key\r\nX-Api-Key: agents-own-value",
        "Proxy-Authorization: Basic agents-own-value",
        "Proxy-Anything: agents-own-value",
    ];
    for fields in table {
        let mut conn = agent.open("openrouter.ai:443");
        let reply = conn.ask(format!("GET / HTTP/1.1\r\nHost: openrouter.ai\r\n{fields}\r\n\r\n"));
        assert_eq!(reply.status, 200, "{fields}: {reply:?}");
        let got = world.origin.last();
        assert_eq!(got.values("authorization"), [world.bearer()], "{fields}");
        assert!(!holds(&got.head, OWN), "{fields}: {}", String::from_utf8_lossy(&got.head));
    }
}

#[test]
fn the_agents_own_authorization_never_arrives_as_a_trailer() {
    let world = World::agreeable();
    for name in ["Authorization", "authorization", "X_Api_Key", "Proxy-Authorization"] {
        let reply = world.agent().open("openrouter.ai:443").ask(format!(
            "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTE: trailers\r\nTrailer: {name}, X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n{name}: {OWN}\r\nX-Sum: 7\r\n\r\n"
        ));
        assert_eq!(reply.status, 200, "{name}: {reply:?}");
        let got = world.origin.last();
        assert_eq!(got.body, b"ab");
        assert!(!got.trailers.iter().any(|(_, v)| holds(v, OWN)), "{name}: {:?}", got.trailers);
        assert!(got.trailers.iter().any(|(n, v)| n.eq_ignore_ascii_case("x-sum") && v == b"7"), "other trailers pass: {:?}", got.trailers);
        assert_eq!(got.values("authorization"), [world.bearer()], "{name}");
    }
}

#[test]
fn a_connection_field_cannot_take_the_credential_off() {
    let world = World::agreeable();
    let reply = world.agent().open("openrouter.ai:443").ask("GET / HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: authorization, close\r\n\r\n");
    assert_eq!(reply.status, 200);
    assert_eq!(world.origin.last().values("authorization"), [world.bearer()]);
}

#[test]
fn attribution_query_and_body_arrive_byte_for_byte() {
    let world = World::agreeable();
    let body: Vec<u8> = (0..=255_u8).cycle().take(70_001).collect();
    let target = "/api/v1/chat/completions?a=1&a=2&empty=&q=%E2%82%AC+%20~;/?&=";
    let fields = "HTTP-Referer: https://my.app/\u{e9}?x=1\r\nX-OpenRouter-Title: My \"App\"  with  spaces\r\nX-Title: older\r\nX-OpenRouter-Categories: a,b\r\nCookie: a=1; b=2\r\nX-Twice: 2\r\nX-Twice: 1\r\nUser-Agent: test/1";
    let head = format!("POST {target} HTTP/1.1\r\nHost: openrouter.ai\r\n{fields}\r\nContent-Length: {}\r\n\r\n", body.len());
    let reply = world.agent().open("openrouter.ai:443").ask([head.as_bytes(), &body].concat());
    assert_eq!(reply.status, 200, "{reply:?}");
    let got = world.origin.last();
    assert_eq!(got.target, target);
    assert!(got.body == body, "the body is the same, {} bytes", got.body.len());
    for field in fields.split("\r\n") {
        let (name, value) = field.split_once(": ").unwrap();
        assert!(got.values(name).iter().any(|v| v == value), "{field}: {:?}", got.values(name));
    }
    assert_eq!(got.values("x-twice"), ["2", "1"], "order holds per name");
    for name in ["via", "forwarded", "x-forwarded-for", "date", "server", "proxy-status"] {
        assert!(got.values(name).is_empty(), "{name} is not added");
    }
    assert_eq!(got.value("host"), "openrouter.ai");
}

#[test]
fn a_chunked_body_arrives_whole_and_a_head_request_stays_one() {
    let world = World::agreeable();
    let mut conn = world.agent().open("openrouter.ai:443");
    let reply = conn.ask("PUT /x HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\n\r\n");
    assert_eq!((reply.status, world.origin.last().body), (200, b"hello!".to_vec()));
    assert_eq!(world.origin.last().values("transfer-encoding"), ["chunked"]);
    conn.send("HEAD /y HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: close\r\n\r\n");
    let head = crate::support::raw::read_reply(&mut conn.stream, Some("HEAD")).unwrap();
    assert_eq!((head.status, world.origin.last().method.as_str()), (200, "HEAD"));
}

#[test]
fn a_placeholder_never_leaves_in_an_injected_request() {
    let world = World::agreeable();
    let fields = "Authorization: Bearer sk-or-keyhatch-placeholder-openrouter\r\nX-Other: sk-or-keyhatch-placeholder-openrouter\r\nX-Upper: KEYHATCH-PLACEHOLDER";
    let reply = world.agent().open("openrouter.ai:443").ask(format!("GET / HTTP/1.1\r\nHost: openrouter.ai\r\n{fields}\r\n\r\n"));
    assert_eq!(reply.status, 200, "{reply:?}");
    let got = world.origin.last();
    assert!(!got.head.to_ascii_lowercase().windows(20).any(|w| w == b"keyhatch-placeholder"), "{}", String::from_utf8_lossy(&got.head));
    assert_eq!(got.values("authorization"), [world.bearer()]);
}

#[test]
fn other_types_present_the_secret_in_their_own_way() {
    let world = World::agreeable();
    let home = &world.home;
    home.ok_with(
        &["credential", "add", "head", "--type", "header", "--header", "X-Token", "--prefix", "Key ", "--allow", "api.example.com"],
        "head-secret-0123456789",
    );
    home.ok_with(&["credential", "add", "base", "--type", "basic", "--allow", "example.net"], "user:pass-0123456789");
    let agent = world.agent();
    crate::support::within(std::time::Duration::from_secs(1), "both are felt", || {
        let both = agent.open("api.example.com:443").intercepted() && agent.open("example.net:443").intercepted();
        both.then_some(())
    });
    let own = "Authorization: Bearer agents-own-value\r\nX_Token: agents-own-value\r\nX-Token: agents-own-value";
    for (host, field, value) in
        [("api.example.com", "x-token", "Key head-secret-0123456789"), ("example.net", "authorization", "Basic dXNlcjpwYXNzLTAxMjM0NTY3ODk=")]
    {
        let reply = agent.open(&format!("{host}:443")).ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n{own}\r\n\r\n"));
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(world.origin.last().values(field), [value], "{host}");
        if field == "x-token" {
            assert!(!holds(&world.origin.last().head, OWN), "{host}: {}", String::from_utf8_lossy(&world.origin.last().head));
        }
    }
}

#[test]
fn a_providers_path_rules_keep_the_agent_from_minting_keys() {
    let key = crate::support::fresh_key();
    let home = crate::support::Home::bare("");
    let origin = crate::support::Origin::demanding(&crate::support::world::HOSTS, &key);
    home.configure(&crate::support::world::configuration(&home, &origin, ""));
    home.ok(&["init"]);
    home.ok_with(&["credential", "add", "openrouter"], &key);
    let serve = crate::support::Serve::start(&home);
    let agent = crate::support::Agent::new(&home, &serve);
    for good in ["/api/v1/auth/key", "/api/v1/key", "/api/v1/chat/completions", "/api/v1/models?x=%2f%25..//", "/api/v1/keysmith"] {
        assert_eq!(agent.get("openrouter.ai", good).status, 200, "{good}");
        assert_eq!(origin.last().target, good);
    }
    origin.forget();
    let refused = [
        "/api/v1/keys",
        "/api/v1/keys/",
        "/api/v1/keys?x=1",
        "/api/v1/keys/abc",
        "/API/v1/KEYS",
        "/api/v1/Keys/abc",
        "/api/v1/auth/keys",
        "/api/v1/auth/keys/x/y",
        "/api/v1/%6beys",
        "/api/v1/%6Beys",
        "/api/v1/keys%2fabc",
        "/api/v1/x/../keys",
        "/api/v1/./keys",
        "/api/v1/x/..",
        "/api/v1//keys",
        "//api/v1/models",
        "/api/v1/keys;x=1",
        "/api/v1;/keys",
        "/api/v1/%2e%2e/keys",
        "/api/v1/a%5cb",
        "/api/v1/a%25b",
        "/other",
        "/",
    ];
    for bad in refused {
        agent.get("openrouter.ai", bad).expect_own(403, "path_denied");
    }
    assert!(origin.recorded().is_empty(), "nothing was sent: {:?}", origin.recorded().iter().map(|r| r.target.clone()).collect::<Vec<_>>());
}

#[test]
fn the_body_of_a_refused_request_is_not_taken_for_the_next_request() {
    let world = World::agreeable();
    world.home.ok_with(&["credential", "add", "ruled", "--allow", "api.example.com", "--deny-path", "/no/**"], &crate::support::fresh_key());
    let agent = world.agent();
    crate::support::within(std::time::Duration::from_secs(1), "the credential is felt", || {
        agent.open("api.example.com:443").intercepted().then_some(())
    });
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let mut conn = agent.open("api.example.com:443");
    conn.send(format!("POST /no HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len()));
    conn.reply().expect_own(403, "path_denied");
    // Either the connection goes on with what follows the body, or it is closed; the body is never a request.
    let _ = conn.try_send("GET /after HTTP/1.1\r\nHost: api.example.com\r\n\r\n");
    if let Ok(reply) = conn.try_reply() {
        assert_eq!(reply.status, 200);
    }
    assert!(!world.origin.recorded().iter().any(|r| r.target == "/smuggled"));
}
