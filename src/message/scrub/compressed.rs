//! Scrubs compressed bodies: they are scanned as decoded, and pass on exactly as they came while they are clean.

use std::collections::VecDeque;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::decode::Decoder;
use super::events::Events;
use super::scan::Scanner;
use super::{Decoding, ScrubError, ScrubTable};

/// Input is decoded in slices of this many bytes; a slice is what goes or stays.
const SLICE: usize = 512;
/// The most that is held of what came. zstd's blocks, the longest that give nothing out before they are whole, have 128 KiB at most;
/// what waits for longer is not there to be read.
const MOST_HELD: usize = 1 << 20;

/// A slice of the input that is still held.
struct Slice {
    /// Where it ends, counted in bytes that came.
    end: u64,
    /// How many bytes had been made when more had been decoded than it (the last symbol of a slice may end in the next one), once
    /// no half-read block stands in between.
    made: Option<u64>,
}

/// Scrubs one compressed body. A slice goes once all that it decodes to is decided.
///
/// The bytes are also scanned as they come, since a coding may carry bytes that no decoder gives out: a file name
/// in gzip's head, a metadata block, a skippable frame.
pub(super) struct CompressedScrubber {
    decoder: Decoder,
    events: Option<Events>,
    /// Looks at what is decoded; `decoded` is what is not decided of it.
    inside: Scanner,
    decoded: Zeroizing<Vec<u8>>,
    made: u64,
    /// Looks at what came; `held` is what has not gone of it.
    outside: Scanner,
    held: Zeroizing<Vec<u8>>,
    came: u64,
    slices: VecDeque<Slice>,
    /// The last place at which nothing was half read.
    settled: u64,
    failed: Option<ScrubError>,
}

impl CompressedScrubber {
    pub(super) fn new(table: Arc<ScrubTable>, events: bool, decoding: &Decoding) -> Self {
        Self {
            decoder: decoding.decoder(),
            events: events.then(Events::new),
            inside: Scanner::new(table.clone()),
            decoded: Zeroizing::default(),
            made: 0,
            outside: Scanner::new(table),
            held: Zeroizing::default(),
            came: 0,
            slices: VecDeque::new(),
            settled: 0,
            failed: None,
        }
    }

    pub(super) fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), ScrubError> {
        self.guard(|this| {
            this.take(input)?;
            let decided = this.made - this.decoded.len() as u64;
            let mut end = this.came - this.held.len() as u64;
            while let Some(slice) = this.slices.front()
                && slice.made.is_some_and(|made| made <= decided)
            {
                end = slice.end;
                this.slices.pop_front();
            }
            // An event has ended here, and nothing is half read: all goes. Else the constant is held of what came, too.
            let at_rest = this.events.is_some() && this.decoded.is_empty() && this.settled == this.came;
            if at_rest {
                this.slices.clear();
                end = this.came;
            } else {
                end = end.min(this.came.saturating_sub(this.outside.hold_back() as u64));
            }
            this.go(end, at_rest, out);
            Ok(())
        })
    }

    pub(super) fn pause(&mut self, out: &mut Vec<u8>) -> Result<(), ScrubError> {
        self.guard(|this| {
            this.go(this.settled, true, out);
            Ok(())
        })
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ScrubError> {
        self.guard(|this| {
            if !this.decoder.may_end() {
                return Err(ScrubError::Undecodable);
            }
            this.inside.look(&this.decoded, true);
            this.outside.look(&this.held, true);
            this.check()?;
            this.go(this.came, false, out);
            Ok(())
        })
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn hits(&self) -> u64 {
        self.inside.hits() + self.outside.hits()
    }

    /// What came and has not gone.
    pub(super) fn into_held(self) -> Zeroizing<Vec<u8>> {
        self.held
    }

    /// Once a body has failed, it stays so.
    fn guard(&mut self, step: impl FnOnce(&mut Self) -> Result<(), ScrubError>) -> Result<(), ScrubError> {
        self.failed.map_or(Ok(()), Err)?;
        step(self).inspect_err(|&error| self.failed = Some(error))
    }

    /// Decodes and looks.
    fn take(&mut self, input: &[u8]) -> Result<(), ScrubError> {
        self.held.extend_from_slice(input);
        self.outside.look(&self.held, false);
        self.check()?;
        if self.held.len() > MOST_HELD + input.len() {
            return Err(ScrubError::Expansion);
        }
        for slice in input.chunks(SLICE) {
            let Self { decoder, inside, decoded, made, events, .. } = self;
            decoder.feed(slice, &mut |new| {
                *made += new.len() as u64;
                let before = decoded.len();
                decoded.extend_from_slice(new);
                inside.look(decoded, false);
                if inside.hits() > 0 {
                    return Err(ScrubError::Hit);
                }
                let ended = events.as_mut().and_then(|events| events.last_end(new)).map_or(0, |end| before + end);
                let decided = decoded.len().saturating_sub(inside.hold_back()).max(ended);
                inside.forget(decided);
                decoded.drain(..decided);
                Ok(())
            })?;
            self.came += slice.len() as u64;
            let settled = self.decoder.settled();
            self.settled = settled.came;
            let undecided = self.slices.iter_mut().rev().take_while(|slice| slice.made.is_none());
            undecided.filter(|slice| slice.end <= settled.came).for_each(|slice| slice.made = Some(settled.made));
            self.slices.push_back(Slice { end: self.came, made: None });
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ScrubError> {
        if self.hits() > 0 { Err(ScrubError::Hit) } else { Ok(()) }
    }

    /// Lets what came go, up to `end`.
    fn go(&mut self, end: u64, paused: bool, out: &mut Vec<u8>) {
        let gone = self.came - self.held.len() as u64;
        let count = usize::try_from(end.saturating_sub(gone)).map_or(self.held.len(), |count| count.min(self.held.len()));
        out.extend_from_slice(&self.held[..count]);
        if paused {
            self.outside.pause(&mut self.held[..count]);
        } else {
            self.outside.forget(count);
        }
        self.held.drain(..count);
    }
}
