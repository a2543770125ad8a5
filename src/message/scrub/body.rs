//! Scrubs bodies as they stream.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::compressed::CompressedScrubber;
use super::events::Events;
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
        let new = &pending[self.left..];
        // Of an event stream whole events go, of any other text whole lines: no secret holds a line end.
        let ended = match &mut self.events {
            Some(events) => events.last_end(new),
            None => memchr::memrchr2(b'\n', b'\r', new).map(|at| at + 1),
        };
        let ended = ended.map_or(0, |end| self.left + end);
        let going = pending.len().saturating_sub(self.scanner.hold_back()).max(ended);
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
pub struct BodyScrubber(Kind);

enum Kind {
    Identity { scrubber: InPlaceScrubber, held: Zeroizing<Vec<u8>> },
    Compressed(Box<CompressedScrubber>),
}

impl BodyScrubber {
    /// A scrubber for one body. `events` says whether it is a `text/event-stream`; `decoding` comes of its
    /// `Content-Encoding`.
    #[must_use]
    pub fn new(table: Arc<ScrubTable>, events: bool, decoding: Option<&Decoding>) -> Self {
        Self(match decoding {
            // A table that scrubs no bodies need not decode them either.
            Some(decoding) if table.scrubs_bodies() => Kind::Compressed(Box::new(CompressedScrubber::new(table, events, decoding))),
            _ => Kind::Identity { scrubber: InPlaceScrubber::new(table, events), held: Zeroizing::default() },
        })
    }

    /// Takes more of the body, and appends to `out` what may go.
    ///
    /// # Errors
    /// [`ScrubError`], for a compressed body only: it ends here. Calls after an error fail as well.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), ScrubError> {
        self.step(input, out, InPlaceScrubber::advance, |compressed, input, out| compressed.push(input, out))
    }

    /// Nothing has come for the owner's fixed time: what is held goes, as far as it can be decoded. The match goes on.
    ///
    /// # Errors
    /// As [`BodyScrubber::push`].
    pub fn flush_pause(&mut self, out: &mut Vec<u8>) -> Result<(), ScrubError> {
        self.step(&[], out, InPlaceScrubber::pause, |compressed, _, out| compressed.pause(out))
    }

    /// The body has ended: what is held goes.
    ///
    /// # Errors
    /// As [`BodyScrubber::push`]; also where a compressed body is cut short.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ScrubError> {
        self.step(&[], out, InPlaceScrubber::finish, |compressed, _, out| compressed.finish(out))
    }

    fn step(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        identity: impl FnOnce(&mut InPlaceScrubber, &mut [u8]) -> usize,
        compressed: impl FnOnce(&mut CompressedScrubber, &[u8], &mut Vec<u8>) -> Result<(), ScrubError>,
    ) -> Result<(), ScrubError> {
        match &mut self.0 {
            Kind::Compressed(scrubber) => compressed(scrubber, input, out),
            Kind::Identity { scrubber, held } => {
                // The output is where it is scrubbed, so that the input is copied once.
                let start = out.len();
                out.reserve(held.len() + input.len());
                out.extend_from_slice(held);
                out.extend_from_slice(input);
                let going = identity(scrubber, &mut out[start..]);
                held.clear();
                held.extend_from_slice(&out[start + going..]);
                out[start + going..].fill(0);
                out.truncate(start + going);
                Ok(())
            }
        }
    }

    /// How many bytes are held now; a pause is worth calling only where this is not 0.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.0 {
            Kind::Identity { held, .. } => held.len(),
            Kind::Compressed(scrubber) => scrubber.held(),
        }
    }

    /// How many places held the secret so far.
    #[must_use]
    pub fn hits(&self) -> u64 {
        match &self.0 {
            Kind::Identity { scrubber, .. } => scrubber.hits(),
            Kind::Compressed(scrubber) => scrubber.hits(),
        }
    }
}
