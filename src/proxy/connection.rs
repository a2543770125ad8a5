//! What a client says to a listener: `CONNECT host:port`, or `http://host/path` in full.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use http::{HeaderMap, Method, Uri, Version};

use super::authenticate::{Proof, authenticate};
use super::error::{Code, ProxyError};
use super::forward::{Carrier, Next};
use super::limits::{Counted, Counts, Place};
use super::live::{Live, Proxy, Seen, Settings, Transport};
use super::outcome::Progress;
use super::record::Record;
use super::respond::write_error;
use super::side::AgentH1;
use super::stream::ClientStream;
use super::ticker::Ticker;
use super::wire::{Half, Wire};
use super::{intercept, tunnel};
use crate::audit::Verdict;
use crate::host::Authority;
use crate::message::h1::{Framing, RequestHead, Target, head_end, parse_request};
use crate::policy::{AgentView, Route, Scheme, still_tunnelled};
use crate::upstream::DialError;

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

/// Reads the next request's head. Between requests `idle` counts, from the first byte on `[timeouts] request_head`.
pub(super) async fn next_head<A: Wire + ?Sized>(
    half: &mut Half<A>,
    settings: &Settings,
    idle: std::time::Duration,
    ticker: &mut Ticker,
    drain: &mut Drain,
) -> Awaited {
    let begun = Instant::now();
    let mut first_byte = (!half.input.is_empty()).then_some(begun);
    let mut scanned = 0;
    std::future::poll_fn(|cx| {
        loop {
            match head_end(half.input.bytes(), &mut scanned, settings.head_bytes) {
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

/// A client's place among all connections, if there was one.
pub(crate) struct Entry(Option<Place>);

impl Entry {
    /// Counts a connection as soon as it is accepted, before it has said anything.
    pub(crate) fn take(proxy: &Proxy) -> Self {
        Self(proxy.counts.take(Counted::Connection, None, &proxy.live().settings.ceilings))
    }

    /// Whether there is room for it.
    pub(crate) fn is_free(&self) -> bool {
        self.0.is_some()
    }
}

/// Serves a client's connection to a listener, to its end.
pub(crate) async fn serve(proxy: Arc<Proxy>, stream: ClientStream, entry: Entry) {
    let mut half = Half::new(Box::new(stream));
    if !entry.is_free() {
        let error = ProxyError::new(Code::Overloaded, "the proxy has too many connections; try again soon");
        let record = Record::new(&proxy, &Method::CONNECT, "", 0, "");
        let id = record.id();
        record.failed(&error, &Progress::default());
        refuse(&mut half, &error, id, &Method::CONNECT).await;
        return;
    }
    let _open = proxy.metrics.connection_opened();
    let drain = drain(&proxy);
    Connection { proxy, half, ticker: Ticker::new(), drain, carrier: None, place: None }.run().await;
}

struct Connection {
    proxy: Arc<Proxy>,
    half: Half<ClientStream>,
    ticker: Ticker,
    drain: Drain,
    carrier: Option<Carrier>,
    /// Among the agent's own connections, once somebody has proved to be one.
    place: Option<Place>,
}

impl Connection {
    async fn run(mut self) {
        loop {
            let settings = Arc::clone(&self.proxy.live().settings);
            // Nobody has proved anything yet: a silent connection is not kept for long.
            let idle = if self.place.is_some() { settings.idle } else { settings.request_head };
            let head = match next_head(&mut self.half, &settings, idle, &mut self.ticker, &mut self.drain).await {
                Awaited::Head(head) => head,
                Awaited::Closed => return,
                Awaited::Refused(error) => {
                    let record = Record::new(&self.proxy, &Method::GET, "", 0, "");
                    let id = record.id();
                    record.failed(&error, &Progress::default());
                    return refuse(&mut self.half, &error, id, &Method::GET).await;
                }
            };
            // The state of this moment, not of when the waiting began: a token may have been replaced meanwhile.
            let live = self.proxy.live();
            match &head.target {
                Target::Authority(target) => {
                    let target = target.clone();
                    match self.connect(live, &target, &head.headers).await {
                        Some(me) => self = me,
                        None => return,
                    }
                }
                Target::Absolute(uri) => {
                    let uri = uri.clone();
                    if !self.absolute(live, *head, &uri).await {
                        return;
                    }
                    self.half.release();
                }
                Target::Origin(_) | Target::Asterisk => {
                    let message = "this is a proxy: send CONNECT host:port, or an absolute http:// URI (set HTTPS_PROXY, not a base URL)";
                    return self.refuse_request(&head, ProxyError::new(Code::BadRequest, message)).await;
                }
            }
        }
    }

    async fn refuse_request(mut self, head: &RequestHead, error: ProxyError) {
        let record = Record::new(&self.proxy, &head.method, "", 0, "");
        let id = record.id();
        record.failed(&error, &Progress::default());
        refuse(&mut self.half, &error, id, &head.method).await;
    }

    /// Carries out a CONNECT. Gives the connection back where the client may try again on it.
    async fn connect(mut self, live: Arc<Live>, target: &str, headers: &HeaderMap) -> Option<Self> {
        let authority = match Authority::parse(target, None) {
            Ok(authority) => authority,
            Err(error) => {
                let error = ProxyError::new(Code::BadRequest, format!("the CONNECT target is refused: {error}"));
                let mut record = Record::new(&self.proxy, &Method::CONNECT, target, 0, "");
                record.protocol("HTTP/1.1");
                let id = record.id();
                record.failed(&error, &Progress::default());
                refuse(&mut self.half, &error, id, &Method::CONNECT).await;
                return None;
            }
        };
        let mut record = Record::to(&self.proxy, &Method::CONNECT, &authority, "");
        let Some(proof) = authenticate(&live, headers, &self.proxy) else {
            let keep = self.half.input.is_empty();
            return self.demand_proof(record, &Method::CONNECT, keep).await.then_some(self);
        };
        record.agent(proof.agent.name.as_str());
        if let Err(error) = self.admit(&proof, &live) {
            let id = record.id();
            record.failed(&error, &Progress::default());
            refuse(&mut self.half, &error, id, &Method::CONNECT).await;
            return None;
        }
        let route = live.snapshot.route(&proof.agent, Scheme::Https, &authority);
        let (settings, transport) = (Arc::clone(&live.settings), Arc::clone(&live.transport));
        // A tunnel may stay for days: it keeps no old state alive.
        drop(live);
        match route {
            Route::Denied(denial) => {
                let error = denial.into();
                let id = record.id();
                record.failed(&error, &Progress::default());
                refuse(&mut self.half, &error, id, &Method::CONNECT).await;
            }
            Route::Matched(_) => {
                self.half.output.data.extend_from_slice(ESTABLISHED);
                if self.half.send().await.is_ok() {
                    self.half.release();
                    intercept::serve(self.proxy, self.half, proof, authority, self.ticker, self.drain).await;
                }
            }
            Route::Unmatched { not_granted } => self.blind(&settings, &transport, record, proof, authority, not_granted).await,
        }
        None
    }

    /// Notes who the client is, and takes one of that agent's own places.
    fn admit(&mut self, proof: &Proof, live: &Live) -> Result<(), ProxyError> {
        let gauge = self.proxy.counts.agent(&proof.agent.name);
        if !self.place.as_ref().is_some_and(|place| place.is_of(&gauge)) {
            let place = Counts::take_own(Counted::Connection, &gauge, &live.settings.ceilings);
            let message = "this agent has too many connections; close some and try again";
            self.place = Some(place.ok_or_else(|| ProxyError::new(Code::Overloaded, message))?);
        }
        (self.proxy.seen)(Seen::Agent(&proof.agent.name));
        Ok(())
    }

    /// Answers 407. The connection stays open for another try (RFC 9110 15.5.8) where nothing else came with this
    /// one; says whether it does.
    async fn demand_proof(&mut self, record: Record, method: &Method, keep: bool) -> bool {
        let error = ProxyError::new(
            Code::ProxyAuthRequired,
            "the proxy needs the agent's name and token: use the proxy URL that `keyhatch env` or `keyhatch run` gives",
        );
        let id = record.id();
        record.failed(&error, &Progress::default());
        if !keep {
            refuse(&mut self.half, &error, id, method).await;
            return false;
        }
        write_error(&mut self.half.output.data, &error, id, method, false);
        self.half.send().await.is_ok()
    }

    /// A tunnel that is passed unread: dialled first, so that a failure is the CONNECT's own answer.
    async fn blind(mut self, settings: &Settings, transport: &Transport, mut record: Record, proof: Proof, authority: Authority, not_granted: bool) {
        let gauge = self.proxy.counts.agent(&proof.agent.name);
        let Some(_place) = self.proxy.counts.take(Counted::Tunnel, Some(&gauge), &settings.ceilings) else {
            let error = ProxyError::new(Code::Overloaded, "there are too many open tunnels; close some and try again");
            let id = record.id();
            record.failed(&error, &Progress::default());
            return refuse(&mut self.half, &error, id, &Method::CONNECT).await;
        };
        // Subscribed before the dial: a change meanwhile is not missed.
        let mut changes = self.proxy.changes();
        let (upstream, peer) = match transport.dialer.tcp(&authority).await {
            Ok(connected) => connected,
            Err(error) => return self.dial_failed(record, error).await,
        };
        record.upstream(peer, "");
        let mut upstream = Half::new(Box::new(upstream));
        let mut progress = Progress { status: 200, ttfb: Some(record.started.elapsed()), ..Progress::default() };
        self.half.output.data.extend_from_slice(ESTABLISHED);
        let reason = if not_granted { "not_granted" } else { "unmatched" };
        record.opened(Verdict::Tunnelled, &progress);
        let _open = self.proxy.metrics.tunnel_opened();
        let proxy = Arc::clone(&self.proxy);
        let changed = async {
            while proxy_still(&proxy, &proof.agent, &authority) {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        let revoked = async {
            tokio::select! {
                () = changed => {}
                () = proof.ended(&proxy) => {}
            }
        };
        let end = tunnel::copy(&mut self.half, &mut upstream, settings.idle, &mut self.ticker, &mut progress, revoked, &mut self.drain).await;
        let word = if not_granted || end == tunnel::TunnelEnd::Closed { reason } else { end.word() };
        record.done(Verdict::Tunnelled, word, &progress);
    }

    async fn dial_failed(mut self, mut record: Record, error: DialError) {
        if let Some(address) = error.address {
            record.upstream(address, "");
        }
        let error = error.into();
        let id = record.id();
        record.failed(&error, &Progress::default());
        refuse(&mut self.half, &error, id, &Method::CONNECT).await;
    }

    /// Carries out a request in absolute form. Says whether the connection goes on.
    async fn absolute(&mut self, live: Arc<Live>, head: RequestHead, uri: &Uri) -> bool {
        // Where the client says `close`, or a body follows, there is no other try on this connection.
        let keep = head.framing == Framing::None && head.keep_alive;
        let authority = match absolute_authority(&head, uri) {
            Ok(authority) => authority,
            Err(error) => {
                let record = Record::new(&self.proxy, &head.method, uri.host().unwrap_or_default(), 0, uri.path());
                let id = record.id();
                record.failed(&error, &Progress::default());
                refuse(&mut self.half, &error, id, &head.method).await;
                return false;
            }
        };
        let Some(proof) = authenticate(&live, &head.headers, &self.proxy) else {
            let record = Record::to(&self.proxy, &head.method, &authority, uri.path());
            return self.demand_proof(record, &head.method, keep).await;
        };
        let refused = match self.admit(&proof, &live) {
            Err(error) => Some(error),
            // It would have the origin send back what it got.
            Ok(()) if head.method == Method::TRACE => Some(ProxyError::new(Code::MethodDenied, "TRACE is not passed on")),
            Ok(()) => None,
        };
        drop(live);
        if let Some(error) = refused {
            let mut record = Record::to(&self.proxy, &head.method, &authority, uri.path());
            let id = record.agent(proof.agent.name.as_str()).id();
            record.failed(&error, &Progress::default());
            refuse(&mut self.half, &error, id, &head.method).await;
            return false;
        }
        let same = self.carrier.as_mut().is_some_and(|c| c.goes_on(&proof, &authority));
        if !same {
            self.carrier = Some(Carrier::new(&self.proxy, proof, Scheme::Http, authority));
        }
        let Some(carrier) = &mut self.carrier else { return false };
        let target = Target::path_and_query(uri);
        let ahead = self.proxy.live().settings.head_bytes;
        let mut agent = AgentH1::new(&mut self.half, &head, self.proxy.is_draining(), ahead);
        matches!(carrier.carry(&mut agent, &mut self.ticker, &head, &target).await, Next::Again)
    }
}

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

fn proxy_still(proxy: &Proxy, agent: &Arc<AgentView>, authority: &Authority) -> bool {
    still_tunnelled(&proxy.live().snapshot, agent, authority)
}

/// The authority of an absolute `http://` URI; a `Host` field that names another one is refused (RFC 9112 3.2.2
/// would overrule it, but a disagreement is how bypasses begin).
fn absolute_authority(head: &RequestHead, uri: &Uri) -> Result<Authority, ProxyError> {
    let bad = |message: String| ProxyError::new(Code::BadRequest, message);
    if uri.scheme_str() != Some("http") {
        return Err(bad("in absolute form only http:// is taken; use CONNECT for https://".to_owned()));
    }
    let text = uri.authority().map_or("", http::uri::Authority::as_str);
    let authority = Authority::parse(text, Some(80)).map_err(|e| bad(format!("the request's host is refused: {e}")))?;
    if let Some(host) = head.headers.get(http::header::HOST).filter(|_| head.version == Version::HTTP_11) {
        let named = host.to_str().ok().and_then(|h| Authority::parse(h, Some(80)).ok());
        if named.as_ref() != Some(&authority) {
            return Err(ProxyError::new(Code::Misdirected, "the Host field names another host than the request's URI"));
        }
    }
    Ok(authority)
}

/// Answers, closes the sending side, and reads on for a moment, so that the answer is not lost to a reset.
pub(super) async fn refuse<A: Wire + ?Sized>(half: &mut Half<A>, error: &ProxyError, id: crate::audit::RequestId, method: &Method) {
    write_error(&mut half.output.data, error, id, method, true);
    half.linger().await;
}
