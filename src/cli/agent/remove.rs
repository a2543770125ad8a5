//! `keyhatch agent remove`

use clap::Args;

use crate::agent::AgentName;
use crate::cli::base::Matter;
use crate::cli::context::{Change, Context};
use crate::cli::error::{DONE, Outcome};

/// Remove an agent, its token, its sessions and its grants
///
/// Example:
///
///   keyhatch agent remove builder
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RemoveArgs {
    /// The agent
    name: String,
}

pub(super) fn run(ctx: &Context, args: &RemoveArgs) -> Outcome {
    let name = AgentName::parse(&args.name)?;
    let unlocked = ctx.unlock_for(Matter::Agents)?;
    unlocked.store.remove_agent(&name).map_err(|e| unlocked.refused(ctx, e))?;
    unlocked.changed(Change { event: "agent.remove", agent: Some(&name), credential: None, detail: String::new() })?;
    ctx.out.say(&format!("Agent `{name}` is removed."));
    DONE
}
