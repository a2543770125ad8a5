//! WebSockets, which HTTP/2 carries only where the origin says so.

use super::*;

const CONNECT: Speaks = Speaks::Http2 { streams: None, connect: true };
const NO_CONNECT: Speaks = Speaks::Http2 { streams: None, connect: false };

#[tokio::test]
async fn a_websocket_shares_a_connection_with_extended_connect() {
    let world = World::with(CONNECT).await;
    let first = lane(world.connect(WEBSOCKET).await);
    assert!(first.takes_connect());
    assert!(lane(world.connect(WEBSOCKET).await).takes_connect());
    let _other = world.lane().await;
    world.assert_protocols(&["h2"]).await;
}

#[tokio::test]
async fn without_extended_connect_a_websocket_gets_http1() {
    let world = World::with(NO_CONNECT).await;
    stream(world.connect(WEBSOCKET).await);
    world.assert_protocols(&["h2", "http/1.1"]).await;
    // The connection that was made to find out serves others, and the answer is remembered longer than it lives.
    let mut lane = world.lane().await;
    ask(&mut lane, "/").await.expect("answered");
    stream(world.connect(WEBSOCKET).await);
    drop(lane);
    world.origin.tell(Tell::Close);
    within("the end of the connection", || world.slot.is_empty()).await;
    stream(world.connect(WEBSOCKET).await);
    world.assert_protocols(&["h2", "http/1.1", "http/1.1", "http/1.1"]).await;
}

#[tokio::test]
async fn a_websocket_waits_for_what_the_origin_says() {
    let world = World::with(Speaks::Mute).await;
    let _lane = world.lane().await;
    let waiting = world.connecting(WEBSOCKET);
    within("the handshake", || world.origin.protocols().len() == 1).await;
    assert!(!waiting.is_finished());
    world.origin.tell(Tell::Settings);
    stream(waiting.await.expect("whole"));
    world.assert_protocols(&["h2", "http/1.1"]).await;
}

#[tokio::test]
async fn a_websocket_waits_a_second_at_most() {
    let world = World::with(Speaks::Mute).await;
    let _lane = world.lane().await;
    let begun = std::time::Instant::now();
    stream(world.connect(WEBSOCKET).await);
    assert!(begun.elapsed() < Duration::from_secs(5));
    world.assert_protocols(&["h2", "http/1.1"]).await;
}

#[tokio::test]
async fn an_origin_of_http1_carries_websockets_at_once() {
    let world = World::with(Speaks::Http1).await;
    stream(world.connect(WEBSOCKET).await);
    world.assert_protocols(&["http/1.1"]).await;
}
