//! The state of a running proxy, and how a newer one is put in force.

mod build;
mod ca;
mod changes;
mod follow;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::error::ReloadError;
use super::keeper::Keeper;
use super::remote::Remote;
use super::usage::{Taken, UsageBook};
use super::vault_settings::is_for_the_proxy_alone;
use crate::admin::RunSessions;
use crate::audit::{AuditEvent, ChangeRecord};
use crate::clock;
use crate::config::Config;
use crate::home::Home;
use crate::host::Host;
use crate::proxy::Proxy;
use crate::session::SessionKey;
use crate::telemetry::audit_log::AuditLog;
use crate::telemetry::metrics::Metrics;
use crate::tls::{LeafCache, ListenerTls};
use crate::upstream::OffLimits;
use crate::upstream::resolve::Resolver;
use crate::vault::Sources;
use crate::vault::hashicorp::Vault;
use crate::vault::local::UsageBatch;

pub(super) use ca::write_ca;
use changes::{Change, Known};

/// How long the end of a token may take: it would end by itself later.
const FAREWELL: Duration = Duration::from_secs(2);

/// The state of a running proxy.
pub struct State {
    home: Home,
    config_file: PathBuf,
    config_required: bool,
    keeper: Keeper,
    remote: Arc<OnceLock<Arc<Remote>>>,
    /// What unlocked the store by Vault, until something else is asked with it.
    spare: Mutex<Option<Arc<Vault>>>,
    runtime: Handle,
    sources: Arc<Sources>,
    proxy: Arc<Proxy>,
    audit: Arc<AuditLog>,
    metrics: Arc<Metrics>,
    leaves: Arc<LeafCache>,
    runs: Arc<RunSessions>,
    usage: Arc<UsageBook>,
    resolver: Arc<Resolver>,
    session_key: Arc<SessionKey>,
    off_limits: OffLimits,
    /// Whether the CA is the store's own, so that a change of it there counts.
    own_ca: bool,
    is_serve: bool,
    serial: AtomicU64,
    /// Whether a folder in Vault has changed since the last look.
    found_more: AtomicBool,
    woken: Notify,
    /// What `/readyz` says. Nobody holds it for longer than a look: a reload holds `current` while it reads the disk.
    told: Mutex<Told>,
    /// One reload at a time; what is in force.
    current: Mutex<Current>,
}

struct Current {
    config: Config,
    marker: Option<u64>,
    counter: u64,
    /// What was discovered.
    known: Known,
    /// When Vault, which is needed and has no settings to be asked with, is tried again.
    vault_due: Option<Instant>,
}

/// What is not as it should be.
#[derive(Default)]
struct Told {
    /// Why the store could not be read last time, if so.
    store: Option<String>,
    /// Why the CA in Vault cannot be had, if so.
    ca: Option<String>,
    /// Why Vault cannot even be asked, if so.
    vault: Option<String>,
    /// What was discovered and does not count.
    problems: Vec<String>,
    /// What is to be known of what was discovered and counts.
    notes: Vec<String>,
}

