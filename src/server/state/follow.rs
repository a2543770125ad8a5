//! How what has changed in the store, the configuration and Vault's folders is put in force.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Current, State};
use crate::config::Config;
use crate::credential::CredentialId;
use crate::policy::{Roster, Snapshot};
use crate::proxy::{Live, Transport};
use crate::server::error::{ReloadError, failed};
use crate::server::picture::Picture;
use crate::server::remote::Remote;
use crate::server::settings::{egress, settings, transport, warn_of_config};
use crate::telemetry::metrics::Metrics;
use crate::vault::hashicorp::Wanted;
use crate::vault::local::StoreState;
use crate::vault::{Cells, Fetched, Held, Unavailable};

impl State {
    /// Reads configuration and store anew and puts them in force; what cannot be read leaves all as it was.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub async fn reload(self: Arc<Self>) -> Result<(), ReloadError> {
        let reloading = tokio::task::spawn_blocking(move || self.reload_blocking());
        reloading.await.map_err(|_| failed("the reload was cut short"))?
    }

    pub(in crate::server) fn reload_blocking(&self) -> Result<(), ReloadError> {
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

    pub(super) fn picture(&self) -> Result<Picture, ReloadError> {
        Ok(Picture::new(self.keeper.load().map_err(failed)?, self.remote.get().map(|r| &**r)))
    }

    pub(super) fn transport(&self, config: &Config) -> Result<Transport, ReloadError> {
        transport(config, &self.leaves.authority().own_keys(), &self.resolver, &self.own_listeners)
    }

    /// Looks whether the store has changed and takes the change. Off the reactor: it asks the disk.
    pub(in crate::server) async fn poll_store(self: Arc<Self>) {
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
    pub(super) fn follow(&self, current: &mut Current, picture: &Picture) {
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
