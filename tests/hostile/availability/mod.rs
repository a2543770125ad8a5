//! An agent, or a neighbour, that takes all it can get: connections, requests, tunnels, time, descriptors. Each case says
//! what it is answered, that another agent is served meanwhile and afterwards, what the audit log says, and that nothing of
//! it is left.

mod descriptors;
mod fairness;
mod floods;
mod leaves;
mod places;
mod repeated;
mod slow;
mod unproved;

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use super::another_agent;
use super::case::is_well;
use crate::support::raw::trusting;
use crate::support::world::HOSTS;
use crate::support::{Agent, Origin, World, fresh_key, within};

/// How long another agent may wait for its answer on a machine that is flooded, debug build and all.
const SERVED: Duration = Duration::from_secs(10);

/// A world with two agents: `flooder`, and `default`, who is to be served whatever the other does.
struct Stage {
    world: World,
    flooder: Agent,
    /// Open descriptors before the case.
    base: usize,
}

impl Stage {
    #[track_caller]
    fn new(more: &str) -> Self {
        Self::with_origin(brief(), more)
    }

    #[track_caller]
    fn with_origin(origin: Origin, more: &str) -> Self {
        let world = World::with_configuration(origin, fresh_key(), more);
        let flooder = another_agent(&world, "flooder", &["real"]);
        for agent in [&flooder, &world.agent()] {
            assert_eq!(agent.get("openrouter.ai", "/warm").status, 200);
        }
        let base = settled(&world);
        world.origin.forget();
        Self { world, flooder, base }
    }

    /// The other agent gets its answer: over a connection of its own that is opened now.
    #[track_caller]
    fn other_is_served(&self) {
        let asked = Instant::now();
        let reply = self.world.agent().get("openrouter.ai", "/other");
        assert_eq!(reply.status, 200, "the other agent: {reply:?}");
        assert!(asked.elapsed() < SERVED, "the other agent waited for {:?}", asked.elapsed());
    }

    /// Of the flooder nothing came to an origin: only what others sent.
    #[track_caller]
    fn nothing_of_the_flooder_was_sent(&self) {
        let got: Vec<_> = self.world.origin.recorded().into_iter().map(|r| r.target).filter(|t| !["/other", "/kept"].contains(&t.as_str())).collect();
        assert!(got.is_empty(), "the origin got {got:?}");
    }

    /// All is as before: the proxy is well, and holds no descriptor more.
    #[track_caller]
    fn ends_well(self) {
        self.other_is_served();
        self.world.origin.forget();
        is_well(&self.world);
        let mut now = 0;
        let is_back = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            within(Duration::from_secs(10), "the descriptors are given back", || {
                now = self.world.serve.descriptors();
                (now <= self.base + 1).then_some(())
            });
        }));
        assert!(is_back.is_ok(), "{} descriptors before, {now} after", self.base);
    }
}

/// HTTP/2 inside a tunnel, for bytes of the test's own: preface and settings (identifier, value) are said.
fn http2_inside(stage: &Stage, settings: &[(u8, u32)]) -> StreamOwned<ClientConnection, TcpStream> {
    let (reply, mut stream) = stage.flooder.connect("openrouter.ai:443");
    assert_eq!(reply.status, 200);
    let tls = trusting(&stage.world.home.path().join("ca.pem"), &["h2"]);
    let mut session = ClientConnection::new(tls, "openrouter.ai".try_into().unwrap()).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut stream).unwrap();
    }
    let mut inside = StreamOwned::new(session, stream);
    let body: Vec<u8> = settings.iter().flat_map(|(id, value)| [&[0, *id][..], &value.to_be_bytes()].concat()).collect();
    inside.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    inside.write_all(&frame(4, 0, 0, &body)).unwrap();
    inside
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HEADERS of a `GET` that ends with them.
fn get(stream: u32, target: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    let host = "openrouter.ai";
    let head = [&[0x82, 0x87, 0x04, length(target)][..], target.as_bytes(), &[0x41, length(host)], host.as_bytes()].concat();
    frame(1, 5, stream, &head)
}

/// An origin that agrees to everything and closes, so that no connection to it is kept.
fn brief() -> Origin {
    Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        exchange.answer(200, "connection: close\r\n", b"{\"ok\":true}")?;
        exchange.close();
        Ok(())
    })
}

/// How many descriptors there are once connections of before are gone.
#[track_caller]
fn settled(world: &World) -> usize {
    let mut last = (usize::MAX, Instant::now());
    within(Duration::from_secs(10), "the descriptors stand still", || {
        let now = world.serve.descriptors();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(60)).then_some(now)
    })
}

/// Whether the other end has closed or answered; what is silent and open has done neither.
fn is_over(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let over = !matches!(stream.peek(&mut [0; 1]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    over
}
