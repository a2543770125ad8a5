//! Finds the forms of a secret in bytes, fast where there are none.
//!
//! **The filter.** Every occurrence is at least as long as the shortest form, so it covers a whole window of
//! [`WINDOW`] bytes out of any row of windows that begin no more than [`Matcher::stride`] bytes apart; only these
//! windows are looked at. A window inside an occurrence holds either the beginning of an escape or, after the tail of
//! one (at most five bytes: `u0041` of `\u0041`), three bytes that are literal units of a form. A window with
//! neither is passed over. Any other is looked at more closely and, if need be, a match is tried from every place from
//! which an occurrence could have this window as its first.
//!
//! The tables hold pieces of the secret. All of them stand in one piece of locked memory, as plain bytes, and are wiped on
//! drop, which no general multi-string matcher does.

use std::collections::BTreeSet;
use std::ops::Range;

use super::escape::{self, Escape};
use super::form::{self, Form, Unit};
use crate::locked::Locked;

/// The length of a window: the longest tail of an escape and a gram.
const WINDOW: usize = TAIL + GRAM;
/// The longest part of an escape after the byte that begins it.
const TAIL: usize = 5;
/// How many literal bytes a window is known by.
const GRAM: usize = 3;
/// The widest stride; wider ones gain little and make the tables of a long secret large.
const WIDEST: usize = 64;
/// The longest escape of one byte, `\u0041`.
const LONGEST_ESCAPE: usize = 6;

/// One bit for each hash of a gram.
const SEEN: usize = (1 << 16) / 8;
/// The tables that are as long for any secret: `seen`, `first` and `any`.
const FIXED: usize = SEEN + 2 * 256 + 256;

/// Three neighbouring units of a form: the hash, the form and the unit, each in two bytes.
type StoredGram = [u8; 6];

#[derive(Clone, Copy)]
struct Gram {
    hash: u16,
    form: u16,
    unit: u16,
}

impl Gram {
    fn read(stored: &StoredGram) -> Self {
        let [h1, h2, f1, f2, u1, u2] = *stored;
        Self { hash: u16::from_ne_bytes([h1, h2]), form: u16::from_ne_bytes([f1, f2]), unit: u16::from_ne_bytes([u1, u2]) }
    }

    fn stored(self) -> StoredGram {
        let ([h1, h2], [f1, f2], [u1, u2]) = (self.hash.to_ne_bytes(), self.form.to_ne_bytes(), self.unit.to_ne_bytes());
        [h1, h2, f1, f2, u1, u2]
    }
}

/// The forms of a secret's parts, and the tables of the filter.
pub(super) struct Matcher {
    /// What [`Tables`] shows.
    memory: Locked,
    /// The units of each form.
    forms: Vec<Range<usize>>,
    /// How many units all forms have.
    units: usize,
    /// The longest occurrence in bytes.
    longest: usize,
    /// How far apart windows begin; 0 where a form is too short for the filter.
    stride: usize,
}

/// The tables of a matcher, as they stand in its memory one after the other.
#[derive(Clone, Copy)]
struct Tables<'a> {
    /// One bit for each hash of a gram.
    seen: &'a [u8; SEEN],
    /// Which forms begin with a byte, one bit each.
    first: &'a [[u8; 2]; 256],
    /// Whether a byte may be a unit of any form, 0 or 1.
    any: &'a [u8; 256],
    /// Of all forms.
    units: &'a [Unit],
    /// In order of hash.
    grams: &'a [StoredGram],
    forms: &'a [Range<usize>],
    stride: usize,
}

/// What a window may be part of.
enum Suspicion {
    None,
    /// It holds no escape, and three units of a form; their hash.
    Literal(u16),
    /// It begins an escape.
    Escape,
}

/// What trying a form at one place came to.
#[derive(Default)]
struct Attempt {
    /// The end of the longest match.
    end: Option<usize>,
    /// Whether more data might make a match, or a longer one.
    cut: bool,
}

