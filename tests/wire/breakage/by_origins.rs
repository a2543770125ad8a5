//! Origins that break off, over either protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::support::wire::stage::host;
use crate::support::wire::{Head, PAIRINGS, Stage, Turn, fields, run};

/// What an origin does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breakage {
    /// Ends the request before the head.
    ResetBeforeTheHead,
    /// Ends it after the head.
    ResetAfterTheHead,
    /// Ends it in the midst of the body.
    ResetAmidTheBody,
    /// The TCP connection ends before the head, in the midst of a body of known length, and of unknown length.
    CutBeforeTheHead,
    CutAmidTheLength,
    CutAmidThePieces,
    /// GOAWAY with a code and the end, in the midst of the body.
    GoAwayAtOnce,
    /// Less than the length says, then the end of the answer.
    TooShort,
    /// More than the length says.
    TooLong,
    /// GOAWAY that leaves what is under way to end.
    GoAway,
    /// The connection ends once the answer is whole.
    CutAfterTheAnswer,
    /// An early answer, whole, and the rest of the upload unwanted.
    EarlyAndNoMore,
}

use Breakage::*;

const ALL: [Breakage; 12] = [
    ResetBeforeTheHead,
    ResetAfterTheHead,
    ResetAmidTheBody,
    CutBeforeTheHead,
    CutAmidTheLength,
    CutAmidThePieces,
    GoAwayAtOnce,
    TooShort,
    TooLong,
    GoAway,
    CutAfterTheAnswer,
    EarlyAndNoMore,
];

/// What the agent sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// No whole answer.
    Failure,
    /// A whole one with this status and body.
    Whole(u16, &'static str),
    /// Either is right.
    Any,
}

fn wanted(breakage: Breakage, origin: Protocol) -> Seen {
    match (breakage, origin) {
        (GoAway, _) => Seen::Whole(200, "goodbye"),
        (CutAfterTheAnswer, _) => Seen::Whole(200, "whole"),
        (EarlyAndNoMore, _) => Seen::Whole(413, "enough"),
        // What comes after the length is not part of the answer; it must not become the next one's.
        (TooLong, Protocol::H1) => Seen::Any,
        _ => Seen::Failure,
    }
}

async fn origin(mut turn: Turn, cuts: Arc<AtomicUsize>) -> Result<(), Ending> {
    let target = turn.request.target.clone();
    let Some(breakage) = ALL.into_iter().find(|b| target == format!("/{b:?}")) else {
        turn.read_all().await?;
        let body = String::from_utf8_lossy(&turn.request.body).into_owned();
        return turn.answer(200, &body).await;
    };
    if breakage != EarlyAndNoMore {
        turn.read_all().await?;
    }
    let pieces = Head { status: 200, reason: "OK".to_owned(), fields: fields(&[("x-a", "1")]) };
    let ten = Head { fields: fields(&[("content-length", "10")]), ..pieces.clone() };
    match breakage {
        ResetBeforeTheHead => turn.reset(2).await,
        ResetAfterTheHead => {
            turn.head(&pieces, false).await?;
            turn.reset(2).await;
        }
        ResetAmidTheBody => {
            turn.head(&pieces, false).await?;
            turn.data("half").await?;
            turn.reset(11).await;
        }
        CutBeforeTheHead => turn.cut(),
        CutAmidTheLength | CutAmidThePieces => {
            turn.head(if breakage == CutAmidTheLength { &ten } else { &pieces }, false).await?;
            turn.data("half").await?;
            turn.cut();
        }
        GoAwayAtOnce => {
            turn.head(&ten, false).await?;
            turn.data("half").await?;
            turn.go_away_at_once(1);
            turn.gone().await;
        }
        TooShort | TooLong => {
            turn.head(&ten, false).await?;
            turn.data(if breakage == TooShort { "short" } else { "0123456789HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad" }).await?;
            turn.finish(None).await?;
            if turn.request.protocol == Protocol::H1 && breakage == TooShort {
                turn.cut();
            }
        }
        GoAway => {
            turn.go_away();
            turn.answer(200, "goodbye").await?;
        }
        CutAfterTheAnswer => {
            turn.answer(200, "whole").await?;
            // The end must not overtake the answer.
            tokio::time::sleep(Duration::from_millis(20)).await;
            turn.cut();
            cuts.fetch_add(1, Ordering::SeqCst);
        }
        EarlyAndNoMore => {
            turn.answer(413, "enough").await?;
            turn.refuse_the_rest().await;
            cuts.fetch_add(1, Ordering::SeqCst);
        }
    }
    Ok(())
}

