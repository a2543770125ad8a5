//! Names without end below an allowed pattern: each costs a leaf, which is no other agent's.

use std::time::Instant;

use super::Stage;
use crate::hostile::case::nothing_was_sent;
use crate::support::raw::Conn;
use crate::support::within;

/// More than are kept of all.
const NAMES: usize = 1_300;

fn leaf(conn: &Conn) -> Vec<u8> {
    conn.stream.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn random_subdomains_put_out_no_leaf_of_another_agents() {
    let stage = Stage::new("");
    let other = stage.world.agent();
    let before = leaf(&other.open("api.openrouter.ai:443"));
    assert_eq!(leaf(&stage.flooder.open("api.openrouter.ai:443")), before, "agents share a host's leaf");
    stage.world.origin.forget();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    if n >= NAMES {
                        return;
                    }
                    let conn = stage.flooder.open(&format!("r{n}.openrouter.ai:443"));
                    assert!(conn.intercepted());
                }
            });
        }
    });
    assert_eq!(leaf(&other.open("api.openrouter.ai:443")), before, "it was put out");
    nothing_was_sent(&stage.world);
    stage.ends_well();
}

/// Handshakes that all wait for a leaf of their own: another agent's first one does not wait behind them.
#[test]
fn a_queue_for_new_leaves_is_the_flooders_own() {
    let stage = Stage::new("");
    let mut waiting: Vec<_> = (0..150).map(|n| stage.flooder.connect(&format!("q{n}.openrouter.ai:443")).1).collect();
    // Each says its hello, and reads nothing.
    for (n, stream) in waiting.iter_mut().enumerate() {
        let tls = crate::support::raw::trusting(&stage.world.home.path().join("ca.pem"), &["http/1.1"]);
        let mut session = rustls::ClientConnection::new(tls, format!("q{n}.openrouter.ai").try_into().unwrap()).unwrap();
        session.write_tls(stream).unwrap();
    }
    let asked = Instant::now();
    let conn = stage.world.agent().open("first.openrouter.ai:443");
    println!("the other agent's first handshake took {:?}", asked.elapsed());
    assert!(conn.intercepted() && asked.elapsed() < super::SERVED);
    drop((conn, waiting));
    let begun = Instant::now();
    within(super::SERVED, "they end", || (stage.world.serve.descriptors() <= stage.base + 1).then_some(()));
    println!("gone after {:?}", begun.elapsed());
    nothing_was_sent(&stage.world);
    stage.ends_well();
}
