//! `keyhatch credential rollback`

use clap::Args;

use crate::cli::base::Matter;
use crate::cli::context::{Change, Context};
use crate::cli::error::{DONE, Outcome};
use crate::credential::CredentialName;

/// Go back to the secret before the last rotation
///
/// The previous secret, or the place in Vault that it was read from, is kept, sealed, for 24 hours
/// after `keyhatch credential rotate`. What changed inside Vault is not undone by this.
///
/// Example:
///
///   keyhatch credential rollback openrouter
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RollbackArgs {
    /// The credential
    name: String,
}

pub(super) fn run(ctx: &Context, args: &RollbackArgs) -> Outcome {
    let name = CredentialName::parse(&args.name)?;
    let unlocked = ctx.unlock_for(Matter::Credentials)?;
    let now = unlocked.store.rollback_credential(&name).map_err(|e| unlocked.refused(ctx, e))?;
    unlocked.changed(Change { event: "credential.rollback", agent: None, credential: Some(&name), detail: super::recorded(&now) })?;
    super::say_in_use(ctx, &name, &now, "rolled back")?;
    DONE
}
