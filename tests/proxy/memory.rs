//! What the proxy may hold in memory.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Home, Origin, Serve, World, fresh_key};

const SIZE: usize = 200 << 20;
const LIMIT_KIB: u64 = 64 << 10;
const PART: usize = 64 << 10;

/// An origin that swallows uploads and sends downloads; the target says how.
fn bulk() -> Origin {
    Origin::start(&HOSTS, |exchange| {
        let received = exchange.each_part(|_| {})?;
        match exchange.request.target.as_str() {
            "/down/length" => {
                exchange.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"))?;
                (0..SIZE / PART).try_for_each(|_| exchange.write([b'x'; PART]))
            }
            "/down/chunked" => {
                exchange.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                let chunk = [format!("{PART:x}\r\n").as_bytes(), &[b'x'; PART], b"\r\n"].concat();
                (0..SIZE / PART).try_for_each(|_| exchange.write(&chunk))?;
                exchange.write("0\r\n\r\n")
            }
            _ => exchange.json(200, &received.to_string()),
        }
    })
}

/// Argon2's 64 MiB are given back before the first request: what counts is what is resident while bytes flow.
fn small_while(serve: &Serve, work: impl FnOnce() + Send) {
    let watch = AtomicUsize::new(1);
    let greatest = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut greatest = 0;
            while watch.load(Ordering::SeqCst) == 1 {
                greatest = greatest.max(serve.memory().0);
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            greatest
        });
        // Also where the work fails: the watcher must end.
        let stop = Stop(&watch);
        work();
        drop(stop);
        watcher.join().unwrap()
    });
    assert!(greatest < LIMIT_KIB, "{greatest} KiB were resident");
    println!("greatest resident size: {greatest} KiB");
}

struct Stop<'a>(&'a AtomicUsize);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

fn upload(world: &World, host: &str, chunked: bool) {
    let mut conn = world.agent().open(&format!("{host}:443"));
    let framing = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {SIZE}") };
    conn.send(format!("POST /up HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n"));
    let part = [b'y'; PART];
    let chunk = [format!("{PART:x}\r\n").as_bytes(), &part, b"\r\n"].concat();
    for _ in 0..SIZE / PART {
        conn.stream.write_all(if chunked { &chunk } else { &part }).unwrap();
    }
    if chunked {
        conn.send("0\r\n\r\n");
    }
    let reply = conn.reply();
    assert_eq!((reply.status, reply.text()), (200, SIZE.to_string()));
}

fn download(world: &World, host: &str, chunked: bool) {
    let mut conn = world.agent().open(&format!("{host}:443"));
    let target = if chunked { "/down/chunked" } else { "/down/length" };
    conn.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let head = crate::support::raw::read_reply_head(&mut conn.stream).unwrap();
    assert_eq!(head.status, 200);
    let (mut buffer, mut found) = (vec![0; 1 << 20], 0);
    while found < SIZE {
        let got = conn.stream.read(&mut buffer).unwrap();
        assert!(got > 0, "ended after {found}");
        found += memchr::memchr_iter(b'x', &buffer[..got]).count();
    }
    assert_eq!(found, SIZE);
}

fn run_through(host: &str) {
    let world = World::with_origin(bulk(), fresh_key());
    small_while(&world.serve, || {
        for chunked in [true, false] {
            upload(&world, host, chunked);
            download(&world, host, chunked);
        }
    });
}

#[test]
fn bodies_of_200_mib_run_through_injected_in_less_than_64_mib() {
    run_through("openrouter.ai");
}

#[test]
fn bodies_of_200_mib_run_through_tunnelled_in_less_than_64_mib() {
    run_through("example.net");
}

#[test]
fn a_reader_that_takes_little_at_a_time_costs_no_memory() {
    let world = World::with_origin(bulk(), fresh_key());
    let agent = world.agent();
    small_while(&world.serve, || {
        // So small a window that the proxy's socket never takes all that waits.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&agent.proxy.into()).unwrap();
        let mut stream = std::net::TcpStream::from(socket);
        let authorization = &agent.authorization;
        write!(stream, "CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\nProxy-Authorization: {authorization}\r\n\r\n").unwrap();
        assert_eq!(crate::support::raw::read_reply_head(&mut stream).unwrap().status, 200);
        let mut conn = agent.handshake(stream, "openrouter.ai", true).unwrap();
        conn.send("GET /down/length HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
        let (mut buffer, mut got) = (vec![0; 16 << 10], 0);
        while got < SIZE / 2 {
            got += conn.stream.read(&mut buffer).unwrap();
        }
    });
}

#[test]
fn requests_that_come_without_a_pause_cost_no_memory() {
    let world = World::with_origin(bulk(), fresh_key());
    let agent = world.agent();
    small_while(&world.serve, || {
        let mut stream = agent.dial();
        let mut answers = stream.try_clone().unwrap();
        let reader = std::thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
        // Nobody proves anything, and each write ends amid a head.
        let request = format!("GET http://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\nX: {}\r\n\r\n", "x".repeat(50 << 10));
        let endless: Vec<u8> = request.bytes().cycle().take(request.len() * 9 + 7_001).collect();
        let whole = request.len() * 2_000;
        let mut sent = 0;
        while sent < whole {
            let from = sent % request.len();
            let piece = &endless[from..(from + 8 * request.len() + 7_001 - from % 5_003).min(endless.len())];
            stream.write_all(piece).unwrap();
            sent += piece.len();
        }
        drop(stream.shutdown(std::net::Shutdown::Both));
        drop(reader.join());
    });
}

#[test]
fn a_reader_that_stalls_costs_no_memory() {
    let world = World::with_origin(bulk(), fresh_key());
    let agent = world.agent();
    small_while(&world.serve, || {
        let stalled = (0..20)
            .map(|_| {
                let mut conn = agent.open("openrouter.ai:443");
                conn.send("GET /down/length HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
                conn.read_until("xxxx");
                conn
            })
            .collect::<Vec<_>>();
        upload(&world, "openrouter.ai", false);
        drop(stalled);
    });
}

/// `[resolve]` leads 10,000 hosts to one origin: each has its leaf, its upstream connection, its place in every cache.
#[test]
fn ten_thousand_hosts_leave_memory_bounded() {
    let origin = Origin::start(&["*.hosts.test"], |exchange| {
        exchange.read_body()?;
        exchange.answer(200, "connection: close\r\n", b"ok")?;
        exchange.close();
        Ok(())
    });
    let home = Home::bare("");
    let mut text = configuration(&home, &origin, "");
    for n in 0..10_000 {
        text.push_str(&format!("\"h{n}.hosts.test:443\" = \"{}\"\n", origin.address()));
    }
    home.configure(&text);
    home.ok(&["init"]);
    home.add_key("all", &["*.hosts.test"], &fresh_key());
    let serve = Serve::start(&home);
    let agent = Agent::new(&home, &serve);
    let ask = |range: std::ops::Range<usize>| {
        let next = AtomicUsize::new(range.start);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Ordering::SeqCst);
                        if n >= range.end {
                            return;
                        }
                        let host = format!("h{n}.hosts.test");
                        assert_eq!(agent.get(&host, "/").status, 200, "{host}");
                    }
                });
            }
        });
    };
    ask(0..4_000);
    let settled = serve.memory().0;
    ask(4_000..10_000);
    let after = serve.memory().0;
    println!("after 4,000 hosts {settled} KiB, after 10,000 hosts {after} KiB");
    assert!(after < settled + (12 << 10), "memory grows with the number of hosts: {settled} KiB, then {after} KiB");
    assert!(after < 128 << 10, "{after} KiB");
}
