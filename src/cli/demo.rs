//! `keyhatch demo`, and the child that it runs.

use std::path::PathBuf;

use clap::Args;

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

/// The demo's own child: not for people.
#[derive(Debug, Args)]
pub(crate) struct ChildArgs {
    /// The CA of the demo's origins
    authority: PathBuf,
}
