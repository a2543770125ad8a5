//! Descriptors that run out: what is left goes to those who are there, the log, the store and the operator.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::{brief, is_over, settled};
use crate::hostile::case::{cases, is_well, record_of};
use crate::hostile::rest_of;
use crate::support::raw::PATIENCE;
use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Home, Origin, Serve, World, fresh_key, within};

/// A world whose `serve` may open so many descriptors.
fn narrow(origin: Origin, descriptors: usize, more: &str) -> World {
    let key = fresh_key();
    let mut home = Home::bare("");
    let text = configuration(&home, &origin, more);
    home.configure(&text);
    home.init_with_key_file();
    home.add_key("real", &["*.openrouter.ai"], &key);
    let serve = Serve::start_with_descriptors(&home, descriptors);
    World { serve, origin, home, key }
}

struct Shortage {
    descriptors: usize,
    /// What is opened, again and again.
    opens: fn(&World, &Agent) -> Option<TcpStream>,
    opened: usize,
}

cases! { is_survived {
    silent_connections_under_64: Shortage { descriptors: 64, opens: silent, opened: 200 },
    silent_connections_under_96: Shortage { descriptors: 96, opens: silent, opened: 200 },
    silent_connections_under_256: Shortage { descriptors: 256, opens: silent, opened: 500 },
    tunnels_under_96: Shortage { descriptors: 96, opens: tunnel, opened: 100 },
    tunnels_under_128: Shortage { descriptors: 128, opens: tunnel, opened: 150 },
    blind_tunnels_under_96: Shortage { descriptors: 96, opens: blind, opened: 100 },
    blind_tunnels_under_128: Shortage { descriptors: 128, opens: blind, opened: 150 },
} }

fn silent(world: &World, _: &Agent) -> Option<TcpStream> {
    TcpStream::connect(world.serve.proxy()).ok()
}

fn tunnel(_: &World, agent: &Agent) -> Option<TcpStream> {
    opened(agent, "openrouter.ai:443")
}

fn blind(_: &World, agent: &Agent) -> Option<TcpStream> {
    opened(agent, "example.net:443")
}

/// A tunnel, or a clear answer that there is none.
fn opened(agent: &Agent, target: &str) -> Option<TcpStream> {
    let (reply, stream) = agent.connect(target);
    assert!(matches!(reply.status, 200 | 503), "{reply:?}");
    if reply.status == 503 {
        assert!(reply.reason.contains("overloaded") || String::from_utf8_lossy(&reply.body).contains("overloaded"), "{reply:?}");
    }
    Some(stream).filter(|_| reply.status == 200)
}

fn is_survived(case: Shortage) {
    let world = narrow(brief(), case.descriptors, "");
    assert_eq!(world.agent().get("openrouter.ai", "/warm").status, 200);
    let base = settled(&world);
    let agent = world.agent();
    let mut kept = agent.open("openrouter.ai:443");
    let held: Vec<_> = (0..case.opened).filter_map(|_| (case.opens)(&world, &agent)).collect();
    let most = world.serve.descriptors();
    assert!(most < case.descriptors, "{most} of {} are open", case.descriptors);
    // Those who are there are served; so is the operator, whose commands open files on both sides.
    // Those that had to go may take a moment to be gone.
    within(Duration::from_secs(10), "who is there is served", || (kept.get("openrouter.ai", "/kept").status == 200).then_some(()));
    world.home.ok(&["agent", "add", "late"]);
    assert_eq!(world.home.say(&["env", "--agent", "late", "--format", "json"], "").code, 0);
    record_of(&world, "overloaded");
    drop((held, kept));
    within(Duration::from_secs(10), "the descriptors are given back", || (world.serve.descriptors() <= base + 2).then_some(()));
    within(Duration::from_secs(10), "served again", || (agent.connect("openrouter.ai:443").0.status == 200).then_some(()));
    world.origin.forget();
    assert!(world.serve.log().contains("the limit of open descriptors"), "{}", world.serve.log());
    is_well(&world);
    within(Duration::from_secs(10), "the descriptors are given back", || (world.serve.descriptors() <= base + 2).then_some(()));
}

