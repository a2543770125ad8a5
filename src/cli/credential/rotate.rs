//! `keyhatch credential rotate`

use clap::Args;

use super::ask::Question;
use crate::cli::context::Unlocked;
use crate::cli::context::{Change, Context};
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::cli::source::SourceArgs;
use crate::cli::source::misfit;
use crate::credential::CredentialName;
use crate::credential::{Material, Secret};

/// Replace a credential's secret
///
/// The hosts, rules and grants stay. The next request carries the new secret, also inside open
/// connections. The old one is kept, sealed, for 24 hours: see `keyhatch credential rollback`.
/// With --test the origin is asked with the new secret first, and nothing is changed unless it
/// accepts it.
///
/// Examples:
///
///   keyhatch credential rotate openrouter < new-key.txt
///   keyhatch credential rotate openrouter --test --from-file new-key.txt
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RotateArgs {
    /// The credential
    name: String,
    /// Ask the origin with the new secret before it replaces the old one
    #[arg(long)]
    test: bool,
    /// What --test asks, in the place of the provider's test URL
    #[arg(long, value_name = "URL", requires = "test")]
    url: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
}

pub(super) fn run(ctx: &Context, args: &RotateArgs) -> Outcome {
    let name = CredentialName::parse(&args.name)?;
    let unlocked = ctx.unlock()?;
    // Nobody types a secret for a credential that is not there.
    unlocked.credential(&name)?;
    let secret = args.source.read(&format!("New secret of {name}"))?;
    if args.test {
        try_out(&unlocked, &name, &secret, args.url.as_deref())?;
    }
    let fingerprint = unlocked.store.rotate_credential(&name, &secret)?;
    unlocked.changed(Change { event: "credential.rotate", agent: None, credential: Some(&name), detail: format!("fingerprint {fingerprint}") })?;
    super::say_fingerprint(ctx, &name, &fingerprint, "rotated")?;
    DONE
}

/// Asks the origin with the new secret. A credential that is disabled or broken can be tried out like any other: the new
/// secret is not in the store yet.
fn try_out(unlocked: &Unlocked, name: &CredentialName, secret: &Secret, url: Option<&str>) -> Result<(), CommandError> {
    let info = unlocked.credential(name)?;
    let question = Question::new(&info, url)?;
    question.judge(&info)?;
    let copy = Secret::from_opened(secret.expose());
    let material = Material::new(&info.entry.terms.presentation, copy).map_err(misfit)?;
    let status = question.ask(unlocked, &material)?;
    if status.is_success() {
        return Ok(());
    }
    let mut refused = super::test::not_accepted(name, status);
    refused.message.push_str(", so nothing was changed");
    Err(refused)
}
