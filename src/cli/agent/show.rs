//! `keyhatch agent show`

use clap::Args;

use super::view::{self, AgentView};
use crate::agent::AgentName;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, DONE, Outcome};

/// Show one agent and what it was granted
///
/// Examples:
///
///   keyhatch agent show builder
///   keyhatch agent show builder --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ShowArgs {
    /// The agent
    name: String,
}

pub(super) fn run(ctx: &Context, args: &ShowArgs) -> Outcome {
    let name = AgentName::parse(&args.name)?;
    let base = ctx.base()?;
    let picture = base.picture(ctx)?;
    let found = picture.agents().into_iter().find(|a| a.name == name);
    let info = found.ok_or_else(|| CommandError::not_found(format!("there is no agent `{name}`")).hint("see `keyhatch agent list`"))?;
    let source = view::source(&base, &picture, &info);
    if ctx.out.json {
        ctx.out.json(&AgentView::new(&info, source))?
    } else {
        view::details(&ctx.out, &info, source)?
    }
    DONE
}
