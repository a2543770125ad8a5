//! How many connections, requests and tunnels there may be at once, in all and for one agent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::entry::Waiting;
use super::turns::Round;
use crate::agent::AgentName;

/// So few connections may always wait for a proof, where `[limits] connections` lets them.
const LEAST_UNPROVED: usize = 64;
/// Connections for which there was no room and which are still told so, all at once; what comes on top is told in passing.
pub(super) const FAREWELLS: usize = 16;

/// What a refusal says where there is no room for another tunnel.
pub(super) const TOO_MANY_TUNNELS: &str = "there are too many open tunnels; close some and try again";

/// What is open now.
pub struct Counts {
    all: Gauge,
    agents: Mutex<HashMap<AgentName, Arc<Gauge>>>,
    /// Connections on which nobody has proved anything yet.
    pub(super) waiting: Mutex<Waiting>,
    /// Those that are told that there is no room.
    pub(super) farewells: Semaphore,
}

/// Three counters, and whose turn it is.
pub(super) struct Gauge {
    connections: AtomicUsize,
    requests: AtomicUsize,
    tunnels: AtomicUsize,
    pub(super) turns: Arc<Round>,
}

/// The limits, from `[limits]` and `[limits.per_agent]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceilings {
    /// In all: connections, requests, tunnels.
    pub all: [usize; 3],
    /// For one agent: the same.
    pub agent: [usize; 3],
    /// Connections on which nobody has proved anything yet.
    pub unproved: usize,
}

impl Ceilings {
    /// With the usual share of connections for those who have proved nothing: a quarter.
    #[must_use]
    pub fn new(all: [usize; 3], agent: [usize; 3]) -> Self {
        Self { all, agent, unproved: all[0].div_ceil(4).max(LEAST_UNPROVED).min(all[0]) }
    }
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
    all: Option<Arc<Counts>>,
    agent: Option<Arc<Gauge>>,
    what: Counted,
}

impl Place {
    /// Whether it counts for that agent.
    pub(super) fn is_of(&self, agent: &Arc<Gauge>) -> bool {
        self.agent.as_ref().is_some_and(|own| Arc::ptr_eq(own, agent))
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self { all: Gauge::default(), agents: Mutex::default(), waiting: Mutex::default(), farewells: Semaphore::new(FAREWELLS) }
    }
}

impl Default for Gauge {
    fn default() -> Self {
        let none = AtomicUsize::default;
        Self { connections: none(), requests: none(), tunnels: none(), turns: Arc::default() }
    }
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
        if !agents.contains_key(name) {
            // Agents come and go: those that have nothing open are forgotten.
            agents.retain(|_, gauge| Arc::strong_count(gauge) > 1);
        }
        Arc::clone(agents.entry(name.clone()).or_default())
    }

    /// The turns of those who have proved nothing, which are all of one kind.
    pub(super) fn turns(&self) -> Arc<Round> {
        Arc::clone(&self.all.turns)
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
        Some(Place { all: Some(Arc::clone(self)), agent: agent.cloned(), what })
    }

    /// Takes a place among the agent's own, for what is counted among all already, or says that there is none.
    pub(super) fn take_own(what: Counted, agent: &Arc<Gauge>, ceilings: &Ceilings) -> Option<Place> {
        agent.take(what, ceilings.agent[what as usize]).then(|| Place { all: None, agent: Some(Arc::clone(agent)), what })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(all) = &self.all {
            all.all.of(self.what).fetch_sub(1, Ordering::AcqRel);
        }
        if let Some(agent) = &self.agent {
            agent.of(self.what).fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_proved_nothing_has_a_quarter() {
        for (all, unproved) in [(20_000, 5_000), (300, 75), (100, 64), (3, 3)] {
            assert_eq!(Ceilings::new([all, 1, 1], [1; 3]).unproved, unproved, "{all}");
        }
    }

    #[test]
    fn places_are_taken_and_given_back() {
        let counts = Arc::new(Counts::default());
        let ceilings = Ceilings::new([2; 3], [1; 3]);
        let a = counts.agent(&AgentName::parse("a").expect("name"));
        let first = counts.take(Counted::Tunnel, Some(&a), &ceilings);
        assert!(first.is_some() && counts.take(Counted::Tunnel, Some(&a), &ceilings).is_none());
        let other = counts.take(Counted::Tunnel, None, &ceilings);
        assert!(other.is_some() && counts.take(Counted::Tunnel, None, &ceilings).is_none());
        drop(first);
        assert!(counts.take(Counted::Tunnel, Some(&a), &ceilings).is_some());
        let own = Counts::take_own(Counted::Tunnel, &a, &ceilings).expect("the agent's own are free");
        assert!(own.is_of(&a) && Counts::take_own(Counted::Tunnel, &a, &ceilings).is_none());
        assert_eq!(counts.all.tunnels.load(Ordering::Acquire), 1, "it is not counted among all again");
    }
}
