//! `keyhatch credential test`

use std::sync::Arc;

use clap::Args;
use http::StatusCode;

use super::ask::{Leave, Question};
use crate::cli::base::Base;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::credential::{CredentialName, Material, Source};
use crate::policy::Permit;
use crate::vault::local::LocalVault;
use crate::vault::{CredentialSource as _, Fetched, Sources, Unavailable};

/// Ask the origin whether it accepts a credential
///
/// One GET of the provider's test URL, or of --url, by the same rules as the proxy's: verified
/// TLS, checked addresses, [resolve]. It prints the status and nothing of the answer, and exits
/// 1 if that is not 2xx.
///
/// Examples:
///
///   keyhatch credential test openrouter
///   keyhatch credential test internal --url https://api.corp.example/whoami
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct TestArgs {
    /// The credential
    name: String,
    /// What to ask, in the place of the provider's test URL
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

pub(super) fn run(ctx: &Context, args: &TestArgs) -> Outcome {
    let name = CredentialName::parse(&args.name)?;
    let base = ctx.base()?;
    let info = base.credential(ctx, &name)?;
    let question = Question::new(&info, args.url.as_deref())?;
    let unavailable = |why: String| CommandError::failed(format!("credential `{name}` cannot be had: {why}")).hint("see `keyhatch credential show`");
    let permit = match question.judge(&info)? {
        Leave::Given(permit) => permit,
        Leave::Unavailable(why) => return Err(unavailable(why)),
    };
    let material = match &info.source {
        Source::Local => stored(&base, &permit)?.map_err(|e| unavailable(e.to_string()))?,
        Source::Vault(reference) => {
            let secret = base.there()?.value(reference)?;
            Arc::new(Material::new(&info.entry.terms.presentation, secret).map_err(|e| unavailable(e.to_string()))?)
        }
    };
    report(ctx, &name, question.ask(&base, &material)?)
}

/// What the store holds, by the same way as a request's.
fn stored(base: &Base, permit: &Permit) -> Result<Result<Arc<Material>, Unavailable>, CommandError> {
    let sources = Sources::default();
    if let Some(store) = &base.store {
        sources.replace(LocalVault::new(store).cells(&store.load()?));
    }
    match sources.fetch(permit) {
        Fetched::Now(material) => Ok(material),
        Fetched::Later(material) => Ok(crate::cli::context::runtime()?.block_on(material)),
    }
}

/// Prints the status; anything but success is a failure.
pub(super) fn report(ctx: &Context, name: &CredentialName, status: StatusCode) -> Outcome {
    if ctx.out.json {
        ctx.out.json(&serde_json::json!({ "name": name, "status": status.as_u16(), "accepted": status.is_success() }))?;
    } else {
        ctx.out.line(&format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default()))?;
    }
    if status.is_success() { DONE } else { Err(not_accepted(name, status)) }
}

/// What a status other than success says about the secret.
pub(super) fn not_accepted(name: &CredentialName, status: StatusCode) -> CommandError {
    let error = CommandError::failed(format!("the origin answered {} to credential `{name}`", status.as_u16()));
    match status.as_u16() {
        401 | 403 => error.hint("the origin does not accept the secret: check it, and rotate it"),
        402 => error.hint("the secret is accepted, but there is no credit left"),
        429 => error.hint("the origin limits the rate: try again later"),
        500.. => error.hint("the origin is at fault: try again later"),
        _ => error.hint("check the URL that is asked: see --url"),
    }
}
