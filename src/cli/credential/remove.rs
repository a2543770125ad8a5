//! `keyhatch credential remove`

use clap::Args;

use crate::cli::base::Matter;
use crate::cli::context::{Change, Context};
use crate::cli::error::{DONE, Outcome};
use crate::credential::CredentialName;

/// Remove a credential, its secret and its grants for good
///
/// Its hosts are no longer intercepted then: [egress] decides on them.
///
/// Example:
///
///   keyhatch credential remove openrouter
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RemoveArgs {
    /// The credential
    name: String,
}

pub(super) fn run(ctx: &Context, args: &RemoveArgs) -> Outcome {
    let name = CredentialName::parse(&args.name)?;
    let unlocked = ctx.unlock_for(Matter::Credentials)?;
    unlocked.store.remove_credential(&name).map_err(|e| unlocked.refused(ctx, e))?;
    unlocked.changed(Change { event: "credential.remove", agent: None, credential: Some(&name), detail: String::new() })?;
    ctx.out.say(&format!("Credential `{name}` is removed."));
    DONE
}
