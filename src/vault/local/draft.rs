//! A change in the making: rows written inside one transaction, and the manifest that will seal them.

use super::error::StoreError;
use super::manifest::{AgentMeta, CredentialMeta, GrantMeta, Manifest};
use super::manifest_row;
use super::seal::{ITEM_PREFIX, Keys, MANIFEST, Slot, Subject, Usage, credential_row, digest};
use super::snapshot::Snapshot;
use super::stored::Stored;
use crate::agent::{AgentName, TokenDigest};
use crate::credential::{CredentialId, CredentialName, Secret};
use crate::store::{Field, Table, Transaction};

pub(super) struct Draft<'t, 'c> {
    pub(super) tx: &'t Transaction<'c>,
    pub(super) keys: &'t Keys,
    pub(super) manifest: Manifest,
    /// What was read before the change; absent for a new store.
    pub(super) before: Option<Snapshot>,
    pub(super) now: i64,
}

impl<'t, 'c> Draft<'t, 'c> {
    pub(super) fn new(tx: &'t Transaction<'c>, keys: &'t Keys, manifest: Manifest, now: i64) -> Self {
        Self { tx, keys, manifest, before: None, now }
    }

    pub(super) fn over(tx: &'t Transaction<'c>, keys: &'t Keys, before: Snapshot, now: i64) -> Self {
        let mut manifest = before.manifest.clone();
        manifest.counter += 1;
        Self { tx, keys, manifest, before: Some(before), now }
    }

    /// Writes the manifest, and gives it back to be compared with what is read.
    pub(super) fn finish(self) -> Result<Manifest, StoreError> {
        self.tx.delete(Table::Meta, &[("name", Field::text(MANIFEST))])?;
        self.tx.insert(Table::Meta, &manifest_row(self.keys, &self.manifest))?;
        Ok(self.manifest)
    }

    pub(super) fn credential(&self, name: &CredentialName) -> Result<CredentialMeta, StoreError> {
        self.manifest.credential(name).cloned().ok_or_else(|| StoreError::NotFound { what: "credential", name: name.to_string() })
    }

    pub(super) fn agent(&self, name: &AgentName) -> Result<AgentMeta, StoreError> {
        self.manifest.agent(name).cloned().ok_or_else(|| StoreError::NotFound { what: "agent", name: name.to_string() })
    }

    /// Opens a value of a credential whose row is sound.
    pub(super) fn open_value(&self, meta: &CredentialMeta, slot: Slot) -> Result<Option<Stored>, StoreError> {
        let broken = |why: String| StoreError::Broken { what: "credential", name: meta.name.to_string(), why };
        let row = self.before.as_ref().and_then(|b| b.rows.get(&meta.id));
        let row = row.ok_or_else(|| {
            broken("its row is not as it was sealed; give its secret or its place in Vault anew with `keyhatch credential rotate`".to_owned())
        })?;
        let sealed = match slot {
            Slot::Current => Some(&row.sealed),
            Slot::Previous => row.previous.as_ref(),
        };
        sealed.map(|sealed| self.keys.open_value(meta, slot, sealed).map_err(|e| broken(e.to_string()))).transpose()
    }

    /// Writes a credential's row in the stead of every row with its id or name, and its entry. The values are
    /// sealed with what `meta` says.
    pub(super) fn put_credential(&mut self, mut meta: CredentialMeta, current: &Stored, previous: Option<&Stored>) -> Result<(), StoreError> {
        let sealed = self.keys.seal_value(&meta, Slot::Current, current);
        let previous = previous.filter(|_| meta.previous.is_some()).map(|value| self.keys.seal_value(&meta, Slot::Previous, value));
        let row = credential_row(&meta, &sealed, previous.as_deref());
        meta.digest = digest(Table::Credentials, &row);
        self.delete_credential_rows(meta.id, &meta.name)?;
        self.tx.insert(Table::Credentials, &row)?;
        self.manifest.credentials.retain(|c| c.id != meta.id);
        self.manifest.credentials.push(meta);
        Ok(())
    }

    pub(super) fn delete_credential_rows(&self, id: CredentialId, name: &CredentialName) -> Result<usize, StoreError> {
        let by_id = self.tx.delete(Table::Credentials, &[("id", Field::blob(&id.0))])?;
        Ok(by_id + self.tx.delete(Table::Credentials, &[("name", Field::text(name.as_str()))])?)
    }

    pub(super) fn put_agent(&mut self, name: &AgentName, token: &TokenDigest, created_at: i64) -> Result<(), StoreError> {
        // 63 random bits: a generation never comes back, not even after an older store was restored.
        let generation = u64::from_be_bytes(crate::random::bytes()) >> 1;
        self.put_agent_as(name, token, created_at, generation)
    }