impl Matcher {
    /// The matcher of all forms of `parts`, none of which is empty; there are at most three.
    pub(super) fn new(parts: &[&[u8]]) -> Self {
        let all = || parts.iter().flat_map(|part| Form::ALL.map(|form| (form, *part)));
        let mut forms: Vec<Range<usize>> = Vec::new();
        for (form, part) in all() {
            let start = forms.last().map_or(0, |before| before.end);
            forms.push(start..start + form.len(part));
        }
        let units = forms.last().map_or(0, |last| last.end);
        let shortest = forms.iter().map(Range::len).min().unwrap_or_default();
        let longest = forms.iter().map(Range::len).max().unwrap_or_default() * LONGEST_ESCAPE;
        let stride = (shortest + 1).saturating_sub(WINDOW).min(WIDEST);
        // The units first in memory that is only theirs: they say how many grams there are.
        let mut own = Locked::zeroed(units * size_of::<Unit>());
        let (places, _) = own.as_chunks_mut();
        for ((form, part), range) in all().zip(&forms) {
            form.write(part, &mut places[range.clone()]);
        }
        let places: &[Unit] = places;
        let mut grams = 0;
        each_gram(places, &forms, stride, &mut |_| grams += 1);
        let mut memory = Locked::zeroed(FIXED + size_of_val(places) + grams * size_of::<StoredGram>());
        fill(&mut memory, places, &forms, stride, parts);
        Self { memory, forms, units, longest, stride }
    }

    fn tables(&self) -> Tables<'_> {
        let (seen, rest) = self.memory.split_first_chunk().expect("it was made so long");
        let (first, rest) = rest.split_at(FIXED - SEEN - 256);
        let (any, rest) = rest.split_first_chunk().expect("it was made so long");
        let (units, grams) = rest.split_at(self.units * size_of::<Unit>());
        Tables {
            seen,
            first: first.as_chunks().0.first_chunk().expect("it was made so long"),
            any,
            units: units.as_chunks().0,
            grams: grams.as_chunks().0,
            forms: &self.forms,
            stride: self.stride,
        }
    }

    /// The length of the longest occurrence, in bytes, with every byte written as the longest escape.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Looks for occurrences in `data`, of which the windows before `at` have been looked at, and reports the start
    /// and end of each (some more than once). Returns where to go on when there is more data: a window in which
    /// something has begun that the end of the data cuts off is looked at again, unless `at_end`.
    pub(super) fn scan(&self, data: &[u8], at: usize, at_end: bool, found: &mut impl FnMut(usize, usize)) -> usize {
        self.tables().scan(data, at, at_end, found)
    }
}

impl<'a> Tables<'a> {
    fn scan(&self, data: &[u8], mut at: usize, at_end: bool, found: &mut impl FnMut(usize, usize)) -> usize {
        if self.stride == 0 {
            for start in at..data.len() {
                self.try_at(data, start, found);
            }
            return data.len();
        }
        while let Some(window) = data.get(at..).and_then(|rest| rest.first_chunk::<WINDOW>()) {
            let cut = match self.suspicion(data, at, u64::from_le_bytes(*window)) {
                Suspicion::None => false,
                Suspicion::Literal(hash) => self.try_grams(data, at, hash, found),
                Suspicion::Escape => {
                    let from = (at + 1).saturating_sub(self.stride);
                    // Not `any`, which would stop at the first.
                    (from..=at).filter(|&start| self.try_at(data, start, found)).count() > 0
                }
            };
            if cut && !at_end {
                break;
            }
            at += self.stride;
        }
        at
    }

    /// Whether an occurrence may cover the window at `at`.
    #[inline]
    fn suspicion(&self, data: &[u8], at: usize, window: u64) -> Suspicion {
        let introducers = zero_bytes(window ^ repeat(b'%')) | zero_bytes(window ^ repeat(b'\\'));
        if introducers != 0 {
            let escape = self.may_be_escape(data, at + introducers.trailing_zeros() as usize / 8);
            return if escape { Suspicion::Escape } else { Suspicion::None };
        }
        let hash = hash((window >> (8 * TAIL)) as u32);
        if self.seen[usize::from(hash >> 3)] >> (hash & 7) & 1 != 0 { Suspicion::Literal(hash) } else { Suspicion::None }
    }

