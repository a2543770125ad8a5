//! `keyhatch store restore`

use std::path::PathBuf;

use clap::Args;

/// Put a backup in the store's place
///
/// Refused while `serve` runs. The store that it replaces is kept beside it. It says what comes
/// back: credentials and grants that were removed since, and older secrets.
///
/// Example:
///
///   keyhatch store restore keyhatch-backup.db
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RestoreArgs {
    /// The backup
    file: PathBuf,
}
