//! `keyhatch credential show`

use clap::Args;

use super::view::{self, CredentialView};
use crate::cli::base::Base;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::cli::vault::failed;
use crate::credential::{CredentialName, Source, VaultReference};
use crate::telemetry::escape;

/// Show one credential: everything but its secret
///
/// The fingerprint is 8 hex digits of an HMAC of the secret under a key of the store: it tells
/// two secrets apart and says nothing of either. Where Vault holds the secret, Vault is asked for
/// it, and the key is that of [vault] signing_key, where there is one. Where Vault cannot be asked,
/// or makes a secret anew at each read, there is none: `-`, or null.
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
    let base = ctx.base()?;
    let mut info = base.credential(ctx, &name)?;
    // A damaged row is not believed even so far that Vault is asked.
    if let Source::Vault(reference) = &info.source
        && info.entry.broken.is_none()
    {
        info.fingerprint = fingerprint(ctx, &base, reference);
    }
    if ctx.out.json {
        ctx.out.json(&CredentialView::from(&info))?
    } else {
        view::details(&ctx.out, &info)?
    }
    DONE
}

/// The fingerprint of what Vault holds now; a warning and `None` where that is not to be had.
fn fingerprint(ctx: &Context, base: &Base, reference: &VaultReference) -> Option<String> {
    let ask = || -> Result<Option<String>, CommandError> {
        let there = base.there()?;
        if there.makes_at_each_read(reference).map_err(failed)? {
            return Ok(None);
        }
        base.fingerprint(&there.value(reference)?).map(Some)
    };
    ask().unwrap_or_else(|e| {
        ctx.out.warn(&escape::human(&format!("the value at vault:{reference} has no fingerprint now: {e}")));
        None
    })
}