/// Connections to origins that are kept idle go before a new one is refused.
#[test]
fn idle_connections_to_origins_give_way() {
    // It keeps its connections open.
    let world = narrow(Origin::agreeable(&HOSTS), 96, "");
    let agent = world.agent();
    // As many at once as there is room for: each leaves an idle connection behind.
    for _ in 0..6 {
        let mut conns: Vec<_> = (0..6).map_while(|_| agent.try_open("openrouter.ai:443").ok()).collect();
        conns.iter_mut().for_each(|conn| conn.send("GET /idle HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"));
        conns.iter_mut().for_each(|conn| assert_eq!(conn.reply().status, 200));
    }
    for host in ["api.openrouter.ai", "a.b.openrouter.ai", "openrouter.ai"] {
        // The connections of before end in their own time.
        let mut conn = within(Duration::from_secs(10), host, || agent.try_open(&format!("{host}:443")).ok());
        assert_eq!(conn.get(host, "/").status, 200, "{host}");
    }
    within(Duration::from_secs(10), "places of before", || agent.try_open("openrouter.ai:443").ok());
    world.origin.forget();
    is_well(&world);
}

/// Requests of HTTP/2 streams each want a connection to an origin of HTTP/1.1: beyond the descriptors they get an answer.
#[test]
fn more_upstream_connections_than_descriptors_are_refused_one_by_one() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        if exchange.request.target == "/held" {
            return exchange.wait_for_end(Duration::from_secs(20));
        }
        exchange.answer(200, "connection: close\r\n", b"{}")?;
        exchange.close();
        Ok(())
    });
    let world = narrow(origin, 96, "");
    let base = settled(&world);
    let stage = super::Stage { flooder: world.agent(), world, base };
    let mut stream = super::http2_inside(&stage, &[]);
    for n in 0..100 {
        stream.write_all(&super::get(2 * n + 1, "/held")).unwrap();
    }
    let record = record_of(&stage.world, "overloaded");
    assert_eq!(record["status"], 503);
    assert!(stage.world.serve.descriptors() < 96);
    drop(stream);
    assert!(!stage.world.serve.log().contains("the audit log cannot be written"), "the log has its own");
    within(Duration::from_secs(10), "the descriptors are given back", || (stage.world.serve.descriptors() <= base + 2).then_some(()));
    stage.ends_well();
}

/// Not one descriptor is left where even `accept` fails: no busy loop, and all goes on afterwards.
#[test]
fn a_flood_beyond_every_limit_is_told_or_waits() {
    let world = narrow(brief(), 64, "");
    let base = settled(&world);
    let held: Vec<_> = (0..400).map(|_| TcpStream::connect(world.serve.proxy()).unwrap()).collect();
    within(Duration::from_secs(10), "nearly all are told", || (held.iter().filter(|s| is_over(s)).count() > 350).then_some(()));
    let before = cpu(&world);
    // What is measured is what the proxy does while nothing happens.
    std::thread::sleep(Duration::from_millis(500));
    assert!(cpu(&world) - before < 30, "it spins");
    let mut first = held.into_iter().next().unwrap();
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(rest_of(&mut first).starts_with("HTTP/1.1 503 "));
    drop(first);
    world.origin.forget();
    is_well(&world);
    within(Duration::from_secs(10), "the descriptors are given back", || (world.serve.descriptors() <= base + 2).then_some(()));
}

/// The processor time that it has had, in hundredths of a second.
fn cpu(world: &World) -> u64 {
    let mut stat = String::new();
    std::fs::File::open(format!("/proc/{}/stat", world.serve.pid())).unwrap().read_to_string(&mut stat).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
