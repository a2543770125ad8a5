//! An origin that speaks HTTP/2: one stream of a connection that the requests of one agent share.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Method, Response, StatusCode};

use super::content::{StreamFault, poll_stream};
use super::sink::Sink;
use super::{Came, Duct, OriginSide, Take, handshake};
use crate::message::h1::{Framing, ResponseHead};
use crate::message::h2 as head;
use crate::proxy::outcome::Fail;
use crate::proxy::outgoing::Outgoing;
use crate::proxy::wire::Half;
use crate::upstream::{Lane, Slot, told, was_not_processed};

/// The stream, and where in the two messages it stands.
pub(in crate::proxy) struct OriginH2 {
    lane: Lane,
    method: Method,
    sink: Sink,
    answer: ResponseFuture,
    content: Option<RecvStream>,
    /// A WebSocket is asked for, with this key of the agent's.
    upgrade: bool,
    key: Option<HeaderValue>,
}

impl OriginH2 {
    /// Opens a stream with the request's head.
    ///
    /// # Errors
    /// [`Fail`], where the connection takes no more streams.
    pub(in crate::proxy) fn new(mut lane: Lane, method: &Method, secure: bool, framing: Framing, outgoing: &mut Outgoing) -> Result<Self, Fail> {
        let mut request = head::request(method, secure, &outgoing.target, std::mem::take(&mut outgoing.headers), framing)
            .map_err(|e| Fail::upstream(e.to_string()))?;
        let mut key = None;
        if outgoing.upgrade {
            *request.method_mut() = Method::CONNECT;
            request.extensions_mut().insert(h2::ext::Protocol::from_static(head::WEBSOCKET));
            key = request.headers_mut().remove(SEC_WEBSOCKET_KEY);
        }
        let ended = framing == Framing::None && !outgoing.upgrade;
        let (answer, stream) = lane.send(request, ended).map_err(|e| failed(&e, true))?;
        let mut sink = Sink::default();
        sink.open(stream, ended);
        Ok(Self { lane, method: method.clone(), sink, answer, content: None, upgrade: outgoing.upgrade, key })
    }

    fn read_head(&mut self, answer: Response<()>, ended: bool) -> Result<ResponseHead, Fail> {
        let status = answer.status();
        let mut head =
            head::response_head(answer, &self.method, ended).map_err(|e| Fail::upstream(format!("the origin's answer is refused: {e}")))?;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Fail::upstream("the origin switched protocols over HTTP/2"));
        }
        if self.upgrade && status.is_success() {
            head.status = StatusCode::SWITCHING_PROTOCOLS;
            head.reason = Bytes::from_static(b"Switching Protocols");
            head.framing = Framing::None;
            head.headers.insert(UPGRADE, HeaderValue::from_static(head::WEBSOCKET));
            head.headers.remove(http::header::CONTENT_LENGTH);
            if let Some(key) = self.key.take() {
                head.headers.insert(SEC_WEBSOCKET_ACCEPT, handshake::accept(key.as_bytes()));
            }
        }
        Ok(head)
    }
}

/// What a stream's error means. `first`: nothing of an answer has come.
fn failed(error: &h2::Error, first: bool) -> Fail {
    let why = told(error);
    if first && was_not_processed(error) {
        return Fail::NotProcessed(why);
    }
    if first && error.is_reset() && error.is_remote() && error.reason() == Some(Reason::HTTP_1_1_REQUIRED) {
        return Fail::Http1Required(why);
    }
    if error.is_io() && first {
        return Fail::UpstreamClosed(why);
    }
    let reset = if error.is_reset() && error.is_remote() { error.reason() } else { None };
    Fail::Upstream { why, reset }
}

impl OriginSide for OriginH2 {
    type Io = Duct;

    fn protocol(&self) -> &'static str {
        super::HTTP2
    }

    fn push(&mut self, content: &[u8]) {
        self.sink.push(content);
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        self.sink.end(trailers);
    }

    fn pending(&self) -> usize {
        self.sink.pending()
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fail>> {
        self.sink.poll_send(cx).map_err(|e| failed(&e, false))
    }

    fn is_sent(&self) -> bool {
        self.sink.is_sent()
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Fail>> {
        if let Some(interim) = ready!(self.answer.poll_informational(cx)) {
            let interim = interim.map_err(|e| failed(&e, true))?;
            return Poll::Ready(self.read_head(interim, false));
        }
        let answer = ready!(Pin::new(&mut self.answer).poll(cx)).map_err(|e| failed(&e, true))?;
        let (parts, content) = answer.into_parts();
        let ended = content.is_end_stream();
        self.content = Some(content);
        Poll::Ready(self.read_head(Response::from_parts(parts, ()), ended))
    }

    fn poll_content(&mut self, cx: &mut Context<'_>, take: Take<'_>) -> Poll<Result<Came, Fail>> {
        let Some(content) = &mut self.content else { return Poll::Ready(Ok(Came::End(None))) };
        poll_stream(content, cx, take).map_err(|fault| match fault {
            StreamFault::Stream(error) => failed(&error, false),
            StreamFault::Taker(fail) => fail,
        })
    }

    fn hangs_up(&self) -> bool {
        false
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sink.poll_reset(cx).map(drop)
    }

    fn give_back(self, _: &Slot, _: bool) {
        // Its place on the connection is free when it is dropped.
    }

    fn raw(self) -> Option<Half<Duct>> {
        let Self { lane, mut sink, content, .. } = self;
        let duct = Duct::new(content?, sink.take_stream()?).keeping(Box::new(lane));
        Some(Half::new(Box::new(duct)))
    }
}
