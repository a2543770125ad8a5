//! What follows when an answer carried the secret: it is counted, and too many suspend the grant.

use std::time::Instant;

use super::Carrier;
use crate::audit::{AuditEvent, ChangeRecord};
use crate::clock;
use crate::policy::Rule;
use crate::proxy::error::{Code, ProxyError};
use crate::proxy::record::Record;
use crate::proxy::suspension::{HITS, LASTS, WITHIN};

impl Carrier {
    /// An answer to a request that carried this credential held its secret, which was masked or cut off.
    pub(super) fn hit(&self, rule: &Rule, record: &mut Record) {
        record.scrubbed();
        self.proxy.metrics.scrubbed();
        let (agent, credential) = (self.proof.agent.name.as_str(), rule.name.as_str());
        tracing::warn!(id = %record.id(), host = %self.authority, agent, credential, "the answer carried the secret; it was masked or cut off");
        if !self.proxy.suspensions.hit(&self.proof.agent, rule, Instant::now()) {
            return;
        }
        let now = clock::now();
        let until = now.checked_add(LASTS).unwrap_or(now);
        let detail = format!("{} until {until:.0}", why());
        self.proxy.metrics.grant_suspended();
        tracing::warn!(host = %self.authority, agent, credential, "the grant is suspended: {detail}");
        let record = ChangeRecord { at: now, event: "grant.suspend", agent: Some(agent.to_owned()), credential: Some(credential.to_owned()), detail };
        self.proxy.audit.record(AuditEvent::Change(Box::new(record)));
    }

    /// Refuses a request whose grant is suspended.
    pub(super) fn refuse_suspended(&self, rule: &Rule) -> Result<(), ProxyError> {
        let Some(left) = self.proxy.suspensions.left(&self.proof.agent, rule, Instant::now()) else { return Ok(()) };
        self.proxy.metrics.credential_failure("suspended");
        let now = clock::now();
        let (agent, credential, until) = (&self.proof.agent.name, &rule.name, now.checked_add(left).unwrap_or(now));
        // No `Retry-After`: clients that obey it would seem to hang for an hour.
        Err(ProxyError::new(
            Code::CredentialUnavailable,
            format!(
                "agent `{agent}` may not use the credential `{credential}` until {until:.0}, since {}; the request was not sent. \
                 The operator ends this by `keyhatch credential rotate {credential}`, `keyhatch agent rotate {agent}` or a restart of `keyhatch serve`",
                why()
            ),
        ))
    }
}

fn why() -> String {
    format!("{HITS} answers within {} minutes carried its secret", WITHIN.as_secs() / 60)
}
