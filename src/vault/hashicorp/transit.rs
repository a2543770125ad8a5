//! The transit engine: Vault wraps a key with one of its own, which never leaves it.

use std::fmt;

use super::answers::{self, SignedCa};
use super::call::Call;
use super::client::Vault;
use super::error::VaultError;
use crate::credential::Secret;

/// A key of a transit engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitKey {
    /// Where the engine is mounted, without a slash at its end: `transit`.
    pub mount: String,
    /// The key's name.
    pub name: String,
}

impl TransitKey {
    /// Reads `NAME` (of the engine at `transit/`) or `MOUNT/NAME`.
    ///
    /// # Errors
    /// [`VaultError`] of kind `Settings` where it is neither.
    pub fn parse(text: &str) -> Result<Self, VaultError> {
        let (mount, name) = text.rsplit_once('/').unwrap_or(("transit", text));
        let good =
            |part: &str| !part.is_empty() && !matches!(part, "." | "..") && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !good(name) || !mount.split('/').all(good) {
            return Err(VaultError::settings(format!("{text:?} is no key of Vault's transit engine; give `NAME`, or `MOUNT/NAME`")));
        }
        Ok(Self { mount: mount.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for TransitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mount, self.name)
    }
}

impl Vault {
    /// `POST MOUNT/encrypt/NAME`: the ciphertext, as `vault:v1:...`.
    ///
    /// # Errors
    /// [`VaultError`]. Vault makes a missing key here where the policy allows `create`, and refuses otherwise.
    pub async fn transit_encrypt(&self, key: &TransitKey, plain: &Secret) -> Result<String, VaultError> {
        let answer = self.ask(&Call::encrypt(key, plain)?).await?.ok()?;
        answers::text(&answer.body, "ciphertext", &answer.path)
    }

    /// `POST MOUNT/decrypt/NAME`: what was encrypted.
    ///
    /// # Errors
    /// [`VaultError`], of kind `BadAnswer` where the ciphertext is of another key.
    pub async fn transit_decrypt(&self, key: &TransitKey, ciphertext: &str) -> Result<Secret, VaultError> {
        let answer = self.ask(&Call::Decrypt { key, ciphertext }).await?.ok()?;
        answers::base64_secret(&answer.body, "plaintext", &answer.path)
    }

    /// `POST PATH`, a path of the PKI engine that ends in `sign-intermediate`: signs a CA that may sign leaves, and no further CA.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn sign_csr(&self, path: &str, csr_pem: &str, common_name: &str, ttl: std::time::Duration) -> Result<SignedCa, VaultError> {
        let path = super::client::valid_path(path)?;
        let answer = self.ask(&Call::sign(path, csr_pem, common_name, ttl)).await?.ok()?;
        answers::signed(&answer.body, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_with_or_without_its_mount() {
        for (text, shown) in [("keyhatch", "transit/keyhatch"), ("kms/team/keyhatch", "kms/team/keyhatch")] {
            assert_eq!(TransitKey::parse(text).expect(text).to_string(), shown);
        }
        for bad in ["", "/", "a/", "/a", "a b", "a//b", "../a", "a/..", "a?b"] {
            assert!(TransitKey::parse(bad).is_err(), "{bad}");
        }
    }
}
