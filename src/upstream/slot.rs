//! The connections of one agent to one origin: which of them a request takes, and when another one is made.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::dial::{DialError, DialErrorKind, Dialer};
use super::multiplex::{Driver, Lane, Multiplexed, told};
use super::pool::{IDLE_FOR, PoolKey};
use super::stream::UpstreamStream;
use crate::host::Authority;

/// Idle HTTP/1.1 connections that are kept.
const MOST_IDLE: usize = 256;
/// HTTP/2 connections; where all of them are full, requests wait on the one with the fewest.
const MOST_SHARED: usize = 8;

/// The connections of one [`PoolKey`](super::PoolKey). A connection of an agent holds its slot, so that a request costs no
/// look-up.
pub struct Slot {
    agent: Arc<str>,
    authority: Authority,
    tls: bool,
    state: Mutex<State>,
}

/// What a request goes out on.
pub enum Connected {
    /// A connection over HTTP/1.1, for this request alone.
    H1(UpstreamStream),
    /// A place on a connection over HTTP/2.
    H2(Lane),
}

/// The way to an origin.
pub struct Route {
    /// What the request goes out on.
    pub connected: Connected,
    /// The connection was not made for this request. It may still have waited while another request made it.
    pub reused: bool,
    /// The address connected to.
    pub peer: SocketAddr,
}

/// What a request needs of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// No idle HTTP/1.1 connection: one turned out to have been closed.
    pub fresh: bool,
    /// What can carry it.
    pub protocols: Protocols,
}

/// What can carry a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/2 or HTTP/1.1, as the origin chooses.
    Any,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 without TLS, which the agent knows that the origin speaks (RFC 9113 3.3).
    PriorKnowledge,
    /// A WebSocket: HTTP/2 where the origin takes extended CONNECT (RFC 8441), else HTTP/1.1.
    WebSocket,
}

#[derive(Default)]
struct State {
    idle: Vec<Idle>,
    shared: Vec<Arc<Multiplexed>>,
    /// Whether the origin chose HTTP/2 when it was last asked.
    multiplexes: Option<bool>,
    /// How many requests on one connection it allowed when it last said so.
    allowed: Option<usize>,
    /// Whether it took extended CONNECT when it last said so.
    takes_connect: Option<bool>,
    /// The dial that others wait for; it comes to an error, or to nothing where the slot says more.
    under_way: Option<watch::Receiver<Option<DialError>>>,
    /// The settings it belongs to are gone: nothing is kept.
    closed: bool,
}

struct Idle {
    stream: UpstreamStream,
    until: Instant,
}

/// What a request does next.
enum Step {
    Take(Route),
    /// Waits for what the origin can.
    Settle(Arc<Multiplexed>),
    /// Waits for the dial of another request.
    Wait(watch::Receiver<Option<DialError>>),
    /// Dials, with others waiting for it or none.
    Dial(Option<Flight>),
    DialHttp1,
}

/// A dial that others wait for. Whatever becomes of it, they go on when this is dropped.
struct Flight {
    slot: Arc<Slot>,
    outcome: watch::Sender<Option<DialError>>,
}

impl Slot {
    pub(super) fn new(PoolKey { agent, authority, tls, generation: _ }: PoolKey) -> Arc<Self> {
        Arc::new(Self { agent, authority, tls, state: Mutex::default() })
    }

    /// An idle HTTP/1.1 connection, a place on a shared HTTP/2 one, or a new connection.
    ///
    /// While it is not known what the origin speaks, and for each further connection where it speaks HTTP/2, one request
    /// dials and the others wait for it; to an origin of HTTP/1.1 they all dial at once.
    ///
    /// # Errors
    /// [`DialError`], also that of the dial waited for.
    pub async fn connect(self: &Arc<Self>, dialer: &Dialer, want: Want) -> Result<Route, DialError> {
        let mut settled = false;
        loop {
            match self.step(want, settled) {
                Step::Take(route) => return Ok(route),
                Step::Settle(connection) => {
                    connection.settle().await;
                    settled = true;
                }
                Step::Wait(mut under_way) => match tokio::time::timeout(dialer.patience(), under_way.changed()).await {
                    Ok(Ok(())) => {
                        if let Some(error) = under_way.borrow_and_update().clone() {
                            return self.instead(want).ok_or(error);
                        }
                    }
                    // The dial came to something, or its request was given up.
                    Ok(Err(_)) => {}
                    // Its request is held up by something else.
                    Err(_) => return self.dial(dialer, want, None).await,
                },
                Step::DialHttp1 => return Ok(Route::http1(dialer.connect(&self.authority, self.tls, &self.agent).await?, false)),
                Step::Dial(flight) => return self.dial(dialer, want, flight).await,
            }
        }
    }

