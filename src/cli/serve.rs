//! `keyhatch serve`

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::base::Base;
use super::context::{Context, Patience, not_started, runtime};
use super::error::{CommandError, DONE, Outcome};
use crate::home::ServeLock;
use crate::process;
use crate::server::{self, Running};
use crate::telemetry::log;

/// Run the proxy in the foreground
///
/// SIGTERM and SIGINT stop it: it takes no new connections and waits for what is under way, for
/// [timeouts] drain at the longest. SIGHUP reads the configuration again. A change by another
/// command takes effect within a second. It takes no CA, proxy or resolver setting from its
/// environment. A Vault that its start needs is waited for, for half a minute. With discover,
/// discover_agents, ca and signing_key in [vault] it needs no store and no passphrase.
///
/// Examples:
///
///   keyhatch serve
///   keyhatch serve --config /etc/keyhatch/keyhatch.toml --passphrase-file /run/secrets/keyhatch
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ServeArgs {}

pub(super) fn run(ctx: &Context, _: &ServeArgs) -> Outcome {
    log::init().map_err(|e| CommandError::usage(e.to_string()))?;
    let home = ctx.home_to_fill()?;
    ctx.config(&home)?;
    // Before a passphrase is asked for: a second serve is refused anyway.
    let lock = ServeLock::acquire(&home)?;
    process::harden();
    let base = ctx.base_with(Patience::Start)?;
    let ended = runtime()?.block_on(serve(ctx, base));
    drop(lock);
    ended
}

async fn serve(ctx: &Context, base: Base) -> Outcome {
    // Before the listeners open: whoever sees them may send a signal.
    let listen = |kind| signal(kind).map_err(CommandError::doing("signals cannot be received"));
    let (mut terminate, mut interrupt, mut hangup) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?);
    let config = base.config.clone();
    let options = ctx.server_options(base, true);
    let file = options.config_file.clone();
    // It may be waiting for Vault.
    let told_to_end = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let started = server::start_unless(options, told_to_end).await.map_err(|e| not_started(&file, e))?;
    let Some(running) = started else { return DONE };
    for line in running.describe() {
        tracing::info!("{line}");
    }
    // It names files and hosts, and holds no secret.
    tracing::trace!("{config:?}");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&running).await,
        }
    }
    tracing::info!("stopping: what is under way may end; a second signal stops at once");
    tokio::select! {
        () = running.shutdown() => tracing::info!("stopped"),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    DONE
}

async fn reload(running: &Running) {
    match running.reload().await {
        Ok(()) => tracing::info!("the configuration and the store were read again"),
        Err(e) => tracing::error!("nothing was changed: {e}"),
    }
}