    pub(super) fn put_agent_as(&mut self, name: &AgentName, token: &TokenDigest, created_at: i64, generation: u64) -> Result<(), StoreError> {
        let row = self.keys.agent_row(name, generation, token, created_at);
        self.tx.delete(Table::Agents, &[("name", Field::text(name.as_str()))])?;
        self.tx.insert(Table::Agents, &row)?;
        self.manifest.agents.retain(|a| a.name != *name);
        self.manifest.agents.push(AgentMeta { name: name.clone(), generation, created_at, digest: digest(Table::Agents, &row) });
        Ok(())
    }

    pub(super) fn put_grant(&mut self, agent: &AgentName, credential: CredentialId) -> Result<(), StoreError> {
        let row = self.keys.grant_row(agent, credential, self.now);
        self.delete_grant(agent, credential)?;
        self.tx.insert(Table::Grants, &row)?;
        self.manifest.grants.push(GrantMeta { agent: agent.clone(), credential, digest: digest(Table::Grants, &row) });
        Ok(())
    }

    /// Deletes a grant, and says whether it or a row of it was there.
    pub(super) fn delete_grant(&mut self, agent: &AgentName, credential: CredentialId) -> Result<bool, StoreError> {
        let rows = self.tx.delete(Table::Grants, &[("agent", Field::text(agent.as_str())), ("credential", Field::blob(&credential.0))])?;
        let before = self.manifest.grants.len();
        self.manifest.grants.retain(|g| g.agent != *agent || g.credential != credential);
        Ok(rows > 0 || before != self.manifest.grants.len())
    }

    pub(super) fn put_usage(&self, subject: &Subject, usage: Usage) -> Result<(), StoreError> {
        put_usage(self.tx, self.keys, subject, usage)
    }

    pub(super) fn delete_usage(&self, subject: &Subject) -> Result<(), StoreError> {
        delete_usage(self.tx, subject)
    }

    pub(super) fn put_item(&mut self, name: &str, plain: &Secret) -> Result<(), StoreError> {
        let key = Field::text(&format!("{ITEM_PREFIX}{name}"));
        let row = vec![key.clone(), Field::Blob(self.keys.seal_item(name, plain))];
        self.tx.delete(Table::Meta, &[("name", key)])?;
        self.tx.insert(Table::Meta, &row)?;
        self.manifest.items.retain(|(n, _)| n != name);
        self.manifest.items.push((name.to_owned(), digest(Table::Meta, &row)));
        Ok(())
    }

    /// Rewrites the rows whose previous value is older than 24 hours without it.
    pub(super) fn drop_expired(&mut self) -> Result<usize, StoreError> {
        let now = self.now;
        let unchanged = |m: &CredentialMeta, b: &Snapshot| b.rows.contains_key(&m.id) && b.manifest.by_id(m.id) == Some(m);
        let expired = |m: &&CredentialMeta| m.previous.is_some() && !m.has_previous(now) && self.before.as_ref().is_some_and(|b| unchanged(m, b));
        let metas: Vec<CredentialMeta> = self.manifest.credentials.iter().filter(expired).cloned().collect();
        for meta in &metas {
            if let Some(current) = self.open_value(meta, Slot::Current)? {
                self.put_credential(CredentialMeta { previous: None, ..meta.clone() }, &current, None)?;
            }
        }
        Ok(metas.len())
    }
}

impl Draft<'_, '_> {
    /// Deletes the rows that are not part of the store; they were reported at every load. A copy of a sound row
    /// stays, since it cannot be told from it.
    pub(super) fn sweep(&self) -> Result<(), StoreError> {
        let Some(before) = &self.before else { return Ok(()) };
        for (table, row) in &before.foreign {
            let key: Vec<(&str, Field)> = table.columns().iter().copied().zip(row.iter().cloned()).collect();
            self.tx.delete(*table, &key)?;
        }
        Ok(())
    }
}

pub(super) fn put_usage(tx: &Transaction<'_>, keys: &Keys, subject: &Subject, usage: Usage) -> Result<(), StoreError> {
    delete_usage(tx, subject)?;
    Ok(tx.insert(Table::Usage, &keys.usage_row(subject, usage))?)
}

fn delete_usage(tx: &Transaction<'_>, subject: &Subject) -> Result<(), StoreError> {
    tx.delete(Table::Usage, &[("kind", Field::text(subject.kind())), ("subject", Field::blob(subject.key()))])?;
    Ok(())
}

/// After a migration: the same manifest, sealed for the new schema.
pub(super) fn seal_migrated(tx: &Transaction<'_>, keys: &Keys, schema: i64) -> Result<(), StoreError> {
    let (rows, _) = tx.scan(Table::Meta);
    let opened = rows.iter().filter(|r| r[0] == Field::text(MANIFEST)).filter_map(|r| keys.open_manifest(r[1].as_blob()?));
    let manifest = opened.max_by_key(|m| m.counter).ok_or_else(|| StoreError::damaged(tx.path(), "its manifest is missing or changed"))?;
    let migrated = Manifest { schema, counter: manifest.counter + 1, ..manifest };
    Draft::new(tx, keys, migrated, 0).finish().map(drop)
}
