//! `keyhatch store rekey`

use std::path::PathBuf;

use clap::Args;

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
