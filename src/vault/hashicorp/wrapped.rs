//! A response-wrapped secret id: unwrapped once, and only where it is what it should be.

use std::path::Path;

use super::answers;
use super::call::Call;
use super::client::Vault;
use super::error::{VaultError, VaultErrorKind};
use super::login::{Gate, read_file};
use crate::credential::Secret;

impl Vault {
    /// The secret id of a wrapping token, unwrapped the first time and kept.
    pub(super) async fn unwrapped<'g>(&self, gate: &'g mut Gate, mount: &str, path: &Path) -> Result<&'g Secret, VaultError> {
        let file = read_file(path, "the wrapping token of the secret id").await;
        let known = match (&gate.unwrapped, &file) {
            (Some((digest, _)), Ok((now, _))) => digest == now,
            // Some remove the file once it was read.
            (Some(_), Err(_)) => true,
            (None, _) => false,
        };
        if !known {
            let (digest, wrapping) = file?;
            let secret_id = self.unwrap(mount, path, &wrapping).await?;
            gate.unwrapped = Some((digest, secret_id));
        }
        gate.unwrapped.as_ref().map(|(_, secret_id)| secret_id).ok_or_else(|| VaultError::not_vaults("sys/wrapping/unwrap"))
    }

    async fn unwrap(&self, mount: &str, path: &Path, wrapping: &Secret) -> Result<Secret, VaultError> {
        let refused = |why: String| VaultError::new(VaultErrorKind::LoginRefused, format!("the wrapping token in {}: {why}", path.display()));
        let used =
            || refused("it was used before, or its time is over: put a new one there (`vault write -wrap-ttl=...`), and find out who used it".into());
        let seen = self.send(&Call::wrapping_lookup(wrapping)?, None).await?;
        if matches!(seen.status, 400 | 403) && seen.is_vaults() {
            return Err(used());
        }
        let made_by = answers::text(&seen.ok()?.body, "creation_path", "sys/wrapping/lookup")?;
        if !is_secret_id_path(&made_by, mount) {
            return Err(refused(format!(
                "it was made by {made_by}, not by auth/{mount}/role/ROLE/secret-id: it was swapped, or is for something else"
            )));
        }
        let answer = self.send(&Call::Unwrap, Some(wrapping)).await?;
        if matches!(answer.status, 400 | 403) && answer.is_vaults() {
            return Err(used());
        }
        answers::secret(&answer.ok()?.body, "secret_id", "sys/wrapping/unwrap")
    }
}

/// `auth/MOUNT/role/ROLE/secret-id`, where Vault may put the namespace before.
fn is_secret_id_path(path: &str, mount: &str) -> bool {
    let inner = |rest: &str| rest.strip_suffix("/secret-id").is_some_and(|role| !role.is_empty() && !role.contains('/'));
    let Some((before, role)) = path.split_once(&format!("auth/{mount}/role/")) else { return false };
    (before.is_empty() || before.ends_with('/')) && inner(role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_secret_id_is_made() {
        for good in ["auth/approle/role/keyhatch/secret-id", "team/auth/approle/role/keyhatch/secret-id"] {
            assert!(is_secret_id_path(good, "approle"), "{good}");
        }
        for bad in [
            "auth/other/role/keyhatch/secret-id",
            "auth/approle/role/keyhatch/role-id",
            "auth/approle/role//secret-id",
            "xauth/approle/role/keyhatch/secret-id",
            "sys/wrapping/wrap",
            "secret/data/auth/approle/role/a/b/secret-id",
        ] {
            assert!(!is_secret_id_path(bad, "approle"), "{bad}");
        }
    }
}
