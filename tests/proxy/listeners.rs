//! The other ways in: the proxy over TLS, and on a Unix socket; and how many connections an agent may keep.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::support::raw::{PATIENCE, Reply, authorization, read_reply, trusting};
use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Home, Origin, Serve, World, fresh_key, within};

fn over_tls<S: Read + Write>(stream: S, name: &str, tls: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, S> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(tls.clone(), name).unwrap(), stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream
}

/// CONNECT on any stream, TLS inside it, one `GET`.
fn get_through<S: Read + Write>(mut stream: S, authorization: &str, host: &str, tls: &Arc<ClientConfig>) -> Reply {
    let head = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\nProxy-Authorization: {authorization}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.flush().unwrap();
    let reply = read_reply(&mut stream, Some("CONNECT")).unwrap();
    if reply.status != 200 {
        return reply;
    }
    let mut inner = over_tls(stream, host, tls);
    inner.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
    inner.flush().unwrap();
    read_reply(&mut inner, None).unwrap()
}

/// The address that `serve` says it listens on over TLS.
pub(super) fn tls_address(serve: &Serve) -> std::net::SocketAddr {
    let log = serve.log();
    let at = log.find("over TLS listening on ").unwrap_or_else(|| panic!("serve tells where: {log}"));
    let rest = &log[at + "over TLS listening on ".len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|e| panic!("{rest}: {e}"))
}

fn dial(address: std::net::SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_client_that_reaches_the_proxy_over_tls_gets_an_injected_answer() {
    let more = "[proxy]\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\ntls_names = [\"proxy.internal\", \"127.0.0.1\"]\n";
    let key = fresh_key();
    let world = World::with_configuration(Origin::demanding(&HOSTS, &key), key, more);
    let address = tls_address(&world.serve);
    let tls = trusting(&world.home.path().join("ca.pem"), &["http/1.1"]);
    let proof = authorization(&world.serve.env["HTTPS_PROXY"]);
    for name in ["proxy.internal", "127.0.0.1"] {
        let reply = get_through(over_tls(dial(address), name, &tls), &proof, "openrouter.ai", &tls);
        assert_eq!(reply.status, 200, "{name}: {reply:?}");
        assert_eq!(world.origin.last().values("authorization"), [world.bearer()]);
    }
    // Another name is not in the certificate, and nothing but TLS is spoken there.
    let other = ServerName::try_from("other.internal").unwrap();
    let mut stranger = StreamOwned::new(ClientConnection::new(tls.clone(), other).unwrap(), dial(address));
    assert!(stranger.conn.complete_io(&mut stranger.sock).is_err(), "the leaf holds for tls_names alone");
    let mut plain = dial(address);
    plain.write_all(format!("CONNECT openrouter.ai:443 HTTP/1.1\r\nProxy-Authorization: {proof}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let reply = get_through(over_tls(dial(address), "127.0.0.1", &tls), "Basic ZGVmYXVsdDp3cm9uZw==", "openrouter.ai", &tls);
    reply.expect_own(407, "proxy_auth_required");
}

#[test]
fn a_unix_socket_serves_as_a_port_does_and_goes_with_serve() {
    let key = fresh_key();
    let origin = Origin::demanding(&HOSTS, &key);
    let home = Home::bare("");
    let socket = home.outside().join("proxy.sock");
    let more = format!("[proxy]\nlisten = \"unix:{}\"\n", socket.display());
    home.configure(&configuration(&home, &origin, &more));
    home.ok(&["init"]);
    home.add_key("real", &["*.openrouter.ai"], &key);
    let mut serve = Serve::start_asking(&home, &[], &[], &["--proxy-url", "http://proxy.internal:3128"]);
    // No URL can name the socket, and `env` says so.
    let said = home.say(&["env"], "");
    said.expect_error(1);
    assert!(said.stderr.contains("Unix socket") && said.stdout.is_empty(), "{said:?}");

    let tls = trusting(&home.path().join("ca.pem"), &["http/1.1"]);
    let proof = authorization(&serve.env["HTTPS_PROXY"]);
    let dial = || {
        let stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let reply = get_through(dial(), &proof, "openrouter.ai", &tls);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(origin.last().values("authorization"), [format!("Bearer {key}")]);
    get_through(dial(), "Basic ZGVmYXVsdDp3cm9uZw==", "openrouter.ai", &tls).expect_own(407, "proxy_auth_required");
    serve.stop();
    assert!(!socket.exists(), "the socket is removed at the end");
}

#[test]
fn a_unix_socket_left_by_a_crash_is_taken_over() {
    let home = Home::bare("");
    let socket = home.outside().join("proxy.sock");
    home.configure(&format!("[proxy]\nlisten = \"unix:{}\"\n", socket.display()));
    home.ok(&["init"]);
    let asking = ["--proxy-url", "http://proxy.internal:3128"];
    let mut serve = Serve::start_asking(&home, &[], &[], &asking);
    serve.kill();
    assert!(socket.exists());
    let _again = Serve::start_asking(&home, &[], &[], &asking);
    UnixStream::connect(&socket).unwrap();
}

#[test]
fn one_agents_connections_cannot_take_the_room_of_another() {
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), "[limits.per_agent]\nconnections = 2\n");
    world.home.ok(&["agent", "add", "second", "--grant", "real"]);
    let second = within(Duration::from_secs(1), "the agent is known", || {
        let said = world.home.say(&["env", "--agent", "second", "--format", "json"], "");
        (said.code == 0).then(|| Agent::named(&world.home, &world.serve, "second"))
    });
    let first = world.agent();
    let held = (0..2).map(|_| first.open("openrouter.ai:443")).collect::<Vec<_>>();
    first.connect("openrouter.ai:443").0.expect_own(503, "overloaded");
    assert_eq!(second.get("openrouter.ai", "/").status, 200);
    drop(held);
    within(Duration::from_secs(2), "room again", || (first.connect("openrouter.ai:443").0.status == 200).then_some(()));
}
