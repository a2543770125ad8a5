//! What scrubbing costs an exchange, through the real binary over loopback: two credentials, one scrubbed and one not, by turns.
//!
//! Prints the time and the processor time of `serve` for a small request and for a download of 10 MiB, and the medians of the paired
//! ratios. Both should stay within 5 %. `cargo bench --bench scrub_exchange`; `-- --quick` for a short round.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench talks to a person, and is no part of the program"
)]
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs, reason = "it stands on what the tests stand on")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Read as _;
use std::time::{Duration, Instant};

use support::raw::Conn;
use support::world::HOSTS;
use support::{Origin, World, fresh_key};

const SIZE: usize = 10 << 20;
/// The scrubbed host, and the one that is not.
const SIDES: [&str; 2] = ["openrouter.ai", "example.net"];

/// The time and the processor time of a round, on each side.
type Pair = [(Duration, f64); 2];

/// One kind of round.
struct Scenario {
    name: &'static str,
    target: &'static str,
    /// Bytes of one answer.
    size: usize,
    /// Requests a round.
    count: usize,
    pairs: usize,
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let world = world();
    let pairs = if quick { 5 } else { 60 };
    let scenarios = [
        Scenario { name: "request, 300 B", target: "/small", size: SMALL.len(), count: if quick { 100 } else { 1_000 }, pairs },
        Scenario { name: "download of 10 MiB of JSON", target: "/json", size: SIZE, count: if quick { 1 } else { 4 }, pairs },
        Scenario { name: "download of 10 MiB of bytes", target: "/bytes", size: SIZE, count: if quick { 1 } else { 4 }, pairs },
    ];
    println!("{:30} {:>12} {:>12} {:>8} {:>12} {:>12} {:>8}", "", "time on", "off", "ratio", "CPU on", "off", "ratio");
    for scenario in &scenarios {
        measure(&world, scenario);
    }
}

const SMALL: &str = concat!(
    r#"{"id":"gen-1763712000-abcdefghijklmnop","provider":"bench","model":"bench/model","object":"chat.completion","created":1763712000,"#,
    r#""choices":[{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":"Hello there, how may I help?"}}],"#,
    r#""usage":{"prompt_tokens":12,"completion_tokens":9,"total_tokens":21}}"#
);

fn world() -> World {
    let json: Vec<u8> = SMALL.bytes().chain(*b", ").cycle().take(SIZE).collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as u8
    };
    let bytes: Vec<u8> = (0..SIZE).map(|_| byte()).collect();
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.read_body()?;
        match exchange.request.target.as_str() {
            "/json" => exchange.answer(200, "content-type: application/json\r\n", &json),
            "/bytes" => exchange.answer(200, "content-type: application/octet-stream\r\n", &bytes),
            _ => exchange.json(200, SMALL),
        }
    });
    let world = World::with_origin(origin, fresh_key());
    let off = ["credential", "add", "off", "--type", "bearer", "--allow", SIDES[1], "--scrub", "off"];
    world.home.ok_with(&off, &fresh_key());
    support::within(Duration::from_secs(2), "it is felt", || world.agent().try_open("example.net:443").ok().filter(Conn::intercepted).map(drop));
    world
}

/// By turns, the one that goes first changing too; what is compared are neighbours in time.
fn measure(world: &World, scenario: &Scenario) {
    let agent = world.agent();
    let mut conns = SIDES.map(|host| agent.open(&format!("{host}:443")));
    for side in 0..2 {
        round(world, &mut conns[side], SIDES[side], scenario);
    }
    let mut pairs = Vec::new();
    for pair in 0..scenario.pairs {
        let mut took = [(Duration::ZERO, 0.0); 2];
        for turn in 0..2 {
            let side = (pair + turn) % 2;
            took[side] = round(world, &mut conns[side], SIDES[side], scenario);
        }
        pairs.push(took);
        // The record of what was received would grow.
        world.origin.forget();
    }
    let median = |value: &dyn Fn(&Pair) -> f64| {
        let mut all: Vec<f64> = pairs.iter().map(value).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let each = |side: usize| median(&|pair| pair[side].0.as_secs_f64() * 1e6 / scenario.count as f64);
    let cpu = |side: usize| pairs.iter().map(|pair| pair[side].1).sum::<f64>() * 1e6 / (scenario.count * pairs.len()) as f64;
    println!(
        "{:30} {:>9.1} us {:>9.1} us {:>8.3} {:>9.1} us {:>9.1} us {:>8.3}",
        scenario.name,
        each(0),
        each(1),
        median(&|pair| pair[0].0.as_secs_f64() / pair[1].0.as_secs_f64()),
        cpu(0),
        cpu(1),
        cpu(0) / cpu(1),
    );
}

/// The time of so many requests one after the other, and the processor time of `serve` meanwhile, in seconds.
fn round(world: &World, conn: &mut Conn, host: &str, scenario: &Scenario) -> (Duration, f64) {
    let request = format!("GET {} HTTP/1.1\r\nHost: {host}\r\n\r\n", scenario.target);
    let mut buffer = vec![0; 256 << 10];
    let (cpu, start) = (processor_time(world.serve.pid()), Instant::now());
    for _ in 0..scenario.count {
        conn.send(&request);
        let (mut left, mut head) = (None, Vec::new());
        while left != Some(0) {
            let got = conn.stream.read(&mut buffer).unwrap();
            assert!(got > 0, "the answer is whole");
            left = match left {
                Some(left) => Some(left - got),
                None => {
                    head.extend_from_slice(&buffer[..got]);
                    let end = head.windows(4).position(|four| four == b"\r\n\r\n");
                    end.map(|end| scenario.size - (head.len() - end - 4))
                }
            };
        }
        assert!(head.starts_with(b"HTTP/1.1 200 "));
    }
    (start.elapsed(), processor_time(world.serve.pid()) - cpu)
}

/// Seconds of the processor that a process has had.
fn processor_time(pid: u32) -> f64 {
    let schedstat = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    };
    // In nanoseconds, of each thread.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.filter_map(|thread| schedstat(thread.unwrap().path())).sum::<f64>() / 1e9
}
