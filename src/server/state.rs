//! The state of a running proxy, and how a newer one is put in force.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::ServerOptions;
use super::checkpoints::{StoreCheckpoints, audit_key};
use super::error::{ReloadError, StartError, failed};
use super::settings::{egress, settings, transport, warn_of_config};
use super::usage::{Taken, UsageBook};
use crate::admin::RunSessions;
use crate::audit::{AuditEvent, ChangeRecord};
use crate::clock;
use crate::config::Config;
use crate::home::{self, Home, Mode};
use crate::host::Host;
use crate::policy::Snapshot;
use crate::proxy::{Live, Proxy, ProxyParts, Transport};
use crate::session::SessionKey;
use crate::telemetry::audit_log::{AuditLog, AuditOptions};
use crate::telemetry::metrics::Metrics;
use crate::tls::{CaState, LeafCache, ListenerTls};
use crate::upstream::resolve::Resolver;
use crate::vault::Sources;
use crate::vault::local::{LocalStore, LocalVault, StoreError, StoreState, UsageBatch};

/// The store's item that holds the CA.
pub const CA_ITEM: &str = "ca";

/// The state of a running proxy.
pub struct State {
    home: Home,
    config_file: PathBuf,
    config_required: bool,
    store: Arc<LocalStore>,
    local: LocalVault,
    sources: Arc<Sources>,
    proxy: Arc<Proxy>,
    audit: Arc<AuditLog>,
    metrics: Arc<Metrics>,
    leaves: Arc<LeafCache>,
    runs: Arc<RunSessions>,
    usage: Arc<UsageBook>,
    resolver: Arc<Resolver>,
    session_key: Arc<SessionKey>,
    own_listeners: Vec<SocketAddr>,
    is_serve: bool,
    serial: AtomicU64,
    /// One reload at a time; what is in force.
    current: Mutex<Current>,
}

struct Current {
    config: Config,
    marker: Option<u64>,
    counter: u64,
    /// Why the store could not be read last time, if so.
    trouble: Option<String>,
}

impl State {
    /// Builds the first state. Reads the store, the CA and the trust anchors, and opens the audit log.
    pub(super) async fn build(options: ServerOptions, own_listeners: Vec<SocketAddr>) -> Result<Arc<Self>, StartError> {
        tokio::task::spawn_blocking(move || Self::build_blocking(options, own_listeners)).await.map_err(|_| failed("the start was cut short"))?
    }

