//! How a target reads its input: a few bytes that choose, then the bytes that are parsed.

/// What is left of an input.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// The next `len` bytes, or fewer at the end.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        front
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// `data` in pieces, as a connection could bring it: whole for 0, byte by byte for 1, else by chance, which `seed` fixes.
pub fn pieces(data: &[u8], seed: u8) -> Vec<&[u8]> {
    let mut chance = Chance::new(seed);
    let mut out = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let len = match seed {
            0 => rest.len(),
            1 => 1,
            // Mostly small ones, for that is where borders matter.
            _ => {
                let most = if chance.below(4) == 0 { 600 } else { 9 };
                1 + chance.below(most)
            }
        };
        let (piece, after) = rest.split_at(len.min(rest.len()));
        out.push(piece);
        rest = after;
    }
    out
}

/// A small deterministic generator (xorshift64*).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u8) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (u64::from(seed) << 32 | 1))
    }

    /// A number under `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// The byte that two hex digits at `at` stand for.
pub fn hex_pair(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    Some((digit(at)? * 16 + digit(at + 1)?) as u8)
}

/// Percent-escapes undone once; what is malformed stays.
pub fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match (text[at], hex_pair(text, at + 1)) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}
