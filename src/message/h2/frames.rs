//! The frames of one connection, as they pass by (RFC 9113 4.1): how many there are of those that carry nothing, and which streams
//! `h2` refused by itself. `h2` bounds what it holds, not how often it is made to work for nothing.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::{Duration, Instant};

/// What a client sends first (RFC 9113 3.4).
const PREFACE: usize = 24;
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// What frames without content may cost in a row: as much as a hundred busy streams need at once, and a moment's work.
const MOST: u32 = 10_000;
/// What is forgiven in a second.
const FORGIVEN: u32 = 200;
/// What each frame that goes the other way forgives, since it may be answered: by an acknowledgement, by room for more.
const PER_FRAME: u32 = 4;
/// So many bytes of content that go the other way forgive one more.
const PER_BYTES: u32 = 512;
/// What a reset costs: its request was read, decided on, perhaps sent.
const RESET: u32 = 10;
/// What a request forgives its origin: an answer's head of usual size, interim ones among it, and trailers.
const PER_REQUEST: u32 = 64;
/// So many streams that were refused, or never opened, are remembered.
const REMEMBERED: usize = 64;

/// One frame's head; of `RST_STREAM` the code too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    length: u32,
    code: u32,
}

/// Finds the frames in one direction's bytes, however they are cut.
#[derive(Debug)]
struct Walk {
    /// The head of the next frame, and the code behind it.
    head: [u8; HEAD + 4],
    have: usize,
    /// Bytes that are nobody's head.
    skip: usize,
}

impl Walk {
    fn new(skip: usize) -> Self {
        Self { head: [0; HEAD + 4], have: 0, skip }
    }

    fn walk(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted = if self.have >= HEAD { HEAD + 4 } else { HEAD };
            let taken = (wanted - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < wanted {
                return;
            }
            let number = |at: usize| u32::from_be_bytes([self.head[at], self.head[at + 1], self.head[at + 2], self.head[at + 3]]);
            let (length, kind) = (number(0) >> 8, self.head[3]);
            if kind == RST_STREAM && length == 4 && wanted == HEAD {
                continue;
            }
            let code = if self.have > HEAD { number(HEAD) } else { 0 };
            each(Frame { kind, flags: self.head[4], stream: number(5) & 0x7fff_ffff, length, code });
            self.skip = if self.have > HEAD { 0 } else { length as usize };
            self.have = 0;
        }
    }
}

/// How many frames came that carry nothing, and what they were answered with.
#[derive(Debug)]
pub struct Frames {
    came: Walk,
    went: Walk,
    spent: u32,
    forgiven: Option<Instant>,
    /// Heads cost by their size, too: those of an agent are bounded with its streams, those of an origin by nothing else.
    heads_cost: bool,
    /// The last stream that was taken from `h2`, and those before it that never were.
    taken: u32,
    gaps: VecDeque<u32>,
    /// Streams that were told of already.
    told: VecDeque<u32>,
    refused: Vec<Refused>,
}

/// A stream that `h2` answered or reset by itself, because of how it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its head was too large: 431.
    TooLarge,
    /// There were too many streams: REFUSED_STREAM.
    TooMany,
    /// Its head, or what followed it at once, breaks the protocol.
    Malformed,
}

impl Frames {
    /// Those of an agent's connection, from its preface on.
    #[must_use]
    pub fn of_agent() -> Self {
        Self::new(PREFACE, 0)
    }

    /// Those of a connection to an origin, from our preface on.
    #[must_use]
    pub fn of_origin() -> Self {
        // All streams are ours.
        Self { taken: u32::MAX, heads_cost: true, ..Self::new(0, PREFACE) }
    }

    fn new(came: usize, went: usize) -> Self {
        let (gaps, told) = (VecDeque::new(), VecDeque::new());
        Self { came: Walk::new(came), went: Walk::new(went), spent: 0, forgiven: None, heads_cost: false, taken: 0, gaps, told, refused: Vec::new() }
    }

    /// Looks at bytes that came. Says whether the peer goes too far: an honest one never does.
    pub fn came(&mut self, bytes: &[u8], now: Instant) -> bool {
        let since = now.saturating_duration_since(*self.forgiven.get_or_insert(now));
        if since >= Duration::from_secs(1) {
            self.spent = self.spent.saturating_sub(FORGIVEN.saturating_mul(u32::try_from(since.as_secs()).unwrap_or(u32::MAX)));
            self.forgiven = Some(now);
        }
        let (spent, heads_cost) = (&mut self.spent, self.heads_cost);
        self.came.walk(bytes, |frame| {
            *spent += match frame.kind {
                HEADERS | CONTINUATION if heads_cost => 1 + frame.length / PER_BYTES,
                HEADERS => 0,
                DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => 0,
                RST_STREAM => RESET,
                _ => 1,
            }
        });
        self.spent > MOST
    }

