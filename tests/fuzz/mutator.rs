//! Changes kept inputs, by chance that a seed fixes.

/// No input grows longer.
const LONGEST: usize = 4096;

/// What bytes are often changed to: ends of ranges, and what parsers split at.
const TELLING: &[u8] = b"\x00\x01\x7f\x80\xff\r\n \t:;,./\\%&=?#@*[]\"'0aAzZ-_";

pub(super) struct Mutator {
    state: u64,
    corpus: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    pub(super) fn new(seed: u64, corpus: Vec<Vec<u8>>, words: Vec<Vec<u8>>) -> Self {
        Self { state: seed | 1, corpus, words }
    }

    /// A kept input with a few changes.
    pub(super) fn next(&mut self) -> Vec<u8> {
        let mut out = self.kept().to_vec();
        for _ in 0..=self.below(5) {
            self.change(&mut out);
        }
        out.truncate(LONGEST);
        out
    }

    fn change(&mut self, out: &mut Vec<u8>) {
        let at = self.below(out.len() + 1);
        let len = self.below(1 + (out.len() - at).min(24));
        match self.below(9) {
            0 if at < out.len() => out[at] ^= 1 << self.below(8),
            1 if at < out.len() => out[at] = self.below(256) as u8,
            2 if at < out.len() => out[at] = TELLING[self.below(TELLING.len())],
            3 => out.insert(at, TELLING[self.below(TELLING.len())]),
            4 => drop(out.drain(at..at + len)),
            // A piece once more, some times over.
            5 => {
                let piece = out[at..at + len].repeat(1 + self.below(4));
                out.splice(at..at, piece);
            }
            6 if !self.words.is_empty() => {
                let word = self.below(self.words.len());
                let word = self.words[word].clone();
                let end = if self.below(2) == 0 { at } else { at + len };
                out.splice(at..end, word);
            }
            // The beginning of one and the end of another.
            7 => {
                let other = self.kept().to_vec();
                let from = self.below(other.len() + 1);
                out.truncate(at);
                out.extend_from_slice(&other[from..]);
            }
            // A piece of another, in the middle.
            _ => {
                let other = self.kept().to_vec();
                let from = self.below(other.len() + 1);
                let piece = other[from..(from + 1 + self.below(32)).min(other.len())].to_vec();
                out.splice(at..at, piece);
            }
        }
    }

    fn kept(&mut self) -> &[u8] {
        let at = self.below(self.corpus.len());
        &self.corpus[at]
    }

    /// A number under `bound`, which is not 0 (xorshift64*).
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}
