//! `keyhatch agent ...`

mod add;
mod grant;
mod list;
mod remove;
mod rotate;
mod show;
mod view;

use clap::Subcommand;

use super::context::Context;
use super::error::{CommandError, Outcome};
use crate::agent::{AgentName, AgentToken};
use crate::random;

/// Add, list and change agents: the clients of the proxy, and what each may use
///
/// Examples:
///
///   keyhatch agent add builder --grant openrouter
///   keyhatch agent list
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true, verbatim_doc_comment)]
pub(crate) enum AgentCommand {
    Add(add::AddArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Grant(grant::GrantArgs),
    Revoke(grant::RevokeArgs),
    Rotate(rotate::RotateArgs),
    Remove(remove::RemoveArgs),
}

pub(super) fn run(ctx: &Context, command: AgentCommand) -> Outcome {
    match command {
        AgentCommand::Add(args) => add::run(ctx, &args),
        AgentCommand::List(args) => list::run(ctx, &args),
        AgentCommand::Show(args) => show::run(ctx, &args),
        AgentCommand::Grant(args) => grant::grant(ctx, &args),
        AgentCommand::Revoke(args) => grant::revoke(ctx, &args),
        AgentCommand::Rotate(args) => rotate::run(ctx, &args),
        AgentCommand::Remove(args) => remove::run(ctx, &args),
    }
}

/// A token that nobody has had.
pub(super) fn new_token() -> AgentToken {
    AgentToken::from_random(&random::bytes())
}

/// Prints a token, once: alone on standard output, or in an object.
fn print_token(ctx: &Context, name: &AgentName, token: &AgentToken) -> Result<(), CommandError> {
    if ctx.out.json {
        return ctx.out.json(&serde_json::json!({ "name": name, "token": token.expose() }));
    }
    ctx.out.data(zeroize::Zeroizing::new(format!("{}\n", token.expose())).as_bytes())
}
