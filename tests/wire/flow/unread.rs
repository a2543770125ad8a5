//! A stream that nobody reads holds back its own sender and nothing else.

use super::*;
use crate::support::wire::{Head, fields};

/// What windows and buffers of ours may take of a sender whom nobody reads, in bytes.
const LIMIT: usize = 2 << 20;

/// `/pour` sends without end, `/deaf` does not read, all else is echoed.
async fn origin(mut turn: Turn, shared: Arc<Shared>) -> Result<(), Ending> {
    let ok = Head { status: 200, reason: "OK".to_owned(), fields: fields(&[("content-type", "application/octet-stream")]) };
    match turn.request.target.as_str() {
        "/pour" => {
            turn.read_all().await?;
            turn.head(&ok, false).await?;
            pour(&mut turn, &shared).await;
            Ok(())
        }
        "/deaf" => {
            let _ = shared.tell.send(Told::Arrived);
            shared.gate.acquire().await.unwrap().forget();
            let ending = turn.gone().await;
            let _ = shared.tell.send(Told::Gone(ending));
            Ok(())
        }
        _ => {
            turn.read_all().await?;
            let body = std::mem::take(&mut turn.request.body);
            turn.head(&ok, false).await?;
            turn.data(body).await?;
            turn.finish(None).await
        }
    }
}

async fn stage() -> (Stage, Arc<Shared>, UnboundedReceiver<Told>) {
    let (shared, told) = Shared::new();
    let own = shared.clone();
    (Stage::start(move |turn| origin(turn, own.clone())).await, shared, told)
}

/// Exchanges of other streams, of the same agent's connection where it has streams, and of another's.
async fn others_flow(stage: &Stage, line: &Line, agent: Protocol, to: Protocol) {
    let another = stage.agent().open(host(to, true), agent).await;
    let own = if agent == Protocol::H2 { line } else { &another };
    for size in [1, 100_000, 3 << 20] {
        let body = vec![b'e'; size];
        for line in [own, &another] {
            let answer = line.ask(&Ask::post("/echo", body.clone())).await;
            assert_eq!((answer.status, answer.ending, answer.body == body), (200, Ending::Whole, true), "{size} bytes beside an unread stream");
        }
    }
}

/// What the system's buffers of one TCP connection take: over HTTP/1.1 there is no other window.
async fn of_the_system(stage: &Stage, shared: &Shared) -> usize {
    let line = stage.direct(Protocol::H1).open(host(Protocol::H1, true), Protocol::H1).await;
    let (mut up, mut down) = line.begin(&Ask::get("/pour")).await.unwrap();
    up.finish(None).await.unwrap();
    down.head().await.unwrap();
    let taken = settled(&shared.moved).await;
    line.vanish();
    taken
}

fn limit(agent: Protocol, origin: Protocol, system: usize) -> usize {
    LIMIT + [agent, origin].iter().filter(|p| **p == Protocol::H1).count() * system * 3 / 2
}

async fn felt(told: &mut UnboundedReceiver<Told>, case: &str, failures: &mut Vec<String>) {
    match tokio::time::timeout(Duration::from_secs(1), told.recv()).await {
        Ok(Some(Told::Gone(_))) => {}
        other => failures.push(format!("{case}: the origin felt nothing within a second: {other:?}")),
    }
}

async fn unread_answer(agent: Protocol, to: Protocol, failures: &mut Vec<String>) {
    let (stage, shared, mut told) = stage().await;
    let system = of_the_system(&stage, &shared).await;
    let case = format!("agent {agent:?}, origin {to:?}, an answer that nobody reads");
    assert!(matches!(patiently("the system's end", told.recv()).await, Some(Told::Gone(_))));
    shared.moved.store(0, Ordering::SeqCst);
    let line = stage.agent().open(host(to, true), agent).await;
    let mut unread = Vec::new();
    // Three at once, where that can be: together they fill any window that they share.
    for line in if agent == Protocol::H2 { vec![&line; 3] } else { vec![&line] } {
        let (mut up, mut down) = line.begin(&Ask::get("/pour")).await.unwrap();
        up.finish(None).await.unwrap();
        assert_eq!(patiently("the head", down.head()).await.unwrap().status, 200);
        unread.push((up, down));
    }
    let poured = settled(&shared.moved).await / unread.len();
    others_flow(&stage, &line, agent, to).await;
    println!("{case}: the origin sent {} KiB, of which one connection takes {}", poured >> 10, system >> 10);
    if poured > limit(agent, to, system) {
        failures.push(format!("{case}: {poured} bytes"));
    }
    for _ in 0..unread.len() {
        let (mut up, _) = unread.pop().unwrap();
        up.reset(8).await;
        felt(&mut told, &case, failures).await;
    }
    if agent == Protocol::H2 {
        line.ask(&Ask::post("/echo", "still")).await.expect(200, "still");
    }
}