    /// Looks at bytes that went.
    pub fn went(&mut self, bytes: &[u8]) {
        let per_head = if self.heads_cost { PER_REQUEST } else { 0 };
        let (spent, taken, gaps, told, refused) = (&mut self.spent, self.taken, &mut self.gaps, &mut self.told, &mut self.refused);
        self.went.walk(bytes, |frame| {
            if matches!(frame.kind, DATA | HEADERS) {
                *spent = spent.saturating_sub(PER_FRAME + frame.length / PER_BYTES);
            }
            if frame.kind == HEADERS {
                *spent = spent.saturating_sub(per_head);
            }
            let ours = frame.stream <= taken && !gaps.contains(&frame.stream);
            if !matches!(frame.kind, HEADERS | RST_STREAM) || ours || told.contains(&frame.stream) {
                return;
            }
            remember(told, frame.stream);
            if refused.len() < REMEMBERED {
                refused.push(match (frame.kind, frame.code) {
                    (HEADERS, _) => Refused::TooLarge,
                    (_, 7) => Refused::TooMany,
                    _ => Refused::Malformed,
                });
            }
        });
    }

    /// Looks at the first `sent` bytes of several pieces that went.
    pub fn went_of(&mut self, pieces: &[IoSlice<'_>], mut sent: usize) {
        for piece in pieces {
            let of_piece = sent.min(piece.len());
            self.went(&piece[..of_piece]);
            sent -= of_piece;
        }
    }

    /// A request was taken from `h2`: what is said on its stream is ours.
    pub fn taken(&mut self, stream: u32) {
        let from = (self.taken + 1).max(stream.saturating_sub(2 * REMEMBERED as u32)) | 1;
        for gap in (from..stream).step_by(2) {
            remember(&mut self.gaps, gap);
        }
        self.taken = self.taken.max(stream);
    }

    /// The streams that `h2` refused since this was asked last. What a flood of them is more than [`REMEMBERED`] at once is not told.
    pub fn refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }
}

fn remember(streams: &mut VecDeque<u32>, stream: u32) {
    if streams.len() == REMEMBERED {
        streams.pop_front();
    }
    streams.push_back(stream);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let all =
            [vec![b'P'; PREFACE], frame(4, 0, 0, &[]), frame(RST_STREAM, 0, 5, &[0, 0, 0, 7]), frame(DATA, 1, 3, b"abc"), frame(6, 0, 0, &[0; 8])]
                .concat();
        for step in 1..all.len() {
            let (mut walk, mut found) = (Walk::new(PREFACE), Vec::new());
            all.chunks(step).for_each(|part| walk.walk(part, |f| found.push((f.kind, f.flags, f.stream, f.length, f.code))));
            assert_eq!(found, [(4, 0, 0, 0, 0), (3, 0, 5, 4, 7), (0, 1, 3, 3, 0), (6, 0, 0, 8, 0)], "{step}");
        }
    }

    #[test]
    fn what_carries_nothing_is_counted_and_forgiven() {
        let (mut frames, now) = (Frames::of_origin(), Instant::now());
        let ping = frame(6, 0, 0, &[0; 8]);
        let most = MOST as usize;
        assert!(!frames.came(&ping.repeat(most), now));
        assert!(frames.came(&ping, now));
        assert!(!frames.came(&ping, now + Duration::from_secs(1)));
        // What goes out may be acknowledged, frame by frame and for its bytes.
        frames.went(&[&[0; PREFACE][..], &frame(HEADERS, 0, 1, b"x")].concat());
        for _ in 0..100_000 {
            frames.went(&frame(DATA, 0, 1, &[0; 2048]));
            assert!(!frames.came(&ping.repeat(8), now));
        }
        // Content costs nothing, an end without content neither, an empty piece does.
        assert!(!frames.came(&frame(DATA, 0, 1, b"x").repeat(2 * most), now));
        assert!(!frames.came(&frame(DATA, END_STREAM, 1, &[]).repeat(2 * most), now));
        assert!(frames.came(&frame(DATA, 0, 1, &[]).repeat(most + 1), now));
        // Heads that nobody asked for cost by their size; those of answers do not.
        let mut frames = Frames::of_origin();
        frames.went(&[0; PREFACE]);
        for _ in 0..10_000 {
            frames.went(&frame(HEADERS, 5, 1, b"x"));
            assert!(!frames.came(&frame(HEADERS, 5, 1, &[0; 16 << 10]), now));
        }
        assert!(frames.came(&frame(HEADERS, 4, 1, &[0; 16 << 10]).repeat(400), now));
        let mut frames = Frames::of_origin();
        assert!(frames.came(&frame(RST_STREAM, 0, 1, &[0; 4]).repeat(most / 10 + 1), now));
    }

    #[test]
    fn what_h2_refuses_by_itself_is_told_once() {
        let mut frames = Frames::of_agent();
        let reset = |stream: u32, code: u8| frame(RST_STREAM, 0, stream, &[0, 0, 0, code]);
        // 1 is ours; 3 had a head that is too large; 5 was malformed; 7 was one too many; 9 is ours, and 11 skipped.
        frames.taken(1);
        frames.went(&[frame(HEADERS, 4, 1, b"x"), frame(HEADERS, 5, 3, b"x"), reset(3, 7), reset(5, 1)].concat());
        frames.taken(9);
        frames.went(&[reset(7, 7), reset(9, 8), reset(5, 1)].concat());
        assert_eq!(frames.refused(), [Refused::TooLarge, Refused::Malformed, Refused::TooMany]);
        frames.taken(13);
        frames.went(&[reset(1, 8), reset(13, 8), frame(HEADERS, 5, 13, b"x")].concat());
        assert_eq!(frames.refused(), []);
        frames.taken(i32::MAX.cast_unsigned());
        assert!(frames.gaps.len() <= REMEMBERED);
    }
}
