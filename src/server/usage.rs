//! When agents and credentials were last in use: noted in memory without a lock, written to the store every few seconds.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};

use arc_swap::ArcSwap;

use crate::agent::AgentName;
use crate::clock;
use crate::credential::CredentialId;
use crate::policy::Roster;
use crate::proxy::Seen;

/// What was seen since the last time it was written.
#[derive(Default)]
pub(super) struct UsageBook {
    credentials: ArcSwap<HashMap<CredentialId, Arc<Cell>>>,
    agents: ArcSwap<HashMap<AgentName, Arc<Cell>>>,
}

/// Times in seconds since 1970.
pub(super) struct Taken {
    /// When each was last used, and what the origin answered.
    pub(super) credentials: Vec<(CredentialId, i64, u16)>,
    /// When each was last seen.
    pub(super) agents: Vec<(AgentName, i64)>,
}

#[derive(Default)]
struct Cell {
    /// Seconds since 1970; 0 where nothing is to be written.
    at: AtomicI64,
    status: AtomicU16,
}

impl UsageBook {
    /// Makes room for everybody there is; what was seen and not yet written stays.
    pub(super) fn follow(&self, roster: &Roster) {
        carry_over(&self.credentials, roster.credentials.iter().map(|c| c.id));
        carry_over(&self.agents, roster.agents.iter().map(|a| a.name.clone()));
    }

    /// Notes one sight.
    pub(super) fn note(&self, seen: &Seen<'_>) {
        let now = clock::unix_seconds();
        match seen {
            Seen::Agent(name) => {
                if let Some(cell) = self.agents.load().get(*name) {
                    cell.at.store(now, Ordering::Relaxed);
                }
            }
            Seen::Credential(id, status) => {
                if let Some(cell) = self.credentials.load().get(id) {
                    cell.status.store(*status, Ordering::Relaxed);
                    cell.at.store(now, Ordering::Release);
                }
            }
        }
    }

    /// What was seen since the last call.
    pub(super) fn take(&self) -> Taken {
        let seen = |cell: &Cell| Some(cell.at.swap(0, Ordering::Acquire)).filter(|&at| at != 0);
        let credentials = self.credentials.load();
        let agents = self.agents.load();
        let used = credentials.iter().filter_map(|(id, c)| seen(c).map(|at| (*id, at, c.status.load(Ordering::Relaxed))));
        Taken { credentials: used.collect(), agents: agents.iter().filter_map(|(name, c)| seen(c).map(|at| (name.clone(), at))).collect() }
    }
}

fn carry_over<K: Hash + Eq>(map: &ArcSwap<HashMap<K, Arc<Cell>>>, keys: impl Iterator<Item = K>) {
    let old = map.load();
    let new = keys.map(|k| {
        let cell = old.get(&k).cloned().unwrap_or_default();
        (k, cell)
    });
    map.store(Arc::new(new.collect()));
}