    /// Whether the first `%` or `\` of a window, at `at`, may be part of an occurrence.
    fn may_be_escape(&self, data: &[u8], at: usize) -> bool {
        let known = |byte: u8| self.any[usize::from(byte)] != 0;
        // As itself, or as the second half of `\\`.
        if known(data[at]) {
            return true;
        }
        match escape::read(data, at) {
            Escape::Cut => true,
            Escape::None => escape::is_low_surrogate(data, at),
            Escape::Read(one, two) => std::iter::once(one).chain(two).any(|reading| known(reading.bytes()[0])),
        }
    }

    /// Tries what the window at `at`, which begins no escape and whose gram has this hash, may be part of; says whether the end of the
    /// data cut something off.
    ///
    /// Little is done where nothing is found: how long it takes is what an agent could tell a right guess by that it has sent back.
    #[cold]
    fn try_grams(&self, data: &[u8], at: usize, hash: u16, found: &mut impl FnMut(usize, usize)) -> bool {
        let from = (at + 1).saturating_sub(self.stride);
        // Without an escape before it all is literal from the beginning on, and the gram's unit says where that is.
        let escapes = data[from..at].iter().any(|&b| escape::introduces(b));
        let tail = escapes && data[at.saturating_sub(TAIL)..at].iter().any(|&b| escape::introduces(b));
        let begin = self.grams.partition_point(|gram| Gram::read(gram).hash < hash);
        let (mut cut, mut tried) = (false, 0);
        for gram in self.grams[begin..].iter().map(Gram::read).take_while(|gram| gram.hash == hash) {
            let (form, unit) = (self.form(usize::from(gram.form)), usize::from(gram.unit));
            let (first, length) = if tail { (Some(unit), GRAM) } else { (unit.checked_sub(TAIL), WINDOW) };
            let bytes = &data[at + WINDOW - length..at + WINDOW];
            let Some(first) = first.filter(|&first| form[first..].iter().zip(bytes).all(|(u, &b)| form::matches(*u, b))) else { continue };
            let bit = 1u16 << gram.form;
            if escapes && tried & bit != 0 {
                continue;
            }
            if escapes {
                // One look ahead before all the places that it may have begun at: a few right letters must not cost what a hit does.
                let rest = attempt(&form[first..], data, at + WINDOW - length);
                if rest.end.is_none() && !rest.cut {
                    continue;
                }
            }
            tried |= bit;
            let starts = if escapes { from..at + 1 } else { at.saturating_sub(first)..(at + 1).saturating_sub(first) };
            for start in starts {
                let attempt = attempt(form, data, start);
                cut |= attempt.cut;
                if let Some(end) = attempt.end {
                    found(start, end);
                }
            }
        }
        cut
    }

    /// The units of a form; never none.
    fn form(&self, index: usize) -> &'a [Unit] {
        &self.units[self.forms[index].clone()]
    }

    /// Which forms begin with a byte.
    fn beginning(&self, byte: u8) -> u16 {
        u16::from_ne_bytes(self.first[usize::from(byte)])
    }

    /// Tries the forms that may begin at `start`; says whether the end of the data cut one off.
    fn try_at(&self, data: &[u8], start: usize, found: &mut impl FnMut(usize, usize)) -> bool {
        let mut forms = self.beginning(data[start]);
        if escape::introduces(data[start]) {
            forms |= match escape::read(data, start) {
                Escape::None => 0,
                Escape::Cut => u16::MAX,
                Escape::Read(one, two) => std::iter::once(one).chain(two).fold(0, |bits, reading| bits | self.beginning(reading.bytes()[0])),
            };
        }
        let mut cut = false;
        for index in (0..self.forms.len()).filter(|index| forms >> index & 1 != 0) {
            let attempt = attempt(self.form(index), data, start);
            cut |= attempt.cut;
            if let Some(end) = attempt.end {
                found(start, end);
            }
        }
        cut
    }
}

