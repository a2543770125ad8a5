//! Connections kept for the next request. A connection serves one agent only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::slot::Slot;
use crate::host::Authority;

/// An idle connection is closed after so long.
pub(super) const IDLE_FOR: Duration = Duration::from_secs(60);

/// To so many origins an agent's connections are kept; then those that are idle are closed.
const MOST_ORIGINS: usize = 256;

/// Whose connections, to where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// The agent.
    pub agent: Arc<str>,
    /// Its generation: a later agent of the same name has another, and is not served on the connections of this one.
    pub generation: u64,
    /// The origin.
    pub authority: Authority,
    /// Whether over TLS.
    pub tls: bool,
}

/// All connections made under the same settings.
#[derive(Default)]
pub struct Pool {
    slots: Mutex<HashMap<PoolKey, Arc<Slot>>>,
}

impl Pool {
    /// The slot of a key.
    #[must_use]
    pub fn slot(&self, key: &PoolKey) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(key) {
            return Arc::clone(slot);
        }
        make_room(&mut slots, key);
        let slot = Slot::new(key.clone());
        slots.insert(key.clone(), Arc::clone(&slot));
        slot
    }

    /// Closes what has been idle for too long or was closed by its origin, and forgets empty slots.
    pub fn sweep(&self) {
        let all: Vec<Arc<Slot>> = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || !slot.is_empty());
            slots.values().cloned().collect()
        };
        for slot in all {
            slot.sweep();
        }
    }

    /// Closes the idle connections, where a new one finds no descriptor. Says whether there were any.
    pub fn give_way(&self) -> bool {
        let all: Vec<Arc<Slot>> = self.slots.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        all.iter().filter(|slot| slot.give_way()).count() > 0
    }

    /// Closes every idle connection, and the others once their requests have ended: the settings they were made under
    /// are gone.
    pub fn clear(&self) {
        let all: Vec<Arc<Slot>> = self.slots.lock().unwrap_or_else(PoisonError::into_inner).drain().map(|(_, slot)| slot).collect();
        for slot in all {
            slot.close();
        }
    }
}

/// Closes what an agent keeps for nobody, where that is to too many origins: names cost it nothing, connections cost us.
fn make_room(slots: &mut HashMap<PoolKey, Arc<Slot>>, key: &PoolKey) {
    let is_own = |other: &PoolKey| other.agent == key.agent && other.generation == key.generation;
    if slots.keys().filter(|other| is_own(other)).count() < MOST_ORIGINS {
        return;
    }
    slots.retain(|other, slot| {
        let stays = !is_own(other) || Arc::strong_count(slot) > 1;
        if !stays {
            slot.close();
        }
        stays
    });
}
