//! What can go wrong with the file, in a person's words.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// A failed operation on the store's file. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It is not there.
    #[error("there is no store at {}: run `keyhatch init`, or give its home with --home", .0.display())]
    Missing(PathBuf),
    /// Something is in the way of a new file.
    #[error("{} exists already and is left as it is: give another name", .0.display())]
    Exists(PathBuf),
    /// It is no SQLite file, or a broken one.
    #[error("{} is damaged ({what}): put back a backup with `keyhatch store restore`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// Another keyhatch made it with a schema that this one does not know.
    #[error("{} has schema {found}, and this keyhatch knows {} at most: use the newer keyhatch that wrote it", path.display(), super::SCHEMA)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// The disk, the file or its directory cannot be written.
    #[error("{} cannot be written: its disk, its directory or the file itself is read-only", .0.display())]
    ReadOnly(PathBuf),
    /// No room.
    #[error("{} cannot be written: the disk is full; nothing was changed", .0.display())]
    Full(PathBuf),
    /// Another process holds it for longer than five seconds, or holds it open where it must not.
    #[error("{} is in use by another keyhatch: {what}", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// What to do.
        what: &'static str,
    },
    /// The operating system refused.
    #[error("{} cannot be used: {why}; see to its place, owner and mode", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was refused.
        why: String,
    },
}

impl DatabaseError {
    /// The same error told of another path: for a file that stands in for what the operator named.
    #[must_use]
    pub fn at(self, path: &Path) -> Self {
        let path = path.to_owned();
        match self {
            Self::Missing(_) => Self::Missing(path),
            Self::Exists(_) => Self::Exists(path),
            Self::Damaged { what, .. } => Self::Damaged { path, what },
            Self::Newer { found, .. } => Self::Newer { path, found },
            Self::ReadOnly(_) => Self::ReadOnly(path),
            Self::Full(_) => Self::Full(path),
            Self::Busy { what, .. } => Self::Busy { path, what },
            Self::Io { why, .. } => Self::Io { path, why },
        }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    pub(super) fn io(path: &Path, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(path.to_owned()),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full(path.to_owned()),
            std::io::ErrorKind::AlreadyExists => Self::Exists(path.to_owned()),
            _ => Self::Io { path: path.to_owned(), why: error.to_string() },
        }
    }

    pub(super) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let owned = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::ReadOnly) => Self::ReadOnly(owned),
            Some(ErrorCode::DiskFull) => Self::Full(owned),
            // The log's index needs a few pages of its own, for which SQLite gives no better reason.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if is_full(path) => Self::Full(owned),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path: owned, what: "try again" },
            Some(ErrorCode::CannotOpen) => Self::Io { path: owned, why: cannot_open(path) },
            Some(ErrorCode::PermissionDenied | ErrorCode::SystemIoFailure) => Self::Io { path: owned, why: error.to_string() },
            Some(ErrorCode::NotADatabase) => Self::damaged(path, "it is no SQLite file"),
            // What is left are errors of the file's content: a malformed page, a table or column that is not there.
            _ => Self::damaged(path, one_line(&error.to_string())),
        }
    }
}

/// Whether less is left on the file's disk than SQLite needs to begin.
fn is_full(path: &Path) -> bool {
    rustix::fs::statvfs(path).or_else(|_| rustix::fs::statvfs(directory(path))).is_ok_and(|s| s.f_bavail.saturating_mul(s.f_frsize) < 64 * 1024)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// SQLite does not say why it cannot open; the likeliest reasons, told apart by a look at the directory.
fn cannot_open(path: &Path) -> String {
    let directory = directory(path);
    match rustix::fs::access(directory, rustix::fs::Access::WRITE_OK) {
        Ok(()) => "SQLite cannot open it".to_owned(),
        Err(e) => format!("it cannot be opened, since {} cannot be written: {e}", directory.display()),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
