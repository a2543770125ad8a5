//! What a client says to a listener: `CONNECT host:port`, or a URI in full.

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{Method, Uri};

use super::entry::Entry;
use super::error::{Code, ProxyError};
use super::forward::Next;
use super::gate::{Gate, Refused, Way, no_room};
use super::intercept::{self, is_preface};
use super::listener_h2;
use super::live::{Proxy, Settings};
use super::respond::write_error;
use super::side::{AgentH1, HTTP1, HTTP2};
use super::stream::ClientStream;
use super::ticker::Ticker;
use super::wire::{Half, Wire};
use crate::message::h1::{Framing, RequestHead, Target, head_end, parse_request};
use crate::tls::ReadAhead;

/// What came when a request's head was awaited.
pub(super) enum Awaited {
    /// A head.
    Head(Box<RequestHead>),
    /// The client closed, or there is nothing more to wait for.
    Closed,
    /// A head that is refused.
    Refused(ProxyError),
}

/// Completes when the proxy drains.
pub(super) type Drain = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// A future that completes when the proxy drains.
pub(super) fn drain(proxy: &Proxy) -> Drain {
    let mut draining = proxy.draining();
    Box::pin(async move {
        // An error means that the proxy itself is gone.
        let _ = draining.wait_for(|d| *d).await;
    })
}

/// Reads the next request's head, of at most `longest` bytes. Between requests `idle` counts, from the first byte on
/// `[timeouts] request_head`.
pub(super) async fn next_head<A: Wire + ?Sized>(
    half: &mut Half<A>,
    longest: usize,
    settings: &Settings,
    idle: Duration,
    ticker: &mut Ticker,
    drain: &mut Drain,
) -> Awaited {
    let begun = Instant::now();
    let mut first_byte = (!half.input.is_empty()).then_some(begun);
    let mut scanned = 0;
    std::future::poll_fn(|cx| {
        loop {
            match head_end(half.input.bytes(), &mut scanned, longest) {
                Ok(Some(end)) => {
                    let head = bytes::Bytes::copy_from_slice(&half.input.bytes()[..end]);
                    half.input.consume(end);
                    return Poll::Ready(match parse_request(head) {
                        Ok(head) => Awaited::Head(Box::new(head)),
                        Err(error) => Awaited::Refused(error.into()),
                    });
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Awaited::Refused(error.into())),
            }
            match half.poll_fill(cx) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    first_byte.get_or_insert_with(Instant::now);
                }
                Poll::Ready(_) => return Poll::Ready(Awaited::Closed),
                Poll::Pending => break,
            }
        }
        let deadline = first_byte.map_or(begun + idle, |at| at + settings.request_head);
        if ticker.poll_at(deadline, cx) {
            return Poll::Ready(match first_byte {
                Some(_) => Awaited::Refused(ProxyError::new(Code::RequestTimeout, "the request's head did not come in time")),
                None => Awaited::Closed,
            });
        }
        if first_byte.is_none() && drain.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Awaited::Closed);
        }
        Poll::Pending
    })
    .await
}

/// Serves a client's connection to a listener, to its end.
pub(crate) async fn serve(proxy: Arc<Proxy>, stream: ClientStream, entry: Arc<Entry>) {
    let mut half = Half::new(Box::new(stream));
    if !entry.is_free() {
        let counts = Arc::clone(&proxy.counts);
        let Refused { error, id } = Gate::new(proxy, HTTP1, entry).refuse(&Method::CONNECT, no_room());
        return match counts.farewells.try_acquire() {
            Ok(_place) => refuse(&mut half, &error, id, &Method::CONNECT).await,
            Err(_) => refuse_in_passing(&mut half, &error, id).await,
        };
    }
    // In memory of its own: what passes a future on by value holds room for it once more.
    let connection = Box::pin(serve_counted(proxy, half, &entry));
    tokio::select! {
        biased;
        () = entry.in_turn(connection) => {}
        // Wherever it stands: it is for as long as nobody has proved anything.
        () = entry.has_to_go() => {}
    }
}

