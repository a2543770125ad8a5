//! `keyhatch ca export`

use std::path::PathBuf;

use clap::Args;

/// Print the CA's certificate, which clients are to trust
///
/// After `keyhatch ca rotate` both certificates are printed until the old one is done with.
/// With --bundle the system's own anchors come first: for variables such as SSL_CERT_FILE, whose
/// file replaces a client's roots.
///
/// Examples:
///
///   keyhatch ca export -o keyhatch-ca.pem
///   keyhatch ca export --bundle > ca-bundle.pem
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ExportArgs {
    /// Print the system's anchors and ours
    #[arg(long)]
    bundle: bool,
    /// Write it to this file
    #[arg(short = 'o', long = "output", value_name = "F")]
    output: Option<PathBuf>,
}
