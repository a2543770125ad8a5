//! How many connections, requests and tunnels there may be at once, in all and for one agent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::agent::AgentName;

/// What is open now.
#[derive(Default)]
pub struct Counts {
    all: Gauge,
    agents: Mutex<HashMap<AgentName, Arc<Gauge>>>,
}

/// Three counters.
#[derive(Default)]
pub(super) struct Gauge {
    connections: AtomicUsize,
    requests: AtomicUsize,
    tunnels: AtomicUsize,
}

/// The limits, from `[limits]` and `[limits.per_agent]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceilings {
    /// In all: connections, requests, tunnels.
    pub all: [usize; 3],
    /// For one agent: the same.
    pub agent: [usize; 3],
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Connection = 0,
    Request = 1,
    Tunnel = 2,
}

/// A place taken; given back on drop.
pub(super) struct Place {
    counts: Arc<Counts>,
    agent: Option<Arc<Gauge>>,
    what: Counted,
}

impl Gauge {
    fn of(&self, what: Counted) -> &AtomicUsize {
        match what {
            Counted::Connection => &self.connections,
            Counted::Request => &self.requests,
            Counted::Tunnel => &self.tunnels,
        }
    }

    fn take(&self, what: Counted, limit: usize) -> bool {
        self.of(what).fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < limit).then_some(n + 1)).is_ok()
    }
}

impl Counts {
    /// The counters of one agent, to be kept by its connection.
    pub(super) fn agent(&self, name: &AgentName) -> Arc<Gauge> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(agents.entry(name.clone()).or_default())
    }

    /// Requests in flight.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.all.requests.load(Ordering::Acquire)
    }

    /// Client connections open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.all.connections.load(Ordering::Acquire)
    }

    /// Takes a place, or says that there is none.
    pub(super) fn take(self: &Arc<Self>, what: Counted, agent: Option<&Arc<Gauge>>, ceilings: &Ceilings) -> Option<Place> {
        if !self.all.take(what, ceilings.all[what as usize]) {
            return None;
        }
        if let Some(agent) = agent
            && !agent.take(what, ceilings.agent[what as usize])
        {
            self.all.of(what).fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Place { counts: Arc::clone(self), agent: agent.cloned(), what })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.all.of(self.what).fetch_sub(1, Ordering::AcqRel);
        if let Some(agent) = &self.agent {
            agent.of(self.what).fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_and_given_back() {
        let counts = Arc::new(Counts::default());
        let ceilings = Ceilings { all: [2; 3], agent: [1; 3] };
        let a = counts.agent(&AgentName::parse("a").expect("name"));
        let first = counts.take(Counted::Tunnel, Some(&a), &ceilings);
        assert!(first.is_some() && counts.take(Counted::Tunnel, Some(&a), &ceilings).is_none());
        let other = counts.take(Counted::Tunnel, None, &ceilings);
        assert!(other.is_some() && counts.take(Counted::Tunnel, None, &ceilings).is_none());
        drop(first);
        assert!(counts.take(Counted::Tunnel, Some(&a), &ceilings).is_some());
    }
}
