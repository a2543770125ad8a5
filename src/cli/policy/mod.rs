//! `keyhatch policy ...`

mod explain;

use clap::Subcommand;

use super::context::Context;
use super::error::Outcome;

/// Ask what the policy says
///
/// Example:
///
///   keyhatch policy explain GET https://openrouter.ai/api/v1/models
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true, verbatim_doc_comment)]
pub(crate) enum PolicyCommand {
    Explain(explain::ExplainArgs),
}

pub(super) fn run(ctx: &Context, command: PolicyCommand) -> Outcome {
    match command {
        PolicyCommand::Explain(args) => explain::run(ctx, &args),
    }
}
