//! What can go wrong with the store, in a person's words.

use std::path::{Path, PathBuf};

use crate::credential::InjectionError;
use crate::envelope::{SealedBy, UnlockError};
use crate::store::DatabaseError;

/// A failed operation on the store. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file could not be read or written.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// It does not unlock.
    #[error("{}", unlock_text(path, sealed, why))]
    Unlock {
        /// The store.
        path: PathBuf,
        /// How it is sealed.
        sealed: SealedBy,
        /// Why it does not.
        why: UnlockError,
    },
    /// A part without which nothing can be trusted is missing or changed.
    #[error("{} is damaged ({what}): put back a backup with `keyhatch store restore`", path.display())]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// What is to be restored is no backup of a store.
    #[error("{} cannot be restored: {why}; nothing was changed, give another backup", path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// `store rekey` or `restore` ran meanwhile.
    #[error("{} was sealed anew while this keyhatch had it open: start again", .0.display())]
    Resealed(PathBuf),
    /// There is no such credential, agent or grant.
    #[error("there is no {what} `{name}`: see `keyhatch {} list`", noun(what))]
    NotFound {
        /// `credential`, `agent` or `grant`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The name is taken.
    #[error("{what} `{name}` exists already: remove it first, or use `keyhatch {what} rotate {name}`")]
    Exists {
        /// `credential` or `agent`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Nothing to roll back to.
    #[error("credential `{0}` has no previous value: one is kept for 24 hours after `rotate`")]
    NoPrevious(String),
    /// The row that the change builds on does not open.
    #[error("{what} `{name}` cannot be changed so: {why}")]
    Broken {
        /// `credential`, `agent` or `item`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The secret does not fit the credential's type.
    #[error("credential `{name}`: {why}")]
    Unfit {
        /// The credential.
        name: String,
        /// Why not.
        why: InjectionError,
    },
    /// Rows that are not what they were sealed as are in the way.
    #[error("{}: {what}", path.display())]
    Faulty {
        /// The store.
        path: PathBuf,
        /// The faults, by name.
        what: String,
    },
}

/// What an error means for a command's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// Locked, or the wrong key: exit 3.
    Locked,
    /// No such thing: exit 4.
    NotFound,
    /// What was asked for makes no sense: exit 2.
    Usage,
    /// Anything else: exit 1.
    Failed,
}

impl StoreError {
    /// What it means for the exit code.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Unlock { why: UnlockError::Kdf(_), .. } => StoreErrorKind::Failed,
            Self::Unlock { .. } => StoreErrorKind::Locked,
            Self::NotFound { .. } => StoreErrorKind::NotFound,
            Self::Unfit { .. } => StoreErrorKind::Usage,
            _ => StoreErrorKind::Failed,
        }
    }

    /// The same error told of another path: for a file that is a copy of what the operator named.
    pub(super) fn at(self, path: &Path) -> Self {
        let path = path.to_owned();
        match self {
            Self::Unlock { sealed, why, .. } => Self::Unlock { path, sealed, why },
            Self::Damaged { what, .. } => Self::Damaged { path, what },
            Self::Database(error) => Self::Database(error.at(&path)),
            other => other,
        }
    }

    /// The same error where the file is no store in use, but one to be restored.
    #[must_use]
    pub fn of_backup(self, from: &Path) -> Self {
        let why = match &self {
            Self::Damaged { path, what } | Self::Database(DatabaseError::Damaged { path, what }) if path == from => format!("it is damaged ({what})"),
            Self::Database(DatabaseError::Missing(path)) if path == from => "it is not there".to_owned(),
            _ => return self,
        };
        Self::Backup { path: from.to_owned(), why }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}

fn noun(what: &str) -> &str {
    if what == "credential" { "credential" } else { "agent" }
}

fn unlock_text(path: &Path, sealed: &SealedBy, why: &UnlockError) -> String {
    let path = path.display();
    match (why, sealed) {
        (UnlockError::Wrong, SealedBy::Passphrase) => format!("wrong passphrase for {path}: try again; nothing was changed"),
        (UnlockError::Wrong, SealedBy::KeyFile { path: made }) => {
            format!("wrong key file for {path}: it was sealed with the one that lay at {}; nothing was changed", made.display())
        }
        (UnlockError::Wrong, SealedBy::Transit { key, .. }) => {
            format!(
                "{path} does not open with what Vault unwrapped by {key}: its key record is not the one that was sealed; put back a backup with `keyhatch store restore`"
            )
        }
        (UnlockError::Mismatch { given, sealed }, _) => format!("{path} is sealed with {sealed}, but {given} was given: give the one that fits"),
        (why @ UnlockError::KeyFile { .. }, _) => format!("{path} stays locked: {why}; put back the key file that it was sealed with"),
        (UnlockError::Kdf(why), _) => format!("{path} is not opened: {why}"),
    }
}
