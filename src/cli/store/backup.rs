//! `keyhatch store backup`

use std::path::PathBuf;

use clap::Args;

use crate::cli::base::Matter;
use crate::cli::context::{Change, Context};
use crate::cli::error::{DONE, Outcome};

/// Copy the store to a file, also while `serve` runs
///
/// The copy is sealed as the store is: it opens with the passphrase or key file that the store
/// has now, or by the same key of Vault.
///
/// Example:
///
///   keyhatch store backup keyhatch-backup.db
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BackupArgs {
    /// The file to write; it must not exist yet
    file: PathBuf,
}

pub(super) fn run(ctx: &Context, args: &BackupArgs) -> Outcome {
    let unlocked = ctx.unlock_for(Matter::Store)?;
    unlocked.store.backup(&args.file)?;
    unlocked.changed(Change { event: "store.backup", agent: None, credential: None, detail: String::new() })?;
    ctx.out.say(&format!("The store is copied to {}; it opens with {}.", args.file.display(), unlocked.store.unlocked_by()));
    DONE
}
