//! `keyhatch demo`, and the child that it runs.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::context::{Context, runtime};
use super::error::{CommandError, DONE, Outcome};
use super::output::Output;
use crate::demo;

/// Show the whole main job on this machine alone, checked, in about ten seconds
///
/// In a throw-away home: an origin that demands a key, a look-alike of it, a proxy, and a child
/// that has no key. It prints what the child sent beside what the origin received, and exits 1
/// if one line is not as it must be. It needs no network and leaves nothing behind.
///
/// Example:
///
///   keyhatch demo
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DemoArgs {}

/// Runs the demo.
pub(super) fn run(ctx: &Context, _: &DemoArgs) -> Outcome {
    let runtime = runtime()?;
    let passed = runtime.block_on(demo::run(&mut io::stdout())).map_err(|e| CommandError::failed(e.to_string()))?;
    if passed {
        return DONE;
    }
    ctx.out.say("keyhatch: the demo found lines that are not as they must be");
    Ok(ExitCode::FAILURE)
}

/// The demo's own child: asks what the demo wants asked, without a key.
pub(super) fn child(authority: &Path) -> ExitCode {
    match demo::child::run(authority) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            Output { json: false }.error(&CommandError::failed(why));
            ExitCode::FAILURE
        }
    }
}
