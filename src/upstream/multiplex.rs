//! A connection to an origin over HTTP/2 (RFC 9113), shared by the requests of one agent.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::Instant;

use super::pool::IDLE_FOR;
use super::slot::Slot;
use super::stream::UpstreamStream;
use crate::message::h2::{BROKEN_OFF, CONNECTION_WINDOW, FAULTS, Frames, SEND_BUFFER};

/// What an origin may send of one answer before it is passed on.
const STREAM_WINDOW: u32 = 512 * 1024;
/// The largest frame. A bulk download takes a third less processor time than with the protocol's 16 KiB; events come in
/// small frames anyhow.
const FRAME: u32 = 64 * 1024;
/// The longest head of an answer.
const HEAD: u32 = 256 * 1024;
/// What small frames that were not yet passed on may cost beyond their content.
const FRAME_BUDGET: usize = 8 * 1024 * 1024;
/// Requests on one connection, whatever the origin allows.
const MOST_STREAMS: usize = 128;
/// Requests on one connection before the origin has said what it allows.
const FIRST_STREAMS: usize = 100;
/// What h2 says that the origin allows before its SETTINGS came. No SETTINGS can say it: their values have 32 bits, and
/// without one h2 says `usize::MAX`.
const UNKNOWN_STREAMS: usize = usize::MAX - 1;
/// How long the origin's SETTINGS are waited for where it matters.
const SETTINGS_WITHIN: Duration = Duration::from_secs(1);
/// How often a connection is looked after.
const TICK: Duration = Duration::from_secs(5);
/// A connection in use that is silent for so long is probed. Each probe that is answered, with nothing else coming,
/// triples it, up to [`PING_AFTER_AT_MOST`]: servers of gRPC close connections that probe them too often.
const PING_AFTER: Duration = Duration::from_secs(30);
/// See [`PING_AFTER`].
const PING_AFTER_AT_MOST: Duration = Duration::from_secs(300);
/// A connection on which nothing came for so long after a probe is dead.
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// A connection that takes requests. It ends once this is dropped and all its streams have ended.
pub(super) struct Multiplexed {
    sender: SendRequest<Bytes>,
    vital: Arc<Vital>,
    peer: SocketAddr,
}

/// What its users and its driver know of a connection.
struct Vital {
    in_flight: AtomicUsize,
    made: Instant,
    /// When the last request ended, in milliseconds since `made`.
    idle_since: AtomicU64,
    /// When something came last, likewise.
    heard: AtomicU64,
    /// The origin's SETTINGS have come, or never will.
    settled: watch::Sender<bool>,
}

/// What makes a connection go; [`Driver::run`] is its task.
pub(super) struct Driver {
    connection: Connection<Heard, Bytes>,
    pings: PingPong,
    vital: Arc<Vital>,
}

/// A place on a shared HTTP/2 connection, for one request. It counts as in flight until it is dropped.
pub struct Lane {
    connection: Arc<Multiplexed>,
}

impl Multiplexed {
    /// Begins HTTP/2 on a connection whose origin chose it. The origin's SETTINGS are not waited for.
    ///
    /// # Errors
    /// Where the connection does not take the preface.
    pub(super) async fn begin(stream: UpstreamStream) -> Result<(Arc<Self>, Driver), h2::Error> {
        let peer = stream.peer();
        let vital = Arc::new(Vital {
            in_flight: AtomicUsize::new(0),
            made: Instant::now(),
            idle_since: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            settled: watch::Sender::new(false),
        });
        let handshake = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_header_list_size(HEAD)
            .max_send_buffer_size(SEND_BUFFER)
            .data_frame_budget(FRAME_BUDGET)
            .initial_max_send_streams(UNKNOWN_STREAMS)
            .max_concurrent_reset_streams(BROKEN_OFF.0)
            .max_local_error_reset_streams(Some(FAULTS))
            .reset_stream_duration(BROKEN_OFF.1)
            .handshake(Heard { stream, vital: Arc::clone(&vital), frames: Frames::of_origin() });
        let (sender, mut connection) = handshake.await?;
        let pings = connection.ping_pong().expect("it is taken once, here");
        Ok((Arc::new(Self { sender, vital: Arc::clone(&vital), peer }), Driver { connection, pings, vital }))
    }