impl State {
    /// The proxy.
    #[must_use]
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> &Arc<AuditLog> {
        &self.audit
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(super) fn runs(&self) -> &Arc<RunSessions> {
        &self.runs
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    pub(super) fn session_key(&self) -> &SessionKey {
        &self.session_key
    }

    /// The certificates that agents trust.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.leaves.authority().anchors_pem(clock::now())
    }

    pub(super) fn advertise(&self) -> Option<String> {
        self.lock().config.proxy.advertise.clone()
    }

    pub(super) fn admin_token_file(&self) -> Option<PathBuf> {
        self.lock().config.admin.token_file.clone()
    }

    pub(super) fn listener_tls(&self) -> Result<ListenerTls, ReloadError> {
        let current = self.lock();
        let proxy = &current.config.proxy;
        let made = match &proxy.tls_cert {
            Some((cert, key)) => ListenerTls::from_files(cert, key, Arc::clone(&self.leaves)),
            None => {
                let names = proxy.tls_names.iter().filter_map(|n| Host::parse(n).ok()).collect();
                ListenerTls::own(names, Arc::clone(&self.leaves))
            }
        };
        made.map_err(|e| ReloadError::listener(&current.config, &e))
    }

    /// Records a change by `serve` itself.
    pub(super) fn record(&self, event: &'static str, detail: &str) {
        self.record_change(Change { event, agent: None, credential: None, detail: detail.to_owned() });
    }

    fn record_change(&self, change: Change) {
        let Change { event, agent, credential, detail } = change;
        self.audit.record(AuditEvent::Change(Box::new(ChangeRecord { at: clock::now(), event, agent, credential, detail })));
    }

    /// What keeps the proxy from being ready.
    pub(super) fn problems(&self) -> Vec<String> {
        let store = self.told().store.as_ref().map(|why| format!("the store cannot be read: {why}"));
        let audit = self.audit.problem();
        let broken = self.proxy.live().snapshot.rules().filter(|r| r.unavailable.is_some_and(|why| why != "disabled")).count();
        let broken = (broken > 0).then(|| format!("{broken} credential(s) do not open; see `keyhatch store verify`"));
        store.into_iter().chain(audit).chain(broken).collect()
    }

    /// What an operator should know, though the proxy is ready.
    pub(super) fn notes(&self) -> Vec<String> {
        let there = self.remote.get().map(|r| r.notes()).unwrap_or_default();
        let told = self.told();
        let ca = told.ca.as_ref().map(|why| format!("the CA in Vault cannot be had; the last one signs on: {why}"));
        let vault = told.vault.as_ref().map(|why| format!("Vault cannot be asked: {why}"));
        let problems = told.problems.iter().map(|p| format!("not used: {p}"));
        there.into_iter().chain(ca).chain(vault).chain(problems).chain(told.notes.iter().cloned()).collect()
    }

    /// What comes from Vault, once anything does.
    pub(super) fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.get()
    }

    /// Ends what unlocked the store where nothing is asked of Vault, unless its log-in cannot be made again.
    pub(super) async fn close_unneeded(&self) {
        if self.remote.get().is_none() && !is_for_the_proxy_alone(&self.lock().config.vault) {
            self.close_spare().await;
        }
    }

    /// Ends what unlocked the store and was used for nothing else.
    pub(super) async fn close_spare(&self) {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(vault) = spare.filter(|vault| self.remote.get().is_none_or(|remote| !Arc::ptr_eq(remote.vault(), vault))) {
            let _ = tokio::time::timeout(FAREWELL, vault.close()).await;
        }
    }

    /// A folder in Vault has changed: it is taken with what the store has, at once.
    pub(super) fn found_more(&self) {
        self.found_more.store(true, Ordering::Release);
        self.woken.notify_one();
    }

    /// Completes when there is something to take that need not wait for the next look at the store.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// What is to be done now and then: the previous versions of secrets go after a day, the old CA after a rotation's overlap.
    pub(super) async fn tidy(self: Arc<Self>) {
        let tidied = tokio::task::spawn_blocking(move || self.keeper.tidy());
        if let Ok(Err(error)) = tidied.await {
            tracing::warn!("the store cannot be tidied: {error}");
        }
    }

    /// Writes down when agents and credentials were last in use.
    pub(super) async fn flush_usage(self: Arc<Self>) {
        let time = |at: i64| Timestamp::from_second(at).unwrap_or_default();
        let Taken { credentials, agents } = self.usage.take();
        if credentials.is_empty() && agents.is_empty() {
            return;
        }
        let batch = UsageBatch {
            credentials: credentials.into_iter().map(|(id, at, status)| (id, time(at), Some(status))).collect(),
            agents: agents.into_iter().map(|(name, at)| (name, time(at))).collect(),
        };
        let written = tokio::task::spawn_blocking(move || self.keeper.record_usage(&batch));
        if let Ok(Err(error)) = written.await {
            tracing::warn!("what was in use cannot be noted: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
