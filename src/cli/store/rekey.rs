//! `keyhatch store rekey`

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::cli::context::Unlocked;
use crate::cli::context::{Change, Context};
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::config::UnlockMethod;
use crate::envelope::UnlockKey;
use crate::home::{Home, ServeLock, UnlockSources, make_key_file};
use crate::vault::local::LocalStore;

/// Make a new key and seal everything anew
///
/// Refused while `serve` runs. It asks for the new passphrase, or takes it from
/// --new-passphrase-file, or makes a key file with --new-key-file. Session tokens end; agents'
/// own tokens and the audit log's key stay.
///
/// Examples:
///
///   keyhatch store rekey
///   keyhatch store rekey --new-passphrase-file new.txt
///   keyhatch store rekey --new-key-file /etc/keyhatch/key
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RekeyArgs {
    /// The file that holds the new passphrase; one newline at its end is cut
    #[arg(long, value_name = "F", conflicts_with = "new_key_file")]
    new_passphrase_file: Option<PathBuf>,
    /// Seal the store under a new key file, in this place or the default one
    #[arg(long, value_name = "PATH", num_args = 0..=1)]
    new_key_file: Option<Option<PathBuf>>,
}

pub(super) fn run(ctx: &Context, args: &RekeyArgs) -> Outcome {
    let home = ctx.home()?;
    let config = ctx.config(&home)?;
    // Held until the end: no serve can start on the half-changed store.
    let _lock = ServeLock::acquire(&home)?;
    let path = home.store();
    let old = ctx.key_for(&config, &path)?;
    // A wrong passphrase is to be seen before a new one is asked for.
    drop(LocalStore::open(&path, &old)?);
    let new = args.new_key(&home)?;
    let made = match &new {
        UnlockKey::KeyFile { path, .. } => Some(path.clone()),
        UnlockKey::Passphrase(_) => None,
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
    let says = &unlocked.config.store;
    let other = says.unlock.is_some_and(|u| (u == UnlockMethod::KeyFile) != made.is_some());
    if other || says.key_file.as_ref().is_some_and(|file| made.as_ref() != Some(file)) {
        ctx.out.warn("the configuration's [store] still says how the store was sealed before: change `unlock` and `key_file` there");
    }
    DONE
}

impl RekeyArgs {
    fn new_key(&self, home: &Home) -> Result<UnlockKey, CommandError> {
        if let Some(place) = &self.new_key_file {
            return Ok(make_key_file(&place.clone().map_or_else(|| home.key_file(), Ok)?)?);
        }
        match &self.new_passphrase_file {
            Some(file) => Ok(UnlockSources { passphrase_file: Some(file.clone()), key_file: None }.new_passphrase(&home.store())?),
            None => Ok(UnlockSources::prompt_new_passphrase(&home.store())?),
        }
    }
}
