//! Requests that an origin did not process go again, and no others; limits and farewells of an origin are not felt by the agent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::support::wire::stage::host;
use crate::support::wire::{Content, Offer, PAIRINGS, Stage, Turn, run};

const REFUSED_STREAM: u32 = 7;

/// How often each request has arrived, by its path.
type Arrivals = Arc<Mutex<BTreeMap<String, usize>>>;

/// Refuses as the path says: `/once/...`, `/late/...` (after the body), `/always/...`.
async fn origin(mut turn: Turn, arrivals: Arrivals) -> Result<(), Ending> {
    let path = turn.request.target.clone();
    let arrived = {
        let mut arrivals = arrivals.lock().unwrap();
        let arrived = arrivals.entry(path.clone()).or_default();
        *arrived += 1;
        *arrived
    };
    let refuses = path.starts_with("/always/") || arrived == 1 && (path.starts_with("/once/") || path.starts_with("/late/"));
    if path.starts_with("/late/") || !refuses {
        turn.read_all().await?;
    }
    if refuses {
        turn.reset(REFUSED_STREAM).await;
        return Ok(());
    }
    turn.answer(200, &turn.received.to_string()).await
}

#[test]
fn a_refused_request_goes_again_while_its_content_is_at_hand() {
    run(async {
        let arrivals = Arrivals::default();
        let own = arrivals.clone();
        let stage = Stage::start(move |turn| origin(turn, own.clone())).await;
        let host = host(Protocol::H2, true);
        let unknown = |path: &str, size: usize| Ask { content: Content::Unknown(vec![vec![b'x'; size]]), ..Ask::new("POST", path) };
        for agent in Protocol::BOTH {
            let open = || async { stage.agent().open(host, agent).await };
            let asks = [
                (Ask::get(&format!("/once/get-{agent:?}")), "0"),
                (Ask::post(&format!("/once/nothing-{agent:?}"), ""), "0"),
                (Ask::post(&format!("/once/small-{agent:?}"), "hello"), "5"),
                (unknown(&format!("/once/pieces-{agent:?}"), 5), "5"),
                (Ask::post(&format!("/late/small-{agent:?}"), vec![b'x'; 40_000]), "40000"),
                (unknown(&format!("/late/pieces-{agent:?}"), 40_000), "40000"),
            ];
            for (ask, size) in asks {
                let answer = open().await.ask(&ask).await;
                assert_eq!(
                    (answer.status, answer.text().as_str(), answer.ending),
                    (200, size, Ending::Whole),
                    "{agent:?}, {}: {answer:?}",
                    ask.target
                );
                assert_eq!(arrivals.lock().unwrap()[&ask.target], 2, "{agent:?}, {}", ask.target);
            }
            // Too much of it has been sent to be sent again.
            let large = Ask::post(&format!("/late/large-{agent:?}"), vec![b'x'; 200_000]);
            expect_failure("a large body", &open().await.ask(&large).await);
            assert_eq!(arrivals.lock().unwrap()[&large.target], 1);
            // No origin is asked for ever.
            let always = Ask::get(&format!("/always/{agent:?}"));
            expect_failure("always refused", &open().await.ask(&always).await);
            let times = arrivals.lock().unwrap()[&always.target];
            assert!((1..=5).contains(&times), "{agent:?}: refused {times} times");
            right_answers_of_size(&stage.agent(), host, agent).await;
        }
        assert_eq!(stage.h2.accepted(), 1, "a refused stream is no reason for another connection");
    });
}

async fn right_answers_of_size(agent: &WireAgent, host: &str, protocol: Protocol) {
    let line = agent.open(host, protocol).await;
    for size in [1, 2, 3] {
        line.ask(&Ask::post("/size", vec![b'x'; size])).await.expect(200, &size.to_string());
    }
    line.vanish();
}

