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
use crate::credential::CredentialName;

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

/// Says which secret is in use now: as JSON for a program, else to the person.
fn say_fingerprint(ctx: &Context, name: &CredentialName, fingerprint: &str, what: &str) -> Result<(), CommandError> {
    if ctx.out.json {
        return ctx.out.json(&serde_json::json!({ "name": name, "fingerprint": fingerprint }));
    }
    ctx.out.say(&format!("Credential `{name}` is {what}; its fingerprint is now {fingerprint}."));
    Ok(())
}
