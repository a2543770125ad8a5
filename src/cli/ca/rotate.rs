//! `keyhatch ca rotate`

use clap::Args;

/// Make a new CA
///
/// The old one goes on signing for seven days while clients learn the new one: `run`, `env` and
/// `keyhatch ca export` give both. After a theft use --now: the old one signs nothing more, and
/// clients that do not know the new one refuse every intercepted host until they do.
///
/// Examples:
///
///   keyhatch ca rotate
///   keyhatch ca rotate --now
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RotateArgs {
    /// Sign with the new CA at once
    #[arg(long)]
    now: bool,
}
