//! `keyhatch audit verify`

use clap::Args;

use crate::cli::context::Context;
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::cli::output::counted;
use crate::telemetry::audit_log::verify;

/// Check that no record of the audit log was changed, removed or added
///
/// Each record's MAC is chained to the last one's, under a key of the store, and a checkpoint in
/// the store shows a cut tail. It exits 1 and names the places where something is wrong. A torn
/// last line, and files that `keep` removed, are no fault. Without a store the key is that of
/// [vault] signing_key, and there is no checkpoint: a cut tail does not show.
///
/// Examples:
///
///   keyhatch audit verify
///   keyhatch audit verify --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct VerifyArgs {}

pub(super) fn run(ctx: &Context, _: &VerifyArgs) -> Outcome {
    let base = ctx.base()?;
    let path = base.home.audit();
    let (key, checkpoint) = base.audit()?;
    let report = verify(&path, &key, checkpoint).map_err(CommandError::doing(format!("{} cannot be read", path.display())))?;
    if ctx.out.json {
        ctx.out.json(&report)?;
    } else {
        for fault in &report.faults {
            ctx.out.line(&fault.to_string())?;
        }
        for note in &report.notes {
            ctx.out.say(&format!("note: {note}"));
        }
    }
    let count = report.faults.len() as u64 + report.more_faults;
    if !report.is_sound() {
        return Err(CommandError::failed(format!("the audit log has {}", counted(count, "fault")))
            .hint("the records before the first fault can be relied on"));
    }
    ctx.out
        .say(&format!("{} records, numbers {} to {}: every one is there and as it was written.", report.records, report.first_seq, report.last_seq));
    DONE
}
