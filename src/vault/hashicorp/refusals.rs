//! Which paths a good token was refused. A role may have got another policy since the log-in, so a refusal is worth another log-in; but
//! where the newer token is refused too, it is the policy's for good, and each further log-in would end all leases for nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A path that was refused to one token after the other is worth no log-in for so long.
const SETTLED: Duration = Duration::from_secs(3600);

/// The refusals of good tokens, by the path as a policy names it.
#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<String, Refusal>>);

struct Refusal {
    /// The number of the last session that was refused it.
    session: u64,
    /// Since when it is known that another token does not help.
    settled: Option<Instant>,
}

impl Refusals {
    /// Notes a refusal. Whether another log-in may help.
    pub(super) fn note(&self, path: &str, session: u64, now: Instant) -> bool {
        let mut all = self.all();
        let Some(refusal) = all.get_mut(path) else {
            all.insert(path.to_owned(), Refusal { session, settled: None });
            return true;
        };
        if session > refusal.session {
            *refusal = Refusal { session, settled: Some(now) };
        }
        refusal.settled.is_none_or(|since| now.saturating_duration_since(since) >= SETTLED)
    }

    /// The path is allowed.
    pub(super) fn forget(&self, path: &str) {
        let mut all = self.all();
        if !all.is_empty() {
            all.remove(path);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_worth_one_log_in_and_another_after_an_hour() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        // The token is too young for a log-in at first; that changes nothing.
        assert!(refusals.note("a", 1, at(0)) && refusals.note("a", 1, at(300)));
        assert!(!refusals.note("a", 2, at(300)), "the newer token is refused too");
        assert!(!refusals.note("a", 2, at(600)) && !refusals.note("a", 2, at(3800)));
        assert!(refusals.note("a", 2, at(3900)), "after an hour it is tried again");
        assert!(!refusals.note("a", 3, at(3900)) && !refusals.note("a", 3, at(7400)) && refusals.note("a", 3, at(7500)));
    }

    #[test]
    fn one_log_in_answers_for_all_paths() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let names = (0..100).map(|n| format!("secret/metadata/{n}")).collect::<Vec<_>>();
        let (mut session, mut log_ins) = (1, 0);
        // A day of rounds of half a minute each.
        for round in 0..2880 {
            for name in &names {
                let now = start + Duration::from_secs(30 * round);
                if refusals.note(name, session, now) && round >= 10 {
                    (session, log_ins) = (session + 1, log_ins + 1);
                    assert!(!refusals.note(name, session, now));
                }
            }
        }
        assert!((20..=25).contains(&log_ins), "{log_ins}");
    }

    #[test]
    fn what_is_allowed_is_no_refusal_any_more() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        assert!(refusals.note("a", 1, now) && !refusals.note("a", 2, now));
        refusals.forget("a");
        assert!(refusals.note("a", 2, now));
        refusals.forget("b");
    }
}
