//! How late the events of 24 streams are, directly and through the proxy, in one run. It measures, and so is not run with the others.

use std::time::{Duration, Instant};

use super::*;
use crate::support::wire::{Head, WireAgent, fields};

const STREAMS: usize = 24;
const EVENTS: usize = 200;
const EACH: Duration = Duration::from_millis(5);

/// The delays of all events but each stream's first ten, in microseconds, in order.
async fn delays(agent: WireAgent, host: &str, protocol: Protocol, epoch: Instant) -> Vec<u64> {
    let one = agent.open(host, protocol).await;
    let mut tasks = Vec::new();
    for _ in 0..STREAMS {
        let line = if protocol == Protocol::H2 { one.clone() } else { agent.open(host, protocol).await };
        tasks.push(tokio::spawn(async move {
            let (mut up, mut down) = line.begin(&Ask::get("/")).await.unwrap();
            up.finish(None).await.unwrap();
            assert_eq!(down.head().await.unwrap().status, 200);
            let (mut seen, mut delays) = (Vec::new(), Vec::new());
            while let Some(piece) = patiently("an event", down.piece()).await.unwrap() {
                let now = u64::try_from(epoch.elapsed().as_micros()).unwrap();
                seen.extend_from_slice(&piece);
                while let Some(end) = memchr::memmem::find(&seen, b"\n\n") {
                    let made: u64 = std::str::from_utf8(&seen[6..end]).unwrap().parse().unwrap();
                    delays.push(now - made);
                    seen.drain(..end + 2);
                }
            }
            assert_eq!(delays.len(), EVENTS);
            delays.split_off(10)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all.sort_unstable();
    all
}

#[test]
#[ignore = "it measures: see CONTRIBUTING.md"]
fn events_of_24_streams_are_hardly_later_than_directly() {
    run(async {
        let epoch = Instant::now();
        let stage = Stage::start(move |mut turn| async move {
            turn.read_all().await?;
            turn.head(&Head { status: 200, reason: "OK".to_owned(), fields: fields(&[("content-type", "text/event-stream")]) }, false).await?;
            let mut tick = tokio::time::interval(EACH);
            for _ in 0..EVENTS {
                tick.tick().await;
                turn.data(format!("data: {}\n\n", epoch.elapsed().as_micros())).await?;
            }
            turn.finish(None).await
        })
        .await;
        let at = |all: &[u64], percent: usize| all[(all.len() - 1) * percent / 100];
        for (agent, to) in PAIRINGS {
            let direct = delays(stage.direct(to), host(to, true), to, epoch).await;
            let through = delays(stage.agent(), host(to, true), agent, epoch).await;
            println!(
                "agent {agent:?}, origin {to:?}: directly p50 {} p99 {} us; through the proxy p50 {} p99 {} us",
                at(&direct, 50),
                at(&direct, 99),
                at(&through, 50),
                at(&through, 99)
            );
            assert!(at(&through, 50) <= at(&direct, 50) + 2_000 && at(&through, 99) <= at(&direct, 99) + 10_000, "{agent:?} to {to:?}");
        }
    });
}