/// Refuses a connection that has one of the last descriptors: at once, since others have none.
pub(crate) async fn turn_away(proxy: &Arc<Proxy>, stream: ClientStream) {
    let Refused { error, id } = Gate::new(Arc::clone(proxy), HTTP1, Entry::none(&proxy.counts)).refuse(&Method::CONNECT, no_room());
    refuse_in_passing(&mut Half::new(Box::new(stream)), &error, id).await;
}

async fn serve_counted(proxy: Arc<Proxy>, mut half: Half<ClientStream>, entry: &Arc<Entry>) {
    let _open = proxy.metrics.connection_opened();
    let (mut ticker, mut drain) = (Ticker::new(), drain(&proxy));
    let limit = proxy.live().settings.request_head;
    let speaks = tokio::select! {
        biased;
        speaks = speaks_http2(&mut half, limit, &mut ticker, &mut drain) => speaks,
        () = entry.has_to_go() => {
            let Refused { error, id } = Gate::new(proxy, HTTP1, Arc::clone(entry)).refuse(&Method::CONNECT, no_room());
            return refuse_in_passing(&mut half, &error, id).await;
        }
    };
    let gate = |protocol| Gate::new(proxy, protocol, Arc::clone(entry));
    match speaks {
        None => {}
        Some(false) => Connection { gate: gate(HTTP1), half, ticker, drain }.run().await,
        Some(true) => {
            let reached = half.io.reached();
            let io = Box::new(ReadAhead::new(half.input.take(), *half.io));
            // Few connections are such: the others do not hold room for it.
            Box::pin(listener_h2::serve(&gate(HTTP2), io, &reached, ticker, drain)).await;
        }
    }
}

