//! Who dials, who waits, and who shares.

use super::*;

const H2: Speaks = Speaks::Http2 { streams: None, connect: false };

#[tokio::test]
async fn one_request_dials_and_the_others_share_its_connection() {
    let world = World::behind_a_gate(H2, 0).await;
    let waiting: Vec<_> = (0..20).map(|_| world.connecting(ANY)).collect();
    within("a dial", || world.origin.accepted() > 0).await;
    world.origin.open(100);
    let mut routes = Vec::new();
    for route in waiting {
        routes.push(route.await.expect("whole").expect("connected"));
    }
    assert_eq!((routes.iter().filter(|r| r.reused).count(), world.origin.accepted()), (19, 1));
    for route in routes {
        assert_eq!(route.peer.port(), world.origin.authority().port);
        assert_eq!(ask(&mut lane(Ok(route)), "/").await.expect("answered").status(), 200);
    }
    // And later ones take it too, also where an idle connection failed.
    let route = world.connect(Want { fresh: true, ..ANY }).await.expect("connected");
    assert!(route.reused);
    assert_eq!((world.origin.accepted(), world.origin.requests()), (1, 20));
}

#[tokio::test]
async fn a_full_connection_gets_another_one_beside_it() {
    let world = World::with(Speaks::Http2 { streams: Some(2), connect: false }).await;
    // What the origin allows is known once it has answered.
    let mut first = world.lane().await;
    ask(&mut first, "/").await.expect("answered");
    let second = world.lane().await;
    assert_eq!(world.origin.accepted(), 1);
    let both = [world.connecting(ANY), world.connecting(ANY)];
    let mut lanes = Vec::new();
    for route in both {
        lanes.push(lane(route.await.expect("whole")));
    }
    assert_eq!(world.origin.accepted(), 2, "one of them dials");
    drop(first);
    let _third = world.lane().await;
    assert_eq!(world.origin.accepted(), 2, "a place that is free again is taken");
    drop((second, lanes));
}

#[tokio::test]
async fn beyond_eight_connections_requests_wait_on_the_least_busy() {
    let world = World::with(Speaks::Http2 { streams: Some(1), connect: false }).await;
    let mut lanes = Vec::new();
    for _ in 0..8 {
        let mut lane = world.lane().await;
        ask(&mut lane, "/").await.expect("answered");
        lanes.push(lane);
    }
    let (held, _stream) = send(&mut lanes[0], "/held");
    within("the request", || world.origin.requests() == 9).await;
    let mut more = world.lane().await;
    lanes.push(world.lane().await);
    assert_eq!((world.origin.accepted(), world.origin.protocols().len()), (8, 8));
    // The first of the least busy is that of the request that is held.
    let (waits, _stream) = send(&mut more, "/");
    let waits = tokio::spawn(waits);
    world.origin.tell(Tell::Answer);
    assert_eq!(held.await.expect("answered").status(), 200);
    assert_eq!(waits.await.expect("whole").expect("answered").status(), 200);
}

#[tokio::test]
async fn origins_of_http1_are_dialled_by_all_at_once() {
    let world = World::behind_a_gate(Speaks::Http1, 0).await;
    let waiting: Vec<_> = (0..5).map(|_| world.connecting(ANY)).collect();
    within("a dial", || world.origin.accepted() == 1).await;
    world.origin.open(1);
    within("the others' dials", || world.origin.accepted() == 5).await;
    assert_eq!(world.origin.protocols(), ["http/1.1"], "none has waited for another's handshake");
    world.origin.open(4);
    for route in waiting {
        let route = route.await.expect("whole").expect("connected");
        assert!(!route.reused);
        world.slot.put(stream(Ok(route)), None);
    }
    let again = world.connect(ANY).await.expect("connected");
    assert!(again.reused && matches!(again.connected, Connected::H1(_)));
    world.origin.open(1);
    assert!(!world.connect(Want { fresh: true, ..ANY }).await.expect("connected").reused);
    assert_eq!(world.origin.accepted(), 6);
}

