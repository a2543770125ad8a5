//! `keyhatch agent add`

use clap::Args;

use super::new_token;
use crate::agent::AgentName;
use crate::cli::base::Matter;
use crate::cli::context::{Change, Context};
use crate::cli::error::{DONE, Outcome};
use crate::credential::CredentialName;

/// Add an agent and print its token, once
///
/// The token stands alone on standard output. In a proxy URL the agent's name is the user and
/// the token the password: http://NAME:TOKEN@127.0.0.1:8877. It is good until `keyhatch agent
/// rotate` or `keyhatch agent remove`; the store keeps no more than its digest.
///
/// Examples:
///
///   keyhatch agent add builder --grant openrouter --grant github
///   keyhatch agent add builder > builder.token
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct AddArgs {
    /// The agent's name
    name: String,
    /// A credential that it may use
    #[arg(long, value_name = "CRED")]
    grant: Vec<String>,
}

pub(super) fn run(ctx: &Context, args: &AddArgs) -> Outcome {
    let name = AgentName::parse(&args.name)?;
    let mut grants = args.grant.iter().map(|c| CredentialName::parse(c)).collect::<Result<Vec<_>, _>>()?;
    grants.sort();
    grants.dedup();
    let unlocked = ctx.unlock_for(Matter::Agents)?;
    let token = new_token();
    unlocked.store.add_agent(&name, &token.digest(), &grants).map_err(|e| unlocked.refused(ctx, e))?;
    let granted = grants.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    unlocked.changed(Change { event: "agent.add", agent: Some(&name), credential: None, detail: granted.clone() })?;
    let may = if grants.is_empty() { "no credential yet: see `keyhatch agent grant`".to_owned() } else { granted };
    ctx.out.say(&format!("Agent `{name}` is added and may use {may}. Its token follows and is not shown again."));
    super::print_token(ctx, &name, &token)?;
    DONE
}
