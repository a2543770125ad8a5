//! A client's connection from the moment it is accepted, and for how long it may stay without a proof.
//!
//! Whoever has proved nothing has no claim to a place. Where there is no room for another such connection, the one that
//! has waited longest goes: a client that means it proves itself with its first words, so that silence takes nobody's place
//! but silence's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::limits::{Ceilings, Counted, Counts, Gauge, Place};
use super::live::Proxy;
use super::turns::Turns;

/// Connections on which nobody has proved anything yet, the oldest first.
#[derive(Default)]
pub(super) struct Waiting {
    next: u64,
    places: BTreeMap<u64, Held>,
}

/// A waiting connection's place, and how it is told that it is over.
struct Held {
    place: Place,
    gone: watch::Sender<bool>,
}

/// A client's place among all connections, if there was one.
pub(crate) struct Entry {
    counts: Arc<Counts>,
    stage: Mutex<Stage>,
    gone: watch::Receiver<bool>,
    turns: Turns,
}

enum Stage {
    /// There was no room.
    Full,
    /// Nobody has proved anything.
    Waiting(u64),
    /// Somebody has: it keeps its place.
    Proved(#[expect(dead_code, reason = "given back on drop")] Place),
    /// It had to go.
    Gone,
}

impl Entry {
    /// Counts a connection as soon as it is accepted, before it has said anything.
    pub(crate) fn take(proxy: &Proxy) -> Arc<Self> {
        Self::among(&proxy.counts, &proxy.live().settings.ceilings)
    }

    /// For a connection that there is no room for: it is not counted.
    pub(super) fn none(counts: &Arc<Counts>) -> Arc<Self> {
        Self::new(counts, Stage::Full, watch::channel(false).1)
    }

    fn new(counts: &Arc<Counts>, stage: Stage, gone: watch::Receiver<bool>) -> Arc<Self> {
        Arc::new(Self { counts: Arc::clone(counts), stage: Mutex::new(stage), gone, turns: Turns::of(counts.turns()) })
    }

    fn among(counts: &Arc<Counts>, ceilings: &Ceilings) -> Arc<Self> {
        let (sender, gone) = watch::channel(false);
        let mut waiting = lock(counts);
        let oldest = |waiting: &mut Waiting| {
            let (_, held) = waiting.places.pop_first()?;
            held.gone.send_replace(true);
            Some(held.place)
        };
        let place = match waiting.places.len() < ceilings.unproved {
            true => counts.take(Counted::Connection, None, ceilings).or_else(|| oldest(&mut waiting)),
            false => oldest(&mut waiting),
        };
        let stage = match place {
            Some(place) => {
                let id = waiting.next;
                waiting.next += 1;
                waiting.places.insert(id, Held { place, gone: sender });
                Stage::Waiting(id)
            }
            None => Stage::Full,
        };
        drop(waiting);
        Self::new(counts, stage, gone)
    }

    /// Whether there was room for it.
    pub(crate) fn is_free(&self) -> bool {
        !matches!(*self.stage(), Stage::Full)
    }

    /// Runs the connection, in the turns of whoever is on it. One that has to go says so at once.
    pub(crate) async fn in_turn<F: Future>(&self, connection: F) -> F::Output {
        self.turns.run(connection, || *self.gone.borrow()).await
    }

    /// An agent has proved to be there. `false` where that came too late.
    pub(super) fn proved(&self, agent: &Gauge) -> bool {
        self.turns.belong_to(&agent.turns);
        let mut stage = self.stage();
        if let Stage::Waiting(id) = *stage {
            *stage = lock(&self.counts).places.remove(&id).map_or(Stage::Gone, |held| Stage::Proved(held.place));
        }
        matches!(*stage, Stage::Proved(_))
    }

    /// Completes when the connection has to go, having proved nothing.
    pub(crate) async fn has_to_go(&self) {
        // An error says that it stays.
        if self.gone.clone().wait_for(|gone| *gone).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Stage::Waiting(id) = *self.stage() {
            let held = lock(&self.counts).places.remove(&id);
            drop(held);
        }
    }
}

fn lock(counts: &Counts) -> MutexGuard<'_, Waiting> {
    counts.waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn is_gone(entry: &Entry) -> bool {
        entry.has_to_go().now_or_never().is_some()
    }

    #[test]
    fn the_one_that_has_waited_longest_goes() {
        let counts = Arc::new(Counts::default());
        let ceilings = Ceilings { unproved: 2, ..Ceilings::new([3; 3], [3; 3]) };
        let take = || Entry::among(&counts, &ceilings);
        let (first, second) = (take(), take());
        let agent = Gauge::default();
        let proved = |entry: &Entry| entry.proved(&agent);
        assert!(proved(&first) && proved(&first), "a proof is one however often it is given");
        let third = take();
        assert_eq!((is_gone(&first), is_gone(&second), is_gone(&third)), (false, false, false));
        // Two wait: a fourth takes the place of the older one.
        let fourth = take();
        assert_eq!((is_gone(&first), is_gone(&second), is_gone(&third), is_gone(&fourth)), (false, true, false, false));
        assert!(!proved(&second), "too late");
        assert_eq!(counts.connections(), 3);
        assert!(proved(&third) && proved(&fourth));
        assert!(!take().is_free(), "whoever has proved something stays");
        drop(second);
        assert_eq!(counts.connections(), 3, "its place was another's by then");
        drop((first, third, fourth));
        assert_eq!(counts.connections(), 0);
        drop(take());
        assert_eq!((counts.connections(), lock(&counts).places.len()), (0, 0));
    }
}
