//! SIGTERM: finish what is in flight, then stop.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::world::HOSTS;
use crate::support::{Origin, World, fresh_key, within};

#[test]
fn sigterm_lets_what_is_in_flight_end_and_takes_nothing_new() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n6\r\nbefore\r\n")?;
        wait.lock().unwrap().recv_timeout(Duration::from_secs(20)).map_err(std::io::Error::other)?;
        exchange.write("5\r\nafter\r\n0\r\n\r\n")
    });
    let mut world = World::with_origin(origin, fresh_key());
    let agent = world.agent();
    let mut conn = agent.open("openrouter.ai:443");
    conn.send("GET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    conn.read_until("before");
    world.serve.terminate();
    within(Duration::from_secs(5), "new connections are refused", || std::net::TcpStream::connect(agent.proxy).is_err().then_some(()));
    go.send(()).unwrap();
    conn.read_until("after");
    let status = world.serve.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{}", world.serve.log());
    let said = world.home.say(&["audit", "verify"], "");
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn sigterm_does_not_wait_for_idle_connections() {
    let mut world = World::agreeable();
    let agent = world.agent();
    let mut kept = agent.open("openrouter.ai:443");
    assert_eq!(kept.get("openrouter.ai", "/").status, 200);
    let _unused = agent.dial();
    let start = Instant::now();
    world.serve.stop();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn what_does_not_end_is_cut_at_the_drain_limit() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nbefore\r\n")?;
        exchange.wait_for_end(Duration::from_secs(30))
    });
    let mut world = World::with_configuration(origin, fresh_key(), "[timeouts]\ndrain = \"1s\"\n");
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send("GET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    conn.read_until("before");
    let start = Instant::now();
    world.serve.terminate();
    world.serve.wait(Duration::from_secs(8));
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    assert!(!conn.read_rest().contains("0\r\n\r\n"), "a cut stream does not look whole");
}
