//! What policy said of a connection's host, kept until the state changes.

use std::sync::Arc;

use crate::host::Authority;
use crate::policy::{AgentView, Candidates, Denial, Scheme};
use crate::proxy::live::{Live, Settings, Transport};
use crate::upstream::{PoolKey, Slot};

/// What policy said when it was asked last, and what of that state a request needs. It does not hold the state
/// itself: an idle connection keeps no old one alive.
pub(super) struct Plan {
    pub(super) serial: u64,
    pub(super) settings: Arc<Settings>,
    pub(super) transport: Arc<Transport>,
    /// The agent's connections to that origin.
    pub(super) slot: Arc<Slot>,
    pub(super) candidates: Result<Option<Candidates>, Denial>,
    /// No granted credential covers the host, but another one does.
    pub(super) not_granted: bool,
    pub(super) agent_alive: bool,
}

impl Plan {
    pub(super) fn make(live: &Live, agent: &AgentView, scheme: Scheme, authority: &Authority) -> Self {
        let now = live.snapshot.agent(agent.name.as_str()).filter(|a| a.generation == agent.generation).cloned();
        let candidates = now.as_ref().map_or(Ok(None), |a| live.snapshot.request(a, scheme, authority));
        let key =
            PoolKey { agent: agent.name.as_str().into(), generation: agent.generation, authority: authority.clone(), tls: scheme == Scheme::Https };
        Self {
            serial: live.snapshot.serial(),
            settings: Arc::clone(&live.settings),
            transport: Arc::clone(&live.transport),
            slot: live.transport.pool.slot(&key),
            not_granted: scheme == Scheme::Https && matches!(candidates, Ok(None)) && live.snapshot.covers(authority),
            candidates,
            agent_alive: now.is_some(),
        }
    }
}
