//! An agent that speaks HTTP/2: one stream of its connection.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{HeaderMap, SEC_WEBSOCKET_ACCEPT};
use http::{Method, StatusCode};

use super::content::{StreamFault, poll_stream};
use super::sink::Sink;
use super::{AgentSide, Came, Duct, Lent, Take};
use crate::audit::RequestId;
use crate::message::h1::{Framing, ResponseHead};
use crate::message::h2 as head;
use crate::proxy::error::{Code, ProxyError};
use crate::proxy::forward::Next;
use crate::proxy::live::Settings;
use crate::proxy::outcome::Fail;
use crate::proxy::respond;
use crate::proxy::wire::Half;

/// How long an agent may take to read an answer of the proxy's own, or the last of another: so long, or `[timeouts] idle`
/// where that is less.
const PATIENCE: Duration = Duration::from_secs(10);

/// The stream, and where in the two messages it stands.
pub(in crate::proxy) struct AgentH2 {
    content: Option<RecvStream>,
    respond: SendResponse<Bytes>,
    sink: Sink,
    answered: bool,
    patience: Duration,
    /// Later requests are better sent on another connection.
    over: bool,
}

impl AgentH2 {
    pub(in crate::proxy) fn new(content: RecvStream, respond: SendResponse<Bytes>, settings: &Settings) -> Self {
        let patience = PATIENCE.min(settings.idle);
        Self { content: Some(content), respond, sink: Sink::default(), answered: false, patience, over: false }
    }

    /// Whether the connection is of no more use: what it was opened for is gone.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        self.over
    }

    /// Accepts a CONNECT: what follows is raw. `None` where the stream is over already.
    pub(in crate::proxy) fn into_tunnel(mut self) -> Option<Duct> {
        self.send_head(StatusCode::OK, HeaderMap::new(), false);
        self.duct()
    }

    /// The stream as raw bytes, both ways.
    fn duct(&mut self) -> Option<Duct> {
        Some(Duct::new(self.content.take()?, self.sink.take_stream()?))
    }

    fn send_head(&mut self, status: StatusCode, headers: HeaderMap, ended: bool) {
        self.answered = true;
        match self.respond.send_response(head::response(status, headers), ended) {
            Ok(stream) => self.sink.open(stream, ended),
            // The stream is over: `poll_gone` says why.
            Err(_) => self.sink.give_up(),
        }
    }
}

impl AgentSide for AgentH2 {
    type Io = Duct;

    fn protocol(&self) -> &'static str {
        super::HTTP2
    }

    fn poll_content(&mut self, cx: &mut Context<'_>, take: Take<'_>) -> Poll<Result<Came, Fail>> {
        let Some(content) = &mut self.content else { return Poll::Ready(Ok(Came::End(None))) };
        poll_stream(content, cx, take).map_err(|fault| match fault {
            StreamFault::Stream(_) => Fail::Agent,
            StreamFault::Taker(fail) => fail,
        })
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Fail> {
        let reset = if self.answered { self.sink.poll_reset(cx) } else { self.respond.poll_reset(cx) };
        reset.map(|_| Fail::Agent)
    }

    fn interim(&mut self, head: ResponseHead) {
        // Where the stream is over, `poll_gone` says so.
        let _ = self.respond.send_informational(head::response(head.status, head.headers));
    }

    fn head(&mut self, head: ResponseHead, _: bool) {
        self.send_head(head.status, head.headers, matches!(head.framing, Framing::None | Framing::Length(0)));
    }

    fn switch(&mut self, mut head: ResponseHead) {
        head.headers.remove(SEC_WEBSOCKET_ACCEPT);
        self.send_head(StatusCode::OK, head.headers, false);
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
        self.sink.poll_send(cx).map_err(|_| Fail::Agent)
    }

    fn is_sent(&self) -> bool {
        self.sink.is_sent()
    }

    async fn answer(&mut self, error: &ProxyError, id: RequestId, method: &Method, _: bool) -> Next {
        let (status, headers, body) = respond::own_answer(error, id);
        let bodiless = *method == Method::HEAD;
        self.send_head(status, headers, bodiless);
        if !bodiless && !self.sink.is_gone() {
            self.sink.push(body.as_bytes());
            self.sink.end(None);
        }
        let patience = self.patience;
        let sending = std::future::poll_fn(|cx| self.poll_send(cx));
        // An agent that does not take it has its stream reset when this is dropped.
        let _ = tokio::time::timeout(patience, sending).await;
        self.over = error.code == Code::CredentialUnavailable;
        Next::Again
    }

    async fn break_off(&mut self, reason: Option<Reason>) {
        let reason = reason.unwrap_or(Reason::INTERNAL_ERROR);
        if !self.answered {
            return self.respond.send_reset(reason);
        }
        // A reset takes back what was not sent: what came of the answer goes first, as far as the agent takes it.
        let patience = self.patience;
        let sending = std::future::poll_fn(|cx| self.poll_send(cx));
        let _ = tokio::time::timeout(patience, sending).await;
        tokio::task::yield_now().await;
        self.sink.reset(reason);
    }

    async fn finish(&mut self, _: bool) -> Next {
        Next::Again
    }

    fn raw(&mut self) -> Option<Lent<'_, Duct>> {
        Some(Lent::Stream(Half::new(Box::new(self.duct()?))))
    }
}
