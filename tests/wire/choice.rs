//! Origins that speak both protocols, and origins that change their mind.

use crate::support::wire::stage::host;
use crate::support::wire::{Ask, Offer, Protocol, Stage, run};

/// An origin that offers both.
fn both() -> Offer {
    Offer { alpn: vec![Protocol::H2, Protocol::H1], ..Offer::of(Protocol::H2) }
}

#[test]
fn the_tunnels_of_one_agent_share_one_connection_to_an_origin_that_speaks_both() {
    run(async {
        let stage = Stage::with(both(), "", |mut turn| async move {
            turn.read_all().await?;
            turn.answer(200, "fine").await
        })
        .await;
        for agent in [Protocol::H1, Protocol::H2, Protocol::H1] {
            let line = stage.agent().open(host(Protocol::H2, true), agent).await;
            for _ in 0..3 {
                line.ask(&Ask::post("/", "content")).await.expect(200, "fine");
            }
        }
        assert_eq!(stage.h2.accepted(), 1, "one connection for all");
    });
}

#[test]
fn a_request_that_must_go_over_http_1_1_goes_again_over_it() {
    const HTTP_1_1_REQUIRED: u32 = 0xd;
    run(async {
        let stage = Stage::with(both(), "", |mut turn| async move {
            turn.read_all().await?;
            if turn.request.protocol == Protocol::H2 && turn.request.target == "/old" {
                turn.reset(HTTP_1_1_REQUIRED).await;
                return Ok(());
            }
            let spoken = format!("{:?}", turn.request.protocol);
            turn.answer(200, &spoken).await
        })
        .await;
        for agent in [Protocol::H1, Protocol::H2] {
            let line = stage.agent().open(host(Protocol::H2, true), agent).await;
            line.ask(&Ask::post("/old", "content")).await.expect(200, "H1");
            assert_eq!(line.ask(&Ask::post("/new", "content")).await.status, 200);
        }
    });
}
