//! The forms in which clients write a CONNECT, and the ClientHellos that follow (FIELD notes on clients).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::support::raw::{Conn, read_reply, trusting};
use crate::support::{World, within};

#[test]
fn a_connect_is_taken_in_every_form_that_clients_write() {
    let world = World::agreeable();
    let agent = world.agent();
    let forms = [
        ("HTTP/1.0", "CONNECT {host}:443 HTTP/1.0\r\n{proof}\r\n"),
        ("HTTP/1.0 with a Host", "CONNECT {host}:443 HTTP/1.0\r\nHost: {host}\r\n{proof}\r\n"),
        ("no Host", "CONNECT {host}:443 HTTP/1.1\r\n{proof}\r\n"),
        ("a Host without the port", "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\n{proof}\r\n"),
        ("another Host", "CONNECT {host}:443 HTTP/1.1\r\nHost: elsewhere.example\r\n{proof}\r\n"),
        ("an empty Host", "CONNECT {host}:443 HTTP/1.1\r\nHost:\r\n{proof}\r\n"),
        ("undici's", "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{proof}\r\n"),
        ("curl's", "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n{proof}User-Agent: curl\r\nProxy-Connection: Keep-Alive\r\n\r\n"),
        ("Proxy-Connection: close", "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\nProxy-Connection: close\r\n{proof}\r\n"),
        ("a trailing dot", "CONNECT {host}.:443 HTTP/1.1\r\nHost: {host}.:443\r\n{proof}\r\n"),
        ("upper case", "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{proof}\r\n"),
    ];
    for (case, form) in forms {
        for host in ["openrouter.ai", "example.net"] {
            let proof = format!("Proxy-Authorization: {}\r\n", agent.authorization);
            let head = form.replace("{host}", host).replace("{HOST}", &host.to_uppercase()).replace("{proof}", &proof);
            let mut stream = agent.dial();
            stream.write_all(head.as_bytes()).unwrap();
            let reply = read_reply(&mut stream, Some("CONNECT")).unwrap();
            assert_eq!(reply.status, 200, "{case}, {host}: {reply:?}");
            assert!(reply.values("content-length").is_empty() && reply.values("transfer-encoding").is_empty(), "RFC 9110 9.3.6: {reply:?}");
            let mut conn = agent.handshake(stream, host, true).unwrap_or_else(|e| panic!("{case}, {host}: {e}"));
            assert_eq!(conn.intercepted(), host == "openrouter.ai", "{case}");
            // Whatever the CONNECT said of its connection, the tunnel carries more than one request.
            assert_eq!((conn.get(host, "/1").status, conn.get(host, "/2").status), (200, 200), "{case}, {host}");
        }
    }
}

#[test]
fn what_follows_a_connect_without_proof_is_no_try_of_its_own() {
    let world = World::agreeable();
    let agent = world.agent();
    let mut stream = agent.dial();
    let smuggled =
        format!("GET http://openrouter.ai/smuggled HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {}\r\n\r\n", agent.authorization);
    stream.write_all(format!("CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\n\r\n{smuggled}").as_bytes()).unwrap();
    read_reply(&mut stream, Some("CONNECT")).unwrap().expect_own(407, "proxy_auth_required");
    assert_eq!(stream.read(&mut [0; 64]).unwrap_or(0), 0, "it could be meant for the tunnel");
    assert!(world.origin.recorded().is_empty());
}

#[test]
fn a_client_that_says_close_is_not_left_waiting_after_a_407() {
    let world = World::agreeable();
    for head in
        ["CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\nConnection: close\r\n\r\n", "CONNECT openrouter.ai:443 HTTP/1.0\r\n\r\n"]
    {
        let mut stream = world.agent().dial();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        read_reply(&mut stream, Some("CONNECT")).unwrap().expect_own(407, "proxy_auth_required");
        assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0, "{head}");
    }
}

/// A handshake for a host whose first flight the test sends in its own way.
struct Hello {
    session: ClientConnection,
    bytes: Vec<u8>,
}