/// Requests at once, each on its own line over HTTP/1.1.
async fn at_once(agent: &WireAgent, host: &str, protocol: Protocol, count: usize) -> Vec<Answer> {
    let shared = agent.open(host, protocol).await;
    let mut tasks = Vec::new();
    for n in 0..count {
        let line = if protocol == Protocol::H2 { shared.clone() } else { agent.open(host, protocol).await };
        tasks.push(tokio::spawn(async move { line.ask(&Ask::post("/at-once", vec![b'x'; n])).await }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

#[test]
fn more_requests_than_an_origin_takes_at_once_all_get_their_answers() {
    run(async {
        for streams in [1, 3] {
            let offer = Offer { streams: Some(streams), ..Offer::of(Protocol::H2) };
            let stage = Stage::with(offer, "", |turn| origin(turn, Arrivals::default())).await;
            for agent in Protocol::BOTH {
                for _ in 0..3 {
                    let answers = at_once(&stage.agent(), host(Protocol::H2, true), agent, 30).await;
                    for (n, answer) in answers.iter().enumerate() {
                        answer.expect(200, &n.to_string());
                    }
                }
            }
            println!("{streams} streams at most: {} connections", stage.h2.accepted());
        }
    });
}

#[test]
fn an_origins_farewell_is_not_felt_however_many_requests_are_under_way() {
    run(async {
        // Every fifth request makes the origin say farewell, before it answers.
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let stage = Stage::start(move |mut turn| {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async move {
                turn.read_all().await?;
                if number % 5 == 4 {
                    turn.go_away();
                }
                turn.answer(200, &turn.received.to_string()).await
            }
        })
        .await;
        for (agent, to) in PAIRINGS.into_iter().filter(|(_, to)| *to == Protocol::H2) {
            for round in 0..5 {
                let answers = at_once(&stage.agent(), host(to, true), agent, 20).await;
                for (n, answer) in answers.iter().enumerate() {
                    let got = (answer.status, answer.text(), answer.ending);
                    assert_eq!(got, (200, n.to_string(), Ending::Whole), "agent {agent:?}, origin {to:?}, round {round}: {answer:?}");
                }
            }
        }
    });
}

#[test]
fn an_origin_that_dies_under_many_requests_fails_them_all_and_no_later_one() {
    run(async {
        for (agent, to) in PAIRINGS {
            let stage = Stage::start(|mut turn| async move {
                turn.read_all().await?;
                if turn.request.target == "/wait" {
                    turn.gone().await;
                } else if turn.request.target == "/die" {
                    turn.cut();
                }
                let body = String::from_utf8_lossy(&turn.request.body).into_owned();
                turn.answer(200, &body).await
            })
            .await;
            let host = host(to, true);
            right_answers("at first", None, &stage.agent(), host, agent).await;
            let watch = Watch::over(&stage.serve);
            let line = stage.agent().open(host, agent).await;
            let mut waiting = Vec::new();
            for _ in 0..10 {
                let line = if agent == Protocol::H2 { line.clone() } else { stage.agent().open(host, agent).await };
                waiting.push(tokio::spawn(async move { line.ask(&Ask::post("/wait", "")).await }));
            }
            eventually("all have arrived", || stage.origin(to).seen().iter().filter(|s| s.target == "/wait").count() == 10).await;
            if to == Protocol::H2 {
                expect_failure("who kills the origin", &line.ask(&Ask::post("/die", "")).await);
                for task in waiting {
                    expect_failure("who waits on a dead origin", &task.await.unwrap());
                }
            } else {
                // Each has a connection of its own: nothing befalls them but the end of their agents.
                expect_failure("who kills the origin", &line.ask(&Ask::post("/die", "")).await);
                waiting.iter().for_each(tokio::task::JoinHandle::abort);
            }
            let case = format!("agent {agent:?}, origin {to:?}");
            // They may have been processed, and are no requests to be made twice.
            let arrived = |target: &str| stage.origin(to).seen().iter().filter(|seen| seen.target == target).count();
            assert_eq!((arrived("/wait"), arrived("/die")), (10, 1), "{case}");
            right_answers(&case, (agent == Protocol::H2).then_some(&line), &stage.agent(), host, agent).await;
            line.vanish();
            drop(line);
            watch.settles(&case).await;
        }
    });
}
