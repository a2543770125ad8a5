//! Scrubs bodies as they stream.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::compressed::CompressedScrubber;
use super::events::Events;
use super::identity::{Decoded, Identity};
use super::scan::Scanner;
use super::{Decoding, ScrubError, ScrubTable};

/// Scrubs an identity body inside its owner's buffer, without copying it.
///
/// The owner keeps one buffer of what is pending: what a call left, then what was read since. Each call says how many
/// bytes at its front have been scrubbed and go now; the owner sends and removes exactly these.
pub struct InPlaceScrubber {
    scanner: Scanner,
    events: Option<Events>,
    /// How much the last call left.
    left: usize,
}

impl InPlaceScrubber {
    /// A scrubber for one body; `events` says whether it is a `text/event-stream`.
    #[must_use]
    pub fn new(table: Arc<ScrubTable>, events: bool) -> Self {
        Self { scanner: Scanner::new(table), events: events.then(Events::new), left: 0 }
    }

    /// More has been read. What stays behind is at most [`InPlaceScrubber::hold_back`] bytes.
    pub fn advance(&mut self, pending: &mut [u8]) -> usize {
        self.scanner.look(pending, false);
        let free = pending.len().saturating_sub(self.scanner.hold_back());
        // Of an event stream whole events go, of any other text whole lines: no secret holds a line end. Where a line ends in what is free
        // anyway need not be known.
        let ended = match &mut self.events {
            Some(events) => events.last_end(&pending[self.left..]).map(|end| self.left + end),
            None => {
                let from = free.max(self.left);
                memchr::memrchr2(b'\n', b'\r', &pending[from..]).map(|at| from + at + 1)
            }
        };
        let going = free.max(ended.unwrap_or_default());
        self.scanner.release(&mut pending[..going]);
        self.left = pending.len() - going;
        going
    }

    /// Nothing has been read for the owner's fixed time: all that is pending goes. The match goes on all the same: when
    /// an occurrence that began in these bytes is completed later, the rest of it is masked and counted.
    pub fn pause(&mut self, pending: &mut [u8]) -> usize {
        self.scanner.pause(pending);
        self.left = 0;
        pending.len()
    }

    /// The body has ended: all that is pending goes.
    pub fn finish(&mut self, pending: &mut [u8]) -> usize {
        self.scanner.look(pending, true);
        self.scanner.release(pending);
        self.left = 0;
        pending.len()
    }

    /// How many bytes are held back, a constant of the secret's length: the pending buffer must hold more.
    #[must_use]
    pub fn hold_back(&self) -> usize {
        self.scanner.hold_back()
    }

    /// How many places were masked so far.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.scanner.hits()
    }
}

/// Scrubs one body, whatever its coding, from an input buffer to an output buffer.
pub struct BodyScrubber {
    kind: Kind,
    /// There while the answer's head waits: then it may yet become that of another coding.
    waiting: Option<Waiting>,
}

enum Kind {
    Identity(Identity),
    Compressed(Box<CompressedScrubber>),
    Decoded(Box<Decoded>),
}

/// What it takes to begin again.
struct Waiting {
    table: Arc<ScrubTable>,
    events: bool,
    decoding: Decoding,
    /// What may go once the head has gone.
    ready: Zeroizing<Vec<u8>>,
}

impl BodyScrubber {
    /// A scrubber for one body. `events` says whether it is a `text/event-stream`; `decoding` comes of its
    /// `Content-Encoding`.
    #[must_use]
    pub fn new(table: Arc<ScrubTable>, events: bool, decoding: Option<&Decoding>) -> Self {
        let kind = match decoding {
            // A table that scrubs no bodies need not decode them either.
            Some(decoding) if table.scrubs_bodies() => Kind::Compressed(Box::new(CompressedScrubber::new(table, events, decoding))),
            _ => Kind::Identity(Identity::new(table, events)),
        };
        Self { kind, waiting: None }
    }

    /// The same for a compressed body whose head waits: nothing goes out before [`BodyScrubber::head_goes`], and a hit until then
    /// makes it go on decoded.
    #[must_use]
    pub fn with_waiting_head(table: Arc<ScrubTable>, events: bool, decoding: Decoding) -> Self {
        let waiting = Waiting { table: table.clone(), events, decoding, ready: Zeroizing::default() };
        let scrubber = Self::new(table, events, Some(&waiting.decoding));
        Self { waiting: Some(waiting), ..scrubber }
    }

