//! `keyhatch env`

use std::time::Duration;

use clap::Args;

use super::agent_env;
use super::agent_env::Format;
use super::session::ServeSession;
use crate::agent::AgentName;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::config::units::{DURATION_FORM, parse_duration};
use crate::session::{MAX_TTL, SessionKind};

/// Print the environment that an agent needs, for eval
///
/// Proxy, CA and placeholder variables, with a session token of the agent. It needs a running
/// `serve`, and no passphrase. The token ends after --ttl, or at once when the agent is rotated
/// or removed.
///
/// In a container the proxy and the CA are found elsewhere: give --proxy-url, and --ca with the
/// place at which the container sees a file made by `keyhatch ca export --bundle`.
///
/// Examples:
///
///   eval "$(keyhatch env)"
///   keyhatch env --format fish | source
///   keyhatch env --agent builder --ttl 1h --format dotenv > agent.env
///   keyhatch env --format dotenv --proxy-url http://host.docker.internal:8877 --ca /ca.pem
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct EnvArgs {
    /// The agent whose grants count
    #[arg(long, value_name = "A", default_value = "default")]
    agent: String,
    /// How long the session token is good: "30m", "24h", "7d"
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = ttl)]
    ttl: Duration,
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "sh")]
    format: Format,
    /// The proxy's address as the agent sees it, in the place of what serve says
    #[arg(long, value_name = "URL", value_parser = crate::config::proxy_url)]
    proxy_url: Option<String>,
    /// Where the agent finds the bundle of the system's and our CA
    #[arg(long, value_name = "PATH")]
    ca: Option<String>,
}
pub(super) fn run(ctx: &Context, args: &EnvArgs) -> Outcome {
    let agent = AgentName::parse(&args.agent)?;
    let home = ctx.home()?;
    let session = ServeSession::ask(ctx, &home, &agent, args.ttl, SessionKind::Env)?.ok_or_else(|| {
        CommandError::failed("no `keyhatch serve` runs for this home, and there is no proxy to name without one")
            .hint("start `keyhatch serve`, or run one command with `keyhatch run -- CMD`")
    })?;
    let proxy_url = args.proxy_url.clone().map_or_else(|| session.told_url(), Ok)?;
    let mut environment = session.environment(&home, agent, proxy_url)?;
    if let Some(path) = &args.ca {
        environment.bundle.clone_from(path);
        environment.ca.clone_from(path);
    }
    let format = if ctx.out.json { Format::Json } else { args.format };
    ctx.out.data(agent_env::print(&environment.variables(), format).as_bytes())?;
    DONE
}

/// Reads `--ttl`.
fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text).ok_or_else(|| format!("give {DURATION_FORM}"))?;
    if (Duration::from_secs(1)..=MAX_TTL).contains(&ttl) { Ok(ttl) } else { Err("a session lasts from 1 second to 30 days".to_owned()) }
}
