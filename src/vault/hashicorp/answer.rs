//! One answer of Vault, and what its status means.

use zeroize::Zeroizing;

use super::error::{self, VaultError, VaultErrorKind};

/// What came back, whatever its status.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// The path that was asked, as a policy names it.
    pub(super) path: String,
    /// The capability that it takes.
    pub(super) verb: &'static str,
    /// Vault's own `errors`, on one line, without anything that was sent as a secret.
    pub(super) said: String,
    /// Where Vault is, for messages.
    pub(super) at: String,
}

impl Answer {
    /// The answer, where it is a good one.
    ///
    /// # Errors
    /// [`VaultError`] for any status but 2xx.
    pub(super) fn ok(self) -> Result<Self, VaultError> {
        if (200..300).contains(&self.status) { Ok(self) } else { Err(self.failure()) }
    }

    /// What a status other than 2xx means.
    pub(super) fn failure(&self) -> VaultError {
        use VaultErrorKind as K;
        let Self { status, path, verb, said, at, .. } = self;
        let words = if said.is_empty() { String::new() } else { format!(": {said}") };
        match status {
            403 => error::denied(verb, path),
            404 if said.contains("no handler for route") => error::no_mount(path),
            404 => VaultError::new(K::NotFound, format!("Vault has nothing at {path}")),
            // KV version 2 in its first moments.
            400 if said.contains("Upgrading from non-versioned") => {
                VaultError::new(K::Unavailable, format!("Vault at {at} is not ready yet for {path}{words}"))
            }
            503 if said.contains("ealed") || said.contains("not initialized") => {
                VaultError::new(K::Sealed, format!("Vault at {at} is sealed: `vault operator unseal` opens it"))
            }
            429 | 472 | 473 | 412 | 500..=599 => VaultError::new(K::Unavailable, format!("Vault at {at} cannot serve now (status {status}){words}")),
            300..=399 => VaultError::new(
                K::BadAnswer,
                format!("Vault at {at} sends requests elsewhere (status {status}): give the address that it means (VAULT_ADDR)"),
            ),
            _ => VaultError::new(K::BadAnswer, format!("Vault refuses \"{verb}\" on {path} (status {status}){words}")),
        }
    }
}
