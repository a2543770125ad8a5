//! What a command works with: the home, the configuration, the unlocked store, and the record of what it changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use super::Globals;
use super::error::{CommandError, ErrorKind};
use super::output::Output;
use super::vault;
use crate::admin::ErrorCode;
use crate::admin::client::{AdminClient, ClientError};
use crate::agent::AgentName;
use crate::audit::{AuditEvent, ChangeRecord};
use crate::config::{Config, ConfigError, UnlockMethod};
use crate::credential::CredentialName;
use crate::envelope::{SealedBy, UnlockKey};
use crate::home::{Home, HomeError, HomeErrorKind, UnlockSources};
use crate::server::transit::{self, TransitError};
use crate::server::{CA_ITEM, ReloadError, StartError, StoreCheckpoints, audit_key};
use crate::telemetry::audit_log::{AuditOptions, append_now};
use crate::tls::CaState;
use crate::vault::hashicorp::{TransitKey, Vault};
use crate::vault::local::{CredentialInfo, LocalStore, StoreError, StoreErrorKind, StoreState};
use crate::{clock, environment};

/// What every command is given.
pub(crate) struct Context {
    /// Where it writes.
    pub(crate) out: Output,
    globals: Globals,
}

impl Context {
    /// For these global options.
    pub(crate) fn new(globals: Globals) -> Self {
        Self { out: Output { json: globals.json }, globals }
    }

    /// Where the home is or shall be.
    pub(crate) fn home_place(&self) -> Result<Home, CommandError> {
        Ok(Home::locate(self.globals.home.as_deref())?)
    }

    /// The home, which must exist and be safe.
    pub(crate) fn home(&self) -> Result<Home, CommandError> {
        let home = self.home_place()?;
        match home.check() {
            Err(HomeError::Missing(dir)) if matches!(self.without_store(), Ok(Some(_))) => {
                Err(CommandError::failed(format!("there is nothing at {} yet", dir.display())).hint("`keyhatch serve` and `keyhatch run` make it"))
            }
            checked => Ok(checked.map(|()| home)?),
        }
    }

    /// The configuration file, and whether it was named, so that it must exist.
    pub(crate) fn config_file(&self, home: &Home) -> (PathBuf, bool) {
        let named = self.globals.config.clone().or_else(|| environment::var("KEYHATCH_CONFIG").map(PathBuf::from));
        named.map_or_else(|| (home.config(), false), |file| (file, true))
    }

    /// The configuration.
    pub(crate) fn config(&self, home: &Home) -> Result<Config, CommandError> {
        let (file, must_exist) = self.config_file(home);
        Ok(Config::load(&file, must_exist)?)
    }

    /// The ways to a passphrase or key file.
    pub(crate) fn sources(&self, config: &Config) -> UnlockSources {
        UnlockSources { passphrase_file: self.globals.passphrase_file.clone(), key_file: config.store.key_file.clone() }
    }

    /// What unlocks a store file.
    pub(crate) fn key_for(&self, config: &Config, store: &Path) -> Result<UnlockKey, CommandError> {
        self.key_of(config, store, &sealed_as_meant(config, store)?)
    }

    /// What unlocks a store file that is sealed so: from the first source that is set, or from Vault.
    pub(crate) fn key_of(&self, config: &Config, store: &Path, sealed: &SealedBy) -> Result<UnlockKey, CommandError> {
        self.key_and_vault(config, store, sealed, Patience::None).map(|(key, _)| key)
    }

    /// The same, and what Vault was asked with, for whoever goes on with it.
    fn key_and_vault(&self, config: &Config, store: &Path, sealed: &SealedBy, patience: Patience) -> Result<Key, CommandError> {
        match self.sources(config).unlock(store, sealed)? {
            Some(key) => Ok((key, None)),
            None => ask_vault(config, store, sealed, patience),
        }
    }

    /// The unlocked store. The configuration is read first: nothing is asked for where that is wrong.
    pub(crate) fn unlock(&self) -> Result<Unlocked, CommandError> {
        self.unlock_with(Patience::None).map(|(unlocked, _)| unlocked)
    }