async fn breaks(stage: &Stage, cuts: &AtomicUsize, breakage: Breakage, (agent, to): (Protocol, Protocol)) {
    let case = format!("agent {agent:?}, origin {to:?}, {breakage:?}");
    let before = cuts.load(Ordering::SeqCst);
    let watch = Watch::over(&stage.serve);
    let line = stage.agent().open(host(to, true), agent).await;
    line.ask(&Ask::post("/echo", "before")).await.expect(200, "before");
    let body = if breakage == EarlyAndNoMore { vec![b'u'; 2 << 20] } else { b"x".to_vec() };
    let answer = line.ask(&Ask::post(&format!("/{breakage:?}"), body)).await;
    match wanted(breakage, to) {
        Seen::Failure => expect_failure(&case, &answer),
        Seen::Whole(status, text) => {
            assert_eq!((answer.status, answer.text().as_str(), answer.ending), (status, text, Ending::Whole), "{case}: {answer:?}");
        }
        Seen::Any => {
            assert!(answer.body.starts_with(b"0123456789") && answer.body.len() <= 10 || answer.ending != Ending::Whole, "{case}: {answer:?}")
        }
    }
    if let (Protocol::H2, Protocol::H2, ResetAfterTheHead | ResetAmidTheBody) = (agent, to, breakage) {
        let code = if breakage == ResetAfterTheHead { 2 } else { 11 };
        assert_eq!(answer.ending, Ending::Reset(code), "{case}: the origin's code is passed on");
    }
    if matches!(breakage, CutAfterTheAnswer | EarlyAndNoMore) {
        // A request that meets the cut on its way may fail, as it would without a proxy.
        eventually(&case, || cuts.load(Ordering::SeqCst) > before).await;
    }
    // Over HTTP/2 the agent's connection outlives the breakage.
    right_answers(&case, (agent == Protocol::H2).then_some(&line), &stage.agent(), host(to, true), agent).await;
    line.vanish();
    drop(line);
    watch.settles(&case).await;
}

fn all(pairing: (Protocol, Protocol)) {
    run(async {
        let cuts = Arc::<AtomicUsize>::default();
        let own = cuts.clone();
        let stage = Arc::new(Stage::start(move |turn| origin(turn, own.clone())).await);
        right_answers("at first", None, &stage.agent(), host(pairing.1, true), pairing.0).await;
        each(ALL.map(|breakage| (format!("{pairing:?}, {breakage:?}"), breakage)), |breakage| {
            let (stage, cuts) = (stage.clone(), cuts.clone());
            async move { breaks(&stage, &cuts, breakage, pairing).await }
        })
        .await;
    });
}

#[test]
fn after_an_origin_broke_off_the_next_answers_are_right_from_h1_to_h1() {
    all(PAIRINGS[0]);
}

#[test]
fn after_an_origin_broke_off_the_next_answers_are_right_from_h1_to_h2() {
    all(PAIRINGS[1]);
}

#[test]
fn after_an_origin_broke_off_the_next_answers_are_right_from_h2_to_h1() {
    all(PAIRINGS[2]);
}

#[test]
fn after_an_origin_broke_off_the_next_answers_are_right_from_h2_to_h2() {
    all(PAIRINGS[3]);
}

/// A reset of one stream leaves the others of the same connection to the origin alone.
#[test]
fn a_reset_of_one_stream_leaves_the_others_alone() {
    run(async {
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let own = gate.clone();
        let stage = Stage::start(move |mut turn| {
            let gate = own.clone();
            async move {
                if turn.request.target != "/slow" {
                    return origin(turn, Arc::default()).await;
                }
                turn.head(&Head { status: 200, reason: String::new(), fields: Vec::new() }, false).await?;
                gate.acquire().await.unwrap().forget();
                turn.data("slow").await?;
                turn.finish(None).await
            }
        })
        .await;
        for agent in Protocol::BOTH {
            let slow_line = stage.agent().open(host(Protocol::H2, true), agent).await;
            let (mut up, mut down) = slow_line.begin(&Ask::get("/slow")).await.unwrap();
            up.finish(None).await.unwrap();
            assert_eq!(down.head().await.unwrap().status, 200);
            let line = if agent == Protocol::H2 { slow_line.clone() } else { stage.agent().open(host(Protocol::H2, true), agent).await };
            let answer = line.ask(&Ask::post("/ResetAmidTheBody", "x")).await;
            expect_failure("a reset beside a slow stream", &answer);
            gate.add_permits(1);
            assert_eq!(down.piece().await.unwrap().as_deref(), Some(b"slow".as_slice()));
            assert_eq!(down.piece().await, Ok(None));
        }
        assert_eq!(stage.h2.accepted(), 1, "all over one connection");
    });
}
