//! WebSocket with real peers, and what surrounds it: refusals, half-close.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use super::node::BY_HAND;
use super::stage::{Peer, write_leaf};
use super::{Key, RealKey, Stage};
use crate::support::clients::Client;
use crate::support::world::HOSTS;
use crate::support::{Agent, Origin, World, fresh_key, within};

const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn pings_fragments_compression_and_close_codes_pass_and_the_credential_is_on_the_handshake() {
    let (key, dir) = (RealKey::new(Key::Bearer), tempfile::TempDir::new().unwrap());
    let (certificate, secret) = write_leaf(dir.path());
    let Some(server) = Peer::python("websockets", "websockets.asyncio.server", include_str!("peers/ws_echo.py"), &[&certificate, &secret]) else {
        return;
    };
    let stage = Stage::new(server.address, &key);
    let said = Client::Python.run("websockets", stage.env(), &["-c", include_str!("peers/ws_client.py")]).unwrap();
    let prints =
        ["['permessage-deflate']", "True", "True", "True", "from three fragments", "['one ', 'two ', 'three', '']", "3999", "[]", "4321 as asked"];
    assert_eq!((said.code, said.stdout.lines().collect::<Vec<_>>()), (0, prints.to_vec()), "{}", said.stderr);
    let told = within(LIMIT, "the server saw both connections end", || Some(server.told()).filter(|t| t.len() == 2));
    for connection in &told {
        let fields = &connection["fields"];
        assert_eq!(fields["authorization"], serde_json::json!([key.shown()]), "{connection}");
        assert_eq!((&fields["x-title"], fields["proxy-authorization"].is_null()), (&serde_json::json!(["My app"]), true), "{connection}");
    }
    let of = |n: usize| (told[n]["extensions"].clone(), told[n]["code"].clone(), told[n]["reason"].clone());
    assert_eq!(of(0), (serde_json::json!(["permessage-deflate"]), 3999.into(), "enough".into()));
    assert_eq!(of(1), (serde_json::json!([]), 4321.into(), "as asked".into()));
    stage.expect_spoken("/socket", 1, 1);
}

/// Two WebSockets of Node's http2 on one connection. Says whether there is a Node.
#[track_caller]
fn by_extended_connect(stage: &Stage, upstream: u8) -> bool {
    let Some(said) = Client::Node.script("http2", stage.env(), &format!("{BY_HAND}{}", include_str!("peers/ws_http2.mjs"))) else { return false };
    assert_eq!((said.code, said.stdout.trim_end()), (0, "true\n200 200 undefined\nclosed"), "{said:?}");
    stage.expect_spoken("/one", 2, upstream);
    stage.expect_spoken("/two", 2, upstream);
    true
}

#[test]
fn extended_connect_becomes_an_upgrade_where_the_origin_speaks_http_1_1() {
    let (key, dir) = (RealKey::new(Key::Bearer), tempfile::TempDir::new().unwrap());
    let (certificate, secret) = write_leaf(dir.path());
    let Some(server) = Peer::python("websockets", "websockets.asyncio.server", include_str!("peers/ws_echo.py"), &[&certificate, &secret]) else {
        return;
    };
    if !by_extended_connect(&Stage::new(server.address, &key), 1) {
        return;
    }
    let told = within(LIMIT, "the server saw both connections end", || Some(server.told()).filter(|t| t.len() == 2));
    assert!(told.iter().all(|t| t["fields"]["authorization"] == serde_json::json!([key.shown()])), "{told:?}");
}

/// A server on hypercorn.
fn hypercorn(key: &RealKey) -> Option<(Peer, tempfile::TempDir)> {
    let dir = tempfile::TempDir::new().unwrap();
    let (certificate, secret) = write_leaf(dir.path());
    let server = Peer::python("hypercorn", "hypercorn.asyncio", include_str!("peers/ws_asgi.py"), &[&certificate, &secret, &key.shown()])?;
    Some((server, dir))
}

/// Fails unless hypercorn saw WebSockets by HTTP/2 alone, with the real key.
#[track_caller]
fn expect_http_2(server: &Peer, key: &RealKey) {
    let told = server.told();
    assert!(!told.is_empty());
    assert!(told.iter().all(|t| t["version"] == "2" && t["authorization"] == serde_json::json!([key.shown()])), "{told:?}");
}

#[test]
fn extended_connect_stays_so_where_the_origin_takes_it() {
    let key = RealKey::new(Key::Bearer);
    let Some((server, _dir)) = hypercorn(&key) else { return };
    if by_extended_connect(&Stage::new(server.address, &key), 2) {
        expect_http_2(&server, &key);
    }
}

