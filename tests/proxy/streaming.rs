//! Streams: nothing of an event is held, a vanished agent is felt upstream (CONTRACT 5, point 6).

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use crate::support::world::HOSTS;
use crate::support::{Exchange, Origin, World, fresh_key};

const LIMIT: Duration = Duration::from_secs(20);

/// An origin that sends an event only after the test has said that the last one arrived.
fn gated(framing: Framing) -> (Origin, Sender<()>) {
    let (go, wait) = mpsc::channel();
    let wait: Mutex<Receiver<()>> = Mutex::new(wait);
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.read_body()?;
        let fields = "content-type: text/event-stream\r\n";
        match framing {
            Framing::Chunked => exchange.write(format!("HTTP/1.1 200 OK\r\n{fields}transfer-encoding: chunked\r\n\r\n"))?,
            Framing::UntilClose => exchange.write(format!("HTTP/1.1 200 OK\r\n{fields}connection: close\r\n\r\n"))?,
        }
        for number in 0..5 {
            event(exchange, framing, &format!("data: event-{number}\n\n"))?;
            wait.lock().unwrap().recv_timeout(LIMIT).map_err(std::io::Error::other)?;
        }
        match framing {
            Framing::Chunked => exchange.write("0\r\n\r\n"),
            Framing::UntilClose => {
                exchange.close();
                Ok(())
            }
        }
    });
    (origin, go)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Chunked,
    UntilClose,
}

fn event(exchange: &mut Exchange<'_>, framing: Framing, text: &str) -> std::io::Result<()> {
    if framing == Framing::Chunked { exchange.write(format!("{:x}\r\n{text}\r\n", text.len())) } else { exchange.write(text) }
}

fn an_event_arrives_before_the_next_is_sent(framing: Framing, host: &str) {
    let (origin, go) = gated(framing);
    let world = World::with_origin(origin, fresh_key());
    let mut conn = world.agent().open(&format!("{host}:443"));
    conn.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n"));
    for number in 0..5 {
        // The blank line that ends the event must have come, not its text alone.
        let seen = conn.read_until(&format!("event-{number}\n\n"));
        assert!(!seen.contains(&format!("event-{}", number + 1)));
        go.send(()).unwrap();
    }
}

#[test]
fn an_sse_event_reaches_the_agent_before_the_next_one_is_sent() {
    an_event_arrives_before_the_next_is_sent(Framing::Chunked, "openrouter.ai");
}

#[test]
fn an_sse_event_of_an_unframed_stream_reaches_the_agent_before_the_next_one_is_sent() {
    an_event_arrives_before_the_next_is_sent(Framing::UntilClose, "openrouter.ai");
}

#[test]
fn a_blind_tunnel_holds_nothing_either() {
    an_event_arrives_before_the_next_is_sent(Framing::Chunked, "example.net");
}

#[test]
fn an_upload_reaches_the_origin_part_by_part() {
    let (seen, parts) = mpsc::channel();
    let seen = Mutex::new(seen);
    let origin = Origin::start(&HOSTS, move |exchange| {
        let sender = seen.lock().unwrap().clone();
        exchange.each_part(|part| sender.send(part.to_vec()).unwrap())?;
        exchange.json(200, "{}")
    });
    let world = World::with_origin(origin, fresh_key());
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send("POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in ["one", "two", "three"] {
        conn.send(format!("{:x}\r\n{part}\r\n", part.len()));
        assert_eq!(parts.recv_timeout(LIMIT).unwrap(), part.as_bytes(), "it came before the next part was sent");
    }
    assert_eq!(conn.ask("0\r\n\r\n").status, 200);
}

#[test]
fn expect_continue_is_answered_before_the_body_is_sent() {
    let world = World::agreeable();
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send("POST / HTTP/1.1\r\nHost: openrouter.ai\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    // The origin reads the body before it answers, so only a 100 can unlock this.
    let head = crate::support::raw::read_reply_head(&mut conn.stream).unwrap();
    assert_eq!(head.status, 100);
    assert_eq!(conn.ask("hello").status, 200);
    assert_eq!(world.origin.last().body, b"hello");
}

#[test]
fn an_early_answer_arrives_while_the_body_is_not_yet_sent() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.json(413, "{}")?;
        exchange.close();
        Ok(())
    });
    let world = World::with_origin(origin, fresh_key());
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send("POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 1000000\r\n\r\nfirst");
    assert_eq!(conn.reply().status, 413);
}

