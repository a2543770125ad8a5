//! `keyhatch store ...`

mod backup;
mod rekey;
mod restore;
mod verify;

use clap::Subcommand;

use super::context::Context;
use super::error::Outcome;

/// Back up, restore, check and reseal the store
///
/// Examples:
///
///   keyhatch store backup keyhatch-backup.db
///   keyhatch store verify
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true, verbatim_doc_comment)]
pub(crate) enum StoreCommand {
    Rekey(rekey::RekeyArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Verify(verify::VerifyArgs),
}

pub(super) fn run(ctx: &Context, command: StoreCommand) -> Outcome {
    match command {
        StoreCommand::Rekey(args) => {
            ctx.must_have_store()?;
            rekey::run(ctx, &args)
        }
        StoreCommand::Backup(args) => backup::run(ctx, &args),
        StoreCommand::Restore(args) => restore::run(ctx, &args),
        StoreCommand::Verify(args) => verify::run(ctx, &args),
    }
}
