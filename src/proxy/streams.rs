//! An agent's HTTP/2 connection, to a listener or inside a tunnel: all its requests side by side, in the connection's own task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream as _;
use futures_util::stream::FuturesUnordered;
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::{Method, Request};

use super::connection::Drain;
use super::error::{Code, ProxyError};
use super::forward::Carrier;
use super::intercept::checked_target;
use super::live::Proxy;
use super::outcome::Progress;
use super::record::Record;
use super::side::{AgentH2, AgentSide as _, HTTP2};
use super::ticker::Ticker;
use super::watched::{Watch, Watched};
use super::wire::Wire;
use crate::message::h2::{BROKEN_OFF, CONNECTION_WINDOW, FAULTS, RESET_UNSEEN, Refused, SEND_BUFFER, request_head};

/// How much of one request's content may come before it is passed on.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Requests at once on one connection; those of one agent are limited in all by `[limits.per_agent]`.
const STREAMS: u32 = 128;
/// What small frames that were not yet passed on may cost beyond their content.
const FRAME_BUDGET: usize = 4 * 1024 * 1024;
/// What is recorded of an agent that sends frames without content, and little else.
const FLOOD: &str = "the connection is a flood of frames that carry nothing, and was ended";
/// Requests that are taken from a connection before others have their turn.
const AT_ONCE: usize = 16;
/// How long an agent may take to close a connection that was ended in order.
const FAREWELL: Duration = Duration::from_secs(5);

fn builder(head_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(FRAME_BUDGET)
        .max_concurrent_reset_streams(BROKEN_OFF.0)
        .max_local_error_reset_streams(Some(FAULTS))
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .reset_stream_duration(BROKEN_OFF.1)
        .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
        .enable_connect_protocol();
    builder
}

/// Serves the requests inside a tunnel to the end of their connection.
pub(super) async fn serve(proxy: &Arc<Proxy>, io: Box<dyn Wire>, carrier: &Carrier, names_agree: bool, ticker: Ticker, drain: Drain) {
    let (idle, head_bytes) = (proxy.live().settings.idle, proxy.live().settings.agent_head_bytes);
    let request = |request, respond| one(proxy, carrier, names_agree, request, respond);
    let refused = |error: ProxyError| {
        let mut record = Record::to(proxy, &Method::GET, carrier.authority(), "");
        record.agent(carrier.agent().name.as_str()).protocol(HTTP2);
        record.failed(&error, &Progress::default());
    };
    run(proxy, io, Bounds { head_bytes, patience: || idle }, request, refused, ticker, drain).await;
}

/// What a connection may do.
pub(super) struct Bounds<P> {
    /// So many bytes a head may have.
    pub(super) head_bytes: usize,
    /// For so long it may go without a request.
    pub(super) patience: P,
}

/// Serves a connection to its end. `request` carries one out, and says whether the connection is of no more use; `refused` records
/// what was refused before there was a request.
pub(super) async fn run<F: Future<Output = bool>>(
    proxy: &Proxy,
    io: Box<dyn Wire>,
    bounds: Bounds<impl Fn() -> Duration>,
    request: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F,
    refused: impl Fn(ProxyError),
    ticker: Ticker,
    drain: Drain,
) {
    let settings = Arc::clone(&proxy.live().settings);
    let (io, watch) = Watched::new(io);
    let shaking = builder(bounds.head_bytes).handshake::<_, Bytes>(io);
    let Ok(Ok(connection)) = tokio::time::timeout(settings.request_head, shaking).await else {
        // A spare tunnel that was dropped, or no HTTP/2 at all: nothing was asked.
        return;
    };
    let (connection, requests) = (Some(connection), FuturesUnordered::new());
    let patience = bounds.patience;
    let mut streams = Streams { connection, watch, requests, request, refused, patience, ticker, drain, last: Instant::now(), leaving: None };
    std::future::poll_fn(|cx| streams.poll(cx)).await;
}

/// The connection, and the requests on it.
struct Streams<F, R, E, P> {
    /// Nothing once it is over: its drop tells each request that its stream is gone.
    connection: Option<Connection<Watched, Bytes>>,
    /// What its frames tell beside the requests that come of them.
    watch: Watch,
    requests: FuturesUnordered<F>,
    request: R,
    refused: E,
    patience: P,
    ticker: Ticker,
    drain: Drain,
    last: Instant,
    /// Since when the agent has been told that no more requests are taken.
    leaving: Option<Instant>,
}

