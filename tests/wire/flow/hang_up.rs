//! An agent that hangs up is felt by the origin within a second.

use super::*;
use crate::support::wire::{Head, fields};

/// When the agent hangs up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// The origin has the request and says nothing.
    BeforeTheHead,
    /// The head has come and nothing after it.
    AfterTheHead,
    /// Bytes flow.
    AmidTheAnswer,
    /// The agent has sent part of its body.
    AmidTheUpload,
}

/// How the agent hangs up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// `RST_STREAM`, beside another stream of the connection.
    Reset,
    /// The connection ends.
    Close,
}

async fn origin(mut turn: Turn, shared: Arc<Shared>) -> Result<(), Ending> {
    let ok = Head { status: 200, reason: "OK".to_owned(), fields: fields(&[("content-type", "text/plain")]) };
    match turn.request.target.as_str() {
        "/BeforeTheHead" => turn.read_all().await?,
        "/AfterTheHead" => {
            turn.read_all().await?;
            turn.head(&ok, false).await?;
        }
        "/AmidTheAnswer" => {
            turn.read_all().await?;
            turn.head(&ok, false).await?;
            shared.tell.send(Told::Arrived).unwrap();
            pour(&mut turn, &shared).await;
            return Ok(());
        }
        "/AmidTheUpload" => drop(turn.read().await?),
        // The other stream: it ends when the test says so.
        _ => {
            turn.head(&ok, false).await?;
            shared.gate.acquire().await.unwrap().forget();
            turn.data("other").await?;
            return turn.finish(None).await;
        }
    }
    shared.tell.send(Told::Arrived).unwrap();
    let ending = turn.gone().await;
    let _ = shared.tell.send(Told::Gone(ending));
    Ok(())
}

async fn felt(stage: &Stage, shared: &Shared, told: &mut UnboundedReceiver<Told>, (agent, to): (Protocol, Protocol), when: When, how: How) {
    let case = format!("agent {agent:?}, origin {to:?}, {when:?}, {how:?}");
    let line = stage.agent().open(host(to, true), agent).await;
    let mut other = None;
    if how == How::Reset {
        let (mut up, mut down) = line.begin(&Ask::get("/other")).await.unwrap();
        up.finish(None).await.unwrap();
        assert_eq!(patiently("the other head", down.head()).await.unwrap().status, 200);
        other = Some(down);
    }
    let content = if when == When::AmidTheUpload { Content::Unknown(Vec::new()) } else { Content::None };
    let (mut up, mut down) = line.begin(&Ask { content, ..Ask::new("POST", &format!("/{when:?}")) }).await.unwrap();
    if when == When::AmidTheUpload {
        up.data("part").await.unwrap();
    } else {
        up.finish(None).await.unwrap();
    }
    if matches!(when, When::AfterTheHead | When::AmidTheAnswer) {
        assert_eq!(patiently(&case, down.head()).await.unwrap().status, 200);
    }
    if when == When::AmidTheAnswer {
        let mut got = 0;
        while got < 1 << 20 {
            got += patiently(&case, down.piece()).await.unwrap().expect("it has no end").len();
        }
    }
    assert_eq!(patiently(&case, told.recv()).await, Some(Told::Arrived));
    match how {
        How::Reset => up.reset(8).await,
        How::Close => line.vanish(),
    }
    let gone = tokio::time::timeout(Duration::from_secs(1), told.recv()).await;
    assert!(matches!(gone, Ok(Some(Told::Gone(_)))), "{case}: {gone:?}");
    if to == Protocol::H2 {
        assert_eq!(gone, Ok(Some(Told::Gone(Ending::Reset(8)))), "{case}: the request alone is cancelled, by CANCEL");
    }
    if let Some(mut down) = other {
        shared.gate.add_permits(1);
        assert_eq!(patiently(&case, down.piece()).await.unwrap().as_deref(), Some(b"other".as_slice()));
        assert_eq!(patiently(&case, down.piece()).await, Ok(None));
    }
}

#[test]
fn an_agent_that_hangs_up_is_felt_by_the_origin_within_a_second() {
    run(async {
        let (shared, mut told) = Shared::new();
        let own = shared.clone();
        let stage = Stage::start(move |turn| origin(turn, own.clone())).await;
        for pairing in PAIRINGS {
            for when in [When::BeforeTheHead, When::AfterTheHead, When::AmidTheAnswer, When::AmidTheUpload] {
                felt(&stage, &shared, &mut told, pairing, when, How::Close).await;
                if pairing.0 == Protocol::H2 {
                    felt(&stage, &shared, &mut told, pairing, when, How::Reset).await;
                }
            }
        }
    });
}
