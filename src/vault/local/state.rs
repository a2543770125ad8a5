//! What `serve` and the lists see of the store.

use std::collections::HashMap;

use jiff::Timestamp;

use super::manifest::CredentialMeta;
use super::seal::{Subject, Usage};
use super::snapshot::{Fault, Snapshot};
use crate::agent::AgentName;
use crate::credential::{CredentialId, CredentialName, Source};
use crate::envelope::sealed_length;
use crate::policy::{AgentEntry, CredentialEntry, Roster};

/// How long `rotate` keeps the previous value, in seconds: 24 hours.
pub const KEEP_PREVIOUS: i64 = 24 * 60 * 60;

/// The store at one moment.
pub struct StoreState {
    /// What decisions are computed from: as sealed, whatever the rows say.
    pub roster: Roster,
    /// All credentials, by name.
    pub credentials: Vec<CredentialInfo>,
    /// All agents, by name.
    pub agents: Vec<AgentInfo>,
    /// What is not as it was sealed.
    pub faults: Vec<Fault>,
    /// Goes up with every change but those of usage and the audit checkpoint.
    pub counter: u64,
    /// The sealed values of the sound rows.
    pub(super) sealed: HashMap<CredentialId, Vec<u8>>,
}

/// A credential, for a list.
#[derive(Debug, Clone)]
pub struct CredentialInfo {
    /// Identity, name, version, terms, and why it is broken, if it is.
    pub entry: CredentialEntry,
    /// Where its secret comes from.
    pub source: Source,
    /// How many bytes its secret has, as its ciphertext tells; `None` where Vault holds the secret.
    pub secret_length: Option<usize>,
    /// 8 hex digits of an HMAC of the secret under a key of the store; `None` where Vault holds the secret.
    pub fingerprint: Option<String>,
    /// The agents that may use it, by name.
    pub agents: Vec<AgentName>,
    /// When it was added; `None` where it was not, but discovered in Vault.
    pub created_at: Option<Timestamp>,
    /// When its secret was last changed by `rotate` or `rollback`.
    pub rotated_at: Option<Timestamp>,
    /// When it was last put on a request.
    pub last_used_at: Option<Timestamp>,
    /// What the origin answered then.
    pub last_origin_status: Option<u16>,
    /// Whether `rollback` has something to go back to.
    pub has_previous: bool,
}

/// An agent, for a list.
#[derive(Debug, Clone)]
pub struct AgentInfo {
    /// Its name.
    pub name: AgentName,
    /// Changes with every rotation and never comes back.
    pub generation: u64,
    /// The credentials it may use, by name.
    pub grants: Vec<CredentialName>,
    /// When it was added; `None` where it was not, but discovered in Vault.
    pub created_at: Option<Timestamp>,
    /// When it last proved itself.
    pub last_seen_at: Option<Timestamp>,
    /// Why it cannot authenticate, if its row is not as sealed.
    pub broken: Option<String>,
}

impl StoreState {
    pub(super) fn of(snapshot: Snapshot, now: i64) -> Self {
        let mut credentials: Vec<CredentialInfo> = snapshot.manifest.credentials.iter().map(|c| credential(&snapshot, c, now)).collect();
        credentials.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        let mut agents: Vec<AgentInfo> = snapshot.manifest.agents.iter().map(|a| agent(&snapshot, a)).collect();
        agents.sort_by(|a, b| a.name.cmp(&b.name));
        let entry = |a: &AgentInfo| snapshot.tokens.get(&a.name).map(|t| AgentEntry { name: a.name.clone(), token: *t, generation: a.generation });
        let roster = Roster {
            credentials: credentials.iter().map(|c| c.entry.clone()).collect(),
            agents: agents.iter().filter_map(entry).collect(),
            grants: snapshot.manifest.grants.iter().map(|g| (g.agent.clone(), g.credential)).collect(),
        };
        Self {
            roster,
            credentials,
            agents,
            counter: snapshot.manifest.counter,
            sealed: snapshot.rows.into_iter().map(|(id, row)| (id, row.sealed)).collect(),
            faults: snapshot.faults,
        }
    }
}

fn credential(snapshot: &Snapshot, meta: &CredentialMeta, now: i64) -> CredentialInfo {
    let usage = snapshot.usage.get(&Subject::Credential(meta.id)).copied().unwrap_or_default();
    let sound = snapshot.rows.contains_key(&meta.id);
    let mut agents: Vec<AgentName> = snapshot.manifest.grants.iter().filter(|g| g.credential == meta.id).map(|g| g.agent.clone()).collect();
    agents.sort();
    CredentialInfo {
        entry: CredentialEntry {
            id: meta.id,
            name: meta.name.clone(),
            version: meta.version,
            terms: meta.terms.clone(),
            broken: (!sound).then(|| why(snapshot, "credential", meta.name.as_str())),
        },
        source: meta.source.clone(),
        secret_length: if meta.source == Source::Local { snapshot.rows.get(&meta.id).and_then(|row| sealed_length(&row.sealed)) } else { None },
        fingerprint: meta.fingerprint.clone(),
        agents,
        created_at: Some(time(meta.created_at)),
        rotated_at: meta.rotated_at.map(time),
        last_used_at: usage.at.map(time),
        last_origin_status: usage.status,
        has_previous: sound && meta.has_previous(now),
    }
}

fn agent(snapshot: &Snapshot, meta: &super::manifest::AgentMeta) -> AgentInfo {
    let Usage { at, .. } = snapshot.usage.get(&Subject::Agent(meta.name.clone())).copied().unwrap_or_default();
    let granted = snapshot.manifest.grants.iter().filter(|g| g.agent == meta.name);
    let mut grants: Vec<CredentialName> = granted.filter_map(|g| snapshot.manifest.by_id(g.credential).map(|c| c.name.clone())).collect();
    grants.sort();
    AgentInfo {
        name: meta.name.clone(),
        generation: meta.generation,
        grants,
        created_at: Some(time(meta.created_at)),
        last_seen_at: at.map(time),
        broken: (!snapshot.tokens.contains_key(&meta.name)).then(|| why(snapshot, "agent", meta.name.as_str())),
    }
}

impl CredentialMeta {
    pub(super) fn has_previous(&self, now: i64) -> bool {
        self.previous.as_ref().is_some_and(|p| now < p.replaced_at.saturating_add(KEEP_PREVIOUS))
    }
}

fn why(snapshot: &Snapshot, what: &str, name: &str) -> String {
    snapshot.faults.iter().find(|f| f.what == what && f.name == name).map_or_else(|| "its row does not open".to_owned(), |f| f.why.clone())
}

/// Authentic times are within range; one that is not would be shown as the epoch.
fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or_default()
}