    /// The same, with patience for a Vault that is to open it, and what that was asked with.
    pub(crate) fn unlock_with(&self, patience: Patience) -> Result<(Unlocked, Option<Arc<Vault>>), CommandError> {
        let home = self.home()?;
        let config = self.config(&home)?;
        let path = home.store();
        let (key, vault) = self.key_and_vault(&config, &path, &sealed_as_meant(&config, &path)?, patience)?;
        let opened = LocalStore::open(&path, &key);
        if let (Err(_), Some(vault)) = (&opened, &vault) {
            wait_for(transit::farewell(vault))?;
        }
        Ok((Unlocked { home, config, store: Arc::new(opened?) }, vault))
    }

    /// A connection to the `serve` of this home, if one runs.
    pub(crate) fn admin(&self, home: &Home) -> Result<AdminClient, ClientError> {
        AdminClient::connect(&home.admin_sock())
    }
}

/// What unlocks a store, and what Vault was asked with for it, where that is to be gone on with.
pub(crate) type Key = (UnlockKey, Option<Arc<Vault>>);

/// How long a Vault that is away is waited for, and whether it is gone on with once the store is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all, and no further than that.
    None,
    /// Not at all; for a proxy, which goes on with it.
    Run,
    /// As long as a Vault may take that starts together with `serve`, which goes on with it.
    Start,
}

/// The home, the configuration and the store, unlocked.
pub(crate) struct Unlocked {
    /// The home.
    pub(crate) home: Home,
    /// The configuration.
    pub(crate) config: Config,
    /// The store.
    pub(crate) store: Arc<LocalStore>,
}

impl Unlocked {
    /// Everything that the store holds, but for secrets.
    pub(crate) fn state(&self) -> Result<StoreState, CommandError> {
        Ok(self.store.load()?)
    }

    /// One credential.
    pub(crate) fn credential(&self, name: &CredentialName) -> Result<CredentialInfo, CommandError> {
        let found = self.state()?.credentials.into_iter().find(|c| c.entry.name == *name);
        found.ok_or_else(|| CommandError::not_found(format!("there is no credential `{name}`")).hint("see `keyhatch credential list`"))
    }

    /// The CA.
    pub(crate) fn ca(&self) -> Result<CaState, CommandError> {
        let missing =
            || CommandError::failed(format!("{} holds no CA", self.home.store().display())).hint("make one with `keyhatch ca rotate --now`");
        let secret = self.store.item(CA_ITEM)?.ok_or_else(missing)?;
        CaState::from_secret(&secret).map_err(CommandError::doing("the CA cannot be read from the store"))
    }

    /// Where the audit log's checkpoints are kept.
    pub(crate) fn checkpoints(&self) -> StoreCheckpoints {
        StoreCheckpoints(Arc::clone(&self.store))
    }

    /// Records a change in the audit log, and has a running `serve` take it up at once.
    pub(crate) fn changed(&self, change: Change<'_>) -> Result<(), CommandError> {
        let record = AuditEvent::Change(Box::new(ChangeRecord {
            at: clock::now(),
            event: change.event,
            agent: change.agent.map(ToString::to_string),
            credential: change.credential.map(ToString::to_string),
            detail: change.detail,
        }));
        let options = AuditOptions { max_size: self.config.audit.max_size, keep: self.config.audit.keep };
        let recorded = append_now(&self.home.audit(), audit_key(&self.store)?, options, &self.checkpoints(), record);
        // A serve that is not there needs no word; one that does not answer looks for changes by itself.
        if let Ok(mut serve) = AdminClient::connect(&self.home.admin_sock()) {
            let _ = serve.reload();
        }
        recorded.map_err(CommandError::doing(format!("{} was done, but is not in the audit log", change.event)))
    }
}

/// What a command changed.
pub(crate) struct Change<'a> {
    /// `credential.add`, ...
    pub(crate) event: &'static str,
    /// The agent concerned.
    pub(crate) agent: Option<&'a AgentName>,
    /// The credential concerned.
    pub(crate) credential: Option<&'a CredentialName>,
    /// More, in a few words; never a secret.
    pub(crate) detail: String,
}

impl From<StoreError> for CommandError {
    fn from(e: StoreError) -> Self {
        let kind = match e.kind() {
            StoreErrorKind::Locked => ErrorKind::Locked,
            StoreErrorKind::NotFound => ErrorKind::NotFound,
            StoreErrorKind::Usage => ErrorKind::Usage,
            StoreErrorKind::Failed => ErrorKind::Failed,
        };
        Self::new(kind, e.to_string())
    }
}

