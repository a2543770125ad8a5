//! `keyhatch store rekey`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::cli::context::Unlocked;
use crate::cli::context::{Change, Context, contradiction, method_of, new_transit_key};
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::config::{Config, StoreConfig, UnlockMethod};
use crate::envelope::{SealedBy, UnlockKey};
use crate::home::{Home, ServeLock, UnlockSources, make_key_file};
use crate::vault::local::LocalStore;

/// Make a new key and seal everything anew
///
/// Refused while `serve` runs. It asks for the new passphrase, or takes it from
/// --new-passphrase-file, or makes a key file with --new-key-file, or has HashiCorp Vault wrap the
/// key with --new-transit-key. Session tokens end; agents' own tokens and the audit log's key
/// stay. The configuration may say already how the store is to be sealed.
///
/// Examples:
///
///   keyhatch store rekey
///   keyhatch store rekey --new-passphrase-file new.txt
///   keyhatch store rekey --new-key-file /etc/keyhatch/key
///   keyhatch store rekey --new-transit-key keyhatch
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RekeyArgs {
    /// The file that holds the new passphrase; one newline at its end is cut
    #[arg(long, value_name = "F", conflicts_with_all = ["new_key_file", "new_transit_key"])]
    new_passphrase_file: Option<PathBuf>,
    /// Seal the store under a new key file, in this place or the default one
    #[arg(long, value_name = "PATH", num_args = 0..=1, conflicts_with = "new_transit_key")]
    new_key_file: Option<Option<PathBuf>>,
    /// Seal the store by this key of Vault's transit engine (NAME, or MOUNT/NAME) [default: [store] transit_key]
    #[arg(long, value_name = "NAME", num_args = 0..=1)]
    new_transit_key: Option<Option<String>>,
}

pub(super) fn run(ctx: &Context, args: &RekeyArgs) -> Outcome {
    let home = ctx.home()?;
    let config = ctx.config(&home)?;
    // Held until the end: no serve can start on the half-changed store.
    let _lock = ServeLock::acquire(&home)?;
    let path = home.store();
    let old = args.old_key(ctx, &config, &path)?;
    // A wrong passphrase is to be seen before a new one is asked for.
    drop(LocalStore::open(&path, &old)?);
    let new = args.new_key(&home, &config)?;
    let made = match &new {
        UnlockKey::KeyFile { path, .. } => Some(path.clone()),
        UnlockKey::Passphrase(_) | UnlockKey::Transit { .. } => None,
    };
    LocalStore::rekey(&path, &old, &new).inspect_err(|_| {
        // Nothing was sealed with it.
        made.iter().for_each(|file| drop(std::fs::remove_file(file)));
    })?;
    let store = Arc::new(LocalStore::open(&path, &new)?);
    let sealed = store.unlocked_by();
    let unlocked = Unlocked { home, config, store };
    unlocked.changed(Change { event: "store.rekey", agent: None, credential: None, detail: String::new() })?;
    ctx.out.say(&format!("Everything is sealed anew, with {sealed}. Sessions of `run` and `env` have ended."));
    if is_outdated(&unlocked.config, &sealed) {
        ctx.out.warn(&format!("the configuration's [store] still says how the store was sealed before: write there {}", lines(&sealed)));
    }
    DONE
}

/// Whether the configuration says something else than how the store is sealed now.
fn is_outdated(config: &Config, sealed: &SealedBy) -> bool {
    let says = &config.store;
    let other_file = says.key_file.as_ref().is_some_and(|said| !matches!(sealed, SealedBy::KeyFile { path } if path == said));
    let other_key = says.transit_key.is_some() && !matches!(sealed, SealedBy::Transit { .. });
    other_file || other_key || contradiction(config, sealed).is_some()
}

/// What `[store]` is to say.
fn lines(sealed: &SealedBy) -> String {
    let unlock = method_of(sealed).word();
    match sealed {
        SealedBy::Passphrase => format!("unlock = \"{unlock}\" and nothing else"),
        SealedBy::KeyFile { path } => format!("unlock = \"{unlock}\" and key_file = {:?}", path.display().to_string()),
        SealedBy::Transit { key, .. } => format!("unlock = \"{unlock}\" and transit_key = \"{key}\""),
    }
}

impl RekeyArgs {
    fn method(&self) -> UnlockMethod {
        match self {
            Self { new_transit_key: Some(_), .. } => UnlockMethod::VaultTransit,
            Self { new_key_file: Some(_), .. } => UnlockMethod::KeyFile,
            _ => UnlockMethod::Passphrase,
        }
    }

    /// What unlocks the store as it is. Where the configuration says already how it shall be, it is not held against that.
    fn old_key(&self, ctx: &Context, config: &Config, store: &Path) -> Result<UnlockKey, CommandError> {
        let is_ahead = config.store.unlock.map_or(self.new_transit_key.is_some(), |said| said == self.method());
        if !is_ahead {
            return ctx.key_for(config, store);
        }
        let sealed = LocalStore::sealed_by(store)?;
        // A key file named there is the next one, unless the store has one now, which may have moved.
        let key_file = config.store.key_file.clone().filter(|_| matches!(sealed, SealedBy::KeyFile { .. }));
        let before = Config { store: StoreConfig { key_file, ..StoreConfig::default() }, ..config.clone() };
        ctx.key_of(&before, store, &sealed)
    }

    fn new_key(&self, home: &Home, config: &Config) -> Result<UnlockKey, CommandError> {
        if let Some(named) = &self.new_transit_key {
            let missing = || CommandError::usage("--new-transit-key does not say which key").hint("give its name, or write `transit_key` in [store]");
            return new_transit_key(config, named.as_ref().or(config.store.transit_key.as_ref()).ok_or_else(missing)?);
        }
        if let Some(place) = &self.new_key_file {
            return Ok(make_key_file(&place.clone().map_or_else(|| home.key_file(), Ok)?)?);
        }
        match &self.new_passphrase_file {
            Some(file) => Ok(UnlockSources { passphrase_file: Some(file.clone()), key_file: None }.new_passphrase(&home.store())?),
            None => Ok(UnlockSources::prompt_new_passphrase(&home.store())?),
        }
    }
}
