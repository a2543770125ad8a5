//! `[timeouts]`: each is honoured, whatever either side speaks, and none of them limits a request's whole life.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, Version};
use tokio_rustls::TlsAcceptor;

use super::listener_h2::open;
use crate::support::origin::AUTHORITY;
use crate::support::over_h2::{Proxy, code, run};
use crate::support::raw::read_reply;
use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Home, Origin, Serve, World, fresh_key, within};

const LISTENERS: &str = "[proxy]\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\ntls_names = [\"proxy.internal\"]\n";

/// A world whose hosts are all somewhere else than its origin.
fn elsewhere(address: SocketAddr, more: &str) -> World {
    let origin = Origin::agreeable(&HOSTS);
    let home = Home::bare("");
    let text = configuration(&home, &origin, &format!("{LISTENERS}{more}"));
    home.configure(&text.replace(&origin.address().to_string(), &address.to_string()));
    home.ok(&["init"]);
    home.add_key("real", &["*.openrouter.ai"], &fresh_key());
    let serve = Serve::start(&home);
    World { serve, origin, home, key: String::new() }
}

/// A port of loopback at which nobody answers: its queue is full, so that the system drops what knocks.
struct Unanswering {
    listener: socket2::Socket,
    _queued: Vec<socket2::Socket>,
}

impl Unanswering {
    fn start() -> Self {
        let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let listener = socket();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        // One more than fit: it is the first that waits.
        while queued.len() < 16 {
            let next = socket();
            let waits = next.connect_timeout(&address, Duration::from_millis(300)).is_err();
            queued.push(next);
            if waits {
                break;
            }
        }
        assert!(queued.len() < 16, "the queue fills");
        Self { listener, _queued: queued }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap().as_socket().unwrap()
    }
}

/// Within a few seconds of a limit of a few hundred milliseconds, on a machine with other things to do.
#[track_caller]
fn soon(start: Instant) {
    assert!((Duration::from_millis(250)..Duration::from_secs(8)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[test]
fn connecting_has_its_limit() {
    let nobody = Unanswering::start();
    let world = elsewhere(nobody.address(), "[timeouts]\nconnect = \"300ms\"\n");
    let agent = world.agent();
    let start = Instant::now();
    agent.connect("example.net:443").0.expect_own(504, "connect_timeout");
    soon(start);
    let start = Instant::now();
    agent.get("openrouter.ai", "/").expect_own(504, "connect_timeout");
    soon(start);
    run(async {
        let proxy = open(&world).await;
        let start = Instant::now();
        assert_eq!(code(&proxy.get("https://openrouter.ai/", &[]).await), (504, "connect_timeout"));
        let (answer, _send) = proxy.connect_as("example.net:443", Some(&proxy.proof)).await;
        assert_eq!(answer.status(), 504);
        soon(start);
    });
}

#[test]
fn a_silent_origins_handshake_has_its_limit() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let world = elsewhere(silent.local_addr().unwrap(), "[timeouts]\ntls = \"300ms\"\n");
    let start = Instant::now();
    world.agent().get("openrouter.ai", "/").expect_own(504, "upstream_timeout");
    soon(start);
    run(async {
        let start = Instant::now();
        assert_eq!(code(&open(&world).await.get("https://openrouter.ai/", &[]).await), (504, "upstream_timeout"));
        soon(start);
    });
}

/// How long the other end keeps a silent connection.
#[track_caller]
fn closed_soon(mut stream: TcpStream, what: &str) {
    let start = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    assert!(start.elapsed() < Duration::from_secs(8), "{what}: {:?}", start.elapsed());
}

#[test]
fn a_silent_agents_handshake_has_its_limit() {
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), &format!("{LISTENERS}[timeouts]\ntls = \"300ms\"\n"));
    closed_soon(TcpStream::connect(super::listeners::tls_address(&world.serve)).unwrap(), "tls_listen");
    let (_, mut stream) = world.agent().connect("openrouter.ai:443");
    // A record's head, and no record.
    stream.write_all(&[22, 3, 1, 2, 0]).unwrap();
    closed_soon(stream, "inside a tunnel");
    within(Duration::from_secs(5), "the record", || {
        std::fs::read_to_string(world.home.path().join("audit.jsonl")).unwrap().contains("agent_tls").then_some(())
    });
}

#[test]
fn a_head_that_trickles_has_its_limit() {
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), "[timeouts]\nrequest_head = \"500ms\"\n");
    let agent = world.agent();
    let trickle = |stream: &mut dyn std::io::Write, head: &str| {
        let start = Instant::now();
        for byte in head.as_bytes() {
            // What is slow is the client: nothing is waited for here.
            std::thread::sleep(Duration::from_millis(40));
            if stream.write_all(&[*byte]).and_then(|()| stream.flush()).is_err() {
                break;
            }
        }
        start.elapsed()
    };
    // Shorter than the time for which the proxy reads on after its answer.
    let long = "GET http://openrouter.ai/ HTTP/1.1\r\n";
    let mut stream = agent.dial();
    let mut other = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let start = Instant::now();
        (read_reply(&mut other, None).unwrap(), start.elapsed())
    });
    trickle(&mut stream, long);
    let (reply, took) = reading.join().unwrap();
    reply.expect_own(408, "request_timeout");
    assert!(took < Duration::from_secs(4), "{took:?}");
    let mut conn = agent.open("openrouter.ai:443");
    assert_eq!(conn.get("openrouter.ai", "/").status, 200);
    trickle(&mut conn.stream, long);
    conn.reply().expect_own(408, "request_timeout");
}

