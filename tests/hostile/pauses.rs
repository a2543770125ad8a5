//! The scrubber's pause: what is held back goes on when an origin falls silent. Neither an agent nor a slow network may turn
//! that into a way to read the secret in two parts.

use std::io::Read as _;
use std::time::Duration;

use crate::support::world::HOSTS;
use crate::support::{Origin, World, fresh_key, holds};

/// More than all buffers on the way hold.
const SIZE: usize = 12 << 20;

/// Whether eight characters of the key in a row are in the answer.
fn shows_a_piece(answer: &[u8], key: &str) -> bool {
    (0..key.len() - 8).any(|at| holds(answer, &key[at..at + 8]))
}

/// An echo of the request's field in two writes with a gap between them, as a congested network makes one.
#[test]
fn a_gap_within_the_secret_does_not_show_its_first_part() {
    let (gate, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.read_body()?;
        let value = exchange.request.value("authorization");
        let cut = value.len() - 1;
        exchange.write(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
            value.len() + 4,
            &value[..cut]
        ))?;
        let _ = wait.lock().unwrap().recv_timeout(Duration::from_millis(100));
        exchange.write(format!("{}tail", &value[cut..]))
    });
    let world = World::with_origin(origin, fresh_key());
    let reply = world.agent().get("openrouter.ai", "/echo");
    drop(gate);
    let text = reply.text();
    assert!(text.ends_with("tail"), "{text}");
    assert!(!shows_a_piece(&reply.body, &world.key), "{text}");
}

/// An agent that stops reading fills the way to it; what the proxy then holds is not let go for that.
#[test]
fn an_agent_that_does_not_read_cannot_make_a_pause() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        let value = exchange.request.value("authorization");
        // Wherever it is cut, it is cut within the secret.
        let body = value.repeat(SIZE / value.len() + 1);
        exchange.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    });
    let world = World::with_origin(origin, fresh_key());
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send("GET / HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: close\r\n\r\n");
    let (mut all, mut buffer) = (Vec::new(), vec![0; 700_000]);
    loop {
        // As slow as it takes for everything between to be full.
        std::thread::sleep(Duration::from_millis(30));
        match conn.stream.read(&mut buffer).unwrap() {
            0 => break,
            got => all.extend_from_slice(&buffer[..got]),
        }
        if all.len() > 1 << 20 {
            let _ = conn.stream.read_to_end(&mut all);
            break;
        }
    }
    assert!(all.len() > SIZE);
    assert!(!shows_a_piece(&all, &world.key), "a piece of the key");
}
