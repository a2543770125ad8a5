//! The two sides of an exchange. Each speaks HTTP/1.1 or HTTP/2, and hides which behind the same few steps, so that one
//! state machine (`exchange`) carries every pairing.
//!
//! All of it is polled in the agent's own task. Content is handed on as it comes, by reference; what a side cannot send
//! at once stands in its buffer, and [`AgentSide::pending`] and [`OriginSide::pending`] say how much that is.

mod agent_h1;
mod agent_h2;
mod content;
mod duct;
mod handshake;
mod origin_h1;
mod origin_h2;
mod sink;

use std::task::{Context, Poll};

use h2::Reason;
use http::{HeaderMap, Method};

use super::error::ProxyError;
use super::forward::Next;
use super::outcome::Fail;
use super::wire::{Half, Wire};
use crate::audit::RequestId;
use crate::message::h1::ResponseHead;
use crate::upstream::Slot;

pub(super) use agent_h1::AgentH1;
pub(super) use agent_h2::AgentH2;
pub(crate) use duct::Duct;
pub(super) use origin_h1::OriginH1;
pub(super) use origin_h2::OriginH2;

/// HTTP/1.1 and HTTP/2 as records name them.
pub(super) const HTTP1: &str = "HTTP/1.1";
/// See [`HTTP1`].
pub(super) const HTTP2: &str = "HTTP/2";

/// What came of a message's content.
pub(super) enum Came {
    /// Some of it, which was handed on.
    Some,
    /// Its end, perhaps with trailers.
    End(Option<HeaderMap>),
}

/// Takes content by reference; what it cannot use is a failure.
pub(super) type Take<'t> = &'t mut dyn FnMut(&[u8]) -> Result<(), Fail>;

/// Where an agent's request comes from, and where its answer goes.
pub(super) trait AgentSide: Send {
    /// What carries raw bytes after a switch of protocols.
    type Io: Wire + ?Sized;

    /// `HTTP/1.1` or `HTTP/2`, for the record.
    fn protocol(&self) -> &'static str;

    /// The next of the request's content, handed to `take`.
    fn poll_content(&mut self, cx: &mut Context<'_>, take: Take<'_>) -> Poll<Result<Came, Fail>>;

    /// Completes when the agent goes away, while nothing more of the request is read. Where it cannot be woken for that it
    /// must be asked again.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Fail>;

    /// Sends an interim answer, where the agent can take one.
    fn interim(&mut self, head: ResponseHead);

    /// Sends an answer's head. `last`: nothing more of the request can be passed on.
    fn head(&mut self, head: ResponseHead, last: bool);

    /// Sends the answer that switches to a WebSocket.
    fn switch(&mut self, head: ResponseHead);

    /// Sends some of the answer's content.
    fn push(&mut self, content: &[u8]);

    /// Sends the end of the answer.
    fn end(&mut self, trailers: Option<HeaderMap>);

    /// How many bytes wait to be sent.
    fn pending(&self) -> usize;

    /// Sends what waits. Ready when all is on its way.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fail>>;

    /// Whether all is on its way.
    fn is_sent(&self) -> bool;

    /// Answers in the proxy's own name, where nothing of an answer has gone out. `close` asks for the end of the connection.
    fn answer(&mut self, error: &ProxyError, id: RequestId, method: &Method, close: bool) -> impl Future<Output = Next> + Send;

    /// Ends an answer that cannot be finished, so that the agent sees that it is not whole.
    fn break_off(&mut self, reason: Option<Reason>) -> impl Future<Output = ()> + Send;

    /// After a whole answer. `whole`: all of the request was passed on.
    fn finish(&mut self, whole: bool) -> impl Future<Output = Next> + Send;

    /// What follows a switch of protocols.
    fn raw(&mut self) -> Option<Lent<'_, Self::Io>>;
}

/// Where a request goes, and where its answer comes from.
pub(super) trait OriginSide: Send {
    /// What carries raw bytes after a switch of protocols.
    type Io: Wire + ?Sized;

    /// `HTTP/1.1` or `HTTP/2`, for the record.
    fn protocol(&self) -> &'static str;

    /// Sends some of the request's content.
    fn push(&mut self, content: &[u8]);

    /// Sends the end of the request's content.
    fn end(&mut self, trailers: Option<HeaderMap>);

    /// How many bytes wait to be sent.
    fn pending(&self) -> usize;

    /// Sends what waits. An error says that the origin takes no more; its answer may still come.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fail>>;

    /// Whether all is on its way.
    fn is_sent(&self) -> bool;

    /// The next head: interim ones, then the last. An accepted WebSocket is a 101.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Fail>>;

    /// The next of the answer's content, handed to `take`.
    fn poll_content(&mut self, cx: &mut Context<'_>, take: Take<'_>) -> Poll<Result<Came, Fail>>;

    /// Whether the connection is of no more use after the answer, as its head says.
    fn hangs_up(&self) -> bool;

    /// After a whole answer: completes when the origin wants no more of the request.
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// After a whole answer, `whole` where the request was sent whole too: gives the connection back to where it came from.
    fn give_back(self, slot: &Slot, whole: bool);

    /// What follows a switch of protocols.
    fn raw(self) -> Option<Half<Self::Io>>;
}

/// A connection for raw bytes: the agent's own, or one stream of it.
pub(super) enum Lent<'a, S: ?Sized> {
    /// The connection itself.
    Whole(&'a mut Half<S>),
    /// A stream.
    Stream(Half<S>),
}

impl<S: Wire + ?Sized> Lent<'_, S> {
    pub(super) fn half(&mut self) -> &mut Half<S> {
        match self {
            Self::Whole(half) => half,
            Self::Stream(half) => half,
        }
    }
}
