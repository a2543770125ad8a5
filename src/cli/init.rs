//! `keyhatch init`

use std::path::PathBuf;

use clap::Args;

/// Make the home, the store, the CA and the agent "default"
///
/// A home that has a configuration but no store is taken as it is; one that has a store is
/// refused. The store is sealed under a passphrase (--passphrase-file, KEYHATCH_PASSPHRASE_FILE,
/// $CREDENTIALS_DIRECTORY/keyhatch-passphrase, KEYHATCH_PASSPHRASE, else a prompt) or, with
/// --key-file, under a file of random bytes whose default place is outside the home.
///
/// The token of agent "default" is not shown: `run` and `env` need none, and
/// `keyhatch agent rotate default` makes one that is.
///
/// Examples:
///
///   keyhatch init
///   keyhatch init --passphrase-file /run/secrets/keyhatch
///   keyhatch init --key-file
///   keyhatch init --key-file /etc/keyhatch/key
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct InitArgs {
    /// Seal the store under a new key file, in this place or the default one
    #[arg(long, value_name = "PATH", num_args = 0..=1)]
    key_file: Option<Option<PathBuf>>,
}
