//! `keyhatch credential rotate`

use clap::Args;

use super::ask::Question;
use crate::cli::base::{Base, Matter};
use crate::cli::context::{Change, Context};
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::cli::source::{SourceArgs, misfit};
use crate::credential::{CredentialName, Material, Secret};
use crate::vault::local::{CredentialInfo, Stored};

/// Replace a credential's secret, or the place in Vault that it is read from
///
/// The hosts, rules and grants stay. The next request carries the new secret, also inside open
/// connections. The old one is kept, sealed, for 24 hours: see `keyhatch credential rollback`.
/// A secret moves into the store when one is given, and to Vault with --vault. What changes inside
/// Vault needs no command: the new value is in use as soon as it is read.
/// With --test the origin is asked with the new secret first, and nothing is changed unless it
/// accepts it.
///
/// Examples:
///
///   keyhatch credential rotate openrouter < new-key.txt
///   keyhatch credential rotate openrouter --test --from-file new-key.txt
///   keyhatch credential rotate openrouter --vault secret/openrouter#api_key
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
    args.source.check()?;
    let unlocked = ctx.unlock_for(Matter::Credentials)?;
    // Nobody types a secret for a credential that is not there.
    unlocked.credential(&name).map_err(|e| match unlocked.found_there(ctx, "credential", name.as_str()) {
        Some(hint) => e.hint(hint),
        None => e,
    })?;
    let value = args.source.read(&format!("New secret of {name}"))?;
    if args.test {
        try_out(&Base::of(ctx, &unlocked), &unlocked.credential(&name)?, &value, args.url.as_deref())?;
    }
    let now = unlocked.store.rotate_credential(&name, &value)?;
    unlocked.changed(Change { event: "credential.rotate", agent: None, credential: Some(&name), detail: super::recorded(&now) })?;
    super::say_in_use(ctx, &name, &now, "rotated")?;
    DONE
}

/// Asks the origin with the new secret. A credential that is disabled or broken can be tried out like any other: the new
/// secret is not in the store yet.
fn try_out(base: &Base, info: &CredentialInfo, value: &Stored, url: Option<&str>) -> Result<(), CommandError> {
    let question = Question::new(info, url)?;
    question.judge(info)?;
    let secret = match value {
        Stored::Secret(secret) => Secret::from_opened(secret.expose()),
        Stored::Reference(reference) => base.there()?.value(reference)?,
    };
    let material = Material::new(&info.entry.terms.presentation, secret).map_err(misfit)?;
    let status = question.ask(base, &material)?;
    if status.is_success() {
        return Ok(());
    }
    let mut refused = super::test::not_accepted(&info.entry.name, status);
    refused.message.push_str(", so nothing was changed");
    Err(refused)
}
