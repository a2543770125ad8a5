//! `keyhatch store verify`

use clap::Args;

use crate::cli::base::Matter;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::telemetry::escape;

/// Check that every row of the store opens and is as it was sealed
///
/// It exits 1 and names the rows where something was changed, moved, added or removed.
///
/// Examples:
///
///   keyhatch store verify
///   keyhatch store verify --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct VerifyArgs {}

pub(super) fn run(ctx: &Context, _: &VerifyArgs) -> Outcome {
    let unlocked = ctx.unlock_for(Matter::Store)?;
    let faults = unlocked.store.verify()?;
    if ctx.out.json {
        ctx.out.json(&serde_json::json!({ "sound": faults.is_empty(), "faults": faults }))?;
    } else {
        for fault in &faults {
            ctx.out.line(&escape::human(&fault.to_string()))?;
        }
    }
    if faults.is_empty() {
        ctx.out.say("Every row of the store opens and is as it was sealed.");
        return DONE;
    }
    Err(CommandError::failed(format!("{} parts of the store are not as they were sealed", faults.len()))
        .hint("rotate, remove or grant anew what is named, or put back a backup with `keyhatch store restore`"))
}
