//! `keyhatch credential ...`

mod add;
mod ask;
mod list;
mod remove;
mod rollback;
mod rotate;
mod show;
mod switch;
mod terms;
mod test;
mod view;

use clap::Subcommand;

use super::context::Context;
use super::error::{CommandError, Outcome};
use crate::credential::{CredentialName, Source};
use crate::vault::local::InUse;

/// Add, list and change credentials: secrets, and where they may go
///
/// Examples:
///
///   keyhatch credential add openrouter < key.txt
///   keyhatch credential list
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true, verbatim_doc_comment)]
pub(crate) enum CredentialCommand {
    Add(add::AddArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Rotate(rotate::RotateArgs),
    Rollback(rollback::RollbackArgs),
    Disable(switch::DisableArgs),
    Enable(switch::EnableArgs),
    Remove(remove::RemoveArgs),
    Test(test::TestArgs),
}

pub(super) fn run(ctx: &Context, command: CredentialCommand) -> Outcome {
    match command {
        CredentialCommand::Add(args) => add::run(ctx, &args),
        CredentialCommand::List(args) => list::run(ctx, &args),
        CredentialCommand::Show(args) => show::run(ctx, &args),
        CredentialCommand::Rotate(args) => rotate::run(ctx, &args),
        CredentialCommand::Rollback(args) => rollback::run(ctx, &args),
        CredentialCommand::Disable(args) => switch::disable(ctx, &args),
        CredentialCommand::Enable(args) => switch::enable(ctx, &args),
        CredentialCommand::Remove(args) => remove::run(ctx, &args),
        CredentialCommand::Test(args) => test::run(ctx, &args),
    }
}

/// Says what is in use now: as JSON for a program, else to the person.
fn say_in_use(ctx: &Context, name: &CredentialName, now: &InUse, what: &str) -> Result<(), CommandError> {
    if ctx.out.json {
        return ctx.out.json(&serde_json::json!({ "name": name, "source": now.source.to_string(), "fingerprint": now.fingerprint }));
    }
    let said = match &now.source {
        Source::Vault(reference) => format!("its secret is now read from Vault, at {reference}"),
        Source::Local => {
            let moved = if matches!(now.before, Some(Source::Vault(_))) { "its secret is now in the store, no longer in Vault; " } else { "" };
            format!("{moved}its fingerprint is now {}", view::fingerprint(now.fingerprint.as_deref()))
        }
    };
    ctx.out.say(&format!("Credential `{name}` is {what}; {said}."));
    say_of_vault(ctx, name, &now.source);
    Ok(())
}

/// Says of a secret in Vault that nobody has seen it yet.
fn say_of_vault(ctx: &Context, name: &CredentialName, source: &Source) {
    if matches!(source, Source::Vault(_)) && !ctx.out.json {
        ctx.out.say(&format!("Nothing was asked of Vault: `keyhatch credential test {name}` or `keyhatch doctor` shows whether it can be read."));
    }
}

/// What is in use now, for the audit log.
fn recorded(now: &InUse) -> String {
    match &now.fingerprint {
        Some(fingerprint) => format!("fingerprint {fingerprint}"),
        None => now.source.to_string(),
    }
}
