//! What a command works with: the home, the configuration, the unlocked store, and the record of what it changed.

use std::path::PathBuf;
use std::sync::Arc;

use super::Globals;
use super::error::{CommandError, ErrorKind};
use super::output::Output;
use crate::admin::client::AdminClient;
use crate::agent::AgentName;
use crate::audit::{AuditEvent, ChangeRecord};
use crate::config::{self, Config};
use crate::credential::CredentialName;
use crate::home::Home;
use crate::telemetry::audit_log::{AuditKey, AuditOptions, append_now};
use crate::tls::CaState;
use crate::vault::audit_checkpoints::StoreCheckpoints;
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

    /// `--passphrase-file`
    pub(crate) fn passphrase_file(&self) -> Option<&std::path::Path> {
        self.globals.passphrase_file.as_deref()
    }

    /// Where the home is or shall be.
    pub(crate) fn home_path(&self) -> Result<PathBuf, CommandError> {
        Ok(Home::locate(self.globals.home.as_deref())?)
    }

    /// The home, which must exist and be safe.
    pub(crate) fn home(&self) -> Result<Home, CommandError> {
        Ok(Home::open(&self.home_path()?)?)
    }

    /// The configuration file, and whether it was named, so that it must exist.
    pub(crate) fn config_path(&self, home: &Home) -> (PathBuf, bool) {
        let named = self.globals.config.clone().or_else(|| environment::var("KEYHATCH_CONFIG").map(PathBuf::from));
        named.map_or_else(|| (home.path().join(config::FILE_NAME), false), |file| (file, true))
    }

    /// The configuration.
    pub(crate) fn config(&self, home: &Home) -> Result<Config, CommandError> {
        let (file, must_exist) = self.config_path(home);
        Ok(Config::load(&file, must_exist)?)
    }

    /// The unlocked store. The configuration is read first: nothing is asked for where that is wrong.
    pub(crate) fn unlock(&self) -> Result<Unlocked, CommandError> {
        let home = self.home()?;
        let config = self.config(&home)?;
        let key = home.unlock_key(&config.store, self.passphrase_file())?;
        let store = Arc::new(LocalStore::open(&home.store(), &key)?);
        Ok(Unlocked { home, config, store })
    }

    /// A connection to the `serve` of this home, if one runs.
    pub(crate) fn admin(&self, home: &Home) -> Result<AdminClient, crate::admin::client::ClientError> {
        AdminClient::connect(&home.admin_socket())
    }
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
        let secret = self.store.item(CaState::ITEM)?.ok_or_else(missing)?;
        CaState::from_secret(&secret).map_err(CommandError::doing("the CA cannot be read from the store"))
    }

    /// Records a change in the audit log, and has a running `serve` take it up at once.
    pub(crate) fn changed(&self, change: Change<'_>) -> Result<(), CommandError> {
        let record = AuditEvent::Change(ChangeRecord {
            at: clock::now(),
            event: change.event,
            agent: change.agent.map(ToString::to_string),
            credential: change.credential.map(ToString::to_string),
            detail: change.detail,
        });
        let options = AuditOptions { max_size: self.config.audit.max_size, keep: self.config.audit.keep };
        let key = AuditKey::new(zeroize::Zeroizing::new(*self.store.audit_key()?.bytes()));
        let recorded = append_now(&self.home.audit_log(), key, options, &StoreCheckpoints::new(&self.store), record);
        // A serve that is not there needs no word; one that does not answer looks for changes by itself.
        if let Ok(mut serve) = AdminClient::connect(&self.home.admin_socket()) {
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
