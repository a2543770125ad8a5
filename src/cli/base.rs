//! What a command stands on that shows or asks: the home, the configuration, the store where there is one, and what Vault has.

use std::cell::OnceCell;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::context::{Context, Patience, Unlocked};
use super::error::CommandError;
use super::vault::{self, There};
use crate::agent::AgentName;
use crate::clock;
use crate::config::{Config, VaultConfig};
use crate::credential::CredentialName;
use crate::home::{Home, HomeError};
use crate::server::{Picture, ServerOptions, SigningKeys, StoreCheckpoints, audit_key, missing_for_no_store, shared_ca, signs_ca};
use crate::telemetry::audit_log::{AuditKey, Checkpoint, Checkpoints as _};
use crate::telemetry::escape;
use crate::tls::OwnKeys;
use crate::vault::hashicorp::Vault;
use crate::vault::local::{AgentInfo, CredentialInfo, LocalStore, StoreError, StoreState};

/// The home, the configuration, and the store, unlocked, where there is one.
pub(crate) struct Base {
    /// The home.
    pub(crate) home: Home,
    /// The configuration.
    pub(crate) config: Config,
    /// The store; `None` where everything is in Vault.
    pub(crate) store: Option<Arc<LocalStore>>,
    /// What unlocked the store by Vault, where the proxy goes on with it.
    vault: Option<Arc<Vault>>,
    config_file: PathBuf,
    /// The connection to Vault, once it was needed.
    there: OnceCell<There>,
}

/// What a command is about to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matter {
    /// Credentials, and who may use them.
    Credentials,
    /// Agents.
    Agents,
    /// The CA.
    Ca,
    /// The store itself.
    Store,
}

impl Context {
    /// The home and the configuration of a set-up that has no store, because everything is in Vault; `None` of any other.
    pub(crate) fn without_store(&self) -> Result<Option<(Home, Config)>, CommandError> {
        let home = self.home_place()?;
        if !matches!(home.store().symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        match home.check() {
            // It is made when there is something to put there; the configuration may be elsewhere.
            Ok(()) | Err(HomeError::Missing(_)) => {}
            Err(e) => return Err(e.into()),
        }
        let config = self.config(&home)?;
        let missing = missing_for_no_store(&config.vault);
        if missing.is_empty() {
            return Ok(Some((home, config)));
        }
        if missing == missing_for_no_store(&VaultConfig::default()) {
            return Ok(None);
        }
        let (file, _) = self.config_file(&home);
        let keys: Vec<String> = missing.iter().map(|key| format!("`{key}`")).collect();
        let message = format!("{} has no store, and to do without one [vault] in {} lacks {}", home.dir().display(), file.display(), keys.join(", "));
        Err(CommandError::usage(message).hint("add what is missing, or make a store with `keyhatch init`"))
    }

    /// The home for what writes into it; made where it is not there and everything is in Vault.
    pub(crate) fn home_to_fill(&self) -> Result<Home, CommandError> {
        match self.without_store()? {
            Some((home, _)) => {
                home.create()?;
                Ok(home)
            }
            None => self.home(),
        }
    }

    /// The store, unlocked, or what stands in its stead.
    pub(crate) fn base(&self) -> Result<Base, CommandError> {
        self.base_with(Patience::None)
    }

    /// The same, with patience for a Vault that is to open the store.
    pub(crate) fn base_with(&self, patience: Patience) -> Result<Base, CommandError> {
        let (home, config, store, vault) = match self.without_store()? {
            Some((home, config)) => (home, config, None, None),
            None => {
                let (Unlocked { home, config, store }, vault) = self.unlock_with(patience)?;
                (home, config, Some(store), vault)
            }
        };
        let (config_file, _) = self.config_file(&home);
        Ok(Base { home, config, store, vault, config_file, there: OnceCell::new() })
    }

    /// Refuses where there is no store to work on.
    pub(crate) fn must_have_store(&self) -> Result<(), CommandError> {
        match self.without_store()? {
            Some((home, config)) => Err(no_store(&home, &config.vault, Matter::Store)),
            None => Ok(()),
        }
    }

    /// The store, unlocked, for a change.
    pub(crate) fn unlock_for(&self, matter: Matter) -> Result<Unlocked, CommandError> {
        match self.without_store()? {
            Some((home, config)) => Err(no_store(&home, &config.vault, matter)),
            None => self.unlock(),
        }
    }

    /// What the server is started with.
    pub(crate) fn server_options(&self, base: Base, is_serve: bool) -> ServerOptions {
        let Base { home, config, store, vault, .. } = base;
        let (config_file, config_required) = self.config_file(&home);
        ServerOptions { home, config_file, config_required, config, store, vault, is_serve }
    }
}

/// A change that is to be made in Vault.
fn no_store(home: &Home, vault: &VaultConfig, matter: Matter) -> CommandError {
    let path = |key: &Option<String>| key.clone().unwrap_or_default();
    let (what, mend) = match matter {
        Matter::Credentials => ("its credentials are in Vault", format!("write it there: `vault kv put {}/NAME api_key=...`", path(&vault.discover))),
        Matter::Agents => {
            let folder = path(&vault.discover_agents);
            ("its agents are in Vault", format!("write it there: `vault kv put {folder}/NAME token=\"$(openssl rand -hex 32)\"`"))
        }
        Matter::Ca => ("its CA is in Vault", format!("replace it at {}; a running serve takes a new one", path(&vault.ca))),
        Matter::Store => ("everything is in Vault", "back up and reseal Vault itself, or make a store with `keyhatch init`".to_owned()),
    };
    CommandError::failed(format!("{} has no store: {what}", home.dir().display())).hint(mend)
}

impl Base {
    /// The same store, for a command that changes it and asks Vault or an origin as well.
    pub(crate) fn of(ctx: &Context, unlocked: &Unlocked) -> Self {
        let Unlocked { home, config, store } = unlocked;
        let (config_file, _) = ctx.config_file(home);
        Self { home: home.clone(), config: config.clone(), store: Some(Arc::clone(store)), vault: None, config_file, there: OnceCell::new() }
    }

