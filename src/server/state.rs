//! The state of a running proxy, and how a newer one is put in force.

mod ca;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::ServerOptions;
use super::error::{ReloadError, StartError, failed};
use super::ground::Ground;
use super::keeper::Keeper;
use super::picture::Picture;
use super::remote::Remote;
use super::settings::{egress, settings, transport, warn_of_config};
use super::usage::{Taken, UsageBook};
use crate::admin::RunSessions;
use crate::audit::{AuditEvent, ChangeRecord};
use crate::clock;
use crate::config::Config;
use crate::credential::CredentialId;
use crate::home::Home;
use crate::host::Host;
use crate::policy::{Roster, Snapshot};
use crate::proxy::{Live, Proxy, ProxyParts, Seen, Transport};
use crate::session::SessionKey;
use crate::telemetry::audit_log::{AuditLog, AuditOptions};
use crate::telemetry::metrics::Metrics;
use crate::tls::{LeafCache, ListenerTls};
use crate::upstream::resolve::Resolver;
use crate::vault::hashicorp::Wanted;
use crate::vault::local::{StoreState, UsageBatch};
use crate::vault::{Cells, Fetched, Held, Sources, Unavailable};

pub(super) use ca::write_ca;

/// What an origin says of a value that it does not take.
const UNAUTHORIZED: u16 = 401;

/// The state of a running proxy.
pub struct State {
    home: Home,
    config_file: PathBuf,
    config_required: bool,
    keeper: Keeper,
    remote: Arc<OnceLock<Arc<Remote>>>,
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
    own_listeners: Vec<SocketAddr>,
    /// Whether the CA is the store's own, so that a change of it there counts.
    own_ca: bool,
    is_serve: bool,
    serial: AtomicU64,
    /// Whether a folder in Vault has changed since the last look.
    found_more: AtomicBool,
    woken: Notify,
    /// Why the CA in Vault cannot be had, if so.
    ca_trouble: Mutex<Option<String>>,
    /// One reload at a time; what is in force.
    current: Mutex<Current>,
}

struct Current {
    config: Config,
    marker: Option<u64>,
    counter: u64,
    /// Why the store could not be read last time, if so.
    trouble: Option<String>,
    /// What was discovered and does not count, as last reported.
    problems: Vec<String>,
}

impl State {
    /// Builds the first state. Reads the trust anchors and opens the audit log. Blocks.
    pub(super) fn build(options: ServerOptions, ground: Ground, own_listeners: Vec<SocketAddr>) -> Result<Arc<Self>, StartError> {
        let ServerOptions { home, config_file, config_required, config, is_serve, .. } = options;
        let Ground { keeper, remote, ca, own_ca, picture, runtime } = ground;
        let sources = Arc::new(Sources::default());
        let leaves = Arc::new(LeafCache::new(Arc::new(ca)).map_err(failed)?);
        let metrics = Arc::new(Metrics::new(config.admin.token_file.is_some()));
        let options = AuditOptions { max_size: config.audit.max_size, keep: config.audit.keep };
        let audit = AuditLog::open(&home.audit(), keeper.audit_key().map_err(failed)?, options, keeper.checkpoints())
            .map_err(|e| StartError::Audit(e.to_string()))?;
        let audit = Arc::new(audit);
        let lost = Arc::clone(&audit);
        metrics.set_audit_lost(move || lost.lost());
        let (runs, usage) = (Arc::new(RunSessions::new(Instant::now())), Arc::new(UsageBook::default()));
        let resolver = Arc::new(Resolver::system());
        let session_key = Arc::new(keeper.session_key());
        let transport = transport(&config, &leaves.authority().own_keys(), &resolver, &own_listeners)?;
        let live = Live {
            snapshot: Snapshot::compile(&picture.roster, egress(&config), 1),
            settings: Arc::new(settings(&config)),
            transport: Arc::new(transport),
            session_key: Arc::clone(&session_key),
        };
        let (noted, held) = (Arc::clone(&usage), Arc::clone(&runs));
        let remote: Arc<OnceLock<Arc<Remote>>> = Arc::new(remote.map_or_else(OnceLock::new, OnceLock::from));
        let (asked, counted) = (Arc::clone(&remote), Arc::clone(&remote));
        metrics.set_vault(move || counted.get().map(|r| r.numbers()).unwrap_or_default());
        let proxy = Proxy::new(ProxyParts {
            live,
            leaves: Arc::clone(&leaves),
            source: Arc::clone(&sources) as _,
            audit: Arc::clone(&audit),
            metrics: Arc::clone(&metrics),
            seen: Box::new(move |seen| {
                if let (Seen::Credential(id, UNAUTHORIZED), Some(remote)) = (&seen, asked.get()) {
                    remote.refused(*id);
                }
                noted.note(&seen);
            }),
            held: Box::new(move |id| held.is_live(id, Instant::now())),
        });
        let marker = keeper.change_marker().ok().flatten();
        let counter = picture.stored.as_ref().map_or(0, |s| s.counter);
        let current = Current { config, marker, counter, trouble: None, problems: Vec::new() };
        let state = Arc::new(Self {
            home,
            config_file,
            config_required,
            keeper,
            remote,
            runtime,
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
            own_ca,
            is_serve,
            serial: AtomicU64::new(1),
            found_more: AtomicBool::new(false),
            woken: Notify::new(),
            ca_trouble: Mutex::default(),
            current: Mutex::new(current),
        });
        state.follow(&mut state.lock(), &picture);
        Ok(state)
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

    /// What an operator should know, though the proxy is ready.
    pub(super) fn notes(&self) -> Vec<String> {
        let there = self.remote.get().map(|r| r.notes()).unwrap_or_default();
        there.into_iter().chain(self.ca_note()).chain(self.lock().problems.iter().map(|p| format!("not used: {p}"))).collect()
    }

    /// What comes from Vault, once anything does.
    pub(super) fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.get()
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
        let picture = self.picture()?;
        let (new, old) = (&config.proxy, &current.config.proxy);
        if new.listen != old.listen || new.tls_listen != old.tls_listen || config.admin.listen != current.config.admin.listen {
            tracing::warn!("listeners changed in the configuration: they are opened at the next start");
        }
        if config.vault != current.config.vault {
            tracing::warn!("[vault] changed in the configuration: it counts at the next start");
        }
        current.config = config;
        self.put_in_force(current, &picture, Some(transport), &self.proxy.live());
        self.record("serve.reload", "configuration");
        Ok(())
    }