    /// Takes more of the body, and appends to `out` what may go.
    ///
    /// # Errors
    /// [`ScrubError`], for a compressed body only: it ends here. Calls after an error fail as well.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), ScrubError> {
        self.step(out, |kind, out| match kind {
            Kind::Identity(text) => {
                text.step(input, out, InPlaceScrubber::advance);
                Ok(())
            }
            Kind::Compressed(scrubber) => scrubber.push(input, out),
            Kind::Decoded(scrubber) => scrubber.push(input, out),
        })
    }

    /// Nothing has come for the owner's fixed time: what is held goes, as far as it can be decoded. The match goes on.
    ///
    /// # Errors
    /// As [`BodyScrubber::push`].
    pub fn flush_pause(&mut self, out: &mut Vec<u8>) -> Result<(), ScrubError> {
        self.step(out, |kind, out| match kind {
            Kind::Identity(text) => {
                text.step(&[], out, InPlaceScrubber::pause);
                Ok(())
            }
            Kind::Compressed(scrubber) => scrubber.pause(out),
            Kind::Decoded(scrubber) => scrubber.pause(out),
        })
    }

    /// The body has ended: what is held goes.
    ///
    /// # Errors
    /// As [`BodyScrubber::push`]; also where a compressed body is cut short.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ScrubError> {
        let end = |kind: &mut Kind, out: &mut Vec<u8>| match kind {
            Kind::Identity(text) => {
                text.step(&[], out, InPlaceScrubber::finish);
                Ok(())
            }
            Kind::Compressed(scrubber) => scrubber.finish(out),
            Kind::Decoded(scrubber) => scrubber.finish(out),
        };
        let was_decoded = self.is_decoded();
        self.step(out, end)?;
        // A hit at the very end: what came has been decoded, and its end is still to be said.
        if self.is_decoded() && !was_decoded { self.step(out, end) } else { Ok(()) }
    }

    fn step(&mut self, out: &mut Vec<u8>, step: impl FnOnce(&mut Kind, &mut Vec<u8>) -> Result<(), ScrubError>) -> Result<(), ScrubError> {
        let Some(waiting) = &mut self.waiting else { return step(&mut self.kind, out) };
        match step(&mut self.kind, &mut waiting.ready) {
            Err(ScrubError::Hit) => {
                let decoded = Decoded::new(waiting.table.clone(), waiting.events, &waiting.decoding);
                let Kind::Compressed(scrubber) = std::mem::replace(&mut self.kind, Kind::Decoded(Box::new(decoded))) else {
                    return Err(ScrubError::Hit);
                };
                let came = [std::mem::take(&mut waiting.ready), scrubber.into_held()];
                came.iter().try_for_each(|came| self.push(came, out))
            }
            other => other,
        }
    }

    /// Whether bytes may go that wait for the head alone.
    #[must_use]
    pub fn waits_for_head(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.ready.is_empty())
    }

    /// The head goes now, and with it what is appended to `out`.
    pub fn head_goes(&mut self, out: &mut Vec<u8>) {
        if let Some(waiting) = self.waiting.take() {
            out.extend_from_slice(&waiting.ready);
        }
    }

    /// Whether a compressed body goes on decoded.
    #[must_use]
    pub fn is_decoded(&self) -> bool {
        matches!(self.kind, Kind::Decoded(_))
    }

    /// How many bytes are held now; a pause is worth calling only where this is not 0.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.kind {
            Kind::Identity(text) => text.held(),
            Kind::Compressed(scrubber) => scrubber.held(),
            Kind::Decoded(scrubber) => scrubber.held(),
        }
    }

    /// How many places held the secret so far.
    #[must_use]
    pub fn hits(&self) -> u64 {
        match &self.kind {
            Kind::Identity(text) => text.hits(),
            Kind::Compressed(scrubber) => scrubber.hits(),
            Kind::Decoded(scrubber) => scrubber.hits(),
        }
    }
}
