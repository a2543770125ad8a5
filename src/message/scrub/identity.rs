//! Identity bodies from an input buffer to an output buffer, and compressed ones that go on decoded.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::body::InPlaceScrubber;
use super::decode::Decoder;
use super::{Decoding, ScrubError, ScrubTable};

/// Scrubs text that its owner does not keep.
pub(super) struct Identity {
    scrubber: InPlaceScrubber,
    held: Zeroizing<Vec<u8>>,
}

impl Identity {
    pub(super) fn new(table: Arc<ScrubTable>, events: bool) -> Self {
        Self { scrubber: InPlaceScrubber::new(table, events), held: Zeroizing::default() }
    }

    /// One step over more `input`; what may go is appended to `out`.
    pub(super) fn step(&mut self, input: &[u8], out: &mut Vec<u8>, step: impl FnOnce(&mut InPlaceScrubber, &mut [u8]) -> usize) {
        // The output is where it is scrubbed, so that the input is copied once.
        let start = out.len();
        out.reserve(self.held.len() + input.len());
        out.extend_from_slice(&self.held);
        out.extend_from_slice(input);
        let going = step(&mut self.scrubber, &mut out[start..]);
        self.held.clear();
        self.held.extend_from_slice(&out[start + going..]);
        out[start + going..].fill(0);
        out.truncate(start + going);
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn hits(&self) -> u64 {
        self.scrubber.hits()
    }
}

/// Scrubs a body that came compressed and goes on as identity.
pub(super) struct Decoded {
    decoder: Decoder,
    text: Identity,
    failed: Option<ScrubError>,
}

impl Decoded {
    pub(super) fn new(table: Arc<ScrubTable>, events: bool, decoding: &Decoding) -> Self {
        Self { decoder: decoding.output_decoder(), text: Identity::new(table, events), failed: None }
    }

    pub(super) fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), ScrubError> {
        self.failed.map_or(Ok(()), Err)?;
        let Self { decoder, text, .. } = self;
        let fed = decoder.feed(input, &mut |new| {
            text.step(new, out, InPlaceScrubber::advance);
            Ok(())
        });
        fed.inspect_err(|&error| self.failed = Some(error))
    }

    pub(super) fn pause(&mut self, out: &mut Vec<u8>) -> Result<(), ScrubError> {
        self.failed.map_or(Ok(()), Err)?;
        self.text.step(&[], out, InPlaceScrubber::pause);
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ScrubError> {
        self.failed.map_or(Ok(()), Err)?;
        if !self.decoder.may_end() {
            self.failed = Some(ScrubError::Undecodable);
            return Err(ScrubError::Undecodable);
        }
        self.text.step(&[], out, InPlaceScrubber::finish);
        Ok(())
    }

    pub(super) fn held(&self) -> usize {
        self.text.held()
    }

    /// At least one: without a hit it would have gone on as it came. That one may have been in bytes that no decoder gives out.
    pub(super) fn hits(&self) -> u64 {
        self.text.hits().max(1)
    }
}