/// Follows one form from `start`. Where a byte can be read both as itself and as an escape, both ways are followed,
/// in order of units, so that ways which meet again are followed once.
fn attempt(units: &[Unit], data: &[u8], start: usize) -> Attempt {
    let mut result = Attempt::default();
    let mut others: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut place = Some((0, start));
    loop {
        if !others.is_empty() {
            others.extend(place.take());
            place = others.pop_first();
        }
        let Some((unit, at)) = place.take() else { break };
        if unit == units.len() {
            result.end = result.end.max(Some(at));
            continue;
        }
        let Some(&byte) = data.get(at) else {
            result.cut = true;
            continue;
        };
        if form::matches(units[unit], byte) {
            place = Some((unit + 1, at + 1));
        }
        if escape::introduces(byte) {
            match escape::read(data, at) {
                Escape::None => {}
                Escape::Cut => result.cut = true,
                Escape::Read(one, two) => {
                    for reading in std::iter::once(one).chain(two) {
                        let bytes = reading.bytes();
                        let fits = units.len() - unit >= bytes.len() && units[unit..].iter().zip(bytes).all(|(u, &b)| form::matches(*u, b));
                        if fits {
                            others.extend(place.replace((unit + bytes.len(), at + usize::from(reading.length))));
                        }
                    }
                }
            }
        }
    }
    result
}

/// Fills a matcher's memory, which is of the right size, in the order that [`Matcher::tables`] reads.
fn fill(memory: &mut [u8], own: &[Unit], forms: &[Range<usize>], stride: usize, parts: &[&[u8]]) {
    let (seen, rest) = memory.split_at_mut(SEEN);
    let (first, rest) = rest.split_at_mut(FIXED - SEEN - 256);
    let (any, rest) = rest.split_at_mut(256);
    let (units, grams) = rest.split_at_mut(size_of_val(own));
    for byte in 0..=u8::MAX {
        let at = usize::from(byte);
        let begin = forms.iter().rev().fold(0, |bits: u16, form| bits << 1 | u16::from(form::matches(own[form.start], byte)));
        first[2 * at..2 * at + 2].copy_from_slice(&begin.to_ne_bytes());
        any[at] = u8::from(form::encodes(byte) || parts.iter().any(|part| part.contains(&byte)));
    }
    units.copy_from_slice(own.as_flattened());
    let grams: &mut [StoredGram] = grams.as_chunks_mut().0;
    let mut places = grams.iter_mut();
    each_gram(own, forms, stride, &mut |gram| {
        seen[usize::from(gram.hash >> 3)] |= 1 << (gram.hash & 7);
        // As many as were counted.
        if let Some(place) = places.next() {
            *place = gram.stored();
        }
    });
    grams.sort_unstable_by_key(|gram| Gram::read(gram).hash);
}

/// Calls `with` for every spelling of every gram that the first window of an occurrence may show; for none, where there is no
/// filter. A first window begins less than `stride` bytes into its occurrence, and an occurrence has no more units than bytes.
fn each_gram(units: &[Unit], forms: &[Range<usize>], stride: usize, with: &mut impl FnMut(Gram)) {
    let forms = if stride == 0 { &[] } else { forms };
    for (form, units) in forms.iter().map(|form| &units[form.clone()]).enumerate() {
        for (unit, gram) in units.windows(GRAM).take(stride + TAIL).enumerate() {
            let spellings = |place: usize| (0..=u8::MAX).filter(move |&b| form::matches(gram[place], b)).map(u32::from);
            for one in spellings(0) {
                for two in spellings(1) {
                    for three in spellings(2) {
                        // Both are small: a few forms, and `unit` under `WIDEST + TAIL`.
                        with(Gram { hash: hash(one | two << 8 | three << 16), form: form as u16, unit: unit as u16 });
                    }
                }
            }
        }
    }
}

#[inline]
fn hash(gram: u32) -> u16 {
    (gram.wrapping_mul(0x9e37_79b1) >> 16) as u16
}

const fn repeat(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The top bit of each byte of `word` that is zero; bits above the lowest such may be wrong.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(repeat(1)) & !word & repeat(0x80)
}