    /// The connection to Vault, as `[vault]` and the environment say. Nothing is asked by this.
    pub(crate) fn there(&self) -> Result<&There, CommandError> {
        if let Some(there) = self.there.get() {
            return Ok(there);
        }
        let there = There::new(&self.config.vault, &self.config_file)?;
        Ok(self.there.get_or_init(|| there))
    }

    /// What the store holds, but for secrets.
    fn stored(&self) -> Result<Option<StoreState>, CommandError> {
        Ok(self.store.as_ref().map(|store| store.load()).transpose()?)
    }

    /// Everything there is. What was found in Vault and does not count is warned about; where Vault cannot be asked and there
    /// is a store, the store's part is all, with a warning.
    pub(crate) fn picture(&self, ctx: &Context) -> Result<Picture, CommandError> {
        let stored = self.stored()?;
        if !vault::discovers(&self.config.vault) {
            return Ok(Picture::new(stored, None));
        }
        match self.there().and_then(|there| there.look(&self.config.vault)) {
            Ok(remote) => {
                let picture = Picture::new(stored, Some(&remote));
                let mut remarks: Vec<&str> = picture.remarks().collect();
                remarks.sort_unstable();
                remarks.iter().for_each(|remark| ctx.out.warn(&escape::human(remark)));
                Ok(picture)
            }
            Err(e) if stored.is_some() => {
                ctx.out.warn(&escape::human(&format!("what is discovered in Vault is not shown: {e}")));
                Ok(Picture::new(stored, None))
            }
            Err(e) => Err(e),
        }
    }

    /// One credential, wherever it comes from.
    pub(crate) fn credential(&self, ctx: &Context, name: &CredentialName) -> Result<CredentialInfo, CommandError> {
        // The store's own counts, so Vault need not be asked for it.
        let known = self.stored()?.and_then(|s| s.credentials.into_iter().find(|c| c.entry.name == *name));
        let agents_matter = self.config.vault.discover_agents.is_some();
        let found = match known {
            Some(known) if !agents_matter => Some(known),
            _ => self.picture(ctx)?.credentials().into_iter().find(|c| c.entry.name == *name),
        };
        found.ok_or_else(|| CommandError::not_found(format!("there is no credential `{name}`")).hint("see `keyhatch credential list`"))
    }

    /// The keyed fingerprint of a secret that Vault holds: under the key that all replicas share, where there is one, else the store's.
    pub(crate) fn fingerprint(&self, secret: &crate::credential::Secret) -> Result<String, CommandError> {
        match (&self.config.vault.signing_key, &self.store) {
            (Some(path), _) => Ok(self.signing_keys(path)?.fingerprint(secret)),
            (None, Some(store)) => Ok(store.fingerprint(secret)?),
            (None, None) => Err(CommandError::failed("[vault] signing_key is missing")),
        }
    }

