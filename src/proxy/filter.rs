//! What a response passes through on its way to the agent: the scrubber, where a credential was put on the request.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Version};
use tokio::time::Sleep;

use crate::credential::Material;
use crate::message::h1::{Framing, ResponseHead};
use crate::message::scrub::{BodyScrubber, Decoding, ScrubError, ScrubTable};

/// What is held back goes on after the origin has been silent for so long: a constant, so that it tells nothing, and
/// longer than a round trip or a lost packet, so that no gap that the network makes lets half a secret out. Whole events
/// and whole lines wait for nothing.
const PAUSE: Duration = Duration::from_millis(500);

/// The filter of one response.
pub(super) struct ResponseFilter {
    table: Option<Arc<ScrubTable>>,
    grpc_call: bool,
    /// Nothing is held back.
    at_once: bool,
    body: Option<Box<BodyScrubber>>,
    out: Vec<u8>,
    pause: Option<Pin<Box<Sleep>>>,
    head_hits: u64,
}

impl ResponseFilter {
    /// Passes everything.
    pub(super) fn none() -> Self {
        Self { table: None, grpc_call: false, at_once: false, body: None, out: Vec::new(), pause: None, head_hits: 0 }
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

    /// The body that is about to begin.
    pub(super) fn body(&mut self, head: &ResponseHead) -> Result<(), &'static str> {
        let Some(table) = self.table.as_ref().filter(|t| t.scrubs_bodies() && head.framing != Framing::None) else { return Ok(()) };
        let kind = head.headers.get(CONTENT_TYPE).map(|t| t.as_bytes().to_ascii_lowercase()).unwrap_or_default();
        // Messages of gRPC must not wait for one another, and their length tells nothing that could be trusted: they are searched
        // piece by piece as they come, and nothing is held back.
        self.at_once = self.grpc_call && head.version == Version::HTTP_2 && is_grpc(&kind);
        let decoding = Decoding::of(&head.headers).map_err(|e| word(&e))?;
        let events = kind.starts_with(b"text/event-stream");
        self.body = Some(Box::new(BodyScrubber::new(Arc::clone(table), events, decoding.as_ref())));
        Ok(())
    }

    /// Content; gives what may pass now.
    pub(super) fn data<'a>(&'a mut self, data: &'a [u8]) -> Result<&'a [u8], &'static str> {
        let Some(body) = &mut self.body else { return Ok(data) };
        self.out.clear();
        self.pause = None;
        body.push(data, &mut self.out).map_err(|e| word(&e))?;
        if self.at_once {
            body.flush_pause(&mut self.out).map_err(|e| word(&e))?;
        }
        Ok(&self.out)
    }

    /// The content's end; gives what was held back.
    pub(super) fn finish(&mut self) -> Result<&[u8], &'static str> {
        let Some(body) = &mut self.body else { return Ok(&[]) };
        self.out.clear();
        body.finish(&mut self.out).map_err(|e| word(&e))?;
        Ok(&self.out)
    }

    /// Whether something is held back and the origin has paused for long enough. If not, the task is woken then.
    pub(super) fn poll_pause(&mut self, cx: &mut Context<'_>) -> bool {
        if self.body.as_ref().is_none_or(|b| b.held() == 0) {
            return false;
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(PAUSE)));
        let over = pause.as_mut().poll(cx).is_ready();
        if over {
            self.pause = None;
        }
        over
    }

    /// What was held back, after a pause.
    pub(super) fn pause(&mut self) -> Result<&[u8], &'static str> {
        let Some(body) = &mut self.body else { return Ok(&[]) };
        self.out.clear();
        body.flush_pause(&mut self.out).map_err(|e| word(&e))?;
        Ok(&self.out)
    }

    /// How often the secret was found.
    pub(super) fn hits(&self) -> u64 {
        self.head_hits + self.body.as_ref().map_or(0, |b| b.hits())
    }
}

/// Whether a content type is gRPC's own, not one of its forms for browsers.
pub(super) fn is_grpc(content_type: &[u8]) -> bool {
    let name = content_type.split(|b| matches!(b, b';' | b'+')).next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"application/grpc")
}

fn word(error: &ScrubError) -> &'static str {
    match error {
        ScrubError::Hit => "the compressed answer carries the secret",
        _ => "the answer's coding cannot be read, so it cannot be scrubbed",
    }
}
