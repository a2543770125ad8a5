//! `keyhatch run`

mod child;
mod descriptors;
mod own;

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::agent_env;
use super::context::{Context, runtime};
use super::error::{CommandError, Outcome};
use super::session::ServeSession;
use crate::agent::AgentName;
use crate::environment;
use crate::home::Home;
use crate::session::{MAX_TTL, SessionKind};
use child::Ended;

/// Run a command with the proxy, the CA and placeholder keys in its environment
///
/// With a running `serve` no passphrase is needed; without one, this unlocks the store and runs
/// a proxy of its own on a free port for the life of the command. Signals are passed on, and
/// the exit code is the command's (127: not found, 126: cannot be run, 128+n: ended by signal n).
///
/// The command's environment holds no KEYHATCH_*, VAULT_*, BAO_* and provider variables, and none
/// with a stored secret in it; a secret that Vault alone holds is not known here. That keeps keys
/// from a well-behaved command only: under your own user it could still read the key file or ask
/// admin.sock as you can. Where that matters, run the agent under another user or in a container,
/// and give it the output of `keyhatch env`.
///
/// Examples:
///
///   keyhatch run -- python agent.py
///   keyhatch run --agent builder -- make release
///   keyhatch run claude
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RunArgs {
    /// The agent whose grants count
    #[arg(long, value_name = "A", default_value = "default")]
    agent: String,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// A session of `run` ends with its command; this is only the latest end.
const TTL: Duration = MAX_TTL;

pub(super) fn run(ctx: &Context, args: &RunArgs) -> Outcome {
    descriptors::keep_standard_only();
    let agent = AgentName::parse(&args.agent)?;
    let home = ctx.home_to_fill()?;
    let ended = match ServeSession::ask(ctx, &home, &agent, TTL, SessionKind::Run)? {
        Some(session) => beside_serve(args, &home, agent, session)?,
        None => own::run(ctx, args, agent)?,
    };
    match ended {
        Ended::With(code) => Ok(code),
        Ended::NotStarted(e) => Err(e),
    }
}

/// With the proxy of the `serve` that runs. The store stays locked, so nobody can say which variables hold a stored value.
fn beside_serve(args: &RunArgs, home: &Home, agent: AgentName, session: ServeSession) -> Result<Ended, CommandError> {
    let variables = session.environment(home, agent, session.local_url()?)?.variables();
    let inherited = agent_env::inherited(environment::all(), |values| Ok::<_, CommandError>(vec![false; values.len()]))?;
    // Held until the command has ended: the session ends with it.
    let _held = session.hold()?;
    runtime()?.block_on(child::run(&args.command, inherited, &variables))
}