    /// A place, whether there is room or not: what is too much waits in h2.
    pub(super) fn lane(self: &Arc<Self>) -> Lane {
        self.vital.in_flight.fetch_add(1, Ordering::AcqRel);
        Lane { connection: Arc::clone(self) }
    }

    /// Whether it takes new streams: the origin has neither closed it nor sent GOAWAY, nor has it failed.
    pub(super) fn is_open(&self) -> bool {
        // A clone has no stream that waits, so this is the connection's own state and never pending.
        matches!(self.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
    }

    /// Whether one more request would be served at once. `likely` is what the origin allowed on another connection.
    pub(super) fn has_room(&self, likely: Option<usize>) -> bool {
        self.in_flight() < self.allowed().or(likely).unwrap_or(FIRST_STREAMS).min(MOST_STREAMS)
    }

    /// How many requests the origin allows at once, where it has said so.
    pub(super) fn allowed(&self) -> Option<usize> {
        Some(self.sender.current_max_send_streams()).filter(|known| *known != UNKNOWN_STREAMS)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.vital.in_flight.load(Ordering::Acquire)
    }

    /// Nothing was in flight for so long.
    pub(super) fn is_idle_for(&self, long: Duration) -> bool {
        self.in_flight() == 0 && self.vital.since(&self.vital.idle_since) >= long
    }

    /// Whether the origin has said what it can.
    pub(super) fn is_settled(&self) -> bool {
        self.allowed().is_some()
    }

    /// Waits until the origin has said what it can, for a second at most.
    pub(super) async fn settle(&self) {
        let mut settled = self.vital.settled.subscribe();
        let _ = tokio::time::timeout(SETTINGS_WITHIN, settled.wait_for(|settled| *settled)).await;
    }

    /// Whether the origin has said that it takes extended CONNECT (RFC 8441 3).
    pub(super) fn takes_connect(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }
}

impl Lane {
    /// Sends a request's head; `end`: it has no content. One request a lane.
    ///
    /// It never waits: a request beyond what the origin allows stands in h2 until another one ends.
    ///
    /// # Errors
    /// Where the head cannot be sent over HTTP/2, or the connection takes no more requests; the latter
    /// [was not processed](was_not_processed).
    pub fn send(&mut self, request: http::Request<()>, end: bool) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let sent = self.connection.sender.clone().send_request(request, end);
        sent.map_err(|error| {
            if !error.is_io() && !error.is_go_away() {
                return error;
            }
            // How the connection ended does not tell that this request was never on it.
            tracing::debug!(error = told(&error), peer = %self.peer(), "the connection ended before the request was sent");
            h2::Error::from(Reason::REFUSED_STREAM)
        })
    }

    /// Waits until the origin has said what it can, for a second at most.
    pub(super) async fn settle(&self) {
        self.connection.settle().await;
    }

