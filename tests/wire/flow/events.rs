//! Many event streams at once.

use super::*;
use crate::support::wire::Head;
use crate::support::wire::fields;

const STREAMS: usize = 24;
const EVENTS: usize = 40;

fn event(stream: usize, number: usize) -> String {
    format!("id: {number}\ndata: {{\"stream\":{stream},\"text\":\"{}\"}}\n\n", "word ".repeat(number % 7))
}

async fn read_events(line: Line, stream: usize, gates: Arc<Vec<Semaphore>>) {
    let (mut up, mut down) = line.begin(&Ask::get(&format!("/{stream}")).with("accept", "text/event-stream")).await.unwrap();
    up.finish(None).await.unwrap();
    assert_eq!(down.head().await.unwrap().status, 200);
    let mut seen = String::new();
    for number in 0..EVENTS {
        let wanted = event(stream, number);
        while seen.len() < wanted.len() {
            let what = format!("event {number} of stream {stream}");
            let piece = patiently(&what, down.piece()).await.unwrap().unwrap_or_else(|| panic!("{what}: the stream ended"));
            seen.push_str(std::str::from_utf8(&piece).unwrap());
        }
        assert_eq!(seen, wanted, "nothing but this event has been sent");
        seen.clear();
        gates[stream].add_permits(1);
    }
    assert_eq!(patiently("the end", down.piece()).await, Ok(None));
}

/// The origin sends an event only when the agent has the one before, so none may be held anywhere.
fn arrive(agent: Protocol, origin: Protocol) {
    run(async {
        let gates = Arc::new((0..STREAMS).map(|_| Semaphore::new(0)).collect::<Vec<_>>());
        let own = gates.clone();
        let stage = Stage::start(move |mut turn| {
            let gates = own.clone();
            async move {
                turn.read_all().await?;
                let stream: usize = turn.request.target[1..].parse().unwrap();
                turn.head(&Head { status: 200, reason: "OK".to_owned(), fields: fields(&[("content-type", "text/event-stream")]) }, false).await?;
                for number in 0..EVENTS {
                    turn.data(event(stream, number)).await?;
                    gates[stream].acquire().await.unwrap().forget();
                }
                turn.finish(None).await
            }
        })
        .await;
        let lines = lines(&stage, agent, origin, STREAMS).await;
        let tasks = lines.into_iter().enumerate().map(|(stream, line)| tokio::spawn(read_events(line, stream, gates.clone())));
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        if origin == Protocol::H2 {
            assert_eq!(stage.h2.accepted(), 1, "all streams share one connection to the origin");
        }
    });
}

#[test]
fn every_event_of_24_streams_is_passed_on_at_once_from_h1_to_h1() {
    arrive(Protocol::H1, Protocol::H1);
}

#[test]
fn every_event_of_24_streams_is_passed_on_at_once_from_h1_to_h2() {
    arrive(Protocol::H1, Protocol::H2);
}

#[test]
fn every_event_of_24_streams_is_passed_on_at_once_from_h2_to_h1() {
    arrive(Protocol::H2, Protocol::H1);
}

#[test]
fn every_event_of_24_streams_is_passed_on_at_once_from_h2_to_h2() {
    arrive(Protocol::H2, Protocol::H2);
}
