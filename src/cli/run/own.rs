//! A proxy of `run`'s own, for the life of the command: where no `serve` runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use zeroize::Zeroizing;

use super::child::{self, Ended};
use super::{RunArgs, TTL};
use crate::admin::{AdminOps as _, OpError};
use crate::agent::AgentName;
use crate::cli::agent_env::{self, AgentEnvironment};
use crate::cli::base::Base;
use crate::cli::ca;
use crate::cli::context::{Context, Patience, not_started, runtime};
use crate::cli::error::CommandError;
use crate::cli::session::utf8;
use crate::config::ListenAddr;
use crate::environment;
use crate::home::Home;
use crate::server::{self, Running};
use crate::session::SessionKind;

/// What the command left running behind does not keep `run` for longer.
const DRAIN: Duration = Duration::from_secs(1);

/// Unlocks the store, runs the proxy on a free port, and the command beside it.
pub(super) fn run(ctx: &Context, args: &RunArgs, agent: AgentName) -> Result<Ended, CommandError> {
    let mut base = ctx.base_with(Patience::Run)?;
    // What Vault alone holds is not known here.
    let inherited = agent_env::inherited(environment::all(), |values| match &base.store {
        Some(store) => store.reveals(values),
        None => Ok(vec![false; values.len()]),
    })?;
    let home = base.home.clone();
    own_listener(&mut base);
    runtime()?.block_on(async {
        let options = ctx.server_options(base, false);
        let file = options.config_file.clone();
        let running = server::start(options).await.map_err(|e| not_started(&file, e))?;
        let ended = match tokio::task::block_in_place(|| environment_of(&running, &home, agent)) {
            Ok(environment) => child::run(&args.command, inherited, &environment.variables()).await,
            Err(e) => Err(e),
        };
        running.shutdown().await;
        ended
    })
}

/// A free port on loopback, and nothing else.
fn own_listener(base: &mut Base) {
    let config = &mut base.config;
    config.proxy.listen = ListenAddr::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    config.proxy.tls_listen = None;
    // The token is there anyway: nobody else on this machine is to use this proxy.
    config.proxy.auth_required = true;
    config.timeouts.drain = config.timeouts.drain.min(DRAIN);
}

fn environment_of(running: &Running, home: &Home, agent: AgentName) -> Result<AgentEnvironment, CommandError> {
    let refused = |e: OpError| CommandError::from(crate::admin::client::ClientError::Refused(e));
    let ops = running.ops();
    let minted = ops.mint(&agent, TTL, SessionKind::Run).map_err(refused)?;
    ops.hold(&minted);
    let info = ops.info(Some(&agent)).map_err(refused)?;
    Ok(AgentEnvironment {
        proxy_url: info.listen,
        token: Zeroizing::new(minted.token.expose().to_owned()),
        bundle: utf8(&ca::write_bundle(home, &info.ca_pem)?)?,
        ca: utf8(&home.ca())?,
        placeholders: info.variables,
        agent,
    })
}
