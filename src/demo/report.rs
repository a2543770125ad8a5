//! What the demo prints: what the child sent, what the origin received, and whether that is as it must be.

use std::io::{self, Write};

/// The width of the left column.
const LEFT: usize = 64;

/// Prints lines and keeps the verdict.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    /// The real key, which is never printed.
    key: &'a str,
    wrong: usize,
    lines: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut dyn Write, key: &'a str) -> Self {
        Self { out, key, wrong: 0, lines: 0 }
    }

    /// How many lines were not as they must be, and how many there were.
    pub(super) fn verdict(&self) -> (usize, usize) {
        (self.wrong, self.lines)
    }

    /// A line of talk.
    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        let text = self.mask(text);
        writeln!(self.out, "{text}")
    }

    /// The heading of a step.
    pub(super) fn heading(&mut self, text: &str) -> io::Result<()> {
        self.say(&format!("\n{text}"))
    }

    /// One fact with its two sides.
    pub(super) fn line(&mut self, sent: &str, received: &str, ok: bool) -> io::Result<()> {
        self.lines += 1;
        self.wrong += usize::from(!ok);
        let (sent, received) = (short(&self.mask(sent)), short(&self.mask(received)));
        let verdict = if ok { "ok  " } else { "FAIL" };
        writeln!(self.out, "  {verdict}  {sent:<LEFT$} | {received}")
    }

    fn mask(&self, text: &str) -> String {
        text.replace(self.key, "sk-or-v1-…(the real key)")
    }
}

/// At most a column's width, one line, nothing that moves the cursor.
fn short(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { '␤' } else { c });
    let mut out: String = plain.clone().take(LEFT).collect();
    if plain.count() > LEFT {
        out = out.chars().take(LEFT - 1).chain(['…']).collect();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_never_printed_and_a_failure_counts() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, "sk-or-v1-0123456789");
        report.line("authorization: Bearer placeholder", "authorization: Bearer sk-or-v1-0123456789", true).expect("a vector takes all");
        report.line("a", "b", false).expect("a vector takes all");
        assert_eq!(report.verdict(), (1, 2));
        let text = String::from_utf8(out).expect("text");
        assert!(!text.contains("0123456789") && text.contains("Bearer sk-or-v1-…(the real key)") && text.contains("FAIL"), "{text}");
    }
}
