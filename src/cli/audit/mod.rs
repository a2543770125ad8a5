//! `keyhatch audit ...`

mod tail;
mod verify;

use clap::Subcommand;

use super::context::Context;
use super::error::Outcome;

/// Read and check the audit log
///
/// Examples:
///
///   keyhatch audit tail -f
///   keyhatch audit verify
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true, verbatim_doc_comment)]
pub(crate) enum AuditCommand {
    Tail(tail::TailArgs),
    Verify(verify::VerifyArgs),
}

pub(super) fn run(ctx: &Context, command: AuditCommand) -> Outcome {
    match command {
        AuditCommand::Tail(args) => tail::run(ctx, &args),
        AuditCommand::Verify(args) => verify::run(ctx, &args),
    }
}
