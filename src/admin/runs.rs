//! Which `run` sessions are alive.
//!
//! A `run` holds its session by its connection to `admin.sock`, which the kernel closes however the command ends. The token alone is not enough: it is good
//! while its session is held. A `serve` that has just started knows of no session, so for ten seconds it takes unheld ones too, while each `run` comes
//! back and holds its own.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use lru::LruCache;

/// How long after its start a `serve` takes sessions that nobody holds.
pub const GRACE: Duration = Duration::from_secs(10);

/// How many ended sessions are remembered: more than come to an end within the grace.
const ENDED_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// The `run` sessions of one `serve`.
pub struct RunSessions {
    started: Instant,
    state: RwLock<State>,
}

struct State {
    /// How many connections hold each session.
    held: HashMap<u64, usize>,
    /// Sessions that were held here and are no more: dead also within the grace, and not to be held again.
    ended: LruCache<u64, ()>,
}

impl RunSessions {
    /// None are held. `started` begins the grace.
    #[must_use]
    pub fn new(started: Instant) -> Self {
        Self { started, state: RwLock::new(State { held: HashMap::new(), ended: LruCache::new(ENDED_MAX) }) }
    }

    /// Whether a `run` token with this [`crate::session::Claims::id`] is good now. For each request or connection.
    #[must_use]
    pub fn is_live(&self, id: u64, now: Instant) -> bool {
        let state = self.read();
        state.held.contains_key(&id) || (now.saturating_duration_since(self.started) < GRACE && !state.ended.contains(&id))
    }

    /// Holds a session once more. `false` where it has ended.
    pub fn hold(&self, id: u64) -> bool {
        let mut state = self.write();
        if state.ended.contains(&id) {
            return false;
        }
        *state.held.entry(id).or_insert(0) += 1;
        true
    }

    /// Lets go of a session once. `true` where nobody holds it any more: it has ended.
    pub fn release(&self, id: u64) -> bool {
        let mut state = self.write();
        match state.held.get_mut(&id) {
            Some(n) if *n > 1 => {
                *n -= 1;
                false
            }
            Some(_) => {
                state.held.remove(&id);
                state.ended.put(id, ());
                true
            }
            None => false,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lives_while_it_is_held() {
        let start = Instant::now();
        let late = start + GRACE;
        let runs = RunSessions::new(start);
        assert!(!runs.is_live(1, late));
        assert!(runs.hold(1));
        assert!(runs.is_live(1, late));
        assert!(runs.release(1));
        assert!(!runs.is_live(1, late));
        assert!(!runs.hold(1), "ended for good");
        assert!(!runs.release(1));
    }

    #[test]
    fn two_holders_are_two() {
        let start = Instant::now();
        let runs = RunSessions::new(start);
        assert!(runs.hold(1) && runs.hold(1));
        assert!(!runs.release(1));
        assert!(runs.is_live(1, start + GRACE));
        assert!(runs.release(1));
    }

    #[test]
    fn the_grace_is_for_those_not_seen_to_end() {
        let start = Instant::now();
        let runs = RunSessions::new(start);
        assert!(runs.is_live(1, start + GRACE - Duration::from_millis(1)));
        assert!(!runs.is_live(1, start + GRACE));
        assert!(runs.hold(2) && runs.release(2));
        assert!(!runs.is_live(2, start), "it dies with its command");
    }
}
