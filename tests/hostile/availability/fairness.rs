//! How much later another agent's answers come while one floods. It measures, and so is not run with the others: see
//! CONTRIBUTING.md.
//!
//! The flood's own client and the origin take their part of this machine's processors. So each flood is run twice: through
//! the proxy, and straight to the origin, where the proxy has no part in it; what is compared is how late the other agent's
//! answers are, which come through the proxy both times.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Stage, floods};
use crate::support::raw::{Conn, read_reply};
use crate::support::world::HOSTS;
use crate::support::{Agent, Origin};

/// The other agent asks so often, for so long.
const EVERY: Duration = Duration::from_millis(10);
const FOR: Duration = Duration::from_secs(4);
/// Each so-many-th time over a connection of its own.
const FRESH: usize = 10;
const THREADS: usize = 64;

/// How late answers were, in microseconds, in order.
struct Delays {
    kept: Vec<u64>,
    fresh: Vec<u64>,
    rounds: usize,
}

fn at(delays: &[u64], percent: usize) -> u64 {
    delays[(delays.len() - 1) * percent / 100]
}

/// The other agent's delays while this goes on.
fn beside(stage: &Stage, flood: Option<&(dyn Fn(usize) -> io::Result<u16> + Sync)>) -> Delays {
    let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut delays = Delays { kept: Vec::new(), fresh: Vec::new(), rounds: 0 };
    std::thread::scope(|scope| {
        for _ in 0..if flood.is_some() { THREADS } else { 0 } {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let _ = flood.unwrap()(rounds.fetch_add(1, Ordering::SeqCst));
                }
            });
        }
        let agent = stage.world.agent();
        let mut kept = agent.open("openrouter.ai:443");
        // It has begun.
        std::thread::sleep(Duration::from_millis(500));
        let (begun, from) = (Instant::now(), rounds.load(Ordering::SeqCst));
        let mut count = 0;
        while begun.elapsed() < FOR {
            let asked = Instant::now();
            count += 1;
            let (status, into) = if count % FRESH == 0 {
                (agent.get("openrouter.ai", "/").status, &mut delays.fresh)
            } else {
                (kept.get("openrouter.ai", "/").status, &mut delays.kept)
            };
            assert_eq!(status, 200);
            into.push(u64::try_from(asked.elapsed().as_micros()).unwrap());
            std::thread::sleep(EVERY.saturating_sub(asked.elapsed()));
        }
        delays.rounds = rounds.load(Ordering::SeqCst) - from;
        over.store(true, Ordering::SeqCst);
    });
    stage.world.origin.forget();
    delays.kept.sort_unstable();
    delays.fresh.sort_unstable();
    delays
}

fn direct(stage: &Stage) -> io::Result<Conn> {
    stage.flooder.handshake(std::net::TcpStream::connect(stage.world.origin.address())?, "openrouter.ai", true)
}

const ASK: &str = "GET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n";

/// As many requests as go through in half a second, on one connection.
fn many(mut conn: Conn) -> io::Result<u16> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {
        conn.try_send(ASK)?;
        conn.try_reply()?;
    }
    Ok(200)
}

fn plain(stage: &Stage) -> io::Result<u16> {
    use std::io::Write as _;
    let mut stream = std::net::TcpStream::connect(stage.world.origin.address())?;
    stream.write_all(ASK.as_bytes())?;
    Ok(read_reply(&mut stream, None)?.status)
}

fn once(mut conn: Conn) -> io::Result<u16> {
    conn.try_send(ASK)?;
    Ok(conn.try_reply()?.status)
}

fn upload(mut conn: Conn) -> io::Result<u16> {
    let body = "x".repeat(256 << 10);
    conn.try_send(format!("POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: {}\r\n\r\n{body}", body.len()))?;
    Ok(conn.try_reply()?.status)
}

type Run = fn(&Stage, usize) -> io::Result<u16>;

/// A flood, and what is set against it.
const FLOODS: [(&str, Run, Run); 8] = [
    ("requests on kept connections", |s, _| many(s.flooder.try_open("openrouter.ai:443")?), |s, _| many(direct(s)?)),
    ("a connection a request", |s, _| once(s.flooder.try_open("openrouter.ai:443")?), |s, _| once(direct(s)?)),
    ("tunnels and handshakes", floods::handshake, |s, _| direct(s).map(|_| 0)),
    ("random subdomains", floods::subdomain, |s, _| direct(s).map(|_| 0)),
    ("tries without a proof", |s, _| floods::unproved(&s.flooder), |s, _| plain(s)),
    ("requests for another host", floods::misdirected, |s, _| once(direct(s)?)),
    ("uploads of 256 KiB", floods::upload, |s, _| upload(direct(s)?)),
    ("streams reset at once", floods::resets, |s, _| many(direct(s)?)),
];

#[test]
#[ignore = "it measures: see CONTRIBUTING.md"]
fn a_flood_leaves_anothers_p99_within_three_times() {
    let stage = Stage::with_origin(Origin::agreeable(&HOSTS), "");
    let agent: Agent = stage.world.agent();
    assert_eq!(agent.get("openrouter.ai", "/").status, 200);
    let alone = beside(&stage, None);
    println!("microseconds, p50 / p99; kept: over a connection that stays, fresh: CONNECT, handshake and request");
    println!(
        "alone                             kept {:>6} / {:>6}   fresh {:>6} / {:>6}",
        at(&alone.kept, 50),
        at(&alone.kept, 99),
        at(&alone.fresh, 50),
        at(&alone.fresh, 99)
    );
    let mut worst: f64 = 0.0;
    for (name, through, beside_it) in FLOODS {
        let flooded = beside(&stage, Some(&|n| through(&stage, n)));
        let set_against = beside(&stage, Some(&|n| beside_it(&stage, n)));
        for (what, delays) in [("through", &flooded), ("direct", &set_against)] {
            println!(
                "{name:<28} {what:<8} kept {:>6} / {:>6}   fresh {:>6} / {:>6}   {} rounds",
                at(&delays.kept, 50),
                at(&delays.kept, 99),
                at(&delays.fresh, 50),
                at(&delays.fresh, 99),
                delays.rounds
            );
        }
        #[expect(clippy::cast_precision_loss, reason = "a ratio to be read")]
        let ratio = |a: u64, b: u64| a as f64 / b as f64;
        let kept = ratio(at(&flooded.kept, 99), at(&set_against.kept, 99));
        println!("{name:<28} p99 kept {kept:.2} times, fresh {:.2} times", ratio(at(&flooded.fresh, 99), at(&set_against.fresh, 99)));
        worst = worst.max(kept);
    }
    assert!(worst <= 3.0, "{worst:.2} times");
}
