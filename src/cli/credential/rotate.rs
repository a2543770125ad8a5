//! `keyhatch credential rotate`

use clap::Args;

use crate::cli::source::SourceArgs;

/// Replace a credential's secret
///
/// The hosts, rules and grants stay. The next request carries the new secret, also inside open
/// connections. The old one is kept, sealed, for 24 hours: see `keyhatch credential rollback`.
/// With --test the origin is asked with the new secret first, and nothing is changed unless it
/// accepts it.
///
/// Examples:
///
///   keyhatch credential rotate openrouter < new-key.txt
///   keyhatch credential rotate openrouter --test --from-file new-key.txt
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RotateArgs {
    /// The credential
    name: String,
    /// Ask the origin with the new secret before it replaces the old one
    #[arg(long)]
    test: bool,
    /// What --test asks, in the place of the provider's test URL
    #[arg(long, value_name = "URL", requires = "test")]
    url: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
}
