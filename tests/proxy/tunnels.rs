//! Blind tunnels, and traffic on the proxy's port that is not HTTP.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::time::Duration;

use crate::support::{Agent, Home, Serve, World};

#[test]
fn a_blind_tunnel_is_a_plain_copy_with_half_close_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"banner\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(format!("{}", all.len()).as_bytes()).unwrap();
        all
    });
    let home = Home::bare(&format!("[resolve]\n\"example.net:443\" = \"{address}\"\n"));
    home.ok(&["init"]);
    let serve = Serve::start(&home);
    let (reply, mut stream) = Agent::new(&home, &serve).connect("example.net:443");
    assert_eq!(reply.status, 200);
    let mut banner = [0; 7];
    stream.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"banner\n", "the server may speak first");
    let sent: Vec<u8> = (0..=255_u8).cycle().take(1 << 20).collect();
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, sent.len().to_string(), "what comes after the agent's half is closed arrives");
    assert!(peer.join().unwrap() == sent, "the bytes are the same");
}

#[test]
fn bytes_sent_with_the_connect_are_not_lost() {
    // Some clients do not wait for the 200.
    let world = World::agreeable();
    let agent = world.agent();
    let mut session = rustls::ClientConnection::new(
        crate::support::raw::trusting(&world.home.path().join("ca.pem"), &[]),
        rustls::pki_types::ServerName::try_from("openrouter.ai").unwrap(),
    )
    .unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    let mut stream = agent.dial();
    let head = format!("CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\nProxy-Authorization: {}\r\n\r\n", agent.authorization);
    stream.write_all(&[head.as_bytes(), &hello].concat()).unwrap();
    assert_eq!(crate::support::raw::read_reply(&mut stream, Some("CONNECT")).unwrap().status, 200);
    while session.is_handshaking() {
        session.complete_io(&mut stream).unwrap();
    }
}

#[test]
fn a_refused_dial_is_an_answer_on_the_connect_itself() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let home = Home::bare(&format!("[resolve]\n\"example.net:443\" = \"{nobody}\"\n"));
    home.ok(&["init"]);
    let serve = Serve::start(&home);
    let (reply, _) = Agent::new(&home, &serve).connect("example.net:443");
    reply.expect_own(502, "connect_error");
    assert!(reply.reason.len() > 12, "the reason phrase says why: {:?}", reply.reason);
}

#[test]
fn garbage_and_silence_on_the_proxys_port_harm_nobody() {
    let world = World::new();
    let agent = world.agent();
    for garbage in
        [&b"\x00\x01\x02\x03"[..], b"\x16\x03\x01\x02\x00\x01\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET", b"\r\n\r\n\r\n", &[b'A'; 100_000]]
    {
        let mut stream = agent.dial();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    }
    let idle = (0..50).map(|_| agent.dial()).collect::<Vec<_>>();
    assert_eq!(agent.get("openrouter.ai", "/").status, 200);
    drop(idle);
    assert!(!world.serve.log().contains("panicked"), "{}", world.serve.log());
}
