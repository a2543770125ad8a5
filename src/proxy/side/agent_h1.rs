//! An agent that speaks HTTP/1.1: one request at a time on its connection.

use std::task::{Context, Poll};
use std::time::Duration;

use h2::Reason;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::{Method, Version};

use super::content::{Fault, poll_content};
use super::{AgentSide, Came, Lent, Take};
use crate::audit::RequestId;
use crate::message::h1::{BodyError, BodyReader, Framing, RequestHead, ResponseHead, write_last_chunk, write_response};
use crate::proxy::connection::refuse;
use crate::proxy::error::ProxyError;
use crate::proxy::forward::Next;
use crate::proxy::live::Settings;
use crate::proxy::outcome::Fail;
use crate::proxy::respond::write_error;
use crate::proxy::wire::{Half, Wire, push_chunk};

/// The connection, and where in the two messages it stands.
pub(in crate::proxy) struct AgentH1<'a, A: ?Sized> {
    half: &'a mut Half<A>,
    version: Version,
    reader: BodyReader,
    /// The request has content, which is on the connection until it is read.
    has_content: bool,
    /// The connection ends after the answer.
    close: bool,
    /// How many bytes of a next request are taken in meanwhile.
    ahead: usize,
    /// How long the agent may take to read the last of an answer.
    idle: Duration,
    /// The answer's content goes out in chunks.
    chunked: bool,
}

impl<'a, A: Wire + ?Sized> AgentH1<'a, A> {
    /// A request whose head was read from the connection.
    pub(in crate::proxy) fn new(half: &'a mut Half<A>, head: &RequestHead, draining: bool, settings: &Settings) -> Self {
        Self {
            half,
            version: head.version,
            reader: BodyReader::new(head.framing),
            has_content: head.framing != Framing::None,
            close: !head.keep_alive || draining,
            ahead: settings.head_bytes,
            idle: settings.idle,
            chunked: false,
        }
    }
}

impl<A: Wire + ?Sized> AgentSide for AgentH1<'_, A> {
    type Io = A;

    fn protocol(&self) -> &'static str {
        super::HTTP1
    }

    fn poll_content(&mut self, cx: &mut Context<'_>, take: Take<'_>) -> Poll<Result<Came, Fail>> {
        poll_content(self.half, &mut self.reader, cx, take).map_err(|fault| match fault {
            Fault::Framing(BodyError::CutShort) | Fault::Io(_) => Fail::Agent,
            Fault::Framing(_) => Fail::Malformed,
            Fault::Taker(fail) => fail,
        })
    }

    /// What comes ahead is kept for later.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Fail> {
        while self.half.input.bytes().len() < self.ahead {
            match self.half.poll_fill(cx) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(_) => return Poll::Ready(Fail::Agent),
                Poll::Pending => return Poll::Pending,
            }
        }
        // Its end stands behind bytes that nobody reads now.
        if self.half.io.is_hung_up() { Poll::Ready(Fail::Agent) } else { Poll::Pending }
    }

    fn interim(&mut self, head: ResponseHead) {
        if self.version == Version::HTTP_11 {
            write_response(&mut self.half.output.data, head.status, &head.reason, &head.headers, Framing::None);
        }
    }

    fn head(&mut self, mut head: ResponseHead, last: bool) {
        let framing = match head.framing {
            Framing::UntilClose | Framing::Chunked if self.version == Version::HTTP_11 => Framing::Chunked,
            Framing::UntilClose | Framing::Chunked => Framing::UntilClose,
            other => other,
        };
        if framing != Framing::None {
            head.headers.remove(CONTENT_LENGTH);
        }
        self.close |= last || framing == Framing::UntilClose;
        if self.close {
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.chunked = framing == Framing::Chunked;
        write_response(&mut self.half.output.data, head.status, &head.reason, &head.headers, framing);
    }

    fn switch(&mut self, mut head: ResponseHead) {
        head.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        write_response(&mut self.half.output.data, head.status, &head.reason, &head.headers, Framing::None);
    }

    fn push(&mut self, content: &[u8]) {
        push_chunk(&mut self.half.output.data, content, self.chunked);
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        if self.chunked {
            write_last_chunk(&mut self.half.output.data, trailers.as_ref());
        }
    }

    fn pending(&self) -> usize {
        self.half.output.pending()
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fail>> {
        self.half.poll_send(cx).map_err(|_| Fail::Agent)
    }

    fn is_sent(&self) -> bool {
        self.half.output.is_empty()
    }

    async fn answer(&mut self, error: &ProxyError, id: RequestId, method: &Method, close: bool) -> Next {
        if close || self.close || self.has_content {
            refuse(self.half, error, id, method).await;
            return Next::Close;
        }
        write_error(&mut self.half.output.data, error, id, method, false);
        if self.half.send_within(self.idle).await.is_ok() { Next::Again } else { Next::Close }
    }

    async fn break_off(&mut self, _: Option<Reason>) {
        // What came of the answer is sent; its missing end says that it is not whole.
        let _ = self.half.send_within(self.idle).await;
    }

    async fn finish(&mut self, whole: bool) -> Next {
        if whole && !self.close {
            return Next::Again;
        }
        self.half.linger().await;
        Next::Close
    }

    fn raw(&mut self) -> Option<Lent<'_, A>> {
        Some(Lent::Whole(self.half))
    }
}
