//! Names of files, changed so that a crash leaves the old or the new.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::database::{Database, with_suffix};
use super::error::DatabaseError;

/// Syncs a closed file and gives it a name that must be free.
pub(super) fn rename_new(from: &Path, to: &Path) -> Result<(), DatabaseError> {
    let fail = |e: io::Error| DatabaseError::io(to, &e);
    fs::File::open(from).and_then(|f| f.sync_all()).map_err(fail)?;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that knows no such rename: a link fails as well where the name is taken.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to).and_then(|()| fs::remove_file(from)).map_err(fail)?;
        }
        other => other.map_err(|e| fail(e.into()))?,
    }
    sync_directory(to)
}

/// Copies a file that nobody has open into a new one, mode 0600.
pub(crate) fn copy_new(from: &Path, to: &Path) -> Result<(), DatabaseError> {
    let mut source = fs::File::open(from).map_err(|e| DatabaseError::io(from, &e))?;
    let fail = |e: io::Error| DatabaseError::io(to, &e);
    let mut target = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(fail)?;
    io::copy(&mut source, &mut target).map_err(fail)?;
    target.sync_all().map_err(fail)
}

pub(super) fn sync_directory(path: &Path) -> Result<(), DatabaseError> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(directory).and_then(|d| d.sync_all()).map_err(|e| DatabaseError::io(directory, &e))
}

/// Puts the closed store `incoming` in the place of the one at `path`, which is kept as `PATH.replaced-STAMP` together
/// with what it had in its log. Nobody may have either open. Says where the old one lies, if there was one.
///
/// # Errors
/// [`DatabaseError`]; the store at `path` is the old one then.
pub(crate) fn replace(path: &Path, incoming: &Path, stamp: &str) -> Result<Option<PathBuf>, DatabaseError> {
    let fail = |e: io::Error| DatabaseError::io(path, &e);
    fs::File::open(incoming).and_then(|f| f.sync_all()).map_err(fail)?;
    let mut kept = None;
    if path.symlink_metadata().is_ok() {
        // A store that opens takes its log in. One that does not keeps it, and the log must not meet the new file.
        let _ = Database::open(path).and_then(Database::close);
        let to = with_suffix(path, &format!(".replaced-{stamp}"));
        fs::hard_link(path, &to).map_err(fail)?;
        let log = with_suffix(path, "-wal");
        if log.exists() {
            fs::rename(&log, with_suffix(&to, "-wal")).map_err(fail)?;
        }
        let _ = fs::remove_file(with_suffix(path, "-shm"));
        kept = Some(to);
    }
    fs::rename(incoming, path).map_err(fail)?;
    sync_directory(path)?;
    Ok(kept)
}
