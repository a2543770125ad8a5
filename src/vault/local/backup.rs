//! Backup, restore, and the check of everything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::items::open_item;
use super::seal::Slot;
use super::snapshot::Fault;
use super::{LocalStore, StoreState};
use crate::envelope::UnlockKey;
use crate::store::{Database, DatabaseError, copy_new, remove_with_log, replace, with_suffix};

/// What a restore brought back.
#[derive(Debug)]
pub struct Restored {
    /// The credentials that are there now.
    pub credentials: Vec<String>,
    /// The agents that are there now.
    pub agents: Vec<String>,
    /// Credentials and agents of the replaced store that the backup does not have, where that store opened.
    pub gone: Vec<String>,
    /// What is wrong with single rows of the backup.
    pub faults: Vec<Fault>,
    /// Where the replaced store lies, if there was one.
    pub replaced: Option<PathBuf>,
}

impl LocalStore {
    /// Copies the store, sealed as it is, into a new file, and reads the copy. Safe while `serve` runs.
    ///
    /// # Errors
    /// [`StoreError`]; an existing file is left as it is, and no half copy stays.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        if to.symlink_metadata().is_ok() {
            return Err(DatabaseError::Exists(to.to_owned()).into());
        }
        let partial = with_suffix(to, &format!(".partial-{}", u64::from_be_bytes(crate::random::bytes())));
        self.lock().db.copy_to(&partial).map_err(|e| e.at(to))?;
        let check = || -> Result<(), StoreError> {
            let mut copy = Database::open(&partial)?;
            let faults = super::snapshot::read(&copy.read()?, &self.keys)?.faults;
            let lines = copy.integrity()?;
            if faults != self.lock().read(&self.keys)?.faults || !lines.is_empty() {
                return Err(StoreError::damaged(&partial, "the copy is not what was copied"));
            }
            copy.publish(to)?;
            Ok(())
        };
        check().inspect_err(|_| remove_with_log(&partial)).map_err(|e| e.at(to))
    }

    /// Checks everything: SQLite's own structure, every row, and that every secret, reference and item opens.
    ///
    /// # Errors
    /// [`StoreError`] where the check cannot be made at all.
    pub fn verify(&self) -> Result<Vec<Fault>, StoreError> {
        let mut inner = self.lock();
        let snapshot = inner.read(&self.keys)?;
        let mut faults = snapshot.faults.clone();
        for meta in &snapshot.manifest.credentials {
            let Some(row) = snapshot.rows.get(&meta.id) else { continue };
            let previous = row.previous.as_ref().map(|sealed| (Slot::Previous, sealed));
            for (slot, sealed) in std::iter::once((Slot::Current, &row.sealed)).chain(previous) {
                if let Err(e) = self.keys.open_value(meta, slot, sealed) {
                    faults.push(Fault { what: "credential", name: meta.name.to_string(), why: e.to_string() });
                }
            }
        }
        for (name, _) in snapshot.manifest.items.iter().filter(|(name, _)| snapshot.items.contains_key(name)) {
            if let Err(e) = open_item(&snapshot, &self.keys, name) {
                faults.push(Fault { what: "item", name: name.clone(), why: e.to_string() });
            }
        }
        let name = self.path().display().to_string();
        faults.extend(inner.db.integrity()?.into_iter().map(|why| Fault { what: "file", name: name.clone(), why }));
        Ok(faults)
    }

    /// Puts a backup in the place of the store, which is kept as `store.db.replaced-TIME`. `key` unlocks the backup.
    /// The caller sees to it that no `serve` runs.
    ///
    /// # Errors
    /// [`StoreError`] where the backup does not open or is damaged as a file; the store is as it was then.
    pub fn restore(path: &Path, from: &Path, key: &UnlockKey) -> Result<Restored, StoreError> {
        let incoming = with_suffix(path, &format!(".restoring-{}", u64::from_be_bytes(crate::random::bytes())));
        let put = || -> Result<Restored, StoreError> {
            fetch(from, &incoming)?;
            let store = Self::open(&incoming, key).map_err(|e| e.at(from))?;
            if let Some(fault) = store.lock().db.integrity()?.first() {
                return Err(StoreError::damaged(from, fault.as_str()));
            }
            let state = store.load()?;
            let gone = Self::open(path, key).and_then(|old| old.load()).map_or_else(|_| Vec::new(), |old| missing(&old, &state));
            store.into_database().close()?;
            let replaced = replace(path, &incoming, &stamp())?;
            Ok(Restored {
                credentials: state.credentials.iter().map(|c| c.entry.name.to_string()).collect(),
                agents: state.agents.iter().map(|a| a.name.to_string()).collect(),
                gone,
                faults: state.faults,
                replaced,
            })
        };
        put().inspect_err(|_| remove_with_log(&incoming))
    }

    fn into_database(self) -> Database {
        self.inner.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).db
    }
}

/// Copies a backup to a place beside the store. A plain copy, since a backup may lie where nothing can be written,
/// unless the file has a log of its own.
fn fetch(from: &Path, to: &Path) -> Result<(), StoreError> {
    if with_suffix(from, "-wal").exists() {
        Database::open(from)?.copy_to(to)?
    } else {
        copy_new(from, to)?
    }
    Ok(())
}

fn missing(old: &StoreState, new: &StoreState) -> Vec<String> {
    let names = |s: &StoreState| -> BTreeSet<String> {
        let credentials = s.credentials.iter().map(|c| format!("credential {}", c.entry.name));
        credentials.chain(s.agents.iter().map(|a| format!("agent {}", a.name))).collect()
    };
    names(old).difference(&names(new)).cloned().collect()
}

/// The time as it stands in a file's name.
fn stamp() -> String {
    crate::clock::now().strftime("%Y%m%dT%H%M%S%3fZ").to_string()
}