#[tokio::test]
async fn http1_is_had_from_an_origin_of_both() {
    let world = World::with(H2).await;
    let _lane = world.lane().await;
    let first = stream(world.connect(HTTP1).await);
    world.assert_protocols(&["h2", "http/1.1"]).await;
    // An idle one serves any request.
    world.slot.put(first, None);
    let again = world.connect(ANY).await.expect("connected");
    assert!(again.reused && matches!(again.connected, Connected::H1(_)));
}

#[tokio::test]
async fn who_hangs_up_while_dialling_leaves_it_to_the_next() {
    let world = World::behind_a_gate(H2, 0).await;
    let first = world.connecting(ANY);
    within("a dial", || world.origin.accepted() == 1).await;
    let gone = world.connecting(ANY);
    let waiting: Vec<_> = (0..4).map(|_| world.connecting(ANY)).collect();
    tokio::task::yield_now().await;
    gone.abort();
    first.abort();
    within("another dial", || world.origin.accepted() == 2).await;
    world.origin.open(2);
    let mut dialled = 0;
    for route in waiting {
        let route = route.await.expect("whole").expect("connected");
        dialled += usize::from(!route.reused);
        assert_eq!(ask(&mut lane(Ok(route)), "/").await.expect("answered").status(), 200);
    }
    assert_eq!(dialled, 1);
    assert_eq!(world.origin.accepted(), 2);
}

#[tokio::test]
async fn a_dial_that_nobody_goes_on_with_holds_up_the_others_for_a_while_only() {
    let world = World::behind_a_gate(H2, 0).await;
    let mut stuck = Box::pin(world.connect(ANY));
    let dials = std::future::poll_fn(|cx| std::task::Poll::Ready(stuck.as_mut().poll(cx).is_pending())).await;
    assert!(dials);
    let waiting = world.connecting(ANY);
    world.origin.open(2);
    tokio::task::yield_now().await;
    pass(Duration::from_secs(81)).await;
    assert!(!waiting.await.expect("whole").expect("connected").reused);
    drop(stuck);
}

#[tokio::test]
async fn a_dial_that_fails_fails_those_who_wait_for_it() {
    let world = World::with(Speaks::Nothing).await;
    let waiting: Vec<_> = (0..5).map(|_| world.connecting(ANY)).collect();
    for route in waiting {
        assert_eq!(route.await.expect("whole").map(|_| ()).expect_err("refused").kind, DialErrorKind::Tls);
    }
    assert_eq!(world.origin.accepted(), 1);
    // The next one tries for itself.
    assert!(world.connect(ANY).await.is_err());
    assert_eq!(world.origin.accepted(), 2);
}

#[tokio::test]
async fn a_handshake_takes_no_longer_than_it_may() {
    let world = World::behind_a_gate(H2, 0).await;
    let dialer = world.origin.dialer(Duration::from_millis(50));
    for want in [ANY, HTTP1] {
        let error = world.slot.connect(&dialer, want).await.map(|_| ()).expect_err("too slow");
        assert_eq!(error.kind, DialErrorKind::TlsTimeout);
    }
}

#[tokio::test]
async fn sessions_are_resumed_by_both_protocols() {
    let world = World::with(H2).await;
    for dials in 1..=3 {
        let mut lane = world.lane().await;
        ask(&mut lane, "/").await.expect("answered");
        world.origin.tell(Tell::Close);
        within("the end of the connection", || world.slot.is_empty()).await;
        assert_eq!((world.origin.accepted(), world.origin.resumed()), (dials, dials - 1));
    }
    for dials in 1..=3 {
        let mut stream = stream(world.connect(HTTP1).await);
        // Tickets come after the handshake, and are read with whatever comes.
        within("the handshake", || world.origin.protocols().len() == 3 + dials && stream.is_quiet()).await;
        assert_eq!(world.origin.resumed(), 2 + dials - 1);
    }
}
