//! What is said of refusals in the log: not each of a flood, since whoever is refused chooses how often. The audit log has
//! every one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// So many lines in each [`SPAN`].
const MOST: u64 = 50;
const SPAN: Duration = Duration::from_secs(1);

/// The lines of this span.
pub(super) struct Refusals {
    since: Instant,
    span: AtomicU64,
    lines: AtomicU64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { since: Instant::now(), span: AtomicU64::new(0), lines: AtomicU64::new(0) }
    }
}

impl Refusals {
    /// Whether one more is said.
    pub(super) fn is_told(&self) -> bool {
        self.is_told_at(self.since.elapsed())
    }

    fn is_told_at(&self, after: Duration) -> bool {
        let now = after.as_secs() / SPAN.as_secs();
        if self.span.swap(now, Ordering::AcqRel) != now {
            let lines = self.lines.swap(0, Ordering::AcqRel);
            if lines > MOST {
                tracing::info!("{} more requests were refused or failed in the same second: see the audit log", lines - MOST);
            }
        }
        self.lines.fetch_add(1, Ordering::AcqRel) < MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_has_so_many_lines_a_second() {
        let refusals = Refusals::default();
        let told = |second: u64| (0..1000).filter(|_| refusals.is_told_at(Duration::from_secs(second))).count() as u64;
        assert_eq!((told(0), told(1), told(7)), (MOST, MOST, MOST));
    }
}
