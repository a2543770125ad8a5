//! Changes to credentials.

use super::LocalStore;
use super::draft::Draft;
use super::error::StoreError;
use super::items::FINGERPRINT_KEY;
use super::manifest::{CredentialMeta, Previous};
use super::seal::{Slot, Subject, Usage, fingerprint};
use super::stored::{InUse, Stored};
use crate::agent::AgentName;
use crate::credential::{CredentialId, CredentialName, Material, Secret, Source, Terms};

impl LocalStore {
    /// Adds a credential, granted to agents that exist. Nothing is asked of Vault for a reference.
    ///
    /// # Errors
    /// [`StoreError`]: `Exists`, `NotFound` for an agent, `Unfit` where the secret does not fit the type.
    pub fn add_credential(&self, name: &CredentialName, terms: Terms, value: &Stored, grants: &[AgentName]) -> Result<InUse, StoreError> {
        check_fit(name, &terms, value)?;
        self.change(|draft| {
            if draft.manifest.credential(name).is_some() {
                return Err(StoreError::Exists { what: "credential", name: name.to_string() });
            }
            let id = CredentialId(crate::random::bytes());
            let now = draft.described(value, None)?;
            let meta = CredentialMeta {
                id,
                name: name.clone(),
                version: 1,
                terms,
                source: now.source.clone(),
                fingerprint: now.fingerprint.clone(),
                created_at: draft.now,
                rotated_at: None,
                previous: None,
                digest: [0; 32],
            };
            draft.put_credential(meta, value, None)?;
            draft.put_usage(&Subject::Credential(id), Usage::default())?;
            for agent in grants {
                draft.agent(agent)?;
                draft.put_grant(agent, id)?;
            }
            Ok(now)
        })
    }

    /// Gives a credential a new value, and its source with it; the old ones are kept for 24 hours. Mends one whose row
    /// is broken.
    ///
    /// # Errors
    /// [`StoreError`]: `NotFound`, `Unfit`.
    pub fn rotate_credential(&self, name: &CredentialName, value: &Stored) -> Result<InUse, StoreError> {
        self.change(|draft| {
            let old = draft.credential(name)?;
            check_fit(name, &old.terms, value)?;
            // Of a broken row nothing is kept: what it holds is not what was sealed.
            let replaced = draft.open_value(&old, Slot::Current).ok().flatten();
            let now = draft.described(value, Some(old.source.clone()))?;
            let meta = old.replaced_by(&now, draft.now);
            let meta = CredentialMeta { previous: meta.previous.filter(|_| replaced.is_some()), ..meta };
            draft.put_credential(meta, value, replaced.as_ref())?;
            Ok(now)
        })
    }

    /// Changes value and source back to those before the last rotation, if that was within 24 hours. The two change
    /// places, so that a second roll-back undoes the first.
    ///
    /// # Errors
    /// [`StoreError`]: `NotFound`, `NoPrevious`, `Broken`.
    pub fn rollback_credential(&self, name: &CredentialName) -> Result<InUse, StoreError> {
        self.change(|draft| {
            let old = draft.credential(name)?;
            let replaced = draft.open_value(&old, Slot::Current)?;
            let (Some(previous), true, Some(replaced)) = (old.previous.clone(), old.has_previous(draft.now), replaced) else {
                return Err(StoreError::NoPrevious(name.to_string()));
            };
            let value = draft.open_value(&old, Slot::Previous)?.ok_or_else(|| StoreError::NoPrevious(name.to_string()))?;
            let now = InUse { before: Some(old.source.clone()), source: previous.source, fingerprint: previous.fingerprint };
            draft.put_credential(old.replaced_by(&now, draft.now), &value, Some(&replaced))?;
            Ok(now)
        })
    }

    /// Enables or disables a credential, and says whether that changed anything.
    ///
    /// # Errors
    /// [`StoreError`]: `NotFound`, `Broken`.
    pub fn set_enabled(&self, name: &CredentialName, enabled: bool) -> Result<bool, StoreError> {
        self.change(|draft| {
            let old = draft.credential(name)?;
            if old.terms.enabled == enabled {
                return Ok(false);
            }
            let current = draft.open_value(&old, Slot::Current)?.expect("a row has a current value");
            let previous = draft.open_value(&old, Slot::Previous)?;
            let meta = CredentialMeta { version: old.version + 1, terms: Terms { enabled, ..old.terms.clone() }, ..old };
            draft.put_credential(meta, &current, previous.as_ref())?;
            Ok(true)
        })
    }

    /// Removes a credential and its grants; also a foreign row of that name.
    ///
    /// # Errors
    /// [`StoreError`]: `NotFound`.
    pub fn remove_credential(&self, name: &CredentialName) -> Result<(), StoreError> {
        self.change(|draft| {
            let id = draft.manifest.credential(name).map(|c| c.id);
            let rows = draft.delete_credential_rows(id.unwrap_or(CredentialId([0; 16])), name)?;
            let Some(id) = id else {
                return if rows > 0 { Ok(()) } else { Err(StoreError::NotFound { what: "credential", name: name.to_string() }) };
            };
            draft.manifest.credentials.retain(|c| c.id != id);
            for agent in draft.manifest.grants.iter().filter(|g| g.credential == id).map(|g| g.agent.clone()).collect::<Vec<_>>() {
                draft.delete_grant(&agent, id)?;
            }
            draft.delete_usage(&Subject::Credential(id))
        })
    }

    /// Wipes previous values that are older than 24 hours, and says how many. Every other change does so too.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn purge_previous(&self) -> Result<usize, StoreError> {
        let now = (self.now)();
        let expired = self.lock().read(&self.keys)?.manifest.credentials.iter().any(|c| c.previous.is_some() && !c.has_previous(now));
        if expired { self.change(|draft| draft.drop_expired()) } else { Ok(0) }
    }
}

impl CredentialMeta {
    /// The next version, which uses something else; what was used is the previous value.
    fn replaced_by(self, now: &InUse, at: i64) -> Self {
        let previous = Previous { version: self.version, source: self.source, fingerprint: self.fingerprint, replaced_at: at };
        Self {
            version: self.version + 1,
            source: now.source.clone(),
            fingerprint: now.fingerprint.clone(),
            rotated_at: Some(at),
            previous: Some(previous),
            ..self
        }
    }
}

impl Draft<'_, '_> {
    /// The source of a value, and the fingerprint of a secret. A reference gets none: it would be that of a place, not of
    /// what lies there.
    fn described(&self, value: &Stored, before: Option<Source>) -> Result<InUse, StoreError> {
        let fingerprint = match value {
            Stored::Reference(_) => None,
            Stored::Secret(secret) => {
                let made = self.item(FINGERPRINT_KEY)?.and_then(|key| fingerprint(&key, secret));
                Some(made.ok_or_else(|| StoreError::damaged(self.tx.path(), "its fingerprint key is missing"))?)
            }
        };
        Ok(InUse { before, source: value.source(), fingerprint })
    }
}

/// Whether a secret fits its type. Of what lies in Vault that is seen when it is read.
fn check_fit(name: &CredentialName, terms: &Terms, value: &Stored) -> Result<(), StoreError> {
    let Stored::Secret(secret) = value else { return Ok(()) };
    let copy = Secret::from_opened(secret.expose());
    Material::new(&terms.presentation, copy).map(drop).map_err(|why| StoreError::Unfit { name: name.to_string(), why })
}
