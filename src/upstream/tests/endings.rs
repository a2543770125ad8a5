//! How connections end, and that no request goes out on one that has.

use super::*;
use h2::Reason;

const H2: Speaks = Speaks::Http2 { streams: None, connect: false };

#[tokio::test]
async fn after_a_goaway_others_get_a_new_connection_and_its_requests_end_well() {
    let world = World::with(H2).await;
    let (mut first, mut late) = (world.lane().await, world.lane().await);
    let (held, _stream) = send(&mut first, "/held");
    within("the request", || world.origin.requests() == 1).await;
    world.origin.tell(Tell::Go);
    within("the GOAWAY", || late.send(request("/"), true).is_err()).await;
    let refused = late.send(request("/"), true).expect_err("the connection is going away");
    assert!(was_not_processed(&refused), "{refused:?}");
    assert!(!world.connect(ANY).await.expect("connected").reused);
    assert_eq!(world.origin.accepted(), 2);
    world.origin.tell(Tell::Answer);
    assert_eq!(held.await.expect("answered").status(), 200);
    drop((first, late));
    within("the end of the first connection", || world.origin.ended() == 1).await;
}

#[tokio::test]
async fn what_the_origin_did_not_process_is_told_from_what_it_may_have() {
    let world = World::with(H2).await;
    let mut lane = world.lane().await;
    let refused = ask(&mut lane, "/refused").await.expect_err("refused");
    assert!(was_not_processed(&refused), "{refused:?}");
    // GOAWAY names this stream as processed, and the connection ends without an answer.
    let (held, _stream) = send(&mut lane, "/held");
    within("the request", || world.origin.requests() > 1).await;
    world.origin.tell(Tell::Stop);
    let cut = held.await.expect_err("cut off");
    assert!(!was_not_processed(&cut), "{cut:?}");
    let world = World::with(Speaks::Going).await;
    let above = ask(&mut world.lane().await, "/").await.expect_err("above the last stream");
    assert!(above.is_go_away() && was_not_processed(&above), "{above:?}");
    // The origin alone can say so.
    assert!(!was_not_processed(&Reason::CANCEL.into()));
}

#[tokio::test]
async fn a_connection_that_its_origin_closed_is_not_handed_out() {
    let world = World::with(H2).await;
    let mut lane = world.lane().await;
    ask(&mut lane, "/").await.expect("answered");
    drop(lane);
    world.origin.tell(Tell::Close);
    within("the end of the connection", || world.slot.is_empty()).await;
    assert!(!world.connect(ANY).await.expect("connected").reused);
}

#[tokio::test]
async fn an_idle_connection_is_let_go() {
    let world = World::with(H2).await;
    let mut lane = world.lane().await;
    ask(&mut lane, "/").await.expect("answered");
    // In use it stays, however long.
    pass(Duration::from_secs(300)).await;
    assert!(world.connect(ANY).await.expect("connected").reused);
    drop(lane);
    pass(Duration::from_secs(50)).await;
    assert!(world.connect(ANY).await.expect("connected").reused);
    pass(Duration::from_secs(70)).await;
    within("its end", || world.origin.ended() == 1 && world.slot.is_empty()).await;
}

#[tokio::test]
async fn an_origin_that_vanished_is_noticed_while_a_request_waits() {
    let world = World::with(Speaks::Mute).await;
    let mut lane = world.lane().await;
    let (waits, _stream) = send(&mut lane, "/");
    let waits = tokio::spawn(waits);
    within("the handshake", || world.origin.protocols().len() == 1).await;
    pass(Duration::from_secs(25)).await;
    assert!(!waits.is_finished());
    pass(Duration::from_secs(40)).await;
    let error = waits.await.expect("whole").expect_err("given up");
    assert!(error.is_io() && !was_not_processed(&error), "{error:?}");
    assert!(world.slot.is_empty());
}

#[tokio::test]
async fn an_origin_that_answers_probes_may_take_its_time() {
    let world = World::with(H2).await;
    let mut lane = world.lane().await;
    let (held, _stream) = send(&mut lane, "/held");
    let held = tokio::spawn(held);
    within("the request", || world.origin.requests() == 1).await;
    pass(Duration::from_secs(3600)).await;
    world.origin.tell(Tell::Answer);
    assert_eq!(held.await.expect("whole").expect("answered").status(), 200);
}

#[tokio::test]
async fn a_pool_that_is_cleared_lets_requests_end() {
    let world = World::with(H2).await;
    let (mut lane, idle) = (world.lane().await, stream(world.connect(HTTP1).await));
    let (held, content) = send(&mut lane, "/held");
    within("the request", || world.origin.requests() == 1).await;
    world.pool.clear();
    world.slot.put(idle, None);
    within("the end of what is idle", || world.origin.ended() == 1).await;
    // A request that had the slot already still gets out, and leaves nothing behind.
    assert!(!world.connect(ANY).await.expect("connected").reused);
    assert!(world.slot.is_empty());
    within("the end of its connection", || world.origin.ended() == 2).await;
    world.origin.tell(Tell::Answer);
    assert_eq!(held.await.expect("answered").status(), 200);
    drop((lane, content));
    within("the end of the last", || world.origin.ended() == 3).await;
}

#[tokio::test]
async fn a_sweep_closes_what_is_idle() {
    let world = World::with(H2).await;
    let (lane, idle) = (world.lane().await, stream(world.connect(HTTP1).await));
    world.slot.put(idle, None);
    world.pool.sweep();
    drop(lane);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(59)).await;
    world.pool.sweep();
    assert!(!world.slot.is_empty());
    tokio::time::advance(Duration::from_secs(2)).await;
    world.pool.sweep();
    assert!(world.slot.is_empty());
    tokio::time::resume();
    within("their ends", || world.origin.ended() == 2).await;
}

#[tokio::test]
async fn an_idle_connection_is_used_as_long_as_its_origin_keeps_it() {
    let world = World::with(Speaks::Http1).await;
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    for (keep, used, over) in [(None, s(59), s(1)), (Some(s(5)), ms(3900), ms(100)), (Some(s(1)), ms(400), ms(100)), (Some(s(300)), s(59), s(1))] {
        let fresh = stream(world.connect(Want { fresh: true, ..ANY }).await);
        world.slot.put(fresh, keep);
        tokio::time::pause();
        tokio::time::advance(used).await;
        let again = world.connect(ANY).await.expect("connected");
        assert!(again.reused, "{keep:?}");
        world.slot.put(stream(Ok(again)), keep);
        tokio::time::advance(used + over).await;
        tokio::time::resume();
        assert!(!world.connect(ANY).await.expect("connected").reused, "{keep:?}");
    }
    let fresh = stream(world.connect(ANY).await);
    world.slot.put(fresh, Some(Duration::ZERO));
    assert!(world.slot.is_empty());
}
