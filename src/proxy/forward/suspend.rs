//! What follows when an answer carried the secret.

use super::Carrier;
use crate::policy::Rule;
use crate::proxy::record::Record;

impl Carrier {
    /// An answer to a request that carried this credential held its secret, which was masked or cut off.
    pub(super) fn hit(&self, rule: &Rule, record: &mut Record) {
        record.scrubbed();
        self.proxy.metrics.scrubbed();
        let (agent, credential) = (self.proof.agent.name.as_str(), rule.name.as_str());
        tracing::warn!(id = %record.id(), host = %self.authority, agent, credential, "the answer carried the secret; it was masked or cut off");
    }
}
