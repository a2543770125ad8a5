//! What all connections share, and what of it changes while they are open.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::limits::{Ceilings, Counts};
use super::refusals::Refusals;
use super::suspension::Suspensions;
use crate::agent::AgentName;
use crate::policy::Snapshot;
use crate::session::SessionKey;
use crate::telemetry::audit_log::AuditLog;
use crate::telemetry::metrics::Metrics;
use crate::tls::LeafCache;
use crate::upstream::{DialError, DialErrorKind, Dialer, Pool};
use crate::vault::CredentialSource;

/// Between a change of the secrets and that of the state stand a few steps of another thread.
const SUPERSEDED: Duration = Duration::from_millis(500);

/// What is shared by all connections of one proxy.
pub struct Proxy {
    live: ArcSwap<Live>,
    changed: watch::Sender<u64>,
    draining: watch::Sender<bool>,
    pub(super) leaves: Arc<LeafCache>,
    pub(super) source: Arc<dyn CredentialSource>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) counts: Arc<Counts>,
    pub(super) suspensions: Suspensions,
    pub(super) refusals: Refusals,
    pub(super) seen: Box<dyn Fn(Seen<'_>) + Send + Sync>,
    pub(super) held: Box<dyn Fn(u64) -> bool + Send + Sync>,
}

/// What is noted of an agent or a credential in use, for `list`.
pub enum Seen<'a> {
    /// An agent proved itself.
    Agent(&'a AgentName),
    /// An origin answered a request that carried this credential.
    Credential(crate::credential::CredentialId, u16),
}

/// What a proxy is made of.
pub struct ProxyParts {
    /// The state at the start.
    pub live: Live,
    /// Leaf certificates.
    pub leaves: Arc<LeafCache>,
    /// Secrets.
    pub source: Arc<dyn CredentialSource>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Called when an agent or a credential is seen.
    pub seen: Box<dyn Fn(Seen<'_>) + Send + Sync>,
    /// Whether the session of a `run` is still held by its command.
    pub held: Box<dyn Fn(u64) -> bool + Send + Sync>,
}

/// One consistent state: readers take it whole.
pub struct Live {
    /// Who may use what.
    pub snapshot: Snapshot,
    /// What the configuration says.
    pub settings: Arc<Settings>,
    /// How origins are reached.
    pub transport: Arc<Transport>,
    /// What session tokens are signed with.
    pub session_key: Arc<SessionKey>,
}

/// What of the configuration the data path looks at.
pub struct Settings {
    /// `[proxy] auth = "required"`.
    pub auth_required: bool,
    /// `[timeouts] request_head`.
    pub request_head: Duration,
    /// `[timeouts] tls`.
    pub tls: Duration,
    /// `[timeouts] idle`.
    pub idle: Duration,
    /// `[limits] head_bytes`.
    pub head_bytes: usize,
    /// The same for an agent that is known, and no more than that.
    pub agent_head_bytes: usize,
    /// `[limits]`, counted.
    pub ceilings: Ceilings,
    /// `[audit] on_failure = "deny"`.
    pub deny_without_audit: bool,
}

/// Connections made under the same settings.
pub struct Transport {
    /// Opens them.
    pub dialer: Dialer,
    /// Keeps them.
    pub pool: Pool,
}

impl Transport {
    /// Whether a connection for which there was no descriptor may find one now: idle ones were closed for it.
    pub(super) fn gave_way(&self, error: Option<&DialError>) -> bool {
        error.is_some_and(|e| e.kind == DialErrorKind::NoDescriptor) && self.pool.give_way()
    }
}

impl Proxy {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: ProxyParts) -> Arc<Self> {
        let serial = parts.live.snapshot.serial();
        Arc::new(Self {
            live: ArcSwap::from_pointee(parts.live),
            changed: watch::Sender::new(serial),
            draining: watch::Sender::new(false),
            leaves: parts.leaves,
            source: parts.source,
            audit: parts.audit,
            metrics: parts.metrics,
            counts: Arc::default(),
            suspensions: Suspensions::default(),
            refusals: Refusals::default(),
            seen: parts.seen,
            held: parts.held,
        })
    }

    /// The present state.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// The serial of the present state, without taking hold of it.
    pub(super) fn serial(&self) -> u64 {
        self.live.load().snapshot.serial()
    }

    /// Waits until another state than that is in force; not for long.
    pub(super) async fn leaves_behind(&self, serial: u64) {
        let mut changes = self.changes();
        // Whoever waited in vain decides by what is there.
        let _ = tokio::time::timeout(SUPERSEDED, changes.wait_for(|now| *now != serial)).await;
    }

    /// Puts another state in force: from the next request on, inside open tunnels too.
    pub fn replace(&self, live: Live) {
        let serial = live.snapshot.serial();
        let old = self.live.swap(Arc::new(live));
        if !Arc::ptr_eq(&old.transport, &self.live.load().transport) {
            old.transport.pool.clear();
        }
        self.changed.send_replace(serial);
    }

    /// Has WebSockets judged anew: some value cannot be had any more.
    pub fn judge_anew(&self) {
        self.changed.send_modify(|_| {});
    }

    /// Tells every connection to end once its request in flight has ended.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Closes idle connections to origins that are too old.
    pub fn sweep(&self) {
        self.live.load().transport.pool.sweep();
    }

    /// How many client connections, requests and tunnels there are.
    #[must_use]
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    pub(super) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}
