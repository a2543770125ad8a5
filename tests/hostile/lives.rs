//! What must end when a session, an agent, a grant or a rule ends: also on connections that were opened before.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Stdio};

use super::{SECOND, another_agent, raw};
use crate::support::raw::read_reply;
use crate::support::world::HOSTS;
use crate::support::{Agent, Home, Origin, Serve, World, fresh_key, within};

/// A `keyhatch run` beside a running `serve`, until it is told to end; and the proxy URL that it gave its command.
struct Run {
    child: Child,
    url: String,
}

impl Run {
    fn start(home: &Home) -> Self {
        let mut command = home.command(&["run", "--", "sh", "-c", "echo $HTTPS_PROXY; read line"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim().to_owned() }
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

#[test]
fn when_a_run_ends_its_session_ends_on_open_connections_too() {
    let world = World::agreeable();
    let run = Run::start(&world.home);
    let theirs = Agent::from_url(&world.home, &world.serve, &run.url);
    let ours = world.agent();
    let mut inside = theirs.open("openrouter.ai:443");
    assert_eq!(inside.get("openrouter.ai", "/").status, 200);
    let mut blind = theirs.open("example.net:443");
    assert_eq!(blind.get("example.net", "/").status, 200);
    let mut other = ours.open("openrouter.ai:443");
    run.end();
    assert!(blind.closes_within(2 * SECOND), "its blind tunnel is closed");
    let seen = world.origin.recorded().len();
    let answered = inside.try_send("GET /late HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n").and_then(|()| inside.try_reply());
    assert!(answered.as_ref().map_or(true, |r| r.status == 503), "{answered:?}");
    assert_eq!(world.origin.recorded().len(), seen, "nothing more was sent for it");
    assert_eq!(theirs.connect("openrouter.ai:443").0.status, 407);
    assert_eq!(other.get("openrouter.ai", "/").status, 200, "another session of the same agent goes on");
}

#[test]
fn a_session_that_expires_ends_on_open_connections_too() {
    let world = World::agreeable();
    let env = world.home.json_env(&["--ttl", "3s"]);
    let short = Agent::from_url(&world.home, &world.serve, env["HTTPS_PROXY"].as_str().unwrap());
    let mut inside = short.open("openrouter.ai:443");
    assert_eq!(inside.get("openrouter.ai", "/").status, 200);
    let mut blind = short.open("example.net:443");
    within(5 * SECOND, "the token expires", || (short.connect("openrouter.ai:443").0.status == 407).then_some(()));
    let seen = world.origin.recorded().len();
    let answered = inside.try_send("GET /late HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n").and_then(|()| inside.try_reply());
    assert!(answered.as_ref().map_or(true, |r| r.status == 503), "{answered:?}");
    assert_eq!(world.origin.recorded().len(), seen);
    assert!(blind.closes_within(2 * SECOND));
}

#[test]
fn a_rotated_agents_keep_alive_connections_are_of_no_more_use() {
    let world = World::agreeable();
    let second = another_agent(&world, "second", &["openrouter"]);
    let mut inside = second.open("openrouter.ai:443");
    assert_eq!(inside.get("openrouter.ai", "/").status, 200);
    let mut plain = second.dial();
    let absolute = format!("GET http://openrouter.ai/plain HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {}\r\n\r\n", second.authorization);
    plain.write_all(absolute.as_bytes()).unwrap();
    assert_eq!(read_reply(&mut plain, None).unwrap().status, 200);
    let (_, mut bare) = second.connect("openrouter.ai:80");
    bare.write_all(b"GET /inside HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n").unwrap();
    assert_eq!(read_reply(&mut bare, None).unwrap().status, 200);
    world.home.ok(&["agent", "rotate", "second"]);
    within(SECOND, "felt", || (second.connect("openrouter.ai:443").0.status == 407).then_some(()));
    world.origin.forget();
    inside.get("openrouter.ai", "/").expect_own(503, "credential_unavailable");
    plain.write_all(absolute.as_bytes()).unwrap();
    read_reply(&mut plain, None).unwrap().expect_own(407, "proxy_auth_required");
    let _ = bare.write_all(b"GET /inside HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    let answer = read_reply(&mut bare, None);
    assert!(answer.as_ref().map_or(true, |r| r.status == 503), "{answer:?}");
    assert!(world.origin.recorded().is_empty());
}

/// An origin that switches protocols when it is asked to.
fn switching() -> Origin {
    Origin::start(&HOSTS, |exchange| {
        if exchange.request.values("upgrade").is_empty() {
            return exchange.json(200, "{}");
        }
        exchange.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")?;
        while exchange.read(&mut [0; 1024])? > 0 {
            exchange.write("echo")?;
        }
        Ok(())
    })
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[test]
fn a_websocket_ends_when_its_decision_would_be_another() {
    let world = World::with_origin(switching(), fresh_key());
    let ends: [(&str, &[&[&str]]); 3] = [
        ("the credential is disabled", &[&["credential", "disable", "openrouter"], &["credential", "enable", "openrouter"]]),
        ("the grant is taken back", &[&["agent", "revoke", "default", "openrouter"], &["agent", "grant", "default", "openrouter"]]),
        (
            "a narrower credential covers the host",
            &[&["credential", "add", "narrow", "--allow", "api.openrouter.ai"], &["credential", "remove", "narrow"]],
        ),
    ];
    for (case, [change, back]) in ends.map(|(case, both)| (case, [both[0], both[1]])) {
        let agent = world.agent();
        let mut socket = within(SECOND, "a WebSocket opens", || {
            let mut conn = agent.try_open("api.openrouter.ai:443").ok().filter(|c| c.intercepted())?;
            conn.send(format!("GET /ws HTTP/1.1\r\nHost: api.openrouter.ai\r\n{UPGRADE}"));
            (conn.reply().status == 101).then_some(conn)
        });
        socket.send("ping");
        socket.read_until("echo");
        world.home.ok_with(change, &fresh_key());
        assert!(socket.closes_within(2 * SECOND), "{case}");
        world.home.ok(back);
    }
}

/// `deny_hosts` comes before credentials, also on connections that stand, in absolute form, and in plaintext.
#[test]
fn a_host_that_is_denied_now_gets_nothing_more() {
    let key = fresh_key();
    let world = World::with_origin(switching(), key);
    world.home.ok_with(&["credential", "add", "plain", "--allow", "example.net:80", "--allow", "example.net:443", "--allow-plaintext"], &fresh_key());
    let agent = world.agent();
    within(SECOND, "felt", || agent.open("example.net:443").intercepted().then_some(()));
    let absolute = "GET http://example.net/ HTTP/1.1\r\nHost: example.net\r\nProxy-Authorization: {auth}\r\nConnection: close\r\n\r\n";
    assert!(raw(&agent, absolute).starts_with("HTTP/1.1 200 "));
    assert_eq!(world.origin.last().values("authorization").len(), 1, "with --allow-plaintext it carries the key");
    let mut inside = agent.open("example.net:443");
    assert_eq!(inside.get("example.net", "/").status, 200);
    let mut socket = agent.open("example.net:443");
    assert_eq!(socket.ask(format!("GET /ws HTTP/1.1\r\nHost: example.net\r\n{UPGRADE}")).status, 101);
    let file = world.home.path().join("keyhatch.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n[egress]\ndeny_hosts = [\"example.net\"]\n")).unwrap();
    // `env` has serve read its configuration again.
    world.home.json_env(&[]);
    world.origin.forget();
    assert_eq!(agent.connect("example.net:443").0.status, 403);
    assert!(socket.closes_within(2 * SECOND), "its WebSocket is closed");
    inside.get("example.net", "/").expect_own(403, "egress_denied");
    let all = raw(&agent, absolute);
    assert!(all.starts_with("HTTP/1.1 403 ") && all.contains("egress_denied"), "{all}");
    assert!(world.origin.recorded().is_empty(), "{:?}", world.origin.recorded());
    assert_eq!(agent.get("openrouter.ai", "/").status, 200);
}

/// A host whose plaintext no credential may ride on is let pass by its credential's cover, but not past `deny_hosts`.
#[test]
fn a_denied_host_is_denied_in_plaintext_too() {
    let key = fresh_key();
    let world = World::with_configuration(Origin::agreeable(&HOSTS), key, "[egress]\ndeny_hosts = [\"example.net\"]");
    world.home.ok_with(&["credential", "add", "any", "--allow", "example.net:*"], &fresh_key());
    let agent = world.agent();
    within(SECOND, "felt", || {
        let said = world.home.json(&["policy", "explain", "GET", "https://example.net/"]);
        (said["decision"] == "denied").then_some(())
    });
    for port in [80, 443] {
        let all = raw(
            &agent,
            &format!(
                "GET http://example.net:{port}/ HTTP/1.1\r\nHost: example.net:{port}\r\nProxy-Authorization: {{auth}}\r\nConnection: close\r\n\r\n"
            ),
        );
        assert!(all.starts_with("HTTP/1.1 403 ") && all.contains("egress_denied"), "{port}: {all}");
    }
    assert!(world.origin.recorded().is_empty());
}

/// A change that comes while the origin is still being dialled is in force before the request is sent.
#[test]
fn a_request_that_waits_for_its_connection_does_not_outlive_its_credential() {
    // A listener that does not do its handshake until it is told to.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::bare("");
    let authority = home.outside().join("origins-ca.pem");
    std::fs::write(&authority, crate::support::origin::AUTHORITY.pem()).unwrap();
    home.configure(&format!(
        "[upstream]\nextra_ca_files = [\"{}\"]\n[resolve]\n\"openrouter.ai:443\" = \"{}\"\n",
        authority.display(),
        listener.local_addr().unwrap()
    ));
    home.ok(&["init"]);
    home.add_key("openrouter", &["openrouter.ai"], &fresh_key());
    let serve = Serve::start(&home);
    let agent = Agent::new(&home, &serve);
    let mut conn = agent.open("openrouter.ai:443");
    conn.send("GET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    let (stream, _) = listener.accept().unwrap();
    home.ok(&["credential", "disable", "openrouter"]);
    within(SECOND, "felt", || {
        let said = agent.get("openrouter.ai", "/");
        (said.status == 503).then_some(())
    });
    let tls = crate::support::origin::AUTHORITY.server(&["openrouter.ai"], &["http/1.1"]).unwrap();
    let mut server = rustls::StreamOwned::new(rustls::ServerConnection::new(tls).unwrap(), stream);
    while server.conn.is_handshaking() {
        server.conn.complete_io(&mut server.sock).unwrap();
    }
    conn.reply().expect_own(503, "credential_unavailable");
    server.sock.set_read_timeout(Some(SECOND)).unwrap();
    let got = server.read(&mut [0; 1024]);
    assert!(!matches!(got, Ok(n) if n > 0), "nothing was sent: {got:?}");
}