    /// Gives an HTTP/1.1 connection back after a whole exchange. `keep`: how long the origin keeps it, if it said so
    /// (`Keep-Alive: timeout=`, RFC 2068 19.7.1.1); it is not used in the last second of that.
    pub fn put(&self, stream: UpstreamStream, keep: Option<Duration>) {
        let Some(kept) = kept_for(keep) else { return };
        let mut state = self.lock();
        if !state.closed && state.idle.len() < MOST_IDLE {
            state.idle.push(Idle { stream, until: Instant::now() + kept });
        }
    }

    fn step(self: &Arc<Self>, want: Want, settled: bool) -> Step {
        let mut state = self.lock();
        let known = !self.tls && want.protocols == Protocols::PriorKnowledge;
        if !want.fresh
            && !known
            && let Some(stream) = state.take_idle()
        {
            return Step::Take(Route::http1(stream, true));
        }
        if (!self.tls && !known) || want.protocols == Protocols::Http1 {
            return Step::DialHttp1;
        }
        state.shared.retain(|connection| connection.is_open());
        state.allowed = state.shared.iter().find_map(|connection| connection.allowed()).or(state.allowed);
        let likely = state.allowed;
        if let Some(connection) = state.usable(want).find(|connection| connection.has_room(likely)) {
            return Step::Take(Route::http2(connection.lane(), true));
        }
        if want.protocols == Protocols::WebSocket
            && let Some(step) = state.without_connect(settled)
        {
            return step;
        }
        if state.shared.len() >= MOST_SHARED
            && let Some(connection) = state.least_busy(want)
        {
            return Step::Take(Route::http2(connection.lane(), true));
        }
        if state.closed || state.multiplexes == Some(false) {
            return Step::Dial(None);
        }
        if let Some(under_way) = &state.under_way {
            return Step::Wait(under_way.clone());
        }
        let (outcome, under_way) = watch::channel(None);
        state.under_way = Some(under_way);
        Step::Dial(Some(Flight { slot: Arc::clone(self), outcome }))
    }

    /// Connects by whichever protocol the origin chooses. Those who wait go on as soon as that is known.
    async fn dial(self: &Arc<Self>, dialer: &Dialer, want: Want, flight: Option<Flight>) -> Result<Route, DialError> {
        let opened = match self.open(dialer).await {
            Ok(opened) => opened,
            Err(error) => {
                if let Some(flight) = &flight {
                    flight.outcome.send_replace(Some(error.clone()));
                }
                return self.instead(want).ok_or(error);
            }
        };
        let lane = match opened {
            Opened::H1(stream) => {
                self.lock().multiplexes = Some(false);
                return Ok(Route::http1(stream, false));
            }
            Opened::H2(connection, driver) => self.adopt(connection, driver),
        };
        drop(flight);
        if want.protocols == Protocols::WebSocket && !lane.takes_connect() {
            lane.settle().await;
            if !lane.takes_connect() {
                return Ok(Route::http1(dialer.connect(&self.authority, self.tls, &self.agent).await?, false));
            }
        }
        Ok(Route::http2(lane, false))
    }

    async fn open(&self, dialer: &Dialer) -> Result<Opened, DialError> {
        // Without TLS it comes here for what is known to speak HTTP/2.
        let stream = if self.tls {
            dialer.negotiate(&self.authority, &self.agent).await?
        } else {
            dialer.connect(&self.authority, false, &self.agent).await?
        };
        if self.tls && !stream.is_h2() {
            return Ok(Opened::H1(stream));
        }
        let peer = stream.peer();
        let failed = |kind, why: &str| DialError::new(kind, format!("HTTP/2 with {} cannot begin: {why}", self.authority)).at(peer);
        match tokio::time::timeout(dialer.tls_timeout(), Multiplexed::begin(stream)).await {
            Ok(Ok((connection, driver))) => Ok(Opened::H2(connection, Box::new(driver))),
            Ok(Err(error)) => Err(failed(DialErrorKind::Connect, &told(&error))),
            Err(_) => Err(failed(DialErrorKind::ConnectTimeout, "the connection takes nothing")),
        }
    }

