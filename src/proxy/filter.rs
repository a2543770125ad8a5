//! What a response passes through on its way to the agent: the scrubber, where a credential was put on the request.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode, Version};
use tokio::time::Sleep;

use crate::credential::Material;
use crate::message::h1::{Framing, ResponseHead};
use crate::message::scrub::{BodyScrubber, Decoding, ScrubError, ScrubTable, hide_length, make_identity};

/// What is held back goes on after the origin has been silent for so long: a constant, so that it tells nothing, and
/// longer than a round trip or a lost packet, so that no gap that the network makes lets half a secret out. Whole events
/// and whole lines wait for nothing.
///
/// The head of a compressed answer waits until the first of its body may go, by these same rules, for it may have to become that
/// of a decoded one.
const PAUSE: Duration = Duration::from_millis(500);

/// The filter of one response.
pub(super) struct ResponseFilter {
    table: Option<Arc<ScrubTable>>,
    grpc_call: bool,
    /// Nothing is held back.
    at_once: bool,
    body: Option<Box<BodyScrubber>>,
    /// The answer's head waits for its body.
    head_waits: bool,
    /// But for no longer than a pause, however its body trickles.
    head_pause: Option<Pin<Box<Sleep>>>,
    out: Vec<u8>,
    pause: Option<Pin<Box<Sleep>>>,
    head_hits: u64,
}

impl ResponseFilter {
    /// Passes everything.
    pub(super) fn none() -> Self {
        Self {
            table: None,
            grpc_call: false,
            at_once: false,
            body: None,
            head_waits: false,
            head_pause: None,
            out: Vec::new(),
            pause: None,
            head_hits: 0,
        }
    }

    /// Takes the secret of a credential out of what comes back. `grpc_call`: the request was one of gRPC.
    pub(super) fn scrubbing(material: &Material, grpc_call: bool) -> Self {
        Self { table: Some(Arc::clone(material.scrub_table())), grpc_call, ..Self::none() }
    }

    /// Fields of a head, of an interim one, or of trailers.
    pub(super) fn head(&mut self, headers: &mut HeaderMap) {
        if let Some(table) = &self.table {
            self.head_hits += table.scrub_headers(headers) as u64;
        }
    }

    /// A reason phrase, which an origin may choose too.
    pub(super) fn reason(&mut self, reason: Bytes) -> Bytes {
        match self.table.as_ref().and_then(|t| t.scrub_header(&reason)) {
            Some(masked) => {
                self.head_hits += 1;
                masked.into()
            }
            None => reason,
        }
    }

    /// Trailers.
    pub(super) fn trailers(&mut self, trailers: &mut HeaderMap) {
        self.head(trailers);
        if self.body.as_ref().is_some_and(|b| b.is_decoded()) {
            make_identity(trailers);
        }
    }

    /// The body that is about to begin.
    pub(super) fn body(&mut self, head: &mut ResponseHead) -> Result<(), ScrubError> {
        let Some(table) = self.table.as_ref().filter(|t| t.scrubs_bodies()) else { return Ok(()) };
        let decoding = Decoding::of(&head.headers);
        if head.framing == Framing::None {
            if !matches!(decoding, Ok(None)) {
                hide_length(&mut head.headers);
            }
            return Ok(());
        }
        let kind = head.headers.get(CONTENT_TYPE).map(|t| t.as_bytes().to_ascii_lowercase()).unwrap_or_default();
        // Messages of gRPC must not wait for one another, and their length tells nothing that could be trusted: they are searched
        // piece by piece as they come, and nothing is held back.
        self.at_once = self.grpc_call && head.version == Version::HTTP_2 && is_grpc(&kind);
        let events = kind.starts_with(b"text/event-stream");
        let table = Arc::clone(table);
        self.body = Some(Box::new(match decoding? {
            // A part of a coded body cannot go on as a part of the decoded one (RFC 9110 14.4).
            Some(decoding) if head.status != StatusCode::PARTIAL_CONTENT => {
                self.head_waits = true;
                BodyScrubber::with_waiting_head(table, events, decoding)
            }
            Some(decoding) => {
                without_length(head);
                BodyScrubber::new(table, events, Some(&decoding))
            }
            None => BodyScrubber::new(table, events, None),
        }));
        Ok(())
    }

    /// Whether the answer's head waits for its body.
    pub(super) fn head_waits(&self) -> bool {
        self.head_waits
    }

    /// Whether it need not wait any longer.
    pub(super) fn head_may_go(&self) -> bool {
        self.head_waits && (self.at_once || self.body.as_ref().is_some_and(|b| b.waits_for_head()))
    }

    /// The head that waited goes now, as it must be; gives what of the body goes with it. `whole`: the body has ended.
    pub(super) fn head_goes(&mut self, head: &mut ResponseHead, whole: bool) -> &[u8] {
        self.head_waits = false;
        self.out.clear();
        if let Some(body) = &mut self.body {
            body.head_goes(&mut self.out);
            if body.is_decoded() {
                make_identity(&mut head.headers);
                head.framing = Framing::Chunked;
            } else if !whole {
                // Of one that is whole it is known that it holds no secret.
                without_length(head);
            }
        }
        &self.out
    }

    /// Content; gives what may pass now.
    pub(super) fn data<'a>(&'a mut self, data: &'a [u8]) -> Result<&'a [u8], ScrubError> {
        let Some(body) = &mut self.body else { return Ok(data) };
        self.out.clear();
        self.pause = None;
        body.push(data, &mut self.out)?;
        if self.at_once {
            body.flush_pause(&mut self.out)?;
        }
        Ok(&self.out)
    }

    /// The content's end; gives what was held back.
    pub(super) fn finish(&mut self) -> Result<&[u8], ScrubError> {
        let Some(body) = &mut self.body else { return Ok(&[]) };
        self.out.clear();
        body.finish(&mut self.out)?;
        Ok(&self.out)
    }

    /// Whether something is held back and the origin has paused for long enough. If not, the task is woken then.
    pub(super) fn poll_pause(&mut self, cx: &mut Context<'_>) -> bool {
        if self.body.as_ref().is_none_or(|b| b.held() == 0) {
            return false;
        }
        is_over(&mut self.pause, cx)
    }

    /// Whether the head has waited for long enough. If not, the task is woken then.
    pub(super) fn poll_head_pause(&mut self, cx: &mut Context<'_>) -> bool {
        self.head_waits && is_over(&mut self.head_pause, cx)
    }

    /// What was held back, after a pause.
    pub(super) fn pause(&mut self) -> Result<&[u8], ScrubError> {
        let Some(body) = &mut self.body else { return Ok(&[]) };
        self.out.clear();
        body.flush_pause(&mut self.out)?;
        Ok(&self.out)
    }

    /// How often the secret was found.
    pub(super) fn hits(&self) -> u64 {
        self.head_hits + self.body.as_ref().map_or(0, |b| b.hits())
    }
}

/// Whether a pause, which begins now if it has not begun, is over.
fn is_over(pause: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    let over = pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(PAUSE))).as_mut().poll(cx).is_ready();
    if over {
        *pause = None;
    }
    over
}

/// Whether a content type is gRPC's own, not one of its forms for browsers.
pub(super) fn is_grpc(content_type: &[u8]) -> bool {
    let name = content_type.split(|b| matches!(b, b';' | b'+')).next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"application/grpc")
}

/// A head without its length, the body to be framed anew.
fn without_length(head: &mut ResponseHead) {
    hide_length(&mut head.headers);
    if matches!(head.framing, Framing::Length(1..)) {
        head.framing = Framing::Chunked;
    }
}