/// An origin of HTTP/2 that begins an answer, and is silent from then on.
fn begins_over_http2() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let tls = TlsAcceptor::from(AUTHORITY.server(&HOSTS, &["h2"]).unwrap());
            while let Ok((stream, _)) = listener.accept().await {
                let tls = tls.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(tls.accept(stream).await.ok()?).await.ok()?;
                    let mut held = Vec::new();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        if request.uri().path() == "/begins" {
                            let mut body = respond.send_response(Response::new(()), false).ok()?;
                            body.send_data(Bytes::from_static(b"begun"), false).ok()?;
                            held.push((request, body));
                        } else {
                            std::mem::forget((request, respond));
                        }
                    }
                    Some(())
                });
            }
        });
    });
    address
}

/// An answer that stops in its midst, as each kind of agent sees it.
fn expect_cut(world: &World) {
    let agent = world.agent();
    let start = Instant::now();
    let mut conn = agent.open("openrouter.ai:443");
    conn.send("GET /begins HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    conn.read_until("begun");
    let rest = conn.read_rest();
    assert!(!rest.contains("0\r\n\r\n"), "a cut answer does not look whole: {rest}");
    soon(start);
    agent.get("openrouter.ai", "/never").expect_own(504, "upstream_timeout");
    run(async {
        let proxy: Proxy = open(world).await;
        let start = Instant::now();
        let request = Request::get("https://openrouter.ai/begins").version(Version::HTTP_2).header("proxy-authorization", &proxy.proof);
        let mut body = proxy.request(request.body(()).unwrap(), true).await.0.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "begun");
        let end = body.data().await.expect("an error, not the end").unwrap_err();
        assert!(end.is_reset(), "{end}");
        assert_eq!(code(&proxy.get("https://openrouter.ai/never", &[]).await), (504, "upstream_timeout"));
        soon(start);
    });
    within(Duration::from_secs(5), "four records", || {
        let log = std::fs::read_to_string(world.home.path().join("audit.jsonl")).unwrap();
        (log.lines().filter(|l| l.contains("upstream_timeout")).count() == 4).then_some(())
    });
}

#[test]
fn silence_in_the_midst_of_an_answer_has_its_limit() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        if exchange.request.target == "/begins" {
            exchange.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n")?;
        }
        exchange.wait_for_end(Duration::from_secs(30))
    });
    // More than the scrubber holds anything back for.
    let idle = "[timeouts]\nidle = \"900ms\"\n";
    expect_cut(&World::with_configuration(origin, fresh_key(), &format!("{LISTENERS}{idle}")));
    expect_cut(&elsewhere(begins_over_http2(), idle));
}

#[test]
fn a_trickle_outlives_every_limit() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n")?;
        for _ in 0..16 {
            // A slow origin is what is tested.
            std::thread::sleep(Duration::from_millis(200));
            exchange.write("x")?;
        }
        Ok(())
    });
    let limits = "[timeouts]\nconnect = \"1s\"\ntls = \"1s\"\nrequest_head = \"1s\"\nidle = \"1500ms\"\ndrain = \"1s\"\n";
    let world = World::with_configuration(origin, fresh_key(), &format!("{LISTENERS}{limits}"));
    let agent = world.agent();
    let reading = [
        std::thread::spawn({
            let agent = agent.clone();
            move || agent.get("openrouter.ai", "/").text()
        }),
        std::thread::spawn({
            let agent = agent.clone();
            move || agent.get("example.net", "/").text()
        }),
    ];
    run(async {
        let proxy = open(&world).await;
        let start = Instant::now();
        assert_eq!(proxy.get("https://openrouter.ai/", &[]).await.0, 200);
        assert!(start.elapsed() > Duration::from_secs(3));
    });
    for text in reading {
        assert_eq!(text.join().unwrap(), "x".repeat(16));
    }
}

/// An agent that takes nothing of an answer is silent too.
#[test]
fn an_agent_that_takes_nothing_has_its_limit() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")?;
        while exchange.write(vec![7; 1 << 16]).is_ok() {}
        Ok(())
    });
    let world = World::with_configuration(origin, fresh_key(), &format!("{LISTENERS}[timeouts]\nidle = \"400ms\"\n"));
    let agent: Agent = world.agent();
    let mut conn = agent.open("openrouter.ai:443");
    conn.send("GET /unread HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    let recorded = || {
        let log = std::fs::read_to_string(world.home.path().join("audit.jsonl")).unwrap_or_default();
        log.lines().filter(|l| l.contains("/unread") && l.contains("upstream_timeout")).count()
    };
    within(Duration::from_secs(10), "it is ended", || (recorded() == 1).then_some(()));
    run(async {
        let proxy = open(&world).await;
        let request = Request::get("https://openrouter.ai/unread").version(Version::HTTP_2).header("proxy-authorization", &proxy.proof);
        let (answer, _send) = proxy.request(request.body(()).unwrap(), true).await;
        let _unread = answer.unwrap();
        let start = Instant::now();
        while recorded() < 2 {
            assert!(start.elapsed() < Duration::from_secs(10), "it is ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
