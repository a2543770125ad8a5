//! Changes to credentials.

use super::LocalStore;
use super::draft::Draft;
use super::error::StoreError;
use super::items::FINGERPRINT_KEY;
use super::manifest::{CredentialMeta, Previous};
use super::seal::{Slot, Subject, Usage, fingerprint};
use crate::agent::AgentName;
use crate::credential::{CredentialId, CredentialName, Material, Secret, Source, Terms};

impl LocalStore {
    /// Adds a credential, granted to agents that exist, and gives back its fingerprint.
    ///
    /// # Errors
    /// [`StoreError`]: `Exists`, `NotFound` for an agent, `Unfit` where the secret does not fit the type.
    pub fn add_credential(
        &self,
        name: &CredentialName,
        terms: Terms,
        source: Source,
        secret: &Secret,
        grants: &[AgentName],
    ) -> Result<String, StoreError> {
        check_fit(name, &terms, secret)?;
        self.change(|draft| {
            if draft.manifest.credential(name).is_some() {
                return Err(StoreError::Exists { what: "credential", name: name.to_string() });
            }
            let id = CredentialId(crate::random::bytes());
            let fingerprint = draft.fingerprint(secret)?;
            let meta = CredentialMeta {
                id,
                name: name.clone(),
                version: 1,
                terms,
                source,
                fingerprint: fingerprint.clone(),
                created_at: draft.now,
                rotated_at: None,
                previous: None,
                digest: [0; 32],
            };
            draft.put_credential(meta, secret, None)?;
            draft.put_usage(&Subject::Credential(id), Usage::default())?;
            for agent in grants {
                draft.agent(agent)?;
                draft.put_grant(agent, id)?;
            }
            Ok(fingerprint)
        })
    }

    /// Gives a credential a new secret; the old one is kept for 24 hours. Mends one whose row is broken.
    /// Gives back the new fingerprint.
    ///
    /// # Errors
    /// [`StoreError`]: `NotFound`, `Unfit`.
    pub fn rotate_credential(&self, name: &CredentialName, secret: &Secret) -> Result<String, StoreError> {
        self.change(|draft| {
            let old = draft.credential(name)?;
            check_fit(name, &old.terms, secret)?;
            // Of a broken row nothing is kept: what it holds is not what was sealed.
            let replaced = draft.open_secret(&old, Slot::Current).ok().flatten();
            let fingerprint = draft.fingerprint(secret)?;
            let previous = Previous { version: old.version, fingerprint: old.fingerprint.clone(), replaced_at: draft.now };
            let meta = CredentialMeta {
                version: old.version + 1,
                fingerprint: fingerprint.clone(),
                rotated_at: Some(draft.now),
                previous: replaced.is_some().then_some(previous),
                ..old
            };
            draft.put_credential(meta, secret, replaced.as_ref())?;
            Ok(fingerprint)
        })
    }

    /// Changes the secret back to the one before the last rotation, if that was within 24 hours. The two change
    /// places, so that a second roll-back undoes the first. Gives back the fingerprint now in use.
    ///
    /// # Errors
    /// [`StoreError`]: `NotFound`, `NoPrevious`, `Broken`.
    pub fn rollback_credential(&self, name: &CredentialName) -> Result<String, StoreError> {
        self.change(|draft| {
            let old = draft.credential(name)?;
            let replaced = draft.open_secret(&old, Slot::Current)?;
            let (Some(previous), true, Some(replaced)) = (old.previous.clone(), old.has_previous(draft.now), replaced) else {
                return Err(StoreError::NoPrevious(name.to_string()));
            };
            let secret = draft.open_secret(&old, Slot::Previous)?.ok_or_else(|| StoreError::NoPrevious(name.to_string()))?;
            let meta = CredentialMeta {
                version: old.version + 1,
                fingerprint: previous.fingerprint.clone(),
                rotated_at: Some(draft.now),
                previous: Some(Previous { version: old.version, fingerprint: old.fingerprint.clone(), replaced_at: draft.now }),
                ..old
            };
            draft.put_credential(meta, &secret, Some(&replaced))?;
            Ok(previous.fingerprint)
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
            let current = draft.open_secret(&old, Slot::Current)?.expect("a row has a current value");
            let previous = draft.open_secret(&old, Slot::Previous)?;
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

impl Draft<'_, '_> {
    fn fingerprint(&self, secret: &Secret) -> Result<String, StoreError> {
        let key = self.item(FINGERPRINT_KEY)?;
        let made = key.and_then(|key| fingerprint(&key, secret));
        made.ok_or_else(|| StoreError::damaged(self.tx.path(), "its fingerprint key is missing"))
    }
}

fn check_fit(name: &CredentialName, terms: &Terms, secret: &Secret) -> Result<(), StoreError> {
    let copy = Secret::from_opened(secret.expose());
    Material::new(&terms.presentation, copy).map(drop).map_err(|why| StoreError::Unfit { name: name.to_string(), why })
}