    fn signing_keys(&self, path: &str) -> Result<SigningKeys, CommandError> {
        let there = self.there()?;
        let keys = there.wait(SigningKeys::read(there.vault(), path)).map_err(|e| there.failed(e))?;
        keys.ok_or_else(|| {
            CommandError::failed(format!("there is nothing at {path} in Vault, where [vault] signing_key points"))
                .hint("start `keyhatch serve`, which makes it, or write it there")
        })
    }

    /// The key of the audit log's chain, and how far the store has seen it go. Without a store nobody has.
    pub(crate) fn audit(&self) -> Result<(AuditKey, Option<Checkpoint>), CommandError> {
        let Some(store) = &self.store else {
            let path = self.config.vault.signing_key.as_deref().unwrap_or_default();
            return Ok((self.signing_keys(path)?.audit_key(), None));
        };
        let checkpoint = StoreCheckpoints(Arc::clone(store)).load().map_err(CommandError::doing("the checkpoint cannot be read"))?;
        Ok((audit_key(store)?, checkpoint))
    }

    /// The certificates of the CA that Vault holds, for clients.
    pub(crate) fn shared_ca(&self) -> Result<String, CommandError> {
        let path = self.config.vault.ca.as_deref().unwrap_or_default();
        let none =
            |why: &str| CommandError::failed(format!("the CA's certificate is not known here yet: {why}")).hint("start `keyhatch serve` first");
        if signs_ca(path) {
            return Err(none(&format!("{path} signs one for each replica when it starts")));
        }
        let (there, now) = (self.there()?, clock::now());
        let ca = there.wait(shared_ca(there.vault(), path, now)).map_err(|e| there.failed(e))?;
        ca.map(|ca| ca.anchors_pem(now)).ok_or_else(|| none(&format!("there is nothing at {path} in Vault")))
    }

    /// The keys of CAs that vouch for no origin. Without a store those of `ca.pem`, which `serve` writes.
    pub(crate) fn own_keys(&self) -> Result<OwnKeys, CommandError> {
        match &self.store {
            Some(store) => {
                let (home, config, store) = (self.home.clone(), self.config.clone(), Arc::clone(store));
                Ok(Unlocked { home, config, store }.ca()?.own_keys())
            }
            None => Ok(OwnKeys::of_certificates(&std::fs::read(self.home.ca()).unwrap_or_default())),
        }
    }
}

impl Unlocked {
    /// Why a change in the store failed; of a name that Vault has and the store has not, with the place where it can be changed.
    pub(crate) fn refused(&self, ctx: &Context, e: StoreError) -> CommandError {
        let (what, name) = match &e {
            StoreError::NotFound { what, name } => (*what, name.clone()),
            _ => return e.into(),
        };
        let error = CommandError::from(e);
        match self.found_there(ctx, what, &name) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// The hint for a name that was discovered; `None` where it was not, or where that cannot be found out.
    pub(crate) fn found_there(&self, ctx: &Context, what: &str, name: &str) -> Option<String> {
        let vault = &self.config.vault;
        if !vault::discovers(vault) {
            return None;
        }
        let base = Base::of(ctx, self);
        let remote = base.there().ok()?.look(vault).ok()?;
        let picture = Picture::new(None, Some(&remote));
        if what == "agent" {
            let agent = picture.agents().into_iter().find(|a: &AgentInfo| a.name.as_str() == name)?.name;
            return Some(agent_hint(vault, &agent));
        }
        let found = picture.discovered.values().find(|d| d.entry.name.as_str() == name)?;
        let path = found.reference.path();
        Some(format!(
            "it is discovered in Vault and not in the store: its value is at {path}, its terms and grants in its custom metadata \
             (`vault kv metadata put -custom-metadata=agents=... {path}`)"
        ))
    }
}

/// Where a discovered agent can be changed.
fn agent_hint(vault: &VaultConfig, agent: &AgentName) -> String {
    let folder = vault.discover_agents.as_deref().unwrap_or_default();
    format!(
        "it is discovered in Vault and not in the store: its token is at {folder}/{agent}, and what it may use stands in the \
         custom metadata `agents` of each credential there"
    )
}
