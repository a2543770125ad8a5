//! A new data-encryption key, and everything sealed anew, in one transaction.

use std::path::Path;

use super::draft::Draft;
use super::error::StoreError;
use super::items::open_item;
use super::manifest::Manifest;
use super::seal::{CHECKPOINT, KEY_RECORD, Keys, Slot, Subject};
use super::snapshot::{self, FOREIGN, Snapshot};
use super::{LocalStore, new_keys};
use crate::envelope::UnlockKey;
use crate::store::{Field, Table, Transaction};

impl LocalStore {
    /// Makes a new data-encryption key and seals everything anew, for whoever has `new`. Session tokens end; the
    /// audit's and the fingerprints' keys stay. A crash leaves the store as it was or as it shall be. The caller sees
    /// to it that no `serve` runs.
    ///
    /// # Errors
    /// [`StoreError`]: `Faulty` where rows are not as they were sealed, since they could not be sealed anew.
    pub fn rekey(path: &Path, old: &UnlockKey, new: &UnlockKey) -> Result<(), StoreError> {
        let store = Self::open(path, old)?;
        let keys = new_keys(path, store.keys.header.store_id, new)?;
        let mut inner = store.lock();
        let tx = inner.db.write()?;
        let before = snapshot::read(&tx, &store.keys)?;
        snapshot::refuse_unreadable(&tx, &before)?;
        refuse_faults(&tx, &before)?;
        let meant = reseal(&tx, &store.keys, &keys, before, (store.now)())?;
        let after = snapshot::read(&tx, &keys)?;
        if after.manifest != meant || !after.faults.is_empty() {
            return Err(StoreError::damaged(path, "the new seals did not read back as written; nothing was changed"));
        }
        tx.commit()?;
        Ok(inner.db.checkpoint()?)
    }
}

/// A usage row that is lost is made anew and a foreign row dropped; of the rest nothing may be bad.
fn refuse_faults(tx: &Transaction<'_>, before: &Snapshot) -> Result<(), StoreError> {
    let bad: Vec<String> = before.faults.iter().filter(|f| f.what != "usage" && f.why != FOREIGN).map(ToString::to_string).collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(StoreError::Faulty { path: tx.path().to_owned(), what: format!("mend this first, then rekey: {}", bad.join("; ")) })
}

fn reseal(tx: &Transaction<'_>, old: &Keys, new: &Keys, before: Snapshot, now: i64) -> Result<Manifest, StoreError> {
    let manifest = before.manifest.clone();
    let mut opened = Vec::new();
    let mut items = Vec::new();
    for (name, _) in &manifest.items {
        items.extend(open_item(&before, old, name)?.map(|plain| (name.clone(), plain)));
    }
    let (usage, tokens, checkpoint) = (before.usage.clone(), before.tokens.clone(), before.checkpoint.unwrap_or_default());
    let reader = Draft::over(tx, old, before, now);
    for meta in &manifest.credentials {
        let current = reader.open_value(meta, Slot::Current)?.expect("a row has a current value");
        opened.push((meta, current, reader.open_value(meta, Slot::Previous)?));
    }
    for table in Table::ALL {
        tx.delete(table, &[])?;
    }
    let mut draft = Draft::new(tx, new, Manifest { counter: manifest.counter + 1, ..Manifest::empty(manifest.schema) }, now);
    tx.insert(Table::Meta, &[Field::text(KEY_RECORD), Field::blob(&new.record)])?;
    tx.insert(Table::Meta, &[Field::text(CHECKPOINT), Field::Blob(new.checkpoint_value(checkpoint.0, &checkpoint.1))])?;
    for (name, plain) in &items {
        draft.put_item(name, plain)?;
    }
    for (meta, current, previous) in &opened {
        draft.put_credential((*meta).clone(), current, previous.as_ref())?;
        let subject = Subject::Credential(meta.id);
        draft.put_usage(&subject, usage.get(&subject).copied().unwrap_or_default())?;
    }
    for agent in &manifest.agents {
        let token = tokens.get(&agent.name).ok_or_else(|| StoreError::damaged(tx.path(), "an agent's row is missing"))?;
        draft.put_agent_as(&agent.name, token, agent.created_at, agent.generation)?;
        let subject = Subject::Agent(agent.name.clone());
        draft.put_usage(&subject, usage.get(&subject).copied().unwrap_or_default())?;
    }
    for grant in &manifest.grants {
        draft.put_grant(&grant.agent, grant.credential)?;
    }
    draft.finish()
}
