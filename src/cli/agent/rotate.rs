//! `keyhatch agent rotate`

use clap::Args;

use super::new_token;
use crate::agent::AgentName;
use crate::cli::base::Matter;
use crate::cli::context::{Change, Context};
use crate::cli::error::{DONE, Outcome};

/// Give an agent a new token and print it, once
///
/// The old token, and every session that `run` and `env` began, are dead at once.
///
/// Examples:
///
///   keyhatch agent rotate builder
///   keyhatch agent rotate default > default.token
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RotateArgs {
    /// The agent
    name: String,
}

pub(super) fn run(ctx: &Context, args: &RotateArgs) -> Outcome {
    let name = AgentName::parse(&args.name)?;
    let unlocked = ctx.unlock_for(Matter::Agents)?;
    let token = new_token();
    unlocked.store.rotate_agent(&name, &token.digest()).map_err(|e| unlocked.refused(ctx, e))?;
    unlocked.changed(Change { event: "agent.rotate", agent: Some(&name), credential: None, detail: String::new() })?;
    ctx.out.say(&format!("Agent `{name}` has a new token, which follows and is not shown again; the old one and all sessions are dead."));
    super::print_token(ctx, &name, &token)?;
    DONE
}
