//! The forms in which a secret may come back, each a row of byte classes.
//!
//! Escapes are no forms of their own: the matcher reads them wherever they stand, so each form here also counts
//! percent-escaped, JSON-escaped, or half and half.

use zeroize::{Zeroize, Zeroizing};

const RAW: u8 = 0;
const BASE64: u8 = 1;
const HEX: u8 = 2;
/// What a byte outside an alphabet stands for: no value has this bit.
const FOREIGN: u8 = 0x80;

/// The value of each byte under each kind of unit.
static VALUES: [[u8; 256]; 3] = values();

const fn values() -> [[u8; 256]; 3] {
    let mut table = [[FOREIGN; 256]; 3];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        table[RAW as usize][at] = byte;
        table[BASE64 as usize][at] = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => FOREIGN,
        };
        table[HEX as usize][at] = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => FOREIGN,
        };
        at += 1;
    }
    table
}

/// Whether a byte is of an alphabet that encodes: base64's hold the hex digits too.
pub(super) fn encodes(byte: u8) -> bool {
    VALUES[usize::from(BASE64)][usize::from(byte)] != FOREIGN
}

/// One place of a form: the set of bytes that may stand there.
#[derive(Clone, Copy, Zeroize)]
pub(super) struct Unit {
    kind: u8,
    value: u8,
    mask: u8,
}

impl Unit {
    /// Whether `byte` may stand here.
    pub(super) fn matches(self, byte: u8) -> bool {
        VALUES[usize::from(self.kind)][usize::from(byte)] & self.mask == self.value
    }
}

/// One form of one secret, wiped on drop.
pub(super) struct Form(Zeroizing<Vec<Unit>>);

impl Form {
    /// The units in order; never empty.
    pub(super) fn units(&self) -> &[Unit] {
        &self.0
    }

    fn raw(part: &[u8]) -> Self {
        Self::collect(part.len(), part.iter().map(|&value| Unit { kind: RAW, value, mask: 0xff }))
    }

    fn hex(part: &[u8]) -> Self {
        let digits = part.iter().flat_map(|b| [b >> 4, b & 0x0f]);
        Self::collect(part.len() * 2, digits.map(|value| Unit { kind: HEX, value, mask: 0xff }))
    }

    /// The part in base64 where `before` bytes (0, 1 or 2, modulo 3) come before it. A character that it shares with
    /// a neighbour is a unit too, of which only the part's own bits are fixed.
    fn base64(part: &[u8], before: usize) -> Self {
        let own = before * 8..(before + part.len()) * 8;
        let characters = own.start / 6..own.end.div_ceil(6);
        let unit = |character: usize| {
            let (mut value, mut mask) = (0, FOREIGN);
            for bit in character * 6..character * 6 + 6 {
                value <<= 1;
                mask = (mask & FOREIGN) | (mask << 1 & 0x3f);
                if own.contains(&bit) {
                    value |= part[bit / 8 - before] >> (7 - bit % 8) & 1;
                    mask |= 1;
                }
            }
            Unit { kind: BASE64, value, mask }
        };
        Self::collect(characters.len(), characters.map(unit))
    }

    /// Fills memory of the right size from the start, so that no half-filled copy is left behind.
    fn collect(len: usize, units: impl Iterator<Item = Unit>) -> Self {
        let mut form = Zeroizing::new(Vec::with_capacity(len));
        form.extend(units);
        Self(form)
    }

    /// Every form of one part of a secret.
    pub(super) fn all(part: &[u8]) -> [Self; 5] {
        [Self::raw(part), Self::base64(part, 0), Self::base64(part, 1), Self::base64(part, 2), Self::hex(part)]
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    #[test]
    fn base64_at_each_alignment_in_both_alphabets() {
        let part = b"\xfb\xff?>key?with>signs\xff";
        for before in 0..6 {
            for after in 0..4 {
                let whole = [&vec![0xa5; before][..], part, &vec![0x5a; after][..]].concat();
                let form = Form::base64(part, before % 3);
                let from = before / 3 * 4 + (before % 3) * 8 / 6;
                for text in [STANDARD.encode(&whole), URL_SAFE.encode(&whole)] {
                    let matched = form.units().iter().zip(text[from..].bytes()).filter(|(u, b)| u.matches(*b)).count();
                    assert_eq!(matched, form.units().len(), "{before} {after}");
                    let first = form.units()[0];
                    assert!(!first.matches(b'=') && !first.matches(b'%'));
                }
            }
        }
    }

    #[test]
    fn hex_in_either_case() {
        let form = Form::hex(b"\xab\x0f");
        for text in ["ab0f", "AB0F", "aB0F"] {
            assert!(form.units().iter().zip(text.bytes()).all(|(u, b)| u.matches(b)));
        }
        assert!(!form.units()[0].matches(b'b'));
    }
}
