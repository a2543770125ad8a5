//! What a running proxy has from Vault: values, and where it is asked to, credentials and agents as well.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::discovered::{self, DiscoverRules, Discovered, Found};
use super::error::{ReloadError, failed};
use super::vault_settings::{Asker, freshness, vault_settings};
use crate::config::VaultConfig;
use crate::credential::CredentialId;
use crate::policy::AgentEntry;
use crate::telemetry::metrics::VaultNumbers;
use crate::vault::Cells;
use crate::vault::hashicorp::{Child, Entries, Folder, HashicorpSource, Standing, Vault, VaultStats, Wanted};

/// How long a start waits for values to be read. What is missing then is waited for by the requests that need it.
const FIRST: Duration = Duration::from_secs(3);

/// A set-up's side of Vault.
pub struct Remote {
    vault: Arc<Vault>,
    source: HashicorpSource,
    refresh: Duration,
    /// `discover_fields`
    fields: bool,
    credentials: Option<Folder<Credentials>>,
    agents: Option<Folder<Agents>>,
}

/// A client by what `[vault]` and the environment say. Nothing is asked yet.
///
/// # Errors
/// [`ReloadError`] where the settings cannot be used, with the key that names a file which cannot.
pub fn vault_client(config: &VaultConfig, asker: Asker) -> Result<Arc<Vault>, ReloadError> {
    Vault::new(vault_settings(config, asker)?).map_err(|e| {
        let names = |file: &Path| e.detail.contains(&*file.to_string_lossy());
        let key = match (&config.ca_file, &config.client_cert) {
            (Some(file), _) if names(file) => "vault.ca_file",
            (_, Some((_, key))) if names(key) => "vault.client_key",
            (_, Some((cert, _))) if names(cert) => "vault.client_cert",
            _ => return failed(e),
        };
        ReloadError::Setting { key, why: e.to_string() }
    })
}

/// What the folders in Vault hold now.
#[derive(Default)]
pub struct FoundThere {
    /// The credentials that can be used, and those whose hosts are guarded in their stead.
    pub credentials: Vec<Discovered>,
    /// The agents that can be used.
    pub agents: Vec<AgentEntry>,
    /// What cannot be, a line each.
    pub problems: Vec<String>,
    /// What an operator should know of what can be, a line each.
    pub notes: Vec<String>,
}

impl Remote {
    /// Sets it up: reads what `[vault]` and the environment say, and asks nothing of Vault yet.
    ///
    /// # Errors
    /// [`ReloadError`] where the settings cannot be used.
    pub fn new(config: &VaultConfig, runtime: &Handle) -> Result<Arc<Self>, ReloadError> {
        let vault = vault_client(config, Asker::Proxy)?;
        vault.warnings().iter().for_each(|w| tracing::warn!("{w}"));
        Ok(Self::with(vault, config, runtime))
    }

    /// The same with a client that is there already.
    #[must_use]
    pub fn with(vault: Arc<Vault>, config: &VaultConfig, runtime: &Handle) -> Arc<Self> {
        let rules = DiscoverRules { allow: config.discover_allow.clone(), fields: config.discover_fields };
        let credentials = config.discover.as_deref().map(|path| Folder::new(path, Credentials { folder: path.to_owned(), rules }));
        let agents = config.discover_agents.as_deref().map(|path| Folder::new(path, Agents { folder: path.to_owned() }));
        let source = HashicorpSource::new(Arc::clone(&vault), freshness(config), runtime.clone());
        Arc::new(Self { vault, source, refresh: config.refresh, fields: config.discover_fields, credentials, agents })
    }

    /// The client.
    #[must_use]
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Looks into the folders for the first time.
    ///
    /// # Errors
    /// [`ReloadError`] where one cannot be listed: without it nobody knows which hosts are to be guarded.
    pub async fn look(&self) -> Result<(), ReloadError> {
        if let Some(folder) = &self.credentials {
            folder.look(&self.vault).await.map_err(|e| ReloadError::vault("vault.discover", e))?;
        }
        if let Some(folder) = &self.agents {
            folder.look(&self.vault).await.map_err(|e| ReloadError::vault("vault.discover_agents", e))?;
        }
        Ok(())
    }

    /// Waits a little for the first values.
    pub async fn settled(&self) {
        self.source.settled(FIRST).await;
    }

    /// What is in the folders, as last read.
    #[must_use]
    pub fn found(&self) -> FoundThere {
        let mut out = FoundThere::default();
        if let Some(folder) = &self.credentials {
            out.credentials = sort(folder, &mut out.problems);
            out.notes = out.credentials.iter().flat_map(|d| d.notes.iter().cloned()).collect();
        }
        if let Some(folder) = &self.agents {
            out.agents = sort(folder, &mut out.problems);
        }
        out
    }

    /// The cells of these credentials.
    pub(super) fn cells(&self, wanted: Vec<Wanted>) -> Cells {
        self.source.cells(wanted)
    }

    /// Tells of each value that ends.
    pub(super) fn ends(&self) -> watch::Receiver<u64> {
        self.source.ends()
    }

    /// An origin refused the value of this credential.
    pub(super) fn refused(&self, id: CredentialId) {
        self.source.refused(id);
        // There another value is another version of the entry, which the folder alone tells of.
        if let (Some(folder), true) = (&self.credentials, self.fields) {
            folder.poke();
        }
    }

