//! `keyhatch credential show`

use clap::Args;

use super::view::{self, CredentialView};
use crate::cli::context::Context;
use crate::cli::error::{DONE, Outcome};
use crate::credential::CredentialName;

/// Show one credential: everything but its secret
///
/// The fingerprint is 8 hex digits of an HMAC of the secret under a key of the store: it tells
/// two secrets apart and says nothing of either. Of a secret in Vault there is none: `-`, or null.
///
/// Examples:
///
///   keyhatch credential show openrouter
///   keyhatch credential show openrouter --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ShowArgs {
    /// The credential
    name: String,
}

pub(super) fn run(ctx: &Context, args: &ShowArgs) -> Outcome {
    let name = CredentialName::parse(&args.name)?;
    let info = ctx.unlock()?.credential(&name)?;
    if ctx.out.json {
        ctx.out.json(&CredentialView::from(&info))?
    } else {
        view::details(&ctx.out, &info)?
    }
    DONE
}