    /// Takes a place on a new connection, starts it, and lets others have places on it.
    fn adopt(self: &Arc<Self>, connection: Arc<Multiplexed>, driver: Box<Driver>) -> Lane {
        tokio::spawn(driver.run(Arc::downgrade(self), Arc::downgrade(&connection)));
        let lane = connection.lane();
        let mut state = self.lock();
        state.multiplexes = Some(true);
        if !state.closed {
            state.shared.push(connection);
        }
        lane
    }

    /// Where no further connection can be had: a place on one that is full already, if there is one.
    fn instead(&self, want: Want) -> Option<Route> {
        let mut state = self.lock();
        state.shared.retain(|connection| connection.is_open());
        state.least_busy(want).map(|connection| Route::http2(connection.lane(), true))
    }

    /// A connection ended.
    pub(super) fn forget(&self, ended: &Weak<Multiplexed>) {
        self.lock().shared.retain(|connection| Arc::as_ptr(connection) != ended.as_ptr());
    }

    /// Lets a connection go where nothing was in flight on it for so long.
    pub(super) fn let_go_if_idle(&self, connection: &Weak<Multiplexed>, long: Duration) {
        // Under the lock nobody takes a place on it.
        self.lock().shared.retain(|c| Arc::as_ptr(c) != connection.as_ptr() || !c.is_idle_for(long));
    }

    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.idle.is_empty() && state.shared.is_empty()
    }

    /// Closes what has been idle for too long or was closed by its origin.
    pub(super) fn sweep(&self) {
        let (mut state, now) = (self.lock(), Instant::now());
        state.idle.retain_mut(|idle| now < idle.until && idle.stream.is_quiet());
        state.shared.retain(|connection| connection.is_open() && !connection.is_idle_for(IDLE_FOR));
    }

    /// Closes what is idle, for another connection. Says whether anything was.
    pub(super) fn give_way(&self) -> bool {
        let mut state = self.lock();
        let before = state.idle.len() + state.shared.len();
        state.idle.clear();
        state.shared.retain(|connection| !connection.is_idle_for(Duration::ZERO));
        before > state.shared.len()
    }

    /// Closes what is idle, and keeps nothing from now on; requests in flight go on.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.idle.clear();
        state.shared.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new connection.
enum Opened {
    H1(UpstreamStream),
    H2(Arc<Multiplexed>, Box<Driver>),
}

impl Route {
    fn http1(stream: UpstreamStream, reused: bool) -> Self {
        Self { peer: stream.peer(), connected: Connected::H1(stream), reused }
    }

    fn http2(lane: Lane, reused: bool) -> Self {
        Self { peer: lane.peer(), connected: Connected::H2(lane), reused }
    }
}

impl State {
    /// The idle connection used last, if it is still of use.
    fn take_idle(&mut self) -> Option<UpstreamStream> {
        loop {
            let mut idle = self.idle.pop()?;
            if Instant::now() < idle.until && idle.stream.is_quiet() {
                return Some(idle.stream);
            }
        }
    }

    fn usable(&self, want: Want) -> impl Iterator<Item = &Arc<Multiplexed>> {
        self.shared.iter().filter(move |connection| want.protocols != Protocols::WebSocket || connection.takes_connect())
    }

    fn least_busy(&self, want: Want) -> Option<&Arc<Multiplexed>> {
        self.usable(want).min_by_key(|connection| connection.in_flight())
    }

    /// For a WebSocket: what to do where the origin takes no extended CONNECT, or has not said yet.
    fn without_connect(&mut self, settled: bool) -> Option<Step> {
        let says = self.shared.iter().find(|connection| connection.is_settled()).map(|connection| connection.takes_connect());
        self.takes_connect = says.or(self.takes_connect);
        match self.shared.first() {
            _ if self.takes_connect == Some(false) => Some(Step::DialHttp1),
            Some(connection) if says.is_none() && !settled => Some(Step::Settle(Arc::clone(connection))),
            Some(_) if says.is_none() => Some(Step::DialHttp1),
            _ => None,
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Before those who wait are woken, which is when the sender is dropped.
        self.slot.lock().under_way = None;
    }
}

/// How long an idle connection is used whose origin keeps it for so long.
fn kept_for(keep: Option<Duration>) -> Option<Duration> {
    let Some(keep) = keep else { return Some(IDLE_FOR) };
    // A request on its way must still find it open.
    let spare = if keep > Duration::from_secs(1) { Duration::from_secs(1) } else { Duration::from_millis(500) };
    Some(keep.saturating_sub(spare).min(IDLE_FOR)).filter(|kept| !kept.is_zero())
}
