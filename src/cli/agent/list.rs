//! `keyhatch agent list`

use clap::Args;

use super::view::{self, AgentView};
use crate::cli::context::Context;
use crate::cli::error::{DONE, Outcome};

/// List the agents
///
/// With --json, an array of objects: name, grants, created_at, last_seen_at. Times are RFC 3339
/// or null.
///
/// Examples:
///
///   keyhatch agent list
///   keyhatch agent list --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ListArgs {}

pub(super) fn run(ctx: &Context, _: &ListArgs) -> Outcome {
    let state = ctx.unlock()?.state()?;
    if ctx.out.json {
        ctx.out.json(&state.agents.iter().map(AgentView::from).collect::<Vec<_>>())?;
    } else if state.agents.is_empty() {
        ctx.out.say("There are no agents: `keyhatch agent add NAME` adds one.");
    } else {
        ctx.out.table(&view::HEADS, &state.agents.iter().map(view::row).collect::<Vec<_>>())?;
    }
    DONE
}
