//! The forms in which a secret may come back, each a row of byte classes.
//!
//! Escapes are no forms of their own: the matcher reads them wherever they stand, so each form here also counts
//! percent-escaped, JSON-escaped, or half and half.

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

/// One place of a form: the set of bytes that may stand there, as a kind, a value and a mask. Bytes, so that they can stand
/// in memory that is set aside for secrets.
pub(super) type Unit = [u8; 3];

/// Whether `byte` may stand there.
pub(super) fn matches([kind, value, mask]: Unit, byte: u8) -> bool {
    VALUES[usize::from(kind)][usize::from(byte)] & mask == value
}

/// One of the forms of a part.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Raw,
    /// Where so many bytes (0, 1 or 2, modulo 3) come before it.
    Base64(usize),
    Hex,
}

impl Form {
    /// Every form of one part of a secret.
    pub(super) const ALL: [Self; 5] = [Self::Raw, Self::Base64(0), Self::Base64(1), Self::Base64(2), Self::Hex];

    /// How many units it has; never none.
    pub(super) fn len(self, part: &[u8]) -> usize {
        match self {
            Self::Raw => part.len(),
            Self::Base64(before) => characters(part, before).len(),
            Self::Hex => part.len() * 2,
        }
    }

    /// Writes the units in order.
    pub(super) fn write(self, part: &[u8], out: &mut [Unit]) {
        match self {
            Self::Raw => fill(out, part.iter().map(|&value| [RAW, value, 0xff])),
            Self::Base64(before) => base64(part, before, out),
            Self::Hex => fill(out, part.iter().flat_map(|b| [b >> 4, b & 0x0f]).map(|value| [HEX, value, 0xff])),
        }
    }
}

fn fill(out: &mut [Unit], units: impl Iterator<Item = Unit>) {
    out.iter_mut().zip(units).for_each(|(place, unit)| *place = unit);
}

/// The characters of base64 that hold bits of the part.
fn characters(part: &[u8], before: usize) -> std::ops::Range<usize> {
    before * 8 / 6..((before + part.len()) * 8).div_ceil(6)
}

/// The part in base64 where `before` bytes come before it. A character that it shares with a neighbour is a unit too, of
/// which only the part's own bits are fixed.
fn base64(part: &[u8], before: usize, out: &mut [Unit]) {
    let own = before * 8..(before + part.len()) * 8;
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
        [BASE64, value, mask]
    };
    fill(out, characters(part, before).map(unit));
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    fn units(form: Form, part: &[u8]) -> Vec<Unit> {
        let mut units = vec![[0; 3]; form.len(part)];
        form.write(part, &mut units);
        units
    }

    #[test]
    fn base64_at_each_alignment_in_both_alphabets() {
        let part = b"\xfb\xff?>key?with>signs\xff";
        for before in 0..6 {
            for after in 0..4 {
                let whole = [&vec![0xa5; before][..], part, &vec![0x5a; after][..]].concat();
                let form = units(Form::Base64(before % 3), part);
                let from = before / 3 * 4 + (before % 3) * 8 / 6;
                for text in [STANDARD.encode(&whole), URL_SAFE.encode(&whole)] {
                    let matched = form.iter().zip(text[from..].bytes()).filter(|(u, b)| matches(**u, *b)).count();
                    assert_eq!(matched, form.len(), "{before} {after}");
                    assert!(!matches(form[0], b'=') && !matches(form[0], b'%'));
                }
            }
        }
    }

    #[test]
    fn hex_in_either_case() {
        let form = units(Form::Hex, b"\xab\x0f");
        for text in ["ab0f", "AB0F", "aB0F"] {
            assert!(form.iter().zip(text.bytes()).all(|(u, b)| matches(*u, b)));
        }
        assert!(!matches(form[0], b'b'));
    }
}