    /// The address connected to.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.connection.peer
    }

    /// Whether the origin takes extended CONNECT (SETTINGS_ENABLE_CONNECT_PROTOCOL, RFC 8441 3). `false` while its
    /// SETTINGS have not come.
    #[must_use]
    pub fn takes_connect(&self) -> bool {
        self.connection.takes_connect()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let vital = &self.connection.vital;
        vital.note(&vital.idle_since);
        vital.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether the origin says that it did not process the request whose stream ended, or whose sending failed, with this
/// error, so that it may go again, whatever its method (RFC 9113 8.7).
///
/// That is REFUSED_STREAM, or a GOAWAY whose last stream is below this one: when a GOAWAY comes h2 gives its error to the
/// streams above that alone (`recv_go_away` in h2's `proto/streams/streams.rs`), and to new requests, which
/// [`Lane::send`] reports. The streams at or below it go on, and end in an io error where the connection closes first.
#[must_use]
pub fn was_not_processed(error: &h2::Error) -> bool {
    let never_sent = !error.is_reset() && !error.is_go_away();
    let refused = error.reason() == Some(Reason::REFUSED_STREAM) && (error.is_remote() || never_sent);
    refused || (error.is_go_away() && error.is_remote())
}

/// An error in words, for a log: without the text that a GOAWAY may carry (RFC 9113 6.8), in which an origin may echo what
/// it got.
#[must_use]
pub fn told(error: &h2::Error) -> String {
    match error.reason() {
        Some(reason) => format!("{reason} ({})", if error.is_remote() { "the origin's word" } else { "ours" }),
        None => error.to_string(),
    }
}

impl Vital {
    fn note(&self, at: &AtomicU64) {
        at.store(u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn since(&self, at: &AtomicU64) -> Duration {
        self.made.elapsed().saturating_sub(Duration::from_millis(at.load(Ordering::Acquire)))
    }
}

impl Driver {
    /// Drives the connection until it ends: by the origin, after a GOAWAY with its last stream, when nobody holds it
    /// any more, or when it was found dead. The slot is told.
    pub(super) async fn run(self, slot: Weak<Slot>, own: Weak<Multiplexed>) {
        let Self { mut connection, pings, vital } = self;
        let mut settled = false;
        let driven = std::future::poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            if !settled && connection.max_concurrent_send_streams() != UNKNOWN_STREAMS {
                settled = true;
                vital.settled.send_replace(true);
            }
            polled
        });
        tokio::select! {
            ended = driven => if let Err(error) = ended {
                tracing::debug!(error = told(&error), "an HTTP/2 connection to an origin ended");
            },
            () = look_after(pings, &vital, &slot, &own) => tracing::debug!("an HTTP/2 connection to an origin is silent; it is closed"),
        }
        // Its streams learn of it before anybody looks for another connection.
        drop(connection);
        vital.settled.send_replace(true);
        if let Some(slot) = slot.upgrade() {
            slot.forget(&own);
        }
    }
}

/// Lets a connection go that nobody needs, and returns when one that is in use turns out to be dead.
async fn look_after(mut pings: PingPong, vital: &Vital, slot: &Weak<Slot>, own: &Weak<Multiplexed>) {
    let (mut after, mut last) = (PING_AFTER, 0);
    loop {
        tokio::time::sleep(TICK).await;
        // Whoever let it go may still have streams on it.
        if let Some(connection) = own.upgrade()
            && connection.in_flight() == 0
        {
            drop(connection);
            if let Some(slot) = slot.upgrade() {
                slot.let_go_if_idle(own, IDLE_FOR);
            }
            after = PING_AFTER;
            continue;
        }
        if vital.heard.load(Ordering::Acquire) != last {
            after = PING_AFTER;
        }
        if vital.since(&vital.heard) < after {
            continue;
        }
        if !answers(&mut pings, vital).await {
            return;
        }
        last = vital.heard.load(Ordering::Acquire);
        after = (after * 3).min(PING_AFTER_AT_MOST);
    }
}

/// Whether a probe is answered. Whatever else comes shows as well that the connection lives.
async fn answers(pings: &mut PingPong, vital: &Vital) -> bool {
    let asked = Instant::now();
    let mut ping = std::pin::pin!(pings.ping(Ping::opaque()));
    loop {
        match tokio::time::timeout(TICK, &mut ping).await {
            Ok(pong) => return pong.is_ok(),
            Err(_) if asked.elapsed() >= PONG_WITHIN && vital.since(&vital.heard) >= PONG_WITHIN => return false,
            Err(_) => {}
        }
    }
}

/// A stream that notes when something comes, and ends where it is a flood of frames that carry nothing.
struct Heard {
    stream: UpstreamStream,
    vital: Arc<Vital>,
    frames: Frames,
}

impl AsyncRead for Heard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.vital.note(&self.vital.heard);
        if self.frames.came(&buf.filled()[before..], std::time::Instant::now()) {
            return Poll::Ready(Err(io::Error::other("the origin sends frames that carry nothing, and little else")));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.frames.went(&buf[..sent]);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.frames.went_of(bufs, sent);
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