#[test]
fn an_upgrade_becomes_an_extended_connect_where_the_origin_takes_it() {
    let key = RealKey::new(Key::Bearer);
    let Some((server, _dir)) = hypercorn(&key) else { return };
    let stage = Stage::new(server.address, &key);
    let script = "import websockets.sync.client as c\nwith c.connect('wss://api.example.com/upgraded') as s:\n    for n in range(20):\n        s.send(str(n))\n        assert s.recv() == str(n)\n    s.send(bytes(100000))\n    print(s.recv() == bytes(100000))\nprint(s.close_code)";
    let said = Client::Python.script("websockets", stage.env(), script).unwrap();
    assert_eq!((said.code, said.stdout.trim()), (0, "True\n1000"), "{said:?}");
    expect_http_2(&server, &key);
    stage.expect_spoken("/upgraded", 1, 2);
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[test]
fn a_refused_upgrade_is_an_ordinary_answer_and_the_connection_goes_on() {
    for status in [200, 401, 403, 404, 426, 500] {
        let origin = Origin::start(&HOSTS, move |exchange| {
            exchange.read_body()?;
            match exchange.request.target.as_str() {
                "/ws" => exchange.answer(status, "x-why: not here\r\n", b"no WebSocket here"),
                _ => exchange.json(200, "{}"),
            }
        });
        let world = World::with_origin(origin, fresh_key());
        let mut conn = world.agent().open("openrouter.ai:443");
        let reply = conn.ask(UPGRADE);
        assert_eq!((reply.status, reply.text().as_str(), reply.values("x-why")), (status, "no WebSocket here", vec!["not here"]), "{reply:?}");
        for _ in 0..2 {
            assert_eq!(conn.get("openrouter.ai", "/next").status, 200, "after {status}");
        }
        assert_eq!(world.origin.recorded().len(), 3);
        assert!(world.origin.recorded().iter().all(|r| r.values("authorization") == [world.bearer()]));
    }
}

/// An origin that agrees to the upgrade and goes on as the test says.
fn upgraded(then: impl Fn(&mut crate::support::Exchange<'_>) -> std::io::Result<()> + Send + Sync + 'static) -> World {
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n")?;
        then(exchange)
    });
    World::with_origin(origin, fresh_key())
}

fn switch(agent: &Agent) -> crate::support::raw::Conn {
    let mut conn = agent.open("openrouter.ai:443");
    assert_eq!(conn.ask(UPGRADE).status, 101);
    conn
}

#[test]
fn bytes_after_the_switch_are_copied_as_they_are_whatever_they_say() {
    // Neither a secret in them nor what looks like HTTP is anybody's affair.
    let world = upgraded(|exchange| {
        let mut buffer = [0; 4096];
        loop {
            match exchange.read(&mut buffer)? {
                0 => return Ok(()),
                got => exchange.write(&buffer[..got])?,
            }
        }
    });
    let mut conn = switch(&world.agent());
    let text = format!("GET / HTTP/1.1\r\nHost: evil.example\r\nAuthorization: {}\r\n\r\n", world.bearer());
    conn.send(&text);
    let mut back = vec![0; text.len()];
    conn.stream.read_exact(&mut back).unwrap();
    assert_eq!(String::from_utf8_lossy(&back), text);
    let all: Vec<u8> = (0..=255_u8).cycle().take(1 << 16).collect();
    for _ in 0..16 {
        conn.send(&all);
        let mut back = vec![0; all.len()];
        conn.stream.read_exact(&mut back).unwrap();
        assert!(back == all);
    }
    assert_eq!(world.origin.recorded().len(), 1);
}

#[test]
fn the_origins_end_leaves_the_agents_half_open() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let world = upgraded(move |exchange| {
        exchange.write("last words")?;
        exchange.close_half()?;
        let (mut all, mut buffer) = (Vec::new(), [0; 1024]);
        while !all.ends_with(b"end") {
            let got = exchange.read(&mut buffer)?;
            if got == 0 {
                break;
            }
            all.extend_from_slice(&buffer[..got]);
        }
        tell.lock().unwrap().send(String::from_utf8_lossy(&all).into_owned()).unwrap();
        Ok(())
    });
    let mut conn = switch(&world.agent());
    let mut words = String::new();
    conn.stream.read_to_string(&mut words).unwrap();
    assert_eq!(words, "last words");
    conn.send("still the agent speaks: end");
    conn.stream.flush().unwrap();
    assert_eq!(told.recv_timeout(LIMIT).unwrap(), "still the agent speaks: end");
}
