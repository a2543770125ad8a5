//! How what has changed in the store, the configuration and Vault's folders is put in force.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::changes::Known;
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

/// How long a Vault that has no settings to be asked with is left alone.
const VAULT_AGAIN: Duration = Duration::from_secs(3);

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
        transport(config, &self.leaves.authority().own_keys(), &self.resolver, &self.off_limits)
    }

    /// Looks whether the store has changed and takes the change. Off the reactor: it asks the disk.
    pub(in crate::server) async fn poll_store(self: Arc<Self>) {
        let polled = tokio::task::spawn_blocking(move || {
            let mut current = self.lock();
            if let Err(error) = self.take_store(&mut current, false).map_err(|e| e.to_string())
                && self.told().store.replace(error.clone()).as_ref() != Some(&error)
            {
                tracing::error!("the store cannot be read; what was read last stays in force: {error}");
            }
        });
        let _ = polled.await;
    }

    fn take_store(&self, current: &mut Current, always: bool) -> Result<(), ReloadError> {
        let found_more = self.found_more.swap(false, Ordering::AcqRel) || self.try_vault_again(current, always);
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
        self.told().store = None;
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
        self.tell(picture);
        let known = Known::of(picture);
        for change in current.known.changes(&known) {
            let name = change.agent.as_ref().or(change.credential.as_ref()).map_or("", String::as_str);
            tracing::info!("{} {name}: {}", change.event, change.detail);
            self.record_change(change);
        }
        current.known = known;
        self.usage.follow(&picture.roster);
        name_metrics(&self.metrics, &picture.roster);
        let mut cells = self.keeper.cells(picture.stored.as_ref());
        cells.extend(self.cells_there(current, picture));
        self.sources.replace(cells);
        warn_of_config(&current.config, &picture.roster);
    }

    /// Says of what was discovered what is new, each once.
    fn tell(&self, picture: &Picture) {
        let mut told = self.told();
        picture.problems.iter().filter(|p| !told.problems.contains(p)).for_each(|p| tracing::warn!("discovered, but not used: {p}"));
        picture.notes.iter().filter(|n| !told.notes.contains(n)).for_each(|n| tracing::warn!("discovered: {n}"));
        told.problems.clone_from(&picture.problems);
        told.notes.clone_from(&picture.notes);
    }

    /// What is held of the credentials whose values are in Vault. The first of them brings the connection to it.
    fn cells_there(&self, current: &mut Current, picture: &Picture) -> Cells {
        let wanted = picture.wanted();
        if wanted.is_empty() {
            current.vault_due = None;
            self.told().vault = None;
        }
        if self.remote.get().is_none() && !wanted.is_empty() && current.vault_due.is_none() {
            self.reach_vault(current);
        }
        match self.remote.get() {
            Some(remote) => remote.cells(wanted),
            None => {
                let why = self.told().vault.clone().unwrap_or_default();
                let closed = |w: Wanted| (w.id, Arc::new(Closed { version: w.version, why: why.clone() }) as Arc<dyn Held>);
                wanted.into_iter().map(closed).collect()
            }
        }
    }

    /// Tries again to set up what Vault is asked with, where that failed: somebody may have logged in since. Whether it can be asked now.
    fn try_vault_again(&self, current: &mut Current, at_once: bool) -> bool {
        current.vault_due.is_some_and(|due| at_once || Instant::now() >= due) && self.reach_vault(current)
    }

    /// Only `follow` and what leads to it set the connection, under the lock of what is in force.
    fn reach_vault(&self, current: &mut Current) -> bool {
        let config = &current.config.vault;
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let remote = match spare {
            Some(vault) => Ok(Remote::with(vault, config, &self.runtime)),
            None => Remote::new(config, &self.runtime),
        };
        match remote {
            Ok(remote) => {
                let _ = self.remote.set(remote);
                current.vault_due = None;
                self.told().vault = None;
                true
            }
            Err(error) => {
                let error = error.to_string();
                current.vault_due = Some(Instant::now() + VAULT_AGAIN);
                if self.told().vault.replace(error.clone()).as_ref() != Some(&error) {
                    tracing::error!("Vault cannot be asked, which is tried again: {error}");
                }
                false
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
