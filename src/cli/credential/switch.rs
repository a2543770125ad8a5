//! `keyhatch credential disable` and `keyhatch credential enable`

use clap::Args;

use crate::cli::base::Matter;
use crate::cli::context::{Change, Context};
use crate::cli::error::{DONE, Outcome};
use crate::credential::CredentialName;

/// Refuse a credential's requests until it is enabled again
///
/// Its hosts stay intercepted: their requests get 503 `credential_unavailable`, and are never
/// sent without the credential.
///
/// Example:
///
///   keyhatch credential disable openrouter
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DisableArgs {
    /// The credential
    name: String,
}

/// Let a disabled credential be used again
///
/// Example:
///
///   keyhatch credential enable openrouter
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct EnableArgs {
    /// The credential
    name: String,
}

pub(super) fn disable(ctx: &Context, args: &DisableArgs) -> Outcome {
    switch(ctx, &args.name, false)
}

pub(super) fn enable(ctx: &Context, args: &EnableArgs) -> Outcome {
    switch(ctx, &args.name, true)
}

fn switch(ctx: &Context, name: &str, enabled: bool) -> Outcome {
    let name = CredentialName::parse(name)?;
    let unlocked = ctx.unlock_for(Matter::Credentials)?;
    let (event, word) = if enabled { ("credential.enable", "enabled") } else { ("credential.disable", "disabled") };
    if unlocked.store.set_enabled(&name, enabled).map_err(|e| unlocked.refused(ctx, e))? {
        unlocked.changed(Change { event, agent: None, credential: Some(&name), detail: String::new() })?;
        ctx.out.say(&format!("Credential `{name}` is {word}."));
    } else {
        ctx.out.say(&format!("Credential `{name}` was {word} already."));
    }
    DONE
}
