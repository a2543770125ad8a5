//! What is kept beside credentials: sealed items, the audit log's key and checkpoint, and usage.

use std::collections::HashMap;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::draft::{Draft, put_usage};
use super::error::StoreError;
use super::seal::{CHECKPOINT, Subject, Usage, fingerprint};
use super::snapshot::{self, Snapshot};
use super::{LocalStore, checked};
use crate::agent::AgentName;
use crate::credential::{CredentialId, Secret};
use crate::envelope::Key;
use crate::store::{Field, Table, Transaction};

pub(super) const AUDIT_KEY: &str = "audit-key";
pub(super) const FINGERPRINT_KEY: &str = "fingerprint-key";

/// What was used since the last batch. The latest of several entries for one name counts.
#[derive(Debug, Clone, Default)]
pub struct UsageBatch {
    /// Credentials: when last put on a request, and what the origin answered, if it has.
    pub credentials: Vec<(CredentialId, Timestamp, Option<u16>)>,
    /// Agents: when they last proved themselves.
    pub agents: Vec<(AgentName, Timestamp)>,
}

impl LocalStore {
    /// Keeps something sealed under a name, in the stead of what the name had.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn put_item(&self, name: &str, plain: &Secret) -> Result<(), StoreError> {
        self.change(|draft| draft.put_item(name, plain))
    }

    /// What is kept under a name; `None` where nothing was ever put there.
    ///
    /// # Errors
    /// [`StoreError`]: `Broken` where its row is not as it was sealed.
    pub fn item(&self, name: &str) -> Result<Option<Secret>, StoreError> {
        let snapshot = self.lock().read(&self.keys)?;
        open_item(&snapshot, &self.keys, name)
    }

    /// The key of the audit log's chain. It survives `rekey`.
    ///
    /// # Errors
    /// [`StoreError`]: `Broken` where its row is not as it was sealed.
    pub fn audit_key(&self) -> Result<Key, StoreError> {
        let lost = || StoreError::damaged(self.path(), "its audit key is missing");
        let item = self.item(AUDIT_KEY)?.ok_or_else(lost)?;
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(item.expose().try_into().map_err(|_| lost())?);
        Ok(Key::from_bytes(*bytes))
    }

    /// The fingerprint of a secret that the store does not hold, under the key of those that it does: 8 hex digits.
    ///
    /// # Errors
    /// [`StoreError`]: `Broken` where the key's row is not as it was sealed.
    pub fn fingerprint(&self, secret: &Secret) -> Result<String, StoreError> {
        let made = self.item(FINGERPRINT_KEY)?.and_then(|key| fingerprint(&key, secret));
        made.ok_or_else(|| StoreError::damaged(self.path(), "its fingerprint key is missing"))
    }

    /// Keeps the `seq` and `mac` of the audit log's last record.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn save_audit_checkpoint(&self, seq: u64, mac: [u8; 32]) -> Result<(), StoreError> {
        self.note(|tx, _| {
            tx.delete(Table::Meta, &[("name", Field::text(CHECKPOINT))])?;
            Ok(tx.insert(Table::Meta, &[Field::text(CHECKPOINT), Field::Blob(self.keys.checkpoint_value(seq, &mac))])?)
        })
    }

    /// The last kept `seq` and `mac` of the audit log; `None` before the first.
    ///
    /// # Errors
    /// [`StoreError`]: `Broken` where its row is missing or changed.
    pub fn audit_checkpoint(&self) -> Result<Option<(u64, [u8; 32])>, StoreError> {
        let snapshot = self.lock().read(&self.keys)?;
        match snapshot.checkpoint {
            Some((0, _)) => Ok(None),
            Some(known) => Ok(Some(known)),
            None => Err(StoreError::Broken { what: "item", name: CHECKPOINT.to_owned(), why: "its row is missing or changed".to_owned() }),
        }
    }

    /// Notes when credentials and agents were last used. What the store no longer knows is passed over, and an
    /// older time never replaces a newer one. Does not change [`LocalStore::change_marker`].
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn record_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.note(|tx, before| {
            let mut newest: HashMap<Subject, Usage> = HashMap::new();
            let credentials = batch.credentials.iter().map(|(id, at, status)| (Subject::Credential(*id), at.as_second(), *status));
            let agents = batch.agents.iter().map(|(name, at)| (Subject::Agent(name.clone()), at.as_second(), None));
            for (subject, at, status) in credentials.chain(agents).filter(|(subject, ..)| knows(before, subject)) {
                let usage = newest.entry(subject.clone()).or_insert_with(|| before.usage.get(&subject).copied().unwrap_or_default());
                if usage.at.is_none_or(|known| known <= at) {
                    *usage = Usage { at: Some(at), status: status.or(usage.status) };
                }
            }
            newest.iter().try_for_each(|(subject, usage)| put_usage(tx, &self.keys, subject, *usage))
        })
    }

    /// Writes rows that are not in the manifest: read and check all, apply, read and check all again, commit.
    fn note(&self, apply: impl FnOnce(&Transaction<'_>, &Snapshot) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let highest = inner.highest;
        let tx = inner.db.write()?;
        let before = checked(&tx, &self.keys, highest)?;
        snapshot::refuse_unreadable(&tx, &before)?;
        apply(&tx, &before)?;
        let after = snapshot::read(&tx, &self.keys)?;
        self.compare(&after, &before.manifest, &before.faults)?;
        tx.commit()?;
        // It is durable; a log that could not be cut now is cut by the next commit.
        let _ = inner.db.checkpoint();
        Ok(())
    }
}

impl Draft<'_, '_> {
    pub(super) fn item(&self, name: &str) -> Result<Option<Secret>, StoreError> {
        self.before.as_ref().map_or(Ok(None), |before| open_item(before, self.keys, name))
    }
}

pub(super) fn open_item(snapshot: &Snapshot, keys: &super::Keys, name: &str) -> Result<Option<Secret>, StoreError> {
    let broken = |why: &str| StoreError::Broken { what: "item", name: name.to_owned(), why: why.to_owned() };
    match snapshot.items.get(name) {
        Some(sealed) => keys.open_item(name, sealed).map(Some).map_err(|e| broken(&e.to_string())),
        None if snapshot.manifest.items.iter().any(|(n, _)| n == name) => {
            let fault = snapshot.faults.iter().find(|f| f.what == "item" && f.name == name);
            Err(broken(fault.map_or("its row does not open", |f| &f.why)))
        }
        None => Ok(None),
    }
}

fn knows(snapshot: &Snapshot, subject: &Subject) -> bool {
    match subject {
        Subject::Credential(id) => snapshot.manifest.by_id(*id).is_some(),
        Subject::Agent(name) => snapshot.manifest.agent(name).is_some(),
    }
}
