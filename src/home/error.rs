//! What can go wrong with the home, in a person's words.

use std::io;
use std::path::{Path, PathBuf};

use crate::envelope::SealedBy;

/// A failed look at, or change of, the home. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// No variable says where.
    #[error("there is no place for the home: HOME is not set; give --home DIR or set KEYHATCH_HOME")]
    Nowhere,
    /// The directory is not there.
    #[error("there is no keyhatch home at {}: run `keyhatch init`, or give the right one with --home", .0.display())]
    Missing(PathBuf),
    /// A file in its place.
    #[error("{} is no directory: give a directory with --home", .0.display())]
    NoDirectory(PathBuf),
    /// Another user's.
    #[error(
        "{} belongs to user {owner} and the command runs as user {user}: run it as the owner (`sudo -u '#{owner}' keyhatch ...`)",
        dir.display()
    )]
    Owner {
        /// The home.
        dir: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who runs the command.
        user: u32,
    },
    /// Writable by others.
    #[error("others can write {} (mode {mode:04o}), and so could put a store of theirs there: run `chmod go-w {}`", dir.display(), dir.display())]
    Writable {
        /// The home.
        dir: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A second `serve`.
    #[error("another `keyhatch serve` (pid {}) runs on {}: stop it first, or give another home with --home", pid_text(*pid), home.display())]
    Serving {
        /// The home.
        home: PathBuf,
        /// The process, where the lock names it.
        pid: Option<u32>,
    },
    /// The operating system refused.
    #[error("cannot {what} {}: {why}", path.display())]
    Io {
        /// `read`, `write`, ...
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        why: String,
    },
    /// A key file is in the way.
    #[error("{} exists already and is left as it is, since a store may be sealed with it: give another place for the key file", .0.display())]
    KeyFileExists(PathBuf),
    /// No key file where there should be one.
    #[error("the store is locked: its key file {} is not there; put it back, or name its place with `[store] key_file`", .0.display())]
    KeyFileMissing(PathBuf),
    /// Others can read the key file.
    #[error("others can read the key file {} (mode {mode:04o}): run `chmod 600 {}`", path.display(), path.display())]
    KeyFileOpen {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A source of the other kind.
    #[error("{store} is sealed with {sealed}, but {source_name} gives {given}: take that away, or give what fits", store = store.display())]
    Mismatch {
        /// The store.
        store: PathBuf,
        /// How it is sealed.
        sealed: SealedBy,
        /// Where the other kind came from.
        source_name: String,
        /// The other kind.
        given: &'static str,
    },
    /// No source, and no terminal to ask at.
    #[error(
        "{} is locked and there is no terminal to ask at: give --passphrase-file FILE, or set KEYHATCH_PASSPHRASE_FILE or KEYHATCH_PASSPHRASE, or \
         give systemd's credential keyhatch-passphrase, or seal the store with a key file (`keyhatch init --key-file`)",
        .0.display()
    )]
    NoSource(PathBuf),
    /// No passphrase for a new store, and no terminal to ask at.
    #[error(
        "a new store needs a passphrase, and there is no terminal to ask at: give --passphrase-file FILE, or set KEYHATCH_PASSPHRASE_FILE or \
         KEYHATCH_PASSPHRASE, or give systemd's credential keyhatch-passphrase, or seal the store with a key file (`keyhatch init --key-file`)"
    )]
    NoPassphrase,
    /// No new passphrase for `store rekey`, and no terminal to ask at.
    #[error("there is no terminal to ask for the new passphrase at: give --new-passphrase-file FILE or --new-key-file")]
    NoNewPassphrase,
    /// A passphrase file that cannot be read.
    #[error("the passphrase file {} cannot be read: {why}; see to its place and mode, or give another source", path.display())]
    PassphraseFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A passphrase of no characters.
    #[error("the passphrase from {0} is empty: give one that is not")]
    Empty(String),
    /// Longer than anyone's.
    #[error("the passphrase from {0} is longer than 64 KiB: check that it is the right file")]
    TooLong(String),
    /// The two entries differ.
    #[error("the two passphrases are not the same, and nothing was done: try again")]
    Differ,
    /// Root, by sudo, in somebody's own directory.
    #[error(
        "{} would be root's, in a directory of user {owner}: run the command without sudo, or give a place of root's own with --home",
        dir.display()
    )]
    Sudo {
        /// The home that is not made.
        dir: PathBuf,
        /// Whose directory it is.
        owner: u32,
    },
}

/// What an error means for a command's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomeErrorKind {
    /// Exit 1.
    Failed,
    /// The store stays locked: exit 3.
    Locked,
}

impl HomeError {
    pub(super) fn io(what: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), why: error.to_string() }
    }

    /// What it means for the exit code.
    #[must_use]
    pub fn kind(&self) -> HomeErrorKind {
        match self {
            Self::KeyFileMissing(_)
            | Self::KeyFileOpen { .. }
            | Self::Mismatch { .. }
            | Self::NoSource(_)
            | Self::NoPassphrase
            | Self::NoNewPassphrase
            | Self::PassphraseFile { .. }
            | Self::Empty(_)
            | Self::TooLong(_)
            | Self::Io { what: super::key_file::READ_KEY, .. } => HomeErrorKind::Locked,
            _ => HomeErrorKind::Failed,
        }
    }
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
}
