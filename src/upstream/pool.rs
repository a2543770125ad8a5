//! Idle connections, kept for the next request. A connection serves one agent only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::stream::UpstreamStream;
use crate::host::Authority;

/// An idle connection is closed after so long.
const IDLE_FOR: Duration = Duration::from_secs(60);
/// Idle connections kept for one agent and authority.
const PER_SLOT: usize = 256;

/// Whose connections, to where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// The agent.
    pub agent: Arc<str>,
    /// The origin.
    pub authority: Authority,
    /// Whether over TLS.
    pub tls: bool,
}

struct Idle {
    stream: UpstreamStream,
    since: Instant,
}

/// The idle connections of one key. A connection of an agent holds its slot, so that a request costs no look-up.
pub struct Slot {
    idle: Mutex<Vec<Idle>>,
}

/// All idle connections made under the same settings.
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
        let slot = Arc::new(Slot { idle: Mutex::default() });
        slots.insert(key.clone(), Arc::clone(&slot));
        slot
    }

    /// Closes what has been idle for too long or was closed by its origin, and forgets empty slots.
    pub fn sweep(&self) {
        let all: Vec<Arc<Slot>> = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || !slot.lock().is_empty());
            slots.values().cloned().collect()
        };
        for slot in all {
            slot.lock().retain_mut(|idle| idle.since.elapsed() < IDLE_FOR && idle.stream.is_quiet());
        }
    }
}

impl Pool {
    /// Closes every idle connection: the settings they were made under are gone.
    pub fn clear(&self) {
        for (_, slot) in self.slots.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            slot.lock().clear();
        }
    }
}

impl Slot {
    /// An idle connection that is still of use: the one used last.
    #[must_use]
    pub fn take(&self) -> Option<UpstreamStream> {
        loop {
            let mut idle = self.lock().pop()?;
            if idle.since.elapsed() < IDLE_FOR && idle.stream.is_quiet() {
                return Some(idle.stream);
            }
        }
    }

    /// Gives a connection back after a whole exchange.
    pub fn put(&self, stream: UpstreamStream) {
        let mut idle = self.lock();
        if idle.len() < PER_SLOT {
            idle.push(Idle { stream, since: Instant::now() });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
