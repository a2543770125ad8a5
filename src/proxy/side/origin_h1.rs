//! An origin that speaks HTTP/1.1: one request at a time on a connection of its own.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};

use super::content::{Fault, poll_content};
use super::{Came, OriginSide, Take, handshake};
use crate::message::h1::{BodyReader, Framing, HeadError, ResponseHead, fields_len, head_end, parse_response, write_last_chunk, write_request};
use crate::message::h2::join_cookies;
use crate::proxy::outcome::Fail;
use crate::proxy::outgoing::Outgoing;
use crate::proxy::wire::{CHUNK, Half, push_chunk};
use crate::upstream::{Slot, UpstreamStream};

/// The longest response head.
const RESPONSE_HEAD: usize = 256 * 1024;

/// The connection, and where in the two messages it stands.
pub(in crate::proxy) struct OriginH1 {
    half: Half<UpstreamStream>,
    method: Method,
    /// The request's content goes out in chunks.
    chunked: bool,
    scanned: usize,
    reader: BodyReader,
    any_answer: bool,
    keeps: bool,
    /// For how long the origin says it keeps the connection.
    keep: Option<Duration>,
    /// The proof that a WebSocket's answer must carry, where the key was ours.
    proof: Option<HeaderValue>,
    upgrade: bool,
}

impl OriginH1 {
    /// Puts the request's head at the front of what is sent.
    pub(in crate::proxy) fn new(stream: UpstreamStream, method: &Method, version: Version, mut framing: Framing, outgoing: &mut Outgoing) -> Self {
        let mut half = Half::new(Box::new(stream));
        let mut proof = None;
        if version == Version::HTTP_2 {
            // HTTP/1.1 wants the length of nothing where content is usual (RFC 9110 8.6).
            if framing == Framing::None && [Method::POST, Method::PUT, Method::PATCH].contains(method) {
                framing = Framing::Length(0);
            }
            join_cookies(&mut outgoing.headers);
            if outgoing.upgrade {
                proof = handshake::add_key(&mut outgoing.headers);
            }
        }
        write_request(&mut half.output.data, method, &outgoing.target, &outgoing.headers, framing);
        if outgoing.headers.values().any(HeaderValue::is_sensitive) {
            half.output.is_secret();
        }
        Self {
            half,
            method: method.clone(),
            chunked: framing == Framing::Chunked,
            scanned: 0,
            reader: BodyReader::new(Framing::None),
            any_answer: false,
            keeps: true,
            keep: None,
            proof,
            upgrade: outgoing.upgrade,
        }
    }

    fn read_head(&mut self, end: usize) -> Result<ResponseHead, Fail> {
        let bytes = Bytes::copy_from_slice(&self.half.input.bytes()[..end]);
        self.half.input.consume(end);
        self.scanned = 0;
        let mut head = parse_response(bytes, &self.method).map_err(refused)?;
        self.any_answer = true;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            if !self.upgrade {
                return Err(Fail::upstream("the origin switched protocols unasked"));
            }
            if self.proof.take().is_some_and(|proof| !handshake::is_proved(&mut head.headers, &proof)) {
                return Err(Fail::upstream("the origin's WebSocket handshake does not prove that it read ours"));
            }
        } else if !head.status.is_informational() {
            self.keeps = head.keep_alive;
            self.keep = keep_alive_timeout(&head.headers);
            self.reader = BodyReader::new(head.framing);
        }
        Ok(head)
    }
}

fn refused(error: HeadError) -> Fail {
    Fail::upstream(format!("the origin's answer is refused: {error}"))
}

/// `Keep-Alive: timeout=5, max=100`: how long an idle connection stays. It is for one connection, and goes with it.
fn keep_alive_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(HeaderName::from_static("keep-alive"))?.to_str().ok()?;
    let seconds = value.split(',').find_map(|part| part.trim().strip_prefix("timeout=")?.trim().parse().ok())?;
    Some(Duration::from_secs(seconds))
}

impl OriginSide for OriginH1 {
    type Io = UpstreamStream;

    fn protocol(&self) -> &'static str {
        super::HTTP1
    }

    fn push(&mut self, content: &[u8]) {
        self.half.output.reserve(content.len() + CHUNK);
        push_chunk(&mut self.half.output.data, content, self.chunked);
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        if self.chunked {
            self.half.output.reserve(trailers.as_ref().map_or(0, fields_len) + CHUNK);
            write_last_chunk(&mut self.half.output.data, trailers.as_ref());
        }
    }

    fn pending(&self) -> usize {
        self.half.output.pending()
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fail>> {
        // The origin may have answered before it closed: its answer is still to be read.
        self.half.poll_send(cx).map_err(|e| Fail::upstream(e.to_string()))
    }

    fn is_sent(&self) -> bool {
        self.half.output.is_empty()
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Fail>> {
        loop {
            if let Some(end) = head_end(self.half.input.bytes(), &mut self.scanned, RESPONSE_HEAD).map_err(refused)? {
                return Poll::Ready(self.read_head(end));
            }
            match self.half.poll_fill(cx) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(ended) => {
                    let why = ended.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()).to_string();
                    let nothing = self.half.input.is_empty() && !self.any_answer;
                    return Poll::Ready(Err(if nothing {
                        Fail::UpstreamClosed(why)
                    } else {
                        Fail::upstream(format!("the origin's answer was cut short: {why}"))
                    }));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_content(&mut self, cx: &mut Context<'_>, take: Take<'_>) -> Poll<Result<Came, Fail>> {
        poll_content(&mut self.half, &mut self.reader, cx, take).map_err(|fault| match fault {
            Fault::Framing(error) => Fail::upstream(format!("the origin's answer is broken: {error}")),
            Fault::Io(error) => Fail::upstream(format!("the origin's answer was cut short: {error}")),
            Fault::Taker(fail) => fail,
        })
    }

    fn hangs_up(&self) -> bool {
        !self.keeps
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.half.poll_fill(cx).map(drop)
    }

    fn give_back(self, slot: &Slot, whole: bool) {
        if whole && self.keeps && self.half.input.is_empty() && self.half.output.is_empty() {
            slot.put(*self.half.io, self.keep);
        }
    }

    fn raw(self) -> Option<Half<UpstreamStream>> {
        Some(self.half)
    }
}