    fn build_blocking(options: ServerOptions, own_listeners: Vec<SocketAddr>) -> Result<Arc<Self>, StartError> {
        let ServerOptions { home, config_file, config_required, config, store, is_serve } = options;
        let stored = store.load().map_err(failed)?;
        let (local, sources) = (LocalVault::new(&store), Arc::new(Sources::default()));
        sources.replace(local.cells(&stored));
        report_faults(&stored);
        let ca = load_ca(&store, &home)?;
        let leaves = Arc::new(LeafCache::new(Arc::new(ca)).map_err(failed)?);
        let metrics = Arc::new(Metrics::new(config.admin.token_file.is_some()));
        let options = AuditOptions { max_size: config.audit.max_size, keep: config.audit.keep };
        let audit = AuditLog::open(&home.audit(), audit_key(&store).map_err(failed)?, options, Arc::new(StoreCheckpoints(Arc::clone(&store))))
            .map_err(|e| StartError::Audit(e.to_string()))?;
        let audit = Arc::new(audit);
        let lost = Arc::clone(&audit);
        metrics.set_audit_lost(move || lost.lost());
        let (runs, usage) = (Arc::new(RunSessions::new(Instant::now())), Arc::new(UsageBook::default()));
        usage.follow(&stored.roster);
        name_metrics(&metrics, &stored);
        let resolver = Arc::new(Resolver::system());
        let session_key = Arc::new(SessionKey::new(Zeroizing::new(*store.session_key().bytes())));
        let transport = transport(&config, &leaves.authority().own_keys(), &resolver, &own_listeners)?;
        let live = Live {
            snapshot: Snapshot::compile(&stored.roster, egress(&config), 1),
            settings: Arc::new(settings(&config)),
            transport: Arc::new(transport),
            session_key: Arc::clone(&session_key),
        };
        let (noted, held) = (Arc::clone(&usage), Arc::clone(&runs));
        let proxy = Proxy::new(ProxyParts {
            live,
            leaves: Arc::clone(&leaves),
            source: Arc::clone(&sources) as _,
            audit: Arc::clone(&audit),
            metrics: Arc::clone(&metrics),
            seen: Box::new(move |seen| noted.note(&seen)),
            held: Box::new(move |id| held.is_live(id, Instant::now())),
        });
        warn_of_config(&config, &stored);
        let marker = store.change_marker().ok();
        let current = Current { config, marker, counter: stored.counter, trouble: None };
        Ok(Arc::new(Self {
            home,
            config_file,
            config_required,
            store,
            local,
            sources,
            proxy,
            audit,
            metrics,
            leaves,
            runs,
            usage,
            resolver,
            session_key,
            own_listeners,
            is_serve,
            serial: AtomicU64::new(1),
            current: Mutex::new(current),
        }))
    }

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
        let record = ChangeRecord { at: clock::now(), event, agent: None, credential: None, detail: detail.to_owned() };
        self.audit.record(AuditEvent::Change(record));
    }

    /// What keeps the proxy from being ready.
    pub(super) fn problems(&self) -> Vec<String> {
        let store = self.lock().trouble.as_ref().map(|why| format!("the store cannot be read: {why}"));
        let audit = self.audit.problem();
        let broken = self.proxy.live().snapshot.rules().filter(|r| r.unavailable.is_some_and(|why| why != "disabled")).count();
        let broken = (broken > 0).then(|| format!("{broken} credential(s) do not open; see `keyhatch store verify`"));
        store.into_iter().chain(audit).chain(broken).collect()
    }

    /// Reads configuration and store anew and puts them in force; what cannot be read leaves all as it was.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub async fn reload(self: Arc<Self>) -> Result<(), ReloadError> {
        let reloading = tokio::task::spawn_blocking(move || self.reload_blocking());
        reloading.await.map_err(|_| failed("the reload was cut short"))?
    }

    pub(super) fn reload_blocking(&self) -> Result<(), ReloadError> {
        let mut current = self.lock();
        // The configuration of a `run` is the file's as it was at its start, with a listener of its own.
        if self.is_serve {
            let config = Config::load(&self.config_file, self.config_required).map_err(failed)?;
            if config != current.config {
                self.take_config(&mut current, config)?;
            }
        }
        self.take_store(&mut current, true)
    }

    fn take_config(&self, current: &mut Current, config: Config) -> Result<(), ReloadError> {
        // All that can fail comes before anything changes, or the next reload would find nothing new.
        let transport = Arc::new(self.transport(&config)?);
        let stored = self.store.load().map_err(failed)?;
        let (new, old) = (&config.proxy, &current.config.proxy);
        if new.listen != old.listen || new.tls_listen != old.tls_listen || config.admin.listen != current.config.admin.listen {
            tracing::warn!("listeners changed in the configuration: they are opened at the next start");
        }
        current.config = config;
        self.put_in_force(current, &stored, Some(transport), &self.proxy.live());
        self.record("serve.reload", "configuration");
        Ok(())
    }

    fn transport(&self, config: &Config) -> Result<Transport, ReloadError> {
        transport(config, &self.leaves.authority().own_keys(), &self.resolver, &self.own_listeners)
    }

    /// Looks whether the store has changed and takes the change. Off the reactor: it asks the disk.
    pub(super) async fn poll_store(self: Arc<Self>) {
        let polled = tokio::task::spawn_blocking(move || {
            let mut current = self.lock();
            if let Err(error) = self.take_store(&mut current, false).map_err(|e| e.to_string())
                && current.trouble.as_deref() != Some(error.as_str())
            {
                tracing::error!("the store cannot be read; what was read last stays in force: {error}");
                current.trouble = Some(error);
            }
        });
        let _ = polled.await;
    }

    fn take_store(&self, current: &mut Current, always: bool) -> Result<(), ReloadError> {
        let marker = self.store.change_marker().map_err(failed)?;
        if !always && current.marker == Some(marker) {
            return Ok(());
        }
        let stored = self.store.load().map_err(failed)?;
        current.marker = Some(marker);
        current.trouble = None;
        if stored.counter == current.counter && self.same_faults(&stored) {
            return Ok(());
        }
        current.counter = stored.counter;
        report_faults(&stored);
        // Another CA is another key that must not vouch for origins.
        let transport = if self.take_ca() { Some(Arc::new(self.transport(&current.config)?)) } else { None };
        self.put_in_force(current, &stored, transport, &self.proxy.live());
        Ok(())
    }

    /// A row that was damaged meanwhile does not change the counter, but what it says.
    fn same_faults(&self, stored: &StoreState) -> bool {
        let live = self.proxy.live();
        let broken_now = stored.roster.credentials.iter().filter(|c| c.broken.is_some()).count();
        let broken_then = live.snapshot.rules().filter(|r| r.unavailable == Some("does_not_open")).count();
        broken_now == broken_then
            && stored.roster.agents.iter().all(|a| live.snapshot.agent(a.name.as_str()).is_some())
            && stored.roster.agents.len() == live.snapshot.agent_count()
    }

    fn put_in_force(&self, current: &Current, stored: &StoreState, transport: Option<Arc<Transport>>, old: &Live) {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let live = Live {
            snapshot: Snapshot::compile(&stored.roster, egress(&current.config), serial),
            settings: Arc::new(settings(&current.config)),
            transport: transport.unwrap_or_else(|| Arc::clone(&old.transport)),
            session_key: Arc::clone(&self.session_key),
        };
        self.usage.follow(&stored.roster);
        name_metrics(&self.metrics, stored);
        self.sources.replace(self.local.cells(stored));
        self.proxy.replace(live);
        warn_of_config(&current.config, stored);
    }

    /// Signs with the CA that the store holds now. Says whether it is another one.
    fn take_ca(&self) -> bool {
        match load_ca(&self.store, &self.home) {
            Ok(ca) if ca.own_keys() != self.leaves.authority().own_keys() => {
                self.leaves.replace_ca(Arc::new(ca));
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::error!("the CA cannot be read; the one read last signs on: {error}");
                false
            }
        }
    }

    /// What is to be done now and then: the previous versions of secrets go after a day, the old CA after a rotation's overlap.
    pub(super) async fn tidy(self: Arc<Self>) {
        let tidied = tokio::task::spawn_blocking(move || -> Result<(), StoreError> {
            self.store.purge_previous()?;
            if let Some(secret) = self.store.item(CA_ITEM)?
                && let Ok(mut ca) = CaState::from_secret(&secret)
                && ca.settle(clock::now())
            {
                self.store.put_item(CA_ITEM, &ca.to_secret())?;
            }
            Ok(())
        });
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
        let store = Arc::clone(&self.store);
        let written = tokio::task::spawn_blocking(move || store.record_usage(&batch));
        if let Ok(Err(error)) = written.await {
            tracing::warn!("what was in use cannot be noted: {error}");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The CA of the store; `ca.pem` beside it is written anew where it differs.
fn load_ca(store: &LocalStore, home: &Home) -> Result<CaState, ReloadError> {
    let secret = store.item(CA_ITEM).map_err(failed)?.ok_or_else(|| failed("the store holds no CA; `keyhatch ca rotate --now` makes one"))?;
    let ca = CaState::from_secret(&secret).map_err(failed)?;
    let pem = ca.anchors_pem(clock::now());
    if std::fs::read_to_string(home.ca()).ok().as_deref() != Some(pem.as_str()) {
        home::write_atomic(&home.ca(), pem.as_bytes(), Mode::Public)
            .map_err(|e| failed(format!("{} cannot be written: {e}", home.ca().display())))?;
    }
    Ok(ca)
}

fn name_metrics(metrics: &Metrics, stored: &StoreState) {
    let agents = stored.agents.iter().map(|a| a.name.as_str());
    let grants = stored.agents.iter().flat_map(|a| a.grants.iter().map(|c| (a.name.as_str(), c.as_str())));
    metrics.set_names(agents, grants);
}

fn report_faults(stored: &StoreState) {
    for fault in &stored.faults {
        tracing::error!("{} `{}` is not as it was sealed: {}; `keyhatch store verify` says more", fault.what, fault.name, fault.why);
    }
}