    /// Keeps token and folders up to date until it is dropped. `changed` is called after each change of a folder.
    pub(super) async fn keep(self: Arc<Self>, changed: impl Fn() + Send + Sync + 'static) {
        let mut tasks = JoinSet::new();
        let changed = Arc::new(changed);
        let (own, told) = (Arc::clone(&self), Arc::clone(&changed));
        tasks.spawn(async move {
            if let Some(folder) = &own.credentials {
                keep(folder, &own, &*told).await;
            }
        });
        let own = Arc::clone(&self);
        tasks.spawn(async move {
            if let Some(folder) = &own.agents {
                keep(folder, &own, &*changed).await;
            }
        });
        let renewal = AbortOnDrop(self.vault.spawn_renewal());
        while let Some(ended) = tasks.join_next().await {
            if ended.is_err() {
                tracing::error!("looking into a folder of Vault failed; what was discovered last stays; restart keyhatch");
            }
        }
        // Without folders there is the token alone to be kept.
        std::future::pending::<()>().await;
        drop(renewal);
    }

    /// Revokes what was leased, and the token where it is this process's own.
    pub(super) async fn close(&self) {
        self.source.close().await;
        self.vault.close().await;
    }

    /// How Vault stands, for `/readyz`, a line for each thing that is not as it should be. None of them makes the proxy
    /// unready: all replicas would be at once, and a balancer would take away what still works.
    pub(super) fn notes(&self) -> Vec<String> {
        let said = self.source.standings().into_iter().filter_map(|(path, standing)| match standing {
            Standing::Gone(why) => Some(format!("{path} in Vault cannot be had, requests that need it are refused: {why}")),
            Standing::Stale(why) => Some(format!("{path}: Vault cannot be asked, the value known last is used on: {why}")),
            Standing::Unread | Standing::Fresh => None,
        });
        let troubles = [self.credentials.as_ref().and_then(Folder::trouble), self.agents.as_ref().and_then(Folder::trouble)];
        said.chain(troubles.into_iter().flatten().map(|why| format!("what was discovered last stays: {why}"))).collect()
    }

    /// What was asked of Vault so far, and how many paths are not as they should be.
    pub(super) fn numbers(&self) -> VaultNumbers {
        let VaultStats { reads, logins, login_failures, renewals, errors } = self.vault.stats();
        let all = self.source.standings();
        let count = |is: fn(&Standing) -> bool| all.iter().filter(|(_, standing)| is(standing)).count() as u64;
        let (stale, unavailable) = (count(|s| matches!(s, Standing::Stale(_))), count(|s| matches!(s, Standing::Gone(_))));
        VaultNumbers { reads, errors, logins, login_failures, renewals, stale, unavailable }
    }
}

/// Ends the task with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep<E: Entries>(folder: &Folder<E>, remote: &Remote, changed: &(dyn Fn() + Send + Sync)) {
    let mut changes = folder.changes();
    changes.mark_unchanged();
    let told = async {
        while changes.changed().await.is_ok() {
            changed();
        }
    };
    tokio::join!(folder.keep(&remote.vault, remote.refresh), told);
}

fn sort<E: Entries>(folder: &Folder<E>, problems: &mut Vec<String>) -> Vec<E::Item> {
    let listing = folder.listing();
    let all = listing.iter().flat_map(|l| l.values());
    problems.extend(all.clone().filter_map(|made| made.fault.clone()));
    all.filter_map(|made| made.item.clone()).collect()
}

/// `discover`
struct Credentials {
    folder: String,
    rules: DiscoverRules,
}

impl Entries for Credentials {
    type Item = Discovered;

    fn check_name(&self, name: &str) -> Result<(), String> {
        discovered::credential_name(&self.folder, name).map(drop)
    }

    fn make(&self, child: &Child<'_>) -> Result<Discovered, String> {
        if child.fields.is_none() && self.rules.fields {
            return Err(format!("{}/{}: its value is deleted, and with discover_fields that may have said its terms", self.folder, child.name));
        }
        self.found(child, |found| discovered::credential(found, &self.rules))
    }

    /// Requests to its hosts are refused, and not let pass without it.
    fn withhold(&self, child: &Child<'_>, last: Option<&Discovered>) -> Option<Discovered> {
        let known =
            child.custom.is_some() && (child.fields.is_some() || !self.rules.fields || child.custom.is_some_and(|c| c.contains_key("agents")));
        self.found(child, |found| discovered::guard(found, known, &self.rules, last))
    }
}

impl Credentials {
    fn found<T>(&self, child: &Child<'_>, act: impl FnOnce(&Found<'_>) -> T) -> T {
        let names: Vec<&str> = child.fields.iter().flat_map(|f| f.names()).collect();
        let plain = |name: &str| child.fields.and_then(|f| f.text(name));
        let (folder, empty, none) = (&self.folder, child.fields.is_none(), BTreeMap::new());
        let (name, version, custom) = (child.name, child.version, child.custom.unwrap_or(&none));
        act(&Found { folder, name, custom, version, empty, field_names: &names, plain: &plain })
    }
}

/// `discover_agents`
struct Agents {
    folder: String,
}

impl Entries for Agents {
    type Item = AgentEntry;

    fn check_name(&self, name: &str) -> Result<(), String> {
        discovered::agent_name(&self.folder, name).map(drop)
    }

    fn make(&self, child: &Child<'_>) -> Result<AgentEntry, String> {
        let (digest, none) = (child.fields.and_then(|f| f.text("token_sha256")), BTreeMap::new());
        let token = child.fields.and_then(|f| f.get("token"));
        discovered::agent(child.name, child.custom.unwrap_or(&none), token, digest.as_deref(), child.version)
    }

    /// It proves itself no more.
    fn withhold(&self, _: &Child<'_>, _: Option<&AgentEntry>) -> Option<AgentEntry> {
        None
    }
}