async fn unread_request(agent: Protocol, to: Protocol, failures: &mut Vec<String>) {
    let (stage, shared, mut told) = stage().await;
    let system = of_the_system(&stage, &shared).await;
    let case = format!("agent {agent:?}, origin {to:?}, an upload that nobody reads");
    assert!(matches!(patiently("the system's end", told.recv()).await, Some(Told::Gone(_))));
    let line = stage.agent().open(host(to, true), agent).await;
    let ask = Ask { content: Content::Unknown(Vec::new()), ..Ask::new("POST", "/deaf") };
    let (mut up, _down) = line.begin(&ask).await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let upload = tokio::spawn(async move { while up.data_counted(vec![b'u'; 64 << 10], &counter).await.is_ok() {} });
    assert_eq!(patiently("the request", told.recv()).await, Some(Told::Arrived));
    let stuck = settled(&sent).await;
    others_flow(&stage, &line, agent, to).await;
    println!("{case}: the agent sent {} KiB, of which one connection takes {}", stuck >> 10, system >> 10);
    if stuck > limit(agent, to, system) {
        failures.push(format!("{case}: {stuck} bytes"));
    }
    line.vanish();
    upload.await.unwrap();
}

/// Nothing of the upload is read any more, neither by the origin nor, with its buffers full, by the proxy: the agent's end comes behind
/// what is not read. Over HTTP/1.1 that end arrives only where the system still takes what stands before it.
async fn vanishes_amid_a_stuck_upload(agent: Protocol, to: Protocol, failures: &mut Vec<String>) {
    let (stage, shared, mut told) = stage().await;
    let case = format!("agent {agent:?}, origin {to:?}, an upload that nobody reads and whose agent vanishes");
    let line = stage.agent().open(host(to, true), agent).await;
    let (mut up, _down) = line.begin(&Ask { content: Content::Unknown(Vec::new()), ..Ask::new("POST", "/deaf") }).await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let most = if agent == Protocol::H1 { 320 << 10 } else { usize::MAX };
    let upload =
        tokio::spawn(async move { while counter.load(Ordering::SeqCst) < most && up.data_counted(vec![b'u'; 32 << 10], &counter).await.is_ok() {} });
    assert_eq!(patiently("the request", told.recv()).await, Some(Told::Arrived));
    settled(&sent).await;
    line.vanish();
    upload.await.unwrap();
    shared.gate.add_permits(1);
    felt(&mut told, &case, failures).await;
}

#[test]
fn an_answer_that_nobody_reads_holds_back_its_origin_and_nothing_else() {
    run(async {
        let mut failures = Vec::new();
        for (agent, origin) in PAIRINGS {
            unread_answer(agent, origin, &mut failures).await;
        }
        assert!(failures.is_empty(), "{failures:#?}");
    });
}

#[test]
fn an_upload_that_nobody_reads_holds_back_its_agent_and_nothing_else() {
    run(async {
        let mut failures = Vec::new();
        for (agent, origin) in PAIRINGS {
            unread_request(agent, origin, &mut failures).await;
        }
        assert!(failures.is_empty(), "{failures:#?}");
    });
}

#[test]
fn an_agent_that_vanishes_amid_an_upload_that_nobody_reads_is_felt_within_a_second() {
    run(async {
        let mut failures = Vec::new();
        for (agent, origin) in PAIRINGS {
            vanishes_amid_a_stuck_upload(agent, origin, &mut failures).await;
        }
        assert!(failures.is_empty(), "{failures:#?}");
    });
}
