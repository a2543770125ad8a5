//! Who there is and what they may use: what a decision is computed from.

use crate::agent::{AgentName, TokenDigest};
use crate::credential::{CredentialId, CredentialName, Terms};

/// All credentials, agents and grants at one moment.
#[derive(Default)]
pub struct Roster {
    /// The credentials, those that do not open among them.
    pub credentials: Vec<CredentialEntry>,
    /// The agents whose rows are sound.
    pub agents: Vec<AgentEntry>,
    /// Which agent may use which credential.
    pub grants: Vec<(AgentName, CredentialId)>,
}

/// A credential as a decision sees it: never its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialEntry {
    /// Its identity.
    pub id: CredentialId,
    /// Its name.
    pub name: CredentialName,
    /// The version of its secret and terms: any change of either makes another one.
    pub version: u64,
    /// Where and how it may be used. For a broken one: as last sealed, so that its hosts stay intercepted.
    pub terms: Terms,
    /// Why its row does not open, if it does not: its requests are refused.
    pub broken: Option<String>,
}

/// An agent as authentication sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentEntry {
    /// Its name.
    pub name: AgentName,
    /// The digest of its own token.
    pub token: TokenDigest,
    /// Changes with every rotation, never comes back: session tokens name it.
    pub generation: u64,
}
