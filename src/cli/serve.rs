//! `keyhatch serve`

use clap::Args;

/// Run the proxy in the foreground
///
/// SIGTERM and SIGINT stop it: it takes no new connections and waits for what is under way, for
/// [timeouts] drain at the longest. SIGHUP reads the configuration again. A change by another
/// command takes effect within a second. It takes no CA, proxy or resolver setting from its
/// environment.
///
/// Examples:
///
///   keyhatch serve
///   keyhatch serve --config /etc/keyhatch/keyhatch.toml --passphrase-file /run/secrets/keyhatch
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ServeArgs {}