/// Waits for a client's first bytes, which tell what it speaks, whatever ALPN came to: Go offers `h2` and then sends an
/// HTTP/1.1 CONNECT. `None` where the client closes, is silent for too long, or the proxy drains.
async fn speaks_http2(half: &mut Half<ClientStream>, limit: Duration, ticker: &mut Ticker, drain: &mut Drain) -> Option<bool> {
    let until = Instant::now() + limit;
    std::future::poll_fn(|cx| {
        loop {
            if !half.input.is_empty()
                && let Some(http2) = is_preface(half.input.bytes())
            {
                return Poll::Ready(Some(http2));
            }
            match half.poll_fill(cx) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending if ticker.poll_at(until, cx) || drain.as_mut().poll(cx).is_ready() => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// A connection over which HTTP/1.1 is spoken.
struct Connection {
    gate: Gate,
    half: Half<ClientStream>,
    ticker: Ticker,
    drain: Drain,
}

impl Connection {
    async fn run(mut self) {
        loop {
            let settings = Arc::clone(&self.gate.proxy().live().settings);
            let idle = self.gate.patience(&settings);
            let awaited = tokio::select! {
                biased;
                awaited = next_head(&mut self.half, settings.head_bytes, &settings, idle, &mut self.ticker, &mut self.drain) => awaited,
                () = self.gate.has_to_go() => {
                    let Refused { error, id } = self.gate.refuse(&Method::GET, no_room());
                    return refuse_in_passing(&mut self.half, &error, id).await;
                }
            };
            let head = match awaited {
                Awaited::Head(head) => head,
                Awaited::Closed => return,
                Awaited::Refused(error) => {
                    let refused = self.gate.refuse(&Method::GET, error);
                    self.refused(&refused, &Method::GET, false).await;
                    return;
                }
            };
            let goes_on = match &head.target {
                Target::Authority(target) => match self.gate.connect(target, &head.headers) {
                    Ok(way) => return self.tunnel(way).await,
                    // Nothing else may have come: it could be what is meant for the tunnel.
                    Err(refused) => self.refused(&refused, &Method::CONNECT, head.keep_alive && self.half.input.is_empty()).await,
                },
                Target::Absolute(uri) => self.absolute(&head, uri, &settings).await,
                Target::Origin(_) | Target::Asterisk => {
                    let refused = self.gate.refuse(&head.method, ProxyError::new(Code::BadRequest, NOT_AN_ORIGIN));
                    self.refused(&refused, &head.method, false).await
                }
            };
            if !goes_on {
                return;
            }
            self.half.release();
        }
    }

    /// Carries out a CONNECT.
    async fn tunnel(self, way: Way) {
        let Self { gate, mut half, mut ticker, mut drain } = self;
        match way {
            Way::Intercepted(proof, authority) => {
                half.output.data.extend_from_slice(ESTABLISHED);
                let limit = gate.proxy().live().settings.idle;
                if half.send_within(limit).await.is_ok() {
                    half.release();
                    intercept::serve(Arc::clone(gate.proxy()), half, proof, authority, ticker, drain).await;
                }
            }
            Way::Blind(blind) => match blind.dial().await {
                Ok(dialled) => {
                    half.output.data.extend_from_slice(ESTABLISHED);
                    dialled.copy(&mut half, &mut ticker, &mut drain).await;
                }
                Err(Refused { error, id }) => refuse(&mut half, &error, id, &Method::CONNECT).await,
            },
        }
    }

    /// Carries out a request in absolute form. Says whether the connection goes on.
    async fn absolute(&mut self, head: &RequestHead, uri: &Uri, settings: &Settings) -> bool {
        let carrier = match self.gate.request(head, uri) {
            Ok(carrier) => carrier,
            // Where the client says `close`, or a body follows, there is no other try on this connection.
            Err(refused) => return self.refused(&refused, &head.method, head.framing == Framing::None && head.keep_alive).await,
        };
        let target = Target::path_and_query(uri);
        let mut agent = AgentH1::new(&mut self.half, head, self.gate.proxy().is_draining(), settings);
        matches!(carrier.carry(&mut agent, &mut self.ticker, head, &target).await, Next::Again)
    }

    /// Answers a refusal. After a 407 the connection stays open for another try (RFC 9110 15.5.8) where `keep` says that it
    /// can; says whether it does.
    async fn refused(&mut self, refused: &Refused, method: &Method, keep: bool) -> bool {
        let Refused { error, id } = refused;
        if error.code != Code::ProxyAuthRequired || !keep {
            refuse(&mut self.half, error, *id, method).await;
            return false;
        }
        write_error(&mut self.half.output.data, error, *id, method, false);
        // Who asks on and on and reads no answer is not waited for.
        let limit = self.gate.patience(&self.gate.proxy().live().settings);
        self.half.send_within(limit).await.is_ok()
    }
}

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// What is said to a client that takes the proxy for a server.
pub(super) const NOT_AN_ORIGIN: &str = "this is a proxy: send CONNECT host:port, or an absolute URI (set HTTPS_PROXY, not a base URL)";

/// Answers, closes the sending side, and reads on for a moment, so that the answer is not lost to a reset.
pub(super) async fn refuse<A: Wire + ?Sized>(half: &mut Half<A>, error: &ProxyError, id: crate::audit::RequestId, method: &Method) {
    write_error(&mut half.output.data, error, id, method, true);
    half.linger().await;
}

/// Answers as far as that can be done at once: others want the place.
async fn refuse_in_passing<A: Wire + ?Sized>(half: &mut Half<A>, error: &ProxyError, id: crate::audit::RequestId) {
    write_error(&mut half.output.data, error, id, &Method::GET, true);
    // What has come is taken first: closed with unread bytes, the connection would be reset and the answer lost.
    let at_once = std::future::poll_fn(|cx| {
        let _ = half.poll_fill(cx);
        Poll::Ready(half.poll_send(cx))
    });
    let _ = at_once.await;
}
