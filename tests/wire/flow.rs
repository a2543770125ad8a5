//! Streams beside one another: each flows by itself, and whoever goes away is felt at the other end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::support::wire::stage::host;
use crate::support::wire::{Ask, Content, Ending, Line, PAIRINGS, Protocol, Stage, Turn, patiently, run};

mod delays;
mod events;
mod hang_up;
mod unread;

/// What the origin of these tests and the test tell one another.
struct Shared {
    /// Bytes that origins could send, or receive.
    moved: AtomicUsize,
    /// Origins say what befell them.
    tell: UnboundedSender<Told>,
    /// Origins that wait go on where there is a permit.
    gate: Semaphore,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// A request has arrived.
    Arrived,
    /// The request ended so.
    Gone(Ending),
}

impl Shared {
    fn new() -> (Arc<Self>, UnboundedReceiver<Told>) {
        let (tell, told) = unbounded_channel();
        (Arc::new(Self { moved: AtomicUsize::new(0), tell, gate: Semaphore::new(0) }), told)
    }
}

/// As many lines as `count` requests at once need: one over HTTP/2.
async fn lines(stage: &Stage, agent: Protocol, origin: Protocol, count: usize) -> Vec<Line> {
    let own = if agent == Protocol::H2 { 1 } else { count };
    let mut lines = Vec::new();
    for _ in 0..own {
        lines.push(stage.agent().open(host(origin, true), agent).await);
    }
    (0..count).map(|n| lines[n % own].clone()).collect()
}

/// The count once it has stood still for a while.
async fn settled(count: &AtomicUsize) -> usize {
    let mut last = usize::MAX;
    loop {
        let now = count.load(Ordering::SeqCst);
        if now == last && now > 0 {
            return now;
        }
        last = now;
        // How far it gets is measured here: nothing else waits for it.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Sends without end, counting what is taken; tells how it ended.
async fn pour(turn: &mut Turn, shared: &Shared) {
    let ending = loop {
        if let Err(ending) = turn.data_counted(vec![b'x'; 64 << 10], &shared.moved).await {
            break ending;
        }
    };
    let _ = shared.tell.send(Told::Gone(ending));
}