#[test]
fn when_the_agent_goes_away_the_upstream_request_is_cancelled_within_a_second() {
    let (ended, felt) = mpsc::channel();
    let ended = Mutex::new(ended);
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.read_body()?;
        exchange.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\nstarted\r\n")?;
        let result = exchange.wait_for_end(Duration::from_secs(10));
        ended.lock().unwrap().send(result.is_ok()).unwrap();
        result
    });
    let world = World::with_origin(origin, fresh_key());
    for _ in 0..3 {
        let mut conn = world.agent().open("openrouter.ai:443");
        conn.send("GET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
        conn.read_until("started");
        drop(conn);
        assert!(felt.recv_timeout(Duration::from_secs(1)).expect("within a second"), "the origin saw the end");
    }
}

#[test]
fn when_the_agent_goes_away_before_the_answer_the_upstream_request_is_cancelled_too() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.read_body()?;
        tell.lock().unwrap().send(true).unwrap();
        let result = exchange.wait_for_end(Duration::from_secs(10));
        tell.lock().unwrap().send(result.is_ok()).unwrap();
        result
    });
    let world = World::with_origin(origin, fresh_key());
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send("GET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    assert!(told.recv_timeout(LIMIT).unwrap());
    drop(conn);
    assert!(told.recv_timeout(Duration::from_secs(1)).expect("within a second"));
}

#[test]
fn an_answer_cut_short_upstream_is_cut_short_for_the_agent() {
    // A truncated body must never look whole.
    for head in ["content-length: 100\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let origin = Origin::start(&HOSTS, move |exchange| {
            exchange.write(format!("HTTP/1.1 200 OK\r\n{head}"))?;
            exchange.close();
            Ok(())
        });
        let world = World::with_origin(origin, fresh_key());
        let mut conn = world.agent().open("openrouter.ai:443");
        conn.send("GET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
        assert!(conn.try_reply().is_err(), "{head}");
    }
}

#[test]
fn trailers_of_an_answer_pass() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        exchange.write("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 7\r\n\r\n")
    });
    let world = World::with_origin(origin, fresh_key());
    let reply = world.agent().open("openrouter.ai:443").ask("GET / HTTP/1.1\r\nHost: openrouter.ai\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    assert_eq!(reply.text(), "ab");
    assert!(matches!(reply.trailers.as_slice(), [(name, value)] if name.eq_ignore_ascii_case("x-sum") && value == "7"), "{reply:?}");
    assert_eq!(world.origin.last().values("te"), ["trailers"]);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let world = World::agreeable();
    let mut conn = world.agent().open("openrouter.ai:443");
    let all = (0..5).map(|n| format!("POST /{n} HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 1\r\n\r\n{n}")).collect::<String>();
    conn.send(all);
    for _ in 0..5 {
        assert_eq!(conn.reply().status, 200);
    }
    assert_eq!(world.origin.recorded().iter().map(|r| r.target.clone()).collect::<Vec<_>>(), ["/0", "/1", "/2", "/3", "/4"]);
}

#[test]
fn a_stale_pooled_connection_does_not_fail_a_request() {
    // The origin closes after each answer without having said so.
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        exchange.json(200, "{}")?;
        exchange.close();
        Ok(())
    });
    let world = World::with_origin(origin, fresh_key());
    let mut conn = world.agent().open("openrouter.ai:443");
    for _ in 0..10 {
        let reply = conn.get("openrouter.ai", "/");
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

#[test]
fn an_upstream_connection_serves_one_agent_only() {
    let world = World::agreeable();
    world.home.ok(&["agent", "add", "second", "--grant", "real"]);
    let second = crate::support::within(Duration::from_secs(1), "the agent is known", || {
        let said = world.home.say(&["env", "--agent", "second", "--format", "json"], "");
        (said.code == 0).then(|| crate::support::Agent::named(&world.home, &world.serve, "second"))
    });
    let first = world.agent();
    for agent in [&first, &first, &second, &second, &first] {
        assert_eq!(agent.get("openrouter.ai", "/").status, 200);
    }
    let used = world.origin.recorded().iter().map(|r| r.connection).collect::<Vec<_>>();
    assert_eq!(used, [0, 0, 1, 1, 0], "pooled, but per agent");
}

#[test]
fn websockets_pass_and_half_close_is_kept() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nhello")?;
        let mut all = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            match exchange.read(&mut buffer)? {
                0 => break,
                got => all.extend_from_slice(&buffer[..got]),
            }
        }
        // The agent has closed its half; this must still arrive.
        exchange.write(format!("got {}", all.len()))?;
        exchange.close();
        Ok(())
    });
    let world = World::with_origin(origin, fresh_key());
    let mut conn = world.agent().open("openrouter.ai:443");
    let reply = conn.ask(
        "GET /ws HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(reply.status, 101, "{reply:?}");
    assert_eq!(world.origin.last().values("authorization"), [world.bearer()]);
    conn.read_until("hello");
    conn.send([7; 3000]);
    conn.stream.conn.send_close_notify();
    conn.stream.flush().unwrap();
    conn.read_until("got 3000");
}
