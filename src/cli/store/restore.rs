//! `keyhatch store restore`

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::cli::context::Unlocked;
use crate::cli::context::{Change, Context};
use crate::cli::error::{DONE, Outcome};
use crate::clock;
use crate::home::{Mode, ServeLock, write_atomic};
use crate::vault::local::{LocalStore, Restored};

/// Put a backup in the store's place
///
/// Refused while `serve` runs. The store that it replaces is kept beside it; on a new machine the
/// home is made. It says what comes back: credentials and grants that were removed since, and
/// older secrets.
///
/// Example:
///
///   keyhatch store restore keyhatch-backup.db
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RestoreArgs {
    /// The backup
    file: PathBuf,
}

pub(super) fn run(ctx: &Context, args: &RestoreArgs) -> Outcome {
    LocalStore::sealed_by(&args.file).map_err(|e| e.of_backup(&args.file))?;
    let home = ctx.home_place()?;
    home.create()?;
    let config = ctx.config(&home)?;
    // Held until the end: no serve can start meanwhile.
    let _lock = ServeLock::acquire(&home)?;
    let key = ctx.key_for(&config, &args.file)?;
    let restored = LocalStore::restore(&home.store(), &args.file, &key).map_err(|e| e.of_backup(&args.file))?;
    let store = Arc::new(LocalStore::open(&home.store(), &key)?);
    let unlocked = Unlocked { home, config, store };
    if let Ok(ca) = unlocked.ca() {
        write_atomic(&unlocked.home.ca(), ca.anchors_pem(clock::now()).as_bytes(), Mode::Public)?;
    }
    unlocked.changed(Change {
        event: "store.restore",
        agent: None,
        credential: None,
        detail: format!("{} credentials", restored.credentials.len()),
    })?;
    report(ctx, &restored)
}

/// What came back, and what went.
fn report(ctx: &Context, r: &Restored) -> Outcome {
    let replaced = r.replaced.as_ref().map(|p| p.display().to_string());
    if ctx.out.json {
        ctx.out.json(&serde_json::json!({
            "credentials": r.credentials, "agents": r.agents, "gone": r.gone, "faults": r.faults, "replaced": replaced,
        }))?;
        return DONE;
    }
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let mut lines = vec![("credentials", list(&r.credentials)), ("agents", list(&r.agents)), ("gone", list(&r.gone))];
    lines.extend(replaced.map(|file| ("the store that was replaced", file)));
    ctx.out.fields(&lines)?;
    for fault in &r.faults {
        ctx.out.warn(&fault.to_string());
    }
    ctx.out.say("Secrets, grants and agents are as they were when the backup was made: look for what was removed or rotated since.");
    DONE
}
