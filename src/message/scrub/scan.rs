//! What has been found in a body so far, and what is masked when bytes go.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::ScrubTable;

/// What stands in a secret's place.
pub(super) const MARK: u8 = b'*';

/// Follows one stream of bytes. Its owner keeps the bytes that have not gone yet, in their original form (a match may
/// begin inside another one); places count from the first of them.
pub(super) struct Scanner {
    table: Arc<ScrubTable>,
    /// The next window.
    next: usize,
    /// What is to be masked: in order, apart from one another.
    spans: Vec<(usize, usize)>,
    /// Original bytes that a pause let go: a match may have begun in them.
    gone: Zeroizing<Vec<u8>>,
    hits: u64,
}

impl Scanner {
    pub(super) fn new(table: Arc<ScrubTable>) -> Self {
        Self { table, next: 0, spans: Vec::new(), gone: Zeroizing::default(), hits: 0 }
    }

    /// How many bytes are held back: a constant of the secret's length.
    pub(super) fn hold_back(&self) -> usize {
        self.table.strong.as_ref().map_or(0, |matcher| matcher.longest() - 1)
    }

    /// How many places have been found that hold the secret.
    pub(super) fn hits(&self) -> u64 {
        self.hits
    }

    /// Looks at what is new in `pending`.
    pub(super) fn look(&mut self, pending: &[u8], at_end: bool) {
        let Some(matcher) = self.table.strong.as_ref() else { return };
        let (spans, hits) = (&mut self.spans, &mut self.hits);
        if !self.gone.is_empty() {
            let gone = self.gone.len();
            let reach = pending.len().min(matcher.longest() - 1);
            let mut joined = Zeroizing::new(Vec::with_capacity(gone + reach));
            joined.extend_from_slice(&self.gone);
            joined.extend_from_slice(&pending[..reach]);
            matcher.scan(&joined, 0, at_end, &mut |start, end| {
                if start < gone && end > gone {
                    *hits += u64::from(insert(spans, (0, end - gone)));
                }
            });
        }
        self.next = matcher.scan(pending, self.next, at_end, &mut |start, end| *hits += u64::from(insert(spans, (start, end))));
    }

    /// Masks the bytes of `going`, which are the first of what was pending and go now.
    pub(super) fn release(&mut self, going: &mut [u8]) {
        for &(start, end) in &self.spans {
            if start < going.len() {
                let end = end.min(going.len());
                going[start..end].fill(MARK);
            }
        }
        self.forget(going.len());
    }

    /// `count` bytes have gone, and no match can have begun in them that is not found yet.
    pub(super) fn forget(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        self.spans.retain_mut(|(start, end)| {
            *start = start.saturating_sub(count);
            *end = end.saturating_sub(count);
            *end > 0
        });
        self.next = self.next.saturating_sub(count);
        self.gone = Zeroizing::default();
    }

    /// All of `pending` goes, though a match may have begun in it: the end of what has gone is kept, so that the rest
    /// of such a match is still found.
    pub(super) fn pause(&mut self, pending: &mut [u8]) {
        let keep = self.hold_back();
        let fresh = pending.len().min(keep);
        let old = self.gone.len().min(keep - fresh);
        let mut gone = Zeroizing::new(Vec::with_capacity(old + fresh));
        gone.extend_from_slice(&self.gone[self.gone.len() - old..]);
        gone.extend_from_slice(&pending[pending.len() - fresh..]);
        self.release(pending);
        self.gone = gone;
    }
}

/// Adds a span to those that are apart and in order; says whether it touches none of them.
fn insert(spans: &mut Vec<(usize, usize)>, (mut start, mut end): (usize, usize)) -> bool {
    let from = spans.partition_point(|&(_, e)| e < start);
    let to = spans.partition_point(|&(s, _)| s <= end);
    for &(s, e) in &spans[from..to] {
        start = start.min(s);
        end = end.max(e);
    }
    spans.splice(from..to, [(start, end)]);
    from == to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_stay_apart_and_in_order() {
        let mut spans = vec![];
        assert!(insert(&mut spans, (10, 20)) && insert(&mut spans, (30, 40)) && insert(&mut spans, (0, 5)));
        assert!(!insert(&mut spans, (20, 22)) && !insert(&mut spans, (12, 15)));
        assert_eq!(spans, [(0, 5), (10, 22), (30, 40)]);
        assert!(!insert(&mut spans, (21, 33)));
        assert_eq!(spans, [(0, 5), (10, 40)]);
    }
}
