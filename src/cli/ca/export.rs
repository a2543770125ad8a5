//! `keyhatch ca export`

use std::path::PathBuf;

use clap::Args;

use super::bundle;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, DONE, Outcome};

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

pub(super) fn run(ctx: &Context, args: &ExportArgs) -> Outcome {
    let own = match ctx.without_store()? {
        Some((home, _)) => match std::fs::read_to_string(home.ca()) {
            Ok(own) => own,
            // No serve has run here yet.
            Err(_) => ctx.base()?.shared_ca()?,
        },
        None => {
            let file = ctx.home()?.ca();
            std::fs::read_to_string(&file).map_err(|e| {
                CommandError::failed(format!("the CA's certificate {} cannot be read: {e}", file.display()))
                    .hint("run `keyhatch init` first; a running `keyhatch serve` writes it anew")
            })?
        }
    };
    let text = if args.bundle { bundle::bundle(&own)? } else { own };
    match &args.output {
        // Written in place: it may be a pipe or a device.
        Some(output) => std::fs::write(output, text).map_err(CommandError::doing(format!("{} cannot be written", output.display())))?,
        None => ctx.out.data(text.as_bytes())?,
    }
    DONE
}
