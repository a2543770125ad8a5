//! Changes to agents and grants.

use super::LocalStore;
use super::error::StoreError;
use super::seal::{Subject, Usage};
use crate::agent::{AgentName, TokenDigest};
use crate::credential::CredentialName;
use crate::store::{Field, Table};

impl LocalStore {
    /// Adds an agent that may use these credentials.
    ///
    /// # Errors
    /// [`StoreError`]: `Exists`, `NotFound` for a credential.
    pub fn add_agent(&self, name: &AgentName, token: &TokenDigest, grants: &[CredentialName]) -> Result<(), StoreError> {
        self.change(|draft| {
            if draft.manifest.agent(name).is_some() {
                return Err(StoreError::Exists { what: "agent", name: name.to_string() });
            }
            draft.put_agent(name, token, draft.now)?;
            draft.put_usage(&Subject::Agent(name.clone()), Usage::default())?;
            for credential in grants {
                let id = draft.credential(credential)?.id;
                draft.put_grant(name, id)?;
            }
            Ok(())
        })
    }

    /// Gives an agent a new token and generation: its old token and its session tokens end. Mends a broken row.
    ///
    /// # Errors
    /// [`StoreError`]: `NotFound`.
    pub fn rotate_agent(&self, name: &AgentName, token: &TokenDigest) -> Result<(), StoreError> {
        self.change(|draft| {
            let created_at = draft.agent(name)?.created_at;
            draft.put_agent(name, token, created_at)
        })
    }

    /// Removes an agent and its grants; also a foreign row of that name.
    ///
    /// # Errors
    /// [`StoreError`]: `NotFound`.
    pub fn remove_agent(&self, name: &AgentName) -> Result<(), StoreError> {
        self.change(|draft| {
            let rows = draft.tx.delete(Table::Agents, &[("name", Field::text(name.as_str()))])?;
            let granted = draft.tx.delete(Table::Grants, &[("agent", Field::text(name.as_str()))])?;
            if draft.manifest.agent(name).is_none() && rows + granted == 0 {
                return Err(StoreError::NotFound { what: "agent", name: name.to_string() });
            }
            draft.manifest.agents.retain(|a| a.name != *name);
            draft.manifest.grants.retain(|g| g.agent != *name);
            draft.delete_usage(&Subject::Agent(name.clone()))
        })
    }

    /// Lets an agent use a credential, and says whether that is new. Mends a broken row.
    ///
    /// # Errors
    /// [`StoreError`]: `NotFound` for the agent or the credential.
    pub fn grant(&self, agent: &AgentName, credential: &CredentialName) -> Result<bool, StoreError> {
        self.change(|draft| {
            draft.agent(agent)?;
            let id = draft.credential(credential)?.id;
            let held = draft.manifest.grants.iter().any(|g| g.agent == *agent && g.credential == id);
            draft.put_grant(agent, id)?;
            Ok(!held)
        })
    }

    /// Takes the leave back.
    ///
    /// # Errors
    /// [`StoreError`]: `NotFound` for the agent, the credential, or a grant that there is not.
    pub fn revoke(&self, agent: &AgentName, credential: &CredentialName) -> Result<(), StoreError> {
        self.change(|draft| {
            draft.agent(agent)?;
            let id = draft.credential(credential)?.id;
            if draft.delete_grant(agent, id)? { Ok(()) } else { Err(StoreError::NotFound { what: "grant", name: format!("{agent} {credential}") }) }
        })
    }
}