impl<F, R, E, P> Streams<F, R, E, P>
where
    F: Future<Output = bool>,
    R: Fn(Request<RecvStream>, SendResponse<Bytes>) -> F,
    E: Fn(ProxyError),
    P: Fn() -> Duration,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut taken = 0;
        loop {
            while let Poll::Ready(Some(over)) = Pin::new(&mut self.requests).poll_next(cx) {
                self.last = Instant::now();
                if over {
                    self.leave();
                }
            }
            let Some(connection) = &mut self.connection else {
                // Each request sees that its stream is gone, and is recorded.
                return if self.requests.is_empty() { Poll::Ready(()) } else { Poll::Pending };
            };
            // This sends, too, what the requests have made.
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.watch.look().frames.taken(respond.stream_id().into());
                    self.requests.push((self.request)(request, respond));
                    taken += 1;
                    if taken == AT_ONCE {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Poll::Ready(ended) => {
                    self.tell_refused();
                    if let Some(Err(error)) = ended {
                        self.tell_end(&error);
                    }
                    self.connection = None;
                }
                Poll::Pending if std::mem::take(&mut self.watch.look().flooded) => {
                    connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                    (self.refused)(ProxyError::new(Code::BadRequest, FLOOD));
                }
                Poll::Pending => break,
            }
        }
        self.tell_refused();
        if self.leaving.is_none() && self.drain.as_mut().poll(cx).is_ready() {
            self.leave();
            cx.waker().wake_by_ref();
        }
        // What h2 was given may still be on its way, to an agent that reads slowly; to one that reads nothing, not for ever.
        if self.requests.is_empty() && self.connection.as_mut().is_some_and(|c| c.has_streams()) {
            if self.ticker.poll_at(self.last + (self.patience)(), cx) {
                return Poll::Ready(());
            }
        } else if self.requests.is_empty() {
            match self.leaving {
                None if self.ticker.poll_at(self.last + (self.patience)(), cx) => {
                    self.leave();
                    cx.waker().wake_by_ref();
                }
                Some(since) if self.ticker.poll_at(since.max(self.last) + FAREWELL.min((self.patience)()), cx) => return Poll::Ready(()),
                _ => {}
            }
        }
        Poll::Pending
    }

    /// Records the streams that h2 refused by itself, which no request came of.
    fn tell_refused(&self) {
        let refused = self.watch.look().frames.refused();
        for stream in refused {
            let (code, message) = match stream {
                Refused::TooLarge => (Code::HeaderTooLarge, "the request is refused: the head is too large"),
                Refused::TooMany => (Code::Overloaded, "the connection has too many requests at once"),
                Refused::Malformed => (Code::BadRequest, "the request is refused: it breaks HTTP/2"),
            };
            (self.refused)(ProxyError::new(code, message));
        }
    }

    /// Records the end of the connection, where the agent broke the rules.
    fn tell_end(&self, error: &h2::Error) {
        if error.is_go_away() && error.is_library() {
            let reason = error.reason().unwrap_or(h2::Reason::PROTOCOL_ERROR);
            (self.refused)(ProxyError::new(Code::BadRequest, format!("the connection breaks HTTP/2, and was ended: {reason}")));
        }
    }

    /// Takes no more requests; those in flight go on.
    fn leave(&mut self) {
        if self.leaving.is_none()
            && let Some(connection) = &mut self.connection
        {
            self.leaving = Some(Instant::now());
            connection.graceful_shutdown();
        }
    }
}

/// Carries out one request. Says whether the connection is of no more use.
async fn one(proxy: &Arc<Proxy>, carrier: &Carrier, names_agree: bool, request: Request<RecvStream>, respond: SendResponse<Bytes>) -> bool {
    let (parts, content) = request.into_parts();
    let ended = content.is_end_stream();
    let mut agent = AgentH2::new(content, respond, &proxy.live().settings);
    let uri = parts.uri.clone();
    let protocol = parts.extensions.get::<h2::ext::Protocol>().cloned();
    let method = parts.method.clone();
    match request_head(parts, protocol.as_ref().map(h2::ext::Protocol::as_str), ended) {
        Ok(head) => {
            match checked_target(&head, Some(&uri), carrier, names_agree) {
                Ok(target) => drop(carrier.carry(&mut agent, &mut Ticker::new(), &head, &target).await),
                Err(error) => drop(carrier.refuse(&mut agent, &head, error).await),
            };
        }
        Err(error) => {
            let error = ProxyError::from(error);
            let mut record = Record::to(proxy, &method, carrier.authority(), "");
            let id = record.agent(carrier.agent().name.as_str()).protocol(HTTP2).id();
            record.failed(&error, &Progress::default());
            agent.answer(&error, id, &Method::GET, false).await;
        }
    }
    agent.is_over()
}
