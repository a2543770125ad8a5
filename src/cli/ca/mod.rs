//! `keyhatch ca ...`

mod bundle;
mod export;
mod rotate;

pub(super) use bundle::write_bundle;

use clap::Subcommand;

use super::context::Context;
use super::error::Outcome;

/// Export or replace the CA that signs the certificates of intercepted hosts
///
/// Example:
///
///   keyhatch ca export -o keyhatch-ca.pem
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true, verbatim_doc_comment)]
pub(crate) enum CaCommand {
    Export(export::ExportArgs),
    Rotate(rotate::RotateArgs),
}

pub(super) fn run(ctx: &Context, command: CaCommand) -> Outcome {
    match command {
        CaCommand::Export(args) => export::run(ctx, &args),
        CaCommand::Rotate(args) => rotate::run(ctx, &args),
    }
}
