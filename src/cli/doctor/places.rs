//! The home and its files: who can read and who can write them.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use super::Findings;
use crate::cli::context::Context;
use crate::home::Home;

const CHECK: &str = "permissions";

/// Looks at the files' owners and modes.
pub(super) fn look(ctx: &Context, home: &Home, found: &mut Findings) {
    found.ok("home", format!("{} is yours, and nobody else can write it", home.dir().display()));
    let before = found.0.len();
    // Whoever can write the configuration controls the proxy.
    not_writable(&ctx.config_file(home).0, found);
    for file in [home.store(), home.audit()] {
        private(&file, found);
    }
    not_writable(&home.ca(), found);
    if found.0.len() == before {
        found.ok(CHECK, "no other user can read the store or the audit log, or write the configuration or the CA");
    }
    if let Ok(meta) = std::fs::symlink_metadata(home.admin_sock())
        && !meta.file_type().is_socket()
    {
        found.wrong(CHECK, format!("{} is no socket", home.admin_sock().display()), "remove it; `keyhatch serve` makes it anew");
    }
}

/// Owned by the home's user; no bits for others in `forbidden`.
fn check(path: &Path, forbidden: u32, what: &str, mend: &str, found: &mut Findings) {
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return,
        Err(e) => return found.wrong(CHECK, format!("{} cannot be looked at: {e}", path.display()), "see to its owner and mode"),
    };
    let (user, shown) = (rustix::process::geteuid().as_raw(), path.display());
    if meta.uid() != user && meta.uid() != 0 {
        let mend = format!("run `chown {user} {shown}` as root");
        found.wrong(CHECK, format!("{shown} belongs to user {}, and you are user {user}", meta.uid()), &mend);
    } else if meta.mode() & forbidden != 0 {
        let message = format!("others can {what} {shown} (mode {:04o})", meta.mode() & 0o7777);
        found.wrong(CHECK, message, &format!("run `chmod {mend} {shown}`"));
    }
}

fn private(path: &Path, found: &mut Findings) {
    check(path, 0o077, "read or write", "600", found);
}

fn not_writable(path: &Path, found: &mut Findings) {
    check(path, 0o022, "write", "go-w", found);
}
