//! `keyhatch serve`

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::context::{Context, Patience, Unlocked, not_started, runtime};
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
/// environment. Where Vault unlocks the store, a Vault that is still starting is waited for, for
/// half a minute.
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
    let home = ctx.home()?;
    ctx.config(&home)?;
    // Before a passphrase is asked for: a second serve is refused anyway.
    let lock = ServeLock::acquire(&home)?;
    process::harden();
    let unlocked = ctx.unlock_with(Patience::Start)?;
    let ended = runtime()?.block_on(serve(ctx, unlocked));
    drop(lock);
    ended
}

async fn serve(ctx: &Context, unlocked: Unlocked) -> Outcome {
    // Before the listeners open: whoever sees them may send a signal.
    let listen = |kind| signal(kind).map_err(CommandError::doing("signals cannot be received"));
    let (mut terminate, mut interrupt, mut hangup) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?);
    let config = unlocked.config.clone();
    let options = ctx.server_options(unlocked, true);
    let file = options.config_file.clone();
    let running = server::start(options).await.map_err(|e| not_started(&file, e))?;
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
