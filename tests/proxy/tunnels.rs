//! Blind tunnels, and traffic on the proxy's port that is not HTTP.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::raw::{authorization, read_reply};
use crate::support::{Agent, Home, Serve, World, within};

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
    assert_eq!(read_reply(&mut stream, Some("CONNECT")).unwrap().status, 200);
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

/// Bytes of which each tells where it stands.
fn pattern(from: u64, length: usize) -> Vec<u8> {
    (from..from + length as u64).map(|at| (at % 251) as u8).collect()
}

/// Sends the pattern until it is told to stop: how much that was.
fn pour(stream: &mut TcpStream, from: u64, stop: &AtomicBool) -> u64 {
    let mut sent = from;
    while !stop.load(Ordering::SeqCst) {
        stream.write_all(&pattern(sent, 200_000)).unwrap();
        sent += 200_000;
    }
    sent
}

fn take(stream: &mut TcpStream, from: u64, length: u64) {
    let mut buffer = vec![0; 150_000];
    let mut at = from;
    while at < from + length {
        let wanted = buffer.len().min(usize::try_from(from + length - at).unwrap());
        let got = stream.read(&mut buffer[..wanted]).unwrap();
        assert!(got > 0 && buffer[..got] == pattern(at, got), "the bytes from {at} on are the same");
        at += got as u64;
    }
}

/// The pipes that the process has open.
fn pipes(serve: &Serve) -> usize {
    let dir = std::fs::read_dir(format!("/proc/{}/fd", serve.pid())).unwrap();
    dir.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).filter(|to| to.to_string_lossy().starts_with("pipe:")).count()
}

#[test]
fn a_flow_passes_by_pipes_which_an_idle_tunnel_does_not_hold() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::bare(&format!("[resolve]\n\"example.net:443\" = \"{}\"\n", listener.local_addr().unwrap()));
    home.ok(&["init"]);
    let serve = Serve::start(&home);
    let before = pipes(&serve);
    let mut near = Agent::new(&home, &serve).connect("example.net:443").1;
    let (mut far, _) = listener.accept().unwrap();
    let mut sent = 0;
    for _ in 0..2 {
        let stop = Arc::new(AtomicBool::new(false));
        let pouring = std::thread::spawn({
            let (mut far, stop) = (far.try_clone().unwrap(), Arc::clone(&stop));
            move || pour(&mut far, sent, &stop)
        });
        let taking = std::thread::spawn({
            let (mut near, stop) = (near.try_clone().unwrap(), Arc::clone(&stop));
            move || {
                let mut taken = sent;
                // What is under way at the end is taken below.
                while !stop.load(Ordering::SeqCst) {
                    take(&mut near, taken, 100_000);
                    taken += 100_000;
                }
                taken
            }
        });
        if cfg!(target_os = "linux") {
            within(Duration::from_secs(10), "a pipe while bytes flow", || (pipes(&serve) == before + 2).then_some(()));
        }
        stop.store(true, Ordering::SeqCst);
        let taken = taking.join().unwrap();
        // The rest has to be taken for the pouring to end.
        sent = finish(&mut near, taken, pouring);
        within(Duration::from_secs(10), "none while it is idle", || (pipes(&serve) == before).then_some(()));
        // Small things pass at once in between, both ways.
        for _ in 0..20 {
            far.write_all(b"ping").unwrap();
            let mut small = [0; 4];
            near.read_exact(&mut small).unwrap();
            near.write_all(&small).unwrap();
            far.read_exact(&mut small).unwrap();
            assert_eq!((&small, pipes(&serve)), (b"ping", before));
        }
    }
    // One side closes after a flow; the other goes on with one.
    let ending = std::thread::spawn(move || {
        far.write_all(&pattern(0, 5_000_000)).unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        far.read_to_end(&mut all).unwrap();
        all
    });
    let mut rest = Vec::new();
    near.read_to_end(&mut rest).unwrap();
    assert!(rest == pattern(0, 5_000_000));
    near.write_all(&pattern(0, 7_000_000)).unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    assert!(ending.join().unwrap() == pattern(0, 7_000_000));
    let (up, down) = (7_000_000 + 2 * 20 * 4, sent + 2 * 20 * 4 + 5_000_000);
    within(Duration::from_secs(5), "every byte is counted", || {
        let log = std::fs::read_to_string(home.path().join("audit.jsonl")).unwrap();
        let last: serde_json::Value = serde_json::from_str(log.lines().rfind(|l| l.contains("example.net") && l.contains("unmatched"))?).unwrap();
        assert_eq!((last["bytes_up"].as_u64(), last["bytes_down"].as_u64()), (Some(up), Some(down)), "{last}");
        Some(())
    });
    assert_eq!(pipes(&serve), before);
}

/// Takes what was poured beyond `taken`, until the pouring has ended: how much it was in all.
fn finish(near: &mut TcpStream, mut taken: u64, all: std::thread::JoinHandle<u64>) -> u64 {
    while !all.is_finished() {
        near.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut buffer = vec![0; 100_000];
        if let Ok(got) = near.read(&mut buffer) {
            assert!(buffer[..got] == pattern(taken, got));
            taken += got as u64;
        }
    }
    near.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let sent = all.join().unwrap();
    take(near, taken, sent - taken);
    sent
}

#[test]
fn a_flow_from_a_unix_socket_is_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let home = Home::bare("");
    let socket = home.outside().join("proxy.sock");
    home.configure(&format!("[proxy]\nlisten = \"unix:{}\"\n[resolve]\n\"example.net:443\" = \"{address}\"\n", socket.display()));
    home.ok(&["init"]);
    let serve = Serve::start_asking(&home, &[], &[], &["--proxy-url", "http://proxy.internal:3128"]);
    let mut near = UnixStream::connect(&socket).unwrap();
    let proof = authorization(&serve.env["HTTPS_PROXY"]);
    near.write_all(format!("CONNECT example.net:443 HTTP/1.1\r\nProxy-Authorization: {proof}\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(read_reply(&mut near, Some("CONNECT")).unwrap().status, 200);
    let (mut far, _) = listener.accept().unwrap();
    let echo = std::thread::spawn(move || {
        let mut all = Vec::new();
        far.read_to_end(&mut all).unwrap();
        far.write_all(&all).unwrap();
    });
    near.write_all(&pattern(0, 9_000_000)).unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    near.read_to_end(&mut back).unwrap();
    assert!(back == pattern(0, 9_000_000), "{}", back.len());
    echo.join().unwrap();
}