    fn picture(&self) -> Result<Picture, ReloadError> {
        Ok(Picture::new(self.keeper.load().map_err(failed)?, self.remote.get().map(|r| &**r)))
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
        let found_more = self.found_more.swap(false, Ordering::AcqRel);
        let taken = self.take_store_and(current, found_more, always);
        if taken.is_err() {
            self.found_more.fetch_or(found_more, Ordering::AcqRel);
        }
        taken
    }

    fn take_store_and(&self, current: &mut Current, found_more: bool, always: bool) -> Result<(), ReloadError> {
        let marker = self.keeper.change_marker().map_err(failed)?;
        if !always && !found_more && current.marker == marker {
            return Ok(());
        }
        let picture = self.picture()?;
        current.marker = marker;
        current.trouble = None;
        let counter = picture.stored.as_ref().map_or(0, |s| s.counter);
        if !found_more && counter == current.counter && picture.stored.as_ref().is_none_or(|stored| self.same_faults(stored)) {
            return Ok(());
        }
        current.counter = counter;
        // Another CA is another key that must not vouch for origins.
        let transport = if self.own_ca && self.take_own_ca() { Some(Arc::new(self.transport(&current.config)?)) } else { None };
        self.put_in_force(current, &picture, transport, &self.proxy.live());
        Ok(())
    }

    /// A row that was damaged meanwhile does not change the counter, but what it says.
    fn same_faults(&self, stored: &StoreState) -> bool {
        let live = self.proxy.live();
        let broken_now = stored.roster.credentials.iter().filter(|c| c.broken.is_some()).count();
        let broken_then = live.snapshot.rules().filter(|r| r.unavailable == Some("does_not_open")).count();
        broken_now == broken_then && stored.agents.iter().all(|a| a.broken.is_none() == live.snapshot.agent(a.name.as_str()).is_some())
    }

    fn put_in_force(&self, current: &mut Current, picture: &Picture, transport: Option<Arc<Transport>>, old: &Live) {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let live = Live {
            snapshot: Snapshot::compile(&picture.roster, egress(&current.config), serial),
            settings: Arc::new(settings(&current.config)),
            transport: transport.unwrap_or_else(|| Arc::clone(&old.transport)),
            session_key: Arc::clone(&self.session_key),
        };
        self.follow(current, picture);
        self.proxy.replace(live);
    }

    /// Has everything that goes by names and values go by this picture.
    fn follow(&self, current: &mut Current, picture: &Picture) {
        picture.stored.iter().for_each(report_faults);
        if current.problems != picture.problems {
            picture.problems.iter().filter(|p| !current.problems.contains(p)).for_each(|p| tracing::warn!("discovered, but not used: {p}"));
            current.problems.clone_from(&picture.problems);
        }
        self.usage.follow(&picture.roster);
        name_metrics(&self.metrics, &picture.roster);
        let mut cells = self.keeper.cells(picture.stored.as_ref());
        cells.extend(self.cells_there(&current.config, picture));
        self.sources.replace(cells);
        warn_of_config(&current.config, &picture.roster);
    }

    /// What is held of the credentials whose values are in Vault. The first of them brings the connection to it.
    fn cells_there(&self, config: &Config, picture: &Picture) -> Cells {
        let wanted = picture.wanted();
        if let Some(remote) = self.remote.get() {
            return remote.cells(wanted);
        }
        if wanted.is_empty() {
            return Cells::new();
        }
        match Remote::new(&config.vault, &self.runtime) {
            Ok(remote) => {
                let cells = remote.cells(wanted);
                // Only `follow` sets it, under the lock of what is in force.
                let _ = self.remote.set(remote);
                cells
            }
            Err(error) => {
                tracing::error!("Vault cannot be asked: {error}");
                let closed = |w: Wanted| (w.id, Arc::new(Closed { version: w.version, why: error.to_string() }) as Arc<dyn Held>);
                wanted.into_iter().map(closed).collect()
            }
        }
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_metrics(metrics: &Metrics, roster: &Roster) {
    let names: HashMap<CredentialId, &str> = roster.credentials.iter().map(|c| (c.id, c.name.as_str())).collect();
    let grants = roster.grants.iter().filter_map(|(agent, id)| Some((agent.as_str(), *names.get(id)?)));
    metrics.set_names(roster.agents.iter().map(|a| a.name.as_str()), grants);
}

/// Stands for a value that cannot even be asked for.
struct Closed {
    version: u64,
    why: String,
}

impl Held for Closed {
    fn version(&self) -> u64 {
        self.version
    }

    fn material(&self) -> Fetched {
        Fetched::Now(Err(Unavailable::new("vault_settings", self.why.clone())))
    }
}

fn report_faults(stored: &StoreState) {
    for fault in &stored.faults {
        tracing::error!("{} `{}` is not as it was sealed: {}; `keyhatch store verify` says more", fault.what, fault.name, fault.why);
    }
}
