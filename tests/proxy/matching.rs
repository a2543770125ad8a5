//! Which hosts get the key (CONTRACT 4). Where they do not, the field is absent, not empty.

use crate::support::world::HOSTS;
use crate::support::{Agent, Origin, Recorded, World, fresh_key, holds};

/// The head that reached the origin has no sign of a credential.
#[track_caller]
fn expect_bare(got: &Recorded, key: &str, case: &str) {
    assert!(got.values("authorization").is_empty(), "{case}: {}", String::from_utf8_lossy(&got.head));
    assert!(!holds(&got.head, key), "{case}: the key arrived");
}

#[test]
fn with_a_wildcard_the_apex_and_every_subdomain_get_the_key_in_any_spelling() {
    let world = World::new();
    let agent = world.agent();
    for typed in ["openrouter.ai", "api.openrouter.ai", "a.b.openrouter.ai", "OPENROUTER.AI", "OpenRouter.Ai", "openrouter.ai."] {
        let mut conn = agent.open(&format!("{typed}:443"));
        assert!(conn.intercepted(), "{typed}");
        let reply = conn.get(typed, "/api/v1/auth/key");
        assert_eq!(reply.status, 200, "{typed}: {reply:?}");
        assert_eq!(world.origin.last().values("authorization"), [world.bearer()], "{typed}");
    }
}

#[test]
fn look_alikes_and_strangers_are_tunnelled_without_the_key() {
    let world = World::new();
    let agent = world.agent();
    // The fourth begins with CYRILLIC SMALL LETTER O.
    for host in ["evilopenrouter.ai", "openrouter.ai.evil.com", "openrouter.aix", "xn--penrouter-z2h.ai", "example.net"] {
        let mut conn = agent.open(&format!("{host}:443"));
        assert!(!conn.intercepted(), "{host} is passed through unread");
        assert_eq!(conn.get(host, "/").status, 401, "{host}: its origin sees no key");
        expect_bare(&world.origin.last(), &world.key, host);
    }
}

#[test]
fn another_port_does_not_get_the_key() {
    let key = fresh_key();
    let world = World::with_configuration(Origin::demanding(&HOSTS, &key), key, "[egress]\nports = [80, 443, 8443]");
    let mut conn = world.agent().open("openrouter.ai:8443");
    assert!(!conn.intercepted());
    assert_eq!(conn.get("openrouter.ai:8443", "/").status, 401);
    expect_bare(&world.origin.last(), &world.key, "port 8443");
}

#[test]
fn a_port_outside_the_egress_list_is_refused_on_the_connect() {
    let world = World::new();
    let (reply, _stream) = world.agent().connect("openrouter.ai:8443");
    reply.expect_own(403, "port_denied");
    assert!(world.origin.recorded().is_empty());
}

#[test]
fn plain_http_is_forwarded_without_the_key() {
    let world = World::new();
    let agent = world.agent();
    let reply = agent.absolute(
        "GET http://openrouter.ai/api/v1/models?x=1 HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {auth}\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(reply.status, 401, "{reply:?}");
    let got = world.origin.last();
    assert!(!got.tls);
    assert_eq!(got.target, "/api/v1/models?x=1");
    expect_bare(&got, &world.key, "absolute form");
    assert!(got.values("proxy-authorization").is_empty());
}

#[test]
fn plain_http_inside_a_tunnel_is_forwarded_without_the_key() {
    // Node's fetch does so for http:// URLs.
    use std::io::Write as _;
    let world = World::new();
    let (reply, mut stream) = world.agent().connect("openrouter.ai:80");
    assert_eq!(reply.status, 200);
    stream.write_all(b"GET /api/v1/models HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n").unwrap();
    let reply = crate::support::raw::read_reply(&mut stream, None).unwrap();
    assert_eq!(reply.status, 401);
    expect_bare(&world.origin.last(), &world.key, "plaintext in a tunnel");
}

#[test]
fn an_agent_without_the_grant_does_not_get_the_key() {
    let world = World::new();
    world.home.ok(&["agent", "add", "stranger"]);
    let stranger = crate::support::within(std::time::Duration::from_secs(1), "the new agent is known", || {
        let said = world.home.say(&["env", "--agent", "stranger", "--format", "json"], "");
        (said.code == 0).then(|| Agent::named(&world.home, &world.serve, "stranger"))
    });
    let mut conn = stranger.open("openrouter.ai:443");
    assert!(!conn.intercepted());
    assert_eq!(conn.get("openrouter.ai", "/").status, 401);
    expect_bare(&world.origin.last(), &world.key, "no grant");
}

#[test]
fn the_most_specific_pattern_wins_and_a_tie_is_refused_unless_the_agent_picks() {
    let world = World::agreeable();
    let (exact, other) = (fresh_key(), fresh_key());
    world.home.add_key("exact", &["api.openrouter.ai"], &exact);
    world.home.add_key("tie", &["*.openrouter.ai"], &other);
    let agent = world.agent();
    crate::support::within(std::time::Duration::from_secs(1), "the exact pattern wins", || {
        let reply = agent.get("api.openrouter.ai", "/");
        (reply.status == 200 && world.origin.last().value("authorization") == format!("Bearer {exact}")).then_some(())
    });
    crate::support::within(std::time::Duration::from_secs(1), "a tie is refused", || (agent.get("openrouter.ai", "/").status == 403).then_some(()));
    agent.get("openrouter.ai", "/").expect_own(403, "ambiguous_credential");
    for (pick, key) in [("keyhatch:tie", &other), ("keyhatch:real", &world.key), ("sk-or-keyhatch-placeholder-tie", &other)] {
        let request = format!("GET / HTTP/1.1\r\nHost: openrouter.ai\r\nAuthorization: Bearer {pick}\r\n\r\n");
        assert_eq!(agent.open("openrouter.ai:443").ask(request).status, 200, "{pick}");
        assert_eq!(world.origin.last().values("authorization"), [format!("Bearer {key}")], "{pick}");
    }
    let request = "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nAuthorization: Bearer keyhatch:nobody\r\n\r\n";
    agent.open("openrouter.ai:443").ask(request).expect_own(403, "ambiguous_credential");
}
