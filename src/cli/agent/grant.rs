//! `keyhatch agent grant` and `keyhatch agent revoke`

use clap::Args;

use crate::agent::AgentName;
use crate::cli::base::Matter;
use crate::cli::context::{Change, Context};
use crate::cli::error::{DONE, Outcome};
use crate::credential::CredentialName;

/// Let an agent use a credential
///
/// Example:
///
///   keyhatch agent grant builder openrouter
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct GrantArgs {
    /// The agent
    agent: String,
    /// The credential
    #[arg(value_name = "CRED")]
    credential: String,
}

/// Take a credential from an agent
///
/// The agent's next request does without it, also inside open connections.
///
/// Example:
///
///   keyhatch agent revoke builder openrouter
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RevokeArgs {
    /// The agent
    agent: String,
    /// The credential
    #[arg(value_name = "CRED")]
    credential: String,
}

pub(super) fn grant(ctx: &Context, args: &GrantArgs) -> Outcome {
    let (agent, credential) = (AgentName::parse(&args.agent)?, CredentialName::parse(&args.credential)?);
    let unlocked = ctx.unlock_for(Matter::Agents)?;
    let new = unlocked.store.grant(&agent, &credential).map_err(|e| unlocked.refused(ctx, e))?;
    if new {
        unlocked.changed(Change { event: "agent.grant", agent: Some(&agent), credential: Some(&credential), detail: String::new() })?;
    }
    ctx.out.say(&format!("Agent `{agent}` may{} use credential `{credential}`.", if new { " now" } else { " already" }));
    DONE
}

pub(super) fn revoke(ctx: &Context, args: &RevokeArgs) -> Outcome {
    let (agent, credential) = (AgentName::parse(&args.agent)?, CredentialName::parse(&args.credential)?);
    let unlocked = ctx.unlock_for(Matter::Agents)?;
    unlocked.store.revoke(&agent, &credential).map_err(|e| unlocked.refused(ctx, e))?;
    unlocked.changed(Change { event: "agent.revoke", agent: Some(&agent), credential: Some(&credential), detail: String::new() })?;
    ctx.out.say(&format!("Agent `{agent}` may no longer use credential `{credential}`."));
    DONE
}
