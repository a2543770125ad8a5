//! The proxy's own end: in order, with what is in flight going on, or by force.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::support::wire::stage::host;
use crate::support::wire::{Ask, Ending, Head, PAIRINGS, Protocol, Stage, Turn, fields, patiently, run};

/// How many requests are in flight on each line.
const MANY: usize = 6;

/// An origin whose answers begin at once and end where the gate lets them.
async fn gated(mut turn: Turn, gate: Arc<Semaphore>) -> Result<(), Ending> {
    turn.read_all().await?;
    turn.head(&Head { status: 200, reason: "OK".to_owned(), fields: fields(&[("content-type", "text/plain")]) }, false).await?;
    turn.data("begun\n").await?;
    if turn.request.target == "/gated" {
        gate.acquire().await.unwrap().forget();
    }
    turn.data("ended\n").await?;
    turn.finish(None).await
}

#[test]
fn sigterm_under_load_lets_what_is_in_flight_end_and_refuses_what_is_new() {
    run(async {
        let gate = Arc::new(Semaphore::new(0));
        let own = gate.clone();
        let mut stage = Stage::start(move |turn| gated(turn, own.clone())).await;
        let mut begun = Vec::new();
        let mut lines = Vec::new();
        for (agent, to) in PAIRINGS {
            for n in 0..MANY {
                // HTTP/2 carries them all on one line.
                if agent == Protocol::H1 || n == 0 {
                    lines.push((agent, stage.agent().open(host(to, true), agent).await));
                }
                let (mut up, mut down) = lines.last().unwrap().1.begin(&Ask::get("/gated")).await.unwrap();
                up.finish(None).await.unwrap();
                assert_eq!(patiently("a head", down.head()).await.unwrap().status, 200);
                begun.push((agent, to, down));
            }
        }
        stage.serve.terminate();
        let proxy = stage.serve.proxy();
        patiently("new connections are refused", async { while tokio::net::TcpStream::connect(proxy).await.is_ok() {} }).await;
        // On an open line of HTTP/2 a new request is refused in order: the stream is, or the connection takes no more.
        for (_, line) in lines.iter().filter(|(agent, _)| *agent == Protocol::H2) {
            if let Ok((mut up, mut down)) = patiently("a stream or none", line.begin(&Ask::get("/new"))).await {
                let _ = up.finish(None).await;
                if let Ok(head) = patiently("an end", down.head()).await {
                    assert!(head.status == 200 || head.status == 503, "{head:?}");
                }
            }
        }
        gate.add_permits(begun.len());
        for (agent, to, mut down) in begun {
            let mut got = Vec::new();
            while let Some(piece) = patiently("the rest", down.piece()).await.unwrap_or_else(|e| panic!("{agent:?} to {to:?}: {e:?}")) {
                got.extend_from_slice(&piece);
            }
            assert_eq!(got, b"begun\nended\n", "{agent:?} to {to:?}");
        }
        drop(lines);
        let status = stage.serve.wait(Duration::from_secs(15));
        assert_eq!(status.code(), Some(0), "{}", stage.serve.log());
    });
}

#[test]
fn a_proxy_that_is_killed_leaves_nobody_waiting_and_no_answer_looks_whole() {
    run(async {
        let gate = Arc::new(Semaphore::new(0));
        let own = gate.clone();
        let mut stage = Stage::start(move |turn| gated(turn, own.clone())).await;
        let mut begun = Vec::new();
        for (agent, to) in PAIRINGS {
            let line = stage.agent().open(host(to, true), agent).await;
            let (mut up, mut down) = line.begin(&Ask::get("/gated")).await.unwrap();
            up.finish(None).await.unwrap();
            assert_eq!(patiently("a head", down.head()).await.unwrap().status, 200);
            begun.push((agent, to, line, down));
        }
        stage.serve.kill();
        for (agent, to, _line, mut down) in begun {
            let ending = loop {
                match patiently("the end", down.piece()).await {
                    Ok(Some(_)) => {}
                    other => break other,
                }
            };
            assert!(ending.is_err(), "{agent:?} to {to:?}: an answer that was cut looks whole");
        }
        gate.add_permits(PAIRINGS.len());
    });
}
