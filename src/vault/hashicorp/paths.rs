//! Paths in Vault that are kept up to date: what all who look at one share. The task that asks is a [`super::keeper::Keeper`].
//!
//! A request never waits for such a task once a value is known, and holds no lock of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::cells::Cell;
use crate::random;
use crate::vault::Unavailable;

/// How fresh a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// How old a value may be before it is asked for again.
    pub refresh: Duration,
    /// How long a known value is used while Vault cannot be asked.
    pub max_stale: Duration,
}

/// One refused value makes one question; the next such question about the path comes this much later.
const POKE_APART: Duration = Duration::from_secs(10);
/// The first wait after a failure, and the longest: a Vault that is back is noticed within it.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// A path that cannot be had for changing reasons is logged so often at most.
const LOG_APART: Duration = Duration::from_secs(60);

/// One path that is kept.
pub(super) struct Path {
    name: String,
    pinned: Option<u64>,
    cells: Mutex<Vec<Weak<Cell>>>,
    /// Counts the questions that are wanted out of turn.
    wanted: AtomicU64,
    wake: Notify,
    /// Nobody takes a value from here any more.
    left: AtomicBool,
    poked: Mutex<Option<Instant>>,
    /// Counts the answers, good and bad.
    rounds: watch::Sender<u64>,
    standing: Mutex<Stand>,
}

/// How a path stands, for `/readyz`, metrics and the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// Not read yet.
    #[default]
    Unread,
    /// As Vault last said.
    Fresh,
    /// Vault cannot be asked; the last value is used on.
    Stale(String),
    /// There is no value to use.
    Gone(String),
}

#[derive(Default)]
struct Stand {
    now: Standing,
    /// When it was last logged that there is no value.
    logged: Option<Instant>,
}

impl Path {
    pub(super) fn new(name: &str, pinned: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            pinned,
            cells: Mutex::default(),
            wanted: AtomicU64::new(0),
            wake: Notify::new(),
            left: AtomicBool::new(false),
            poked: Mutex::default(),
            rounds: watch::Sender::new(0),
            standing: Mutex::default(),
        })
    }

    /// Tells of each answer.
    pub(super) fn rounds(&self) -> watch::Receiver<u64> {
        self.rounds.subscribe()
    }

    /// An answer came, good or bad, and the cells know.
    pub(super) fn answered(&self) {
        self.rounds.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn pinned(&self) -> Option<u64> {
        self.pinned
    }

    pub(super) fn standing(&self) -> Standing {
        lock(&self.standing).now.clone()
    }

    /// Another credential takes its value from here. It is read at once, unless the same value is known under the terms of `old`.
    pub(super) fn join(&self, cell: &Arc<Cell>, old: Option<&Cell>) {
        // From here on it gets what is read, so that what it takes over is never put over something newer.
        lock(&self.cells).push(Arc::downgrade(cell));
        if !old.is_some_and(|old| cell.succeed(old)) {
            self.want();
            self.wake.notify_one();
        }
    }

    /// The origin refused the value: it is asked for anew, at most once in ten seconds. Requests wait a moment for it.
    pub(super) fn poke(&self) {
        {
            let mut poked = lock(&self.poked);
            if poked.is_some_and(|at| at.elapsed() < POKE_APART) {
                return;
            }
            *poked = Some(Instant::now());
        }
        // In this order: an answer to a question from before must not end the doubt.
        self.want();
        self.each(|cell| cell.doubt());
        self.wake.notify_one();
    }

    /// How often a question out of turn was wanted.
    pub(super) fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Acquire)
    }

    /// A question out of turn is wanted; does not wake the task.
    pub(super) fn want(&self) {
        self.wanted.fetch_add(1, Ordering::AcqRel);
    }

    /// Completes when something else than these questions is wanted, or nobody takes a value from here.
    pub(super) async fn woken(&self, handled: u64) {
        while self.wanted() == handled && !self.is_left() {
            self.wake.notified().await;
        }
    }

    /// Nobody takes a value from here any more: the task ends.
    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    pub(super) fn each(&self, act: impl Fn(&Cell)) {
        let mut cells = lock(&self.cells);
        cells.retain(|cell| cell.upgrade().inspect(|cell| act(cell)).is_some());
    }

    /// Whether some cell has no value.
    pub(super) fn lacks_value(&self) -> bool {
        lock(&self.cells).iter().filter_map(Weak::upgrade).any(|cell| cell.lacks_value())
    }

    /// Ends the use of the value.
    pub(super) fn end(&self, why: &Unavailable) {
        self.each(|cell| cell.end(why));
        self.stand(Standing::Gone(why.detail.clone()));
    }

    /// Says how it stands now, and logs a change.
    pub(super) fn stand(&self, now: Standing) {
        if !lock(&self.standing).become_worth_a_line(&now) {
            return;
        }
        match now {
            Standing::Stale(why) => tracing::warn!("{}: the value known last is used on: {why}", self.name),
            Standing::Gone(why) => tracing::error!("{}: requests that need it are refused: {why}", self.name),
            Standing::Fresh => tracing::info!("{}: read from Vault again", self.name),
            Standing::Unread => {}
        }
    }
}

impl Stand {
    /// Takes the new standing. Whether the log is to say so.
    fn become_worth_a_line(&mut self, now: &Standing) -> bool {
        use Standing::{Fresh, Gone, Stale, Unread};
        let before = std::mem::replace(&mut self.now, now.clone());
        let worth = match (&before, now) {
            (Gone(old), Gone(new)) => old != new && self.logged.is_none_or(|at| at.elapsed() >= LOG_APART),
            (Stale(_), Stale(_)) | (Unread | Fresh, Fresh) | (_, Unread) => false,
            _ => true,
        };
        if worth && matches!(now, Gone(_)) {
            self.logged = Some(Instant::now());
        }
        worth
    }
}

/// A little before the time is over, and not for all paths at once.
pub(super) fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.8 + 0.15 * random::share())
}

pub(super) fn back_off(failures: u32) -> Duration {
    let doubled = BACK_OFF.0.saturating_mul(1 << failures.min(8).saturating_sub(1));
    jittered(doubled.min(BACK_OFF.1))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-done where a holder panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_log_tells_changes_and_is_not_flooded() {
        let mut stand = Stand::default();
        let (gone, stale) = (|why: &str| Standing::Gone(why.to_owned()), |why: &str| Standing::Stale(why.to_owned()));
        for (now, worth) in [
            (Standing::Fresh, false),
            (stale("sealed"), true),
            (stale("timeout"), false),
            (gone("sealed"), true),
            (gone("sealed"), false),
            (gone("timeout"), false),
            (Standing::Fresh, true),
            (Standing::Fresh, false),
            (gone("deleted"), true),
        ] {
            assert_eq!(stand.become_worth_a_line(&now), worth, "{now:?}");
            assert_eq!(stand.now, now);
        }
        tokio::time::sleep(LOG_APART).await;
        assert!(!stand.become_worth_a_line(&gone("deleted")) && stand.become_worth_a_line(&gone("denied")));
    }

    #[test]
    fn waits_grow_to_two_seconds_and_no_further() {
        for failures in [1, 2, 3, 4, 5, 100, u32::MAX] {
            let wait = back_off(failures);
            assert!(wait >= Duration::from_millis(200) && wait <= Duration::from_secs(2), "{failures}: {wait:?}");
        }
        assert!(back_off(4) > Duration::from_secs(1));
    }
}
