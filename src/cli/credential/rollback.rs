//! `keyhatch credential rollback`

use clap::Args;

use crate::cli::context::{Change, Context};
use crate::cli::error::{DONE, Outcome};
use crate::credential::CredentialName;

/// Go back to the secret before the last rotation
///
/// The previous secret is kept, sealed, for 24 hours after `keyhatch credential rotate`.
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
    let unlocked = ctx.unlock()?;
    let fingerprint = unlocked.store.rollback_credential(&name)?;
    unlocked.changed(Change { event: "credential.rollback", agent: None, credential: Some(&name), detail: format!("fingerprint {fingerprint}") })?;
    super::say_fingerprint(ctx, &name, &fingerprint, "rolled back")?;
    DONE
}
