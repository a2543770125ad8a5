//! Secrets, and bodies that hold them in any of their forms.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keyhatch::credential::{Presentation, Secret};
use keyhatch::message::scrub::ScrubTable;

use super::input::Input;

/// No body of these tests is longer: the reference is slow.
pub const LONGEST_BODY: usize = 1500;

/// A secret as it is presented, and the parts of it that bodies must not show.
pub struct Hidden {
    pub whole: Vec<u8>,
    pub basic: bool,
}

impl Hidden {
    /// One of a few, or one that the input spells. None holds `%` or `\`, which the reference reads as escapes alone, nor `*`, the mark.
    pub fn read(input: &mut Input<'_>) -> Self {
        let chosen = input.byte();
        let whole: &[u8] = match chosen % 6 {
            0 => b"sk-or-v1-t?st>/0001~key",
            1 => b"aaaaaaaaaaaaaaaaaa",
            2 => b"abababababababababab",
            3 => b"0000000000000000",
            4 => b"someone:correct-horse-battery",
            _ => {
                let len = 16 + usize::from(input.byte()) % 24;
                let letter =
                    |b: &u8| if b.is_ascii_graphic() && !b"%\\*".contains(b) { *b } else { b"ABCDEFGHabcdefgh01234567-_./+=:x"[usize::from(b % 32)] };
                let mut own: Vec<u8> = input.take(len).iter().map(letter).collect();
                own.resize(len, b'x');
                return Self { whole: own, basic: chosen & 0x40 != 0 };
            }
        };
        Self { whole: whole.to_vec(), basic: chosen % 6 == 4 }
    }

    pub fn table(&self) -> Arc<ScrubTable> {
        table(&self.whole, self.basic)
    }

    /// The parts that are scrubbed from bodies: the whole, and of a pair the password (the user where that is empty), from 16 bytes.
    pub fn parts(&self) -> Vec<&[u8]> {
        let colon = self.whole.iter().position(|b| *b == b':').filter(|_| self.basic);
        let inner = colon.map(|at| if at + 1 < self.whole.len() { &self.whole[at + 1..] } else { &self.whole[..at] });
        [Some(self.whole.as_slice()), inner].into_iter().flatten().filter(|part| part.len() >= 16).collect()
    }

    /// A body of which some bytes stand for a form of the secret, or for a piece of one, so that a small change of the input makes a
    /// body that is nearly right.
    pub fn body(&self, template: &[u8]) -> Vec<u8> {
        let (whole, mut out) = (&self.whole, Vec::new());
        let half = whole.len() / 2;
        for &byte in template {
            match byte {
                0x01 => out.extend_from_slice(whole),
                0x02 => out.extend(STANDARD.encode(whole).into_bytes()),
                0x03 => out.extend(STANDARD.encode([b"x", &whole[..]].concat()).into_bytes()),
                0x04 => out.extend(URL_SAFE_NO_PAD.encode([b"yz", &whole[..], b"!"].concat()).into_bytes()),
                0x05 => out.extend(whole.iter().flat_map(|b| format!("{b:02x}").into_bytes())),
                0x06 => out.extend(whole.iter().flat_map(|b| format!("{b:02X}").into_bytes())),
                0x07 => out.extend(whole.iter().flat_map(|b| format!("%{b:02X}").into_bytes())),
                0x08 => out.extend(whole.iter().flat_map(|b| format!("\\u{b:04x}").into_bytes())),
                0x0b => out.extend_from_slice(&whole[..half]),
                0x0c => out.extend_from_slice(&whole[half..]),
                0x0e => out.extend(whole.iter().enumerate().flat_map(|(i, b)| if i % 3 == 1 { format!("%{b:02x}").into_bytes() } else { vec![*b] })),
                0x0f => out.extend(URL_SAFE_NO_PAD.encode(&whole[..half]).into_bytes()),
                byte => out.push(byte),
            }
        }
        out.truncate(LONGEST_BODY);
        out
    }
}

pub fn table(whole: &[u8], basic: bool) -> Arc<ScrubTable> {
    let presentation = if basic { Presentation::Basic } else { Presentation::Bearer };
    Arc::new(ScrubTable::new(&Secret::from_opened(whole), &presentation))
}
