//! How the first state is made.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use tokio::sync::Notify;

use super::{Current, Known, State};
use crate::admin::RunSessions;
use crate::config::Config;
use crate::home::Home;
use crate::policy::Snapshot;
use crate::proxy::{Live, Proxy, ProxyParts, Seen};
use crate::server::ServerOptions;
use crate::server::error::{StartError, failed};
use crate::server::ground::Ground;
use crate::server::keeper::Keeper;
use crate::server::remote::Remote;
use crate::server::settings::{egress, settings, transport};
use crate::server::usage::UsageBook;
use crate::telemetry::audit_log::{AuditLog, AuditOptions};
use crate::telemetry::metrics::Metrics;
use crate::tls::LeafCache;
use crate::upstream::OffLimits;
use crate::upstream::resolve::Resolver;
use crate::vault::Sources;

/// What an origin says of a value that it does not take.
const UNAUTHORIZED: u16 = 401;

impl State {
    /// Builds the first state. Reads the trust anchors and opens the audit log. Blocks.
    pub(in crate::server) fn build(options: ServerOptions, ground: Ground, off_limits: OffLimits) -> Result<Arc<Self>, StartError> {
        let ServerOptions { home, config_file, config_required, config, vault, is_serve, .. } = options;
        let Ground { keeper, remote, ca, own_ca, picture, runtime } = ground;
        let leaves = Arc::new(LeafCache::new(Arc::new(ca)).map_err(failed)?);
        let audit = audit_log(&home, &config, &keeper)?;
        let remote: Arc<OnceLock<Arc<Remote>>> = Arc::new(remote.map_or_else(OnceLock::new, OnceLock::from));
        let metrics = metrics(&config, &audit, &remote);
        let (runs, usage) = (Arc::new(RunSessions::new(Instant::now())), Arc::new(UsageBook::default()));
        let (sources, resolver) = (Arc::new(Sources::default()), Arc::new(Resolver::system()));
        let session_key = Arc::new(keeper.session_key());
        let live = Live {
            snapshot: Snapshot::compile(&picture.roster, egress(&config), 1),
            settings: Arc::new(settings(&config)),
            transport: Arc::new(transport(&config, &leaves.authority().own_keys(), &resolver, &off_limits)?),
            session_key: Arc::clone(&session_key),
        };
        let held = Arc::clone(&runs);
        let proxy = Proxy::new(ProxyParts {
            live,
            leaves: Arc::clone(&leaves),
            source: Arc::clone(&sources) as _,
            audit: Arc::clone(&audit),
            metrics: Arc::clone(&metrics),
            seen: seen(&usage, &remote),
            held: Box::new(move |id| held.is_live(id, Instant::now())),
        });
        let marker = keeper.change_marker().ok().flatten();
        let counter = picture.stored.as_ref().map_or(0, |s| s.counter);
        let current = Current { config, marker, counter, known: Known::default(), vault_due: None };
        let state = Arc::new(Self {
            home,
            config_file,
            config_required,
            keeper,
            remote,
            spare: Mutex::new(vault),
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
            off_limits,
            own_ca,
            is_serve,
            serial: AtomicU64::new(1),
            found_more: AtomicBool::new(false),
            woken: Notify::new(),
            told: Mutex::default(),
            current: Mutex::new(current),
        });
        let mut current = state.lock();
        current.known = Known::of(&picture);
        state.follow(&mut current, &picture);
        if let Some(all) = current.known.summary() {
            tracing::info!("discovered in Vault: {all}");
            state.record("discovered.start", &all);
        }
        drop(current);
        Ok(state)
    }
}

fn audit_log(home: &Home, config: &Config, keeper: &Keeper) -> Result<Arc<AuditLog>, StartError> {
    let options = AuditOptions { max_size: config.audit.max_size, keep: config.audit.keep };
    let opened = AuditLog::open(&home.audit(), keeper.audit_key().map_err(failed)?, options, keeper.checkpoints());
    opened.map(Arc::new).map_err(|e| StartError::Audit(e.to_string()))
}

fn metrics(config: &Config, audit: &Arc<AuditLog>, remote: &Arc<OnceLock<Arc<Remote>>>) -> Arc<Metrics> {
    let metrics = Arc::new(Metrics::new(config.admin.token_file.is_some()));
    let (audit, remote) = (Arc::clone(audit), Arc::clone(remote));
    metrics.set_audit_lost(move || audit.lost());
    metrics.set_vault(move || remote.get().map(|r| r.numbers()).unwrap_or_default());
    metrics
}

/// What is done where an agent or a credential is seen in use.
fn seen(usage: &Arc<UsageBook>, remote: &Arc<OnceLock<Arc<Remote>>>) -> Box<dyn Fn(Seen<'_>) + Send + Sync> {
    let (usage, remote) = (Arc::clone(usage), Arc::clone(remote));
    Box::new(move |seen| {
        if let (Seen::Credential(id, UNAUTHORIZED), Some(remote)) = (&seen, remote.get()) {
            remote.refused(*id);
        }
        usage.note(&seen);
    })
}