impl From<HomeError> for CommandError {
    fn from(e: HomeError) -> Self {
        let kind = match e.kind() {
            HomeErrorKind::Locked => ErrorKind::Locked,
            HomeErrorKind::Failed => ErrorKind::Failed,
        };
        Self::new(kind, e.to_string())
    }
}

impl From<ClientError> for CommandError {
    fn from(e: ClientError) -> Self {
        match &e {
            ClientError::Refused(refused) if refused.code == ErrorCode::NoSuchAgent => {
                Self::not_found(e.to_string()).hint("see `keyhatch agent list`")
            }
            _ => Self::failed(e.to_string()),
        }
    }
}

/// Why a server did not start; a bad value of the configuration with its place.
pub(crate) fn not_started(config_file: &Path, e: StartError) -> CommandError {
    match e {
        StartError::State(ReloadError::Setting { key, why }) => ConfigError::in_use(config_file, key, why).into(),
        StartError::State(ReloadError::Vault { key, error }) => {
            let hint = vault::mend(&error).unwrap_or("`keyhatch doctor` says more");
            CommandError::failed(format!("`{key}` cannot be had: {error}")).hint(hint)
        }
        e => CommandError::failed(e.to_string()),
    }
}

/// How a store file is sealed, which the configuration must not contradict.
pub(crate) fn sealed_as_meant(config: &Config, store: &Path) -> Result<SealedBy, CommandError> {
    let sealed = LocalStore::sealed_by(store)?;
    let Some(said) = contradiction(config, &sealed) else { return Ok(sealed) };
    let message = format!("{} is sealed with {sealed}, but the configuration says [store] {said}", store.display());
    Err(CommandError::new(ErrorKind::Locked, message).hint("change the configuration, or reseal the store with `keyhatch store rekey`"))
}

/// What the configuration says against a seal.
pub(crate) fn contradiction(config: &Config, sealed: &SealedBy) -> Option<String> {
    let method = method_of(sealed);
    match (config.store.unlock, &config.store.transit_key, sealed) {
        (Some(unlock), ..) if unlock != method => Some(format!("unlock = \"{}\"", unlock.word())),
        (_, Some(said), SealedBy::Transit { key, .. }) if said != key => Some(format!("transit_key = \"{said}\"")),
        _ => None,
    }
}

/// The method that opens what is sealed so.
pub(crate) fn method_of(sealed: &SealedBy) -> UnlockMethod {
    match sealed {
        SealedBy::Passphrase => UnlockMethod::Passphrase,
        SealedBy::KeyFile { .. } => UnlockMethod::KeyFile,
        SealedBy::Transit { .. } => UnlockMethod::VaultTransit,
    }
}

/// Has Vault unwrap the key of a store.
pub(crate) fn ask_vault(config: &Config, store: &Path, sealed: &SealedBy, patience: Patience) -> Result<Key, CommandError> {
    let stay = |patient| async move { transit::open_and_stay(config, sealed, patient).await.map(|(key, vault)| (key, Some(vault))) };
    let opened = match patience {
        Patience::None => wait_for(transit::open(config, sealed))?.map(|key| (key, None)),
        Patience::Run => wait_for(stay(false))?,
        Patience::Start => wait_for(stay(true))?,
    };
    opened.map_err(|e| no_key(&format!("{} stays locked", store.display()), &e))
}

/// Has Vault wrap a new key for a store, with the key that has this name, or mount and name.
pub(crate) fn new_transit_key(config: &Config, key: &str) -> Result<UnlockKey, CommandError> {
    let key = TransitKey::parse(key).map_err(|e| CommandError::usage(e.to_string()))?;
    wait_for(transit::make(config, &key))?.map_err(|e| no_key("the store cannot be sealed by Vault, and nothing was changed", &e))
}

fn no_key(what: &str, e: &TransitError) -> CommandError {
    let error = CommandError::new(ErrorKind::Locked, format!("{what}: {e}"));
    match e.mend() {
        Some(mend) => error.hint(mend),
        None => error,
    }
}

/// Waits for something of the network in a command that has no runtime yet.
fn wait_for<F: Future>(future: F) -> Result<F::Output, CommandError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(CommandError::doing("the runtime cannot be started"))?;
    Ok(runtime.block_on(future))
}

/// The runtime for a command that waits for the network or for another process.
pub(crate) fn runtime() -> Result<Runtime, CommandError> {
    Builder::new_multi_thread().enable_all().build().map_err(CommandError::doing("the runtime cannot be started"))
}
