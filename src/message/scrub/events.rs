//! Where events of an event stream end (WHATWG HTML 9.2.5): at a blank line, whatever the line ends are.

/// Follows the line ends of a `text/event-stream` body.
pub struct Events {
    /// Nothing has come since the last line end.
    line_empty: bool,
    /// The last byte was a CR, which a LF would go on.
    after_cr: bool,
    /// The last byte was the end of an event, as far as it had come.
    after_event: bool,
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Events {
    /// At the beginning of a body.
    #[must_use]
    pub fn new() -> Self {
        Self { line_empty: true, after_cr: false, after_event: false }
    }

    /// Reads on; returns the end of the last event that ends in `new`.
    pub fn last_end(&mut self, new: &[u8]) -> Option<usize> {
        if new.is_empty() {
            return None;
        }
        let mut last = None;
        // The place after the last line end; the empty line may have begun before `new`.
        let mut line = self.line_empty.then_some(0);
        let mut after_cr = self.after_cr.then_some(0);
        let mut event = self.after_event.then_some(0);
        for at in memchr::memchr2_iter(b'\n', b'\r', new) {
            let goes_on = new[at] == b'\n' && after_cr == Some(at);
            if if goes_on { event == Some(at) } else { line == Some(at) } {
                event = Some(at + 1);
                last = event;
            }
            line = Some(at + 1);
            after_cr = (new[at] == b'\r').then_some(at + 1);
        }
        let end = Some(new.len());
        (self.line_empty, self.after_cr, self.after_event) = (line == end, after_cr == end, event == end);
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_at_every_split() {
        let table: [(&str, &[usize]); 9] = [
            ("data: a\n\ndata", &[9]),
            ("data: a\r\n\r\ndata", &[10, 11]),
            ("data: a\r\rdata", &[9]),
            ("data: a\n\rdata", &[9]),
            ("data: a\r\n\ndata", &[10]),
            ("data: a\n\r\ndata: b\n\n", &[9, 10, 19]),
            ("data: a\r\ndata: b\r\n", &[]),
            (": x\n\n: y\n\n", &[5, 10]),
            ("\n\ndata", &[1, 2]),
        ];
        for (text, expected) in table {
            for split in 0..=text.len() {
                let mut events = Events::new();
                let mut ends = vec![];
                // Byte by byte after the split, whole before it.
                ends.extend(events.last_end(&text.as_bytes()[..split]));
                for at in split..text.len() {
                    ends.extend(events.last_end(&text.as_bytes()[at..=at]).map(|end| at + end));
                }
                let whole = expected.iter().rev().find(|&&end| end <= split);
                let wanted: Vec<usize> = whole.into_iter().chain(expected.iter().filter(|&&end| end > split)).copied().collect();
                assert_eq!(ends, wanted, "{text:?} at {split}");
            }
        }
    }
}
