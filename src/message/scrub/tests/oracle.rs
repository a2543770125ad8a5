//! The slow reference: decodes the whole body from every place, and looks there.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A small deterministic generator (xorshift64*).
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// The bytes that `body[from..]` decodes to, escapes undone, with the end of each in the body; at most `limit`.
fn unescape(body: &[u8], from: usize, limit: usize) -> Vec<(u8, usize)> {
    let mut out = Vec::new();
    let mut at = from;
    let digits = |from: usize, count: usize| {
        let text = std::str::from_utf8(body.get(from..from + count)?).ok().filter(|t| t.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u8::try_from(u32::from_str_radix(text, 16).ok()?).ok()
    };
    while at < body.len() && out.len() < limit {
        let (byte, length) = match (body[at], body.get(at + 1)) {
            (b'%', _) => digits(at + 1, 2).map_or((b'%', 1), |byte| (byte, 3)),
            (b'\\', Some(b'u')) => digits(at + 2, 4).map_or((b'\\', 1), |byte| (byte, 6)),
            (b'\\', Some(&byte @ (b'"' | b'\\' | b'/'))) => (byte, 2),
            (byte, _) => (byte, 1),
        };
        at += length;
        out.push((byte, at));
    }
    out
}

fn holds(decoded: &[(u8, usize)], part: &[u8]) -> Vec<usize> {
    let n = part.len();
    let mut ends = Vec::new();
    let bytes: Vec<u8> = decoded.iter().map(|&(byte, _)| byte).collect();
    if bytes.starts_with(part) {
        ends.push(decoded[n - 1].1);
    }
    let digit = |at: usize| bytes.get(at).and_then(|&b| char::from(b).to_digit(16));
    let hex: Option<Vec<u32>> = (0..n).map(|i| Some(digit(2 * i)? * 16 + digit(2 * i + 1)?)).collect();
    if hex.is_some_and(|hex| hex.iter().zip(part).all(|(&value, &byte)| value == u32::from(byte))) {
        ends.push(decoded[2 * n - 1].1);
    }
    for before in 0..3 {
        let skipped = before * 8 / 6;
        let own = ((before + n) * 8).div_ceil(6) - skipped;
        let Some(text) = bytes.get(..own) else { continue };
        let standard = text.iter().map(|&b| {
            if b == b'-' {
                b'+'
            } else if b == b'_' {
                b'/'
            } else {
                b
            }
        });
        let mut text: Vec<u8> = std::iter::repeat_n(b'A', skipped).chain(standard).collect();
        text.resize(text.len().next_multiple_of(4), b'A');
        if STANDARD.decode(&text).is_ok_and(|plain| plain[before..].starts_with(part)) {
            ends.push(decoded[own - 1].1);
        }
    }
    ends
}

/// Where `body` holds a form of a part, in any mixture of escapes. Exact for parts without `%` and `\`.
pub(super) fn spans(body: &[u8], parts: &[&[u8]]) -> Vec<Range<usize>> {
    let limit = parts.iter().map(|part| part.len() * 2 + 4).max().unwrap_or_default();
    let at = |start: usize| {
        let decoded = unescape(body, start, limit);
        parts.iter().flat_map(|part| holds(&decoded, part)).map(|end| start..end).collect::<Vec<_>>()
    };
    (0..body.len()).flat_map(at).collect()
}

/// `body` with all of that masked.
pub(super) fn scrub(body: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut out = body.to_vec();
    for span in spans(body, parts) {
        out[span].fill(b'*');
    }
    out
}
