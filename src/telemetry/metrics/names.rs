//! Requests by agent and credential, for exactly those that are configured.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

type Count = Arc<AtomicU64>;
/// By agent, then by credential; the empty credential stands for none.
type Table = HashMap<Box<str>, HashMap<Box<str>, Count>>;

/// The counts. Counting takes a snapshot and no lock.
#[derive(Debug, Default)]
pub(super) struct Names {
    table: ArcSwap<Table>,
    /// Of names that are not in the table: of an agent removed a moment ago, say. Shown with an empty agent.
    other: AtomicU64,
}

impl Names {
    pub(super) fn count(&self, agent: &str, credential: &str) {
        match self.table.load().get(agent).and_then(|of| of.get(credential)) {
            Some(count) => super::add_one(count),
            None => super::add_one(&self.other),
        }
    }

    pub(super) fn set<'a>(&self, agents: impl Iterator<Item = &'a str>, grants: impl Iterator<Item = (&'a str, &'a str)>) {
        let old = self.table.load();
        let mut new = Table::new();
        for (agent, credential) in agents.map(|a| (a, "")).chain(grants) {
            let count = old.get(agent).and_then(|of| of.get(credential)).cloned().unwrap_or_default();
            new.entry(agent.into()).or_default().insert(credential.into(), count);
        }
        self.table.store(Arc::new(new));
    }
}

impl Collector for Names {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let table = self.table.load();
        let help = "Requests by agent and the credential that went on them";
        let mut family = encoder.encode_descriptor("agent_requests", help, None, MetricType::Counter)?;
        let mut one = |agent: &str, credential: &str, n: u64| {
            let labels = [("agent", agent), ("credential", credential)];
            ConstCounter::new(n).encode(family.encode_family(&labels)?)
        };
        for (agent, of) in table.iter() {
            for (credential, n) in of {
                one(agent, credential, n.load(Ordering::Relaxed))?;
            }
        }
        // No agent has an empty name.
        one("", "", self.other.load(Ordering::Relaxed))
    }
}
