//! What the store seals for a credential: its secret, or the place in Vault where that is.

use crate::credential::{Secret, Source, VaultReference};

/// A credential's value as the store has it. Secret and source are one thing here, so that they cannot disagree.
pub enum Stored {
    /// The secret itself.
    Secret(Secret),
    /// Where HashiCorp Vault holds it. The secret never comes into the store.
    Reference(VaultReference),
}

impl Stored {
    /// Where the secret comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        match self {
            Self::Secret(_) => Source::Local,
            Self::Reference(reference) => Source::Vault(reference.clone()),
        }
    }
}

/// What a credential uses from now on, after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// Where its secret came from before; `None` for a new credential.
    pub before: Option<Source>,
    /// Where its secret comes from.
    pub source: Source,
    /// The secret's fingerprint; `None` where Vault holds the secret.
    pub fingerprint: Option<String>,
}
