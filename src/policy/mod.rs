//! Decisions, on values alone.

mod roster;

pub use roster::{AgentEntry, CredentialEntry, Roster};

/// The leave to fetch one credential for one request. Only a decision makes one.
pub struct Permit {
    pub(crate) credential: crate::credential::CredentialId,
    pub(crate) version: u64,
}

impl Permit {
    /// The credential that may be fetched.
    #[must_use]
    pub fn credential(&self) -> crate::credential::CredentialId {
        self.credential
    }

    /// Its version when the decision was taken.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
}
