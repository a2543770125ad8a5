//! Slots against origins on loopback that speak real TLS.

mod endings;
mod origin;
mod sharing;
mod websockets;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use tokio::task::JoinHandle;

use super::*;
use origin::{Origin, Speaks, Tell};

const ANY: Want = Want { fresh: false, protocols: Protocols::Any };
const HTTP1: Want = Want { fresh: false, protocols: Protocols::Http1 };
const WEBSOCKET: Want = Want { fresh: false, protocols: Protocols::WebSocket };

/// An origin, and a slot that leads there.
struct World {
    origin: Origin,
    pool: Pool,
    slot: Arc<Slot>,
    dialer: Arc<Dialer>,
}

impl World {
    async fn with(speaks: Speaks) -> Self {
        Self::behind_a_gate(speaks, 1000).await
    }

    /// The origin answers no more TLS handshakes than that, until more are let through.
    async fn behind_a_gate(speaks: Speaks, open: usize) -> Self {
        let origin = Origin::start(speaks, open).await;
        let (pool, dialer) = (Pool::default(), Arc::new(origin.dialer(Duration::from_secs(20))));
        let slot = pool.slot(&PoolKey { agent: "coder".into(), generation: 1, authority: origin.authority(), tls: true });
        Self { origin, pool, slot, dialer }
    }

    async fn connect(&self, want: Want) -> Result<Route, DialError> {
        self.slot.connect(&self.dialer, want).await
    }

    /// The protocols of the connections so far. The origin's side of a handshake ends after ours.
    async fn assert_protocols(&self, expected: &[&str]) {
        within("the handshakes", || self.origin.protocols().len() >= expected.len()).await;
        assert_eq!(self.origin.protocols(), expected);
    }

    async fn lane(&self) -> Lane {
        lane(self.connect(ANY).await)
    }

    /// A request for a connection that runs by itself.
    fn connecting(&self, want: Want) -> JoinHandle<Result<Route, DialError>> {
        let (slot, dialer) = (Arc::clone(&self.slot), Arc::clone(&self.dialer));
        tokio::spawn(async move { slot.connect(&dialer, want).await })
    }
}

fn lane(route: Result<Route, DialError>) -> Lane {
    match route.expect("connected").connected {
        Connected::H2(lane) => lane,
        Connected::H1(_) => panic!("HTTP/1.1"),
    }
}

fn stream(route: Result<Route, DialError>) -> UpstreamStream {
    match route.expect("connected").connected {
        Connected::H1(stream) => stream,
        Connected::H2(_) => panic!("HTTP/2"),
    }
}

fn request(path: &str) -> Request<()> {
    Request::builder().method(Method::POST).uri(format!("https://origin.example{path}")).body(()).expect("a request")
}

fn send(lane: &mut Lane, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
    lane.send(request(path), true).expect("sent")
}

async fn ask(lane: &mut Lane, path: &str) -> Result<Response<RecvStream>, h2::Error> {
    send(lane, path).0.await
}

/// Waits until the thing is so.
async fn within(what: &str, mut probe: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !probe() {
        assert!(start.elapsed() < Duration::from_secs(10), "not within 10 s: {what}");
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
}

/// Lets that much time pass at once.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::sleep(time).await;
    tokio::time::resume();
}
