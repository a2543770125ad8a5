//! `keyhatch agent list`

use clap::Args;

use super::view::{self, AgentView};
use crate::cli::context::Context;
use crate::cli::error::{DONE, Outcome};

/// List the agents
///
/// With --json, an array of objects: name, source, grants, created_at, last_seen_at. Times are
/// RFC 3339 or null.
///
/// Examples:
///
///   keyhatch agent list
///   keyhatch agent list --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ListArgs {}

pub(super) fn run(ctx: &Context, _: &ListArgs) -> Outcome {
    let base = ctx.base()?;
    let picture = base.picture(ctx)?;
    let agents = picture.agents();
    let views: Vec<AgentView> = agents.iter().map(|a| AgentView::new(a, view::source(&base, &picture, a))).collect();
    let rows: Vec<_> = agents.iter().map(view::row).collect();
    let none = match (&base.store, &base.config.vault.discover_agents) {
        (None, Some(folder)) => format!("There are no agents in Vault: `vault kv put {folder}/NAME token=\"$(openssl rand -hex 32)\"` adds one."),
        _ => "There are no agents: `keyhatch agent add NAME` adds one.".to_owned(),
    };
    ctx.out.listing(&views, &view::HEADS, &rows, &none)?;
    DONE
}
