//! `keyhatch credential list`

use clap::Args;

use super::view::{self, CredentialView};
use crate::cli::context::Context;
use crate::cli::error::{DONE, Outcome};

/// List the credentials
///
/// With --json, an array of objects: name, type, source, allowed_domains, agents, enabled,
/// fingerprint, created_at, rotated_at, last_used_at, last_origin_status, and more that
/// `keyhatch credential show` prints as well. Times are RFC 3339 or null.
///
/// Examples:
///
///   keyhatch credential list
///   keyhatch credential list --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ListArgs {}

pub(super) fn run(ctx: &Context, _: &ListArgs) -> Outcome {
    let base = ctx.base()?;
    let credentials = base.picture(ctx)?.credentials();
    let views: Vec<CredentialView> = credentials.iter().map(CredentialView::from).collect();
    let rows: Vec<_> = credentials.iter().map(view::row).collect();
    let none = match (&base.store, &base.config.vault.discover) {
        (None, Some(folder)) => format!("There are no credentials in Vault yet: `vault kv put {folder}/openrouter api_key=...` adds one."),
        _ => "There are no credentials yet: `keyhatch credential add openrouter` adds one.".to_owned(),
    };
    ctx.out.listing(&views, &view::HEADS, &rows, &none)?;
    DONE
}
