//! Everything there is at one moment: the store's credentials and agents, and beside them those that Vault has.

use std::collections::HashMap;

use super::discovered::{Discovered, Merged, merge};
use super::remote::{FoundThere, Remote};
use crate::agent::AgentName;
use crate::credential::{CredentialId, Source};
use crate::policy::Roster;
use crate::vault::hashicorp::Wanted;
use crate::vault::local::{AgentInfo, CredentialInfo, StoreState};

/// The whole of what decisions are computed from, and what is wrong with parts of it.
pub struct Picture {
    /// The store's part; `None` where there is no store.
    pub stored: Option<StoreState>,
    /// All credentials, agents and grants.
    pub roster: Roster,
    /// What was discovered and counts, or whose hosts are guarded, by the credential's identity.
    pub discovered: HashMap<CredentialId, Discovered>,
    /// What was discovered and does not count, a line each.
    pub problems: Vec<String>,
    /// What an operator should know of what was discovered and counts, a line each.
    pub notes: Vec<String>,
}

impl Picture {
    /// Puts both parts together.
    #[must_use]
    pub fn new(stored: Option<StoreState>, remote: Option<&Remote>) -> Self {
        let FoundThere { credentials, agents, mut problems, notes } = remote.map(Remote::found).unwrap_or_default();
        let empty = Roster::default();
        let local = stored.as_ref().map_or(&empty, |s| &s.roster);
        let damaged: Vec<AgentName> = stored.iter().flat_map(|s| &s.agents).filter(|a| a.broken.is_some()).map(|a| a.name.clone()).collect();
        let Merged { roster, kept, problems: left_out } = merge(local, &damaged, credentials, agents);
        problems.extend(left_out);
        let discovered = kept.into_iter().map(|d| (d.entry.id, d)).collect();
        Self { stored, roster, discovered, problems, notes }
    }

    /// All credentials, for a list, by name. Nothing is known of the use of one that was discovered.
    #[must_use]
    pub fn credentials(&self) -> Vec<CredentialInfo> {
        let mut out: Vec<CredentialInfo> = self.stored.iter().flat_map(|s| s.credentials.iter().cloned()).collect();
        out.extend(self.roster.credentials.iter().filter_map(|entry| {
            let Discovered { reference, .. } = self.discovered.get(&entry.id)?;
            let mut agents: Vec<AgentName> = self.roster.grants.iter().filter(|(_, id)| *id == entry.id).map(|(agent, _)| agent.clone()).collect();
            agents.sort();
            Some(CredentialInfo {
                entry: entry.clone(),
                source: Source::Vault(reference.clone()),
                secret_length: None,
                fingerprint: None,
                agents,
                created_at: None,
                rotated_at: None,
                last_used_at: None,
                last_origin_status: None,
                has_previous: false,
            })
        }));
        out.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        out
    }

    /// All agents, for a list, by name, each with what it may use of all there is.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentInfo> {
        let mut out: Vec<AgentInfo> = self.stored.iter().flat_map(|s| s.agents.iter().cloned()).collect();
        let new = self.roster.agents.iter().filter(|a| !self.is_stored(&a.name));
        let new = new.map(|a| AgentInfo {
            name: a.name.clone(),
            generation: a.generation,
            grants: Vec::new(),
            created_at: None,
            last_seen_at: None,
            broken: None,
        });
        let new: Vec<AgentInfo> = new.collect();
        out.extend(new);
        for agent in &mut out {
            let granted = self.roster.grants.iter().filter(|(name, _)| *name == agent.name);
            let names = granted.filter_map(|(_, id)| self.discovered.get(id)).map(|d| d.entry.name.clone());
            agent.grants.extend(names);
            agent.grants.sort();
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }

    /// Whether an agent is the store's; else it was discovered.
    #[must_use]
    pub fn is_stored(&self, agent: &AgentName) -> bool {
        self.stored.iter().flat_map(|s| &s.agents).any(|a| a.name == *agent)
    }

    /// What is wrong with what was discovered, or to be known of it: a line each.
    pub fn remarks(&self) -> impl Iterator<Item = &str> {
        self.problems.iter().chain(&self.notes).map(String::as_str)
    }

    /// The credentials whose values are in Vault, and where. A disabled or damaged one needs none.
    #[must_use]
    pub fn wanted(&self) -> Vec<Wanted> {
        let references = self.stored.iter().flat_map(|s| &s.credentials).filter_map(|info| match &info.source {
            Source::Vault(reference) => Some((info.entry.id, reference.clone())),
            Source::Local => None,
        });
        let references: HashMap<_, _> = references.chain(self.discovered.iter().map(|(id, d)| (*id, d.reference.clone()))).collect();
        let usable = self.roster.credentials.iter().filter(|c| c.terms.enabled && c.broken.is_none());
        let wanted = usable.filter_map(|c| {
            let reference = references.get(&c.id)?.clone();
            Some(Wanted { id: c.id, version: c.version, name: c.name.clone(), reference, presentation: c.terms.presentation.clone() })
        });
        wanted.collect()
    }
}