impl Hello {
    /// With `padding` bytes of protocols that nobody speaks.
    fn new(world: &World, host: &str, padding: usize) -> Self {
        let mut tls = (*trusting(&world.home.path().join("ca.pem"), &["http/1.1"])).clone();
        tls.alpn_protocols.extend((0..padding / 250).map(|i| format!("{i:0249}").into_bytes()));
        let mut session = ClientConnection::new(Arc::new(tls), ServerName::try_from(host.to_owned()).unwrap()).unwrap();
        let mut bytes = Vec::new();
        session.write_tls(&mut bytes).unwrap();
        Self { session, bytes }
    }

    /// The handshake message cut into records of so many bytes (RFC 8446 5.1).
    fn in_records_of(mut self, size: usize) -> Self {
        let (mut message, mut rest) = (Vec::new(), self.bytes.as_slice());
        while let [22, _, _, high, low, tail @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            message.extend_from_slice(&tail[..length]);
            rest = &tail[length..];
        }
        let record = |part: &[u8]| [&[22, 3, 1][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat();
        self.bytes = message.chunks(size).flat_map(record).collect();
        self
    }

    /// Sends the first flight in pieces of so many bytes, ends the handshake, and asks for `/`.
    fn finish(mut self, mut stream: TcpStream, pieces: usize) -> u16 {
        for piece in self.bytes.chunks(pieces) {
            stream.write_all(piece).unwrap();
        }
        while self.session.is_handshaking() {
            self.session.complete_io(&mut stream).unwrap();
        }
        let mut conn = Conn { stream: rustls::StreamOwned::new(self.session, stream) };
        assert!(conn.intercepted());
        conn.get("openrouter.ai", "/").status
    }
}

#[test]
fn a_client_hello_may_come_in_any_pieces() {
    let world = World::agreeable();
    let agent = world.agent();
    let tunnel = || agent.connect("openrouter.ai:443").1;
    let hello = || Hello::new(&world, "openrouter.ai", 0);
    // Without Nagle's algorithm each write is a segment.
    assert_eq!(hello().finish(tunnel(), 1), 200, "segments of one byte");
    for size in [1, 3, 4, 5, 64, 1000] {
        assert_eq!(hello().in_records_of(size).finish(tunnel(), usize::MAX), 200, "records of {size} bytes");
    }
    assert_eq!(hello().in_records_of(50).finish(tunnel(), 1), 200, "both");
}

#[test]
fn a_client_hello_may_be_large() {
    let world = World::agreeable();
    let agent = world.agent();
    for padding in [10_000, 20_000, 60_000] {
        let hello = Hello::new(&world, "openrouter.ai", padding);
        assert!(hello.bytes.len() > padding);
        assert_eq!(hello.finish(agent.connect("openrouter.ai:443").1, 1400), 200, "{padding} bytes");
        // With the CONNECT itself, in one piece.
        let hello = Hello::new(&world, "openrouter.ai", padding).in_records_of(1 << 14);
        let head = format!("CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {}\r\n\r\n", agent.authorization);
        let mut stream = agent.dial();
        stream.write_all(&[head.as_bytes(), &hello.bytes].concat()).unwrap();
        assert_eq!(read_reply(&mut stream, Some("CONNECT")).unwrap().status, 200);
        let hello = Hello { bytes: Vec::new(), ..hello };
        assert_eq!(hello.finish(stream, 1), 200, "{padding} bytes ahead");
    }
}

#[test]
fn what_is_sent_ahead_through_a_blind_tunnel_arrives() {
    let world = World::agreeable();
    let agent = world.agent();
    let hello = Hello::new(&world, "example.net", 0);
    let head = format!("CONNECT example.net:443 HTTP/1.1\r\nHost: example.net\r\nProxy-Authorization: {}\r\n\r\n", agent.authorization);
    let mut stream = agent.dial();
    stream.write_all(&[head.as_bytes(), &hello.bytes].concat()).unwrap();
    assert_eq!(read_reply(&mut stream, Some("CONNECT")).unwrap().status, 200);
    let mut session = hello.session;
    while session.is_handshaking() {
        session.complete_io(&mut stream).unwrap();
    }
    within(Duration::from_secs(5), "the origin has seen it", || (world.origin.handshakes() == 1).then_some(()));
}
