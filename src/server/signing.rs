//! The keys that replicas share: what signs session tokens and fingerprints, and without a store the audit log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::error::{ReloadError, failed};
use crate::credential::Secret;
use crate::envelope::{Key, Purpose};
use crate::random;
use crate::session::SessionKey;
use crate::telemetry::audit_log::AuditKey;
use crate::vault::hashicorp::{Vault, VaultError, VaultErrorKind};

/// The field of the entry.
const FIELD: &str = "key";

/// 32 random bytes of an entry in Vault, and what is derived from them. No `Debug`; wiped on drop.
pub struct SigningKeys(Key);

impl SigningKeys {
    /// Reads the entry that `[vault] signing_key` names. Where there is none it is made, by check-and-set: of several
    /// replicas that start at once, one writes it and all read the same.
    ///
    /// # Errors
    /// [`ReloadError`] where it can be neither read nor made, or holds something else.
    pub(super) async fn load(vault: &Vault, path: &str) -> Result<Self, ReloadError> {
        for _ in 0..2 {
            if let Some(keys) = Self::read(vault, path).await? {
                return Ok(keys);
            }
            let made = vault.create(path, &[(FIELD, &Self::generate())]).await.map_err(|e| cannot_make(path, e))?;
            if made {
                tracing::info!("{path}: made the key of session tokens and fingerprints in Vault");
            }
        }
        Err(failed(format!("{path} in Vault is there and is not: look at its deletion, or try again")))
    }

    /// Reads the entry; `None` where there is none yet.
    ///
    /// # Errors
    /// [`ReloadError`] where it cannot be read, or holds something else.
    pub async fn read(vault: &Vault, path: &str) -> Result<Option<Self>, ReloadError> {
        let reading = match vault.read(path, None).await {
            Ok(reading) => reading,
            Err(e) if e.kind == VaultErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(ReloadError::vault(KEY, e)),
        };
        let field = reading.fields.get(FIELD).ok_or_else(|| setting(format!("{path} in Vault has no field `{FIELD}`: {MEND}")))?;
        let keys = Self::parse(field).ok_or_else(|| setting(format!("the field `{FIELD}` of {path} is not 32 bytes in base64: {MEND}")));
        keys.map(Some)
    }

    fn generate() -> Secret {
        let bytes = Zeroizing::new(random::bytes::<32>());
        let text = Zeroizing::new(STANDARD.encode(bytes.as_slice()));
        Secret::from_opened(text.as_bytes())
    }

    fn parse(text: &Secret) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text.expose().trim_ascii()).ok()?);
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(bytes.as_slice().try_into().ok()?);
        Some(Self(Key::from_bytes(*bytes)))
    }

    /// What signs session tokens.
    pub(super) fn session_key(&self) -> SessionKey {
        SessionKey::new(Zeroizing::new(*self.0.subkey(Purpose::SessionToken).bytes()))
    }

    /// What chains the audit log of a replica without a store.
    #[must_use]
    pub fn audit_key(&self) -> AuditKey {
        AuditKey::new(Zeroizing::new(*self.0.subkey(Purpose::AuditChain).bytes()))
    }

    /// The keyed fingerprint of a value: 8 hex digits, the same on every replica.
    #[must_use]
    pub fn fingerprint(&self, secret: &Secret) -> String {
        self.0.subkey(Purpose::Fingerprint).fingerprint(secret)
    }
}

/// The key of the configuration that names the entry.
const KEY: &str = "vault.signing_key";
const MEND: &str = "write one with `vault kv put ... key=\"$(openssl rand -base64 32)\"`";

fn setting(why: String) -> ReloadError {
    ReloadError::Setting { key: KEY, why }
}

fn cannot_make(path: &str, e: VaultError) -> ReloadError {
    let detail = format!("there is nothing at {path}, and it cannot be made: {e}; {MEND}");
    ReloadError::vault(KEY, VaultError { detail, ..e })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_is_taken() {
        let good = SigningKeys::generate();
        let keys = SigningKeys::parse(&good).expect("what is made is taken");
        let again = SigningKeys::parse(&Secret::from_opened(&[good.expose(), b"\n"].concat())).expect("as `vault kv put key=@file` has it");
        let secret = Secret::from_opened(b"sk-or-v1-test-0001");
        assert_eq!(keys.fingerprint(&secret), again.fingerprint(&secret));
        assert_eq!(keys.fingerprint(&secret).len(), 8);
        for bad in ["", "a2V5", "not base64 at all, but long enough to be one"] {
            assert!(SigningKeys::parse(&Secret::from_opened(bad.as_bytes())).is_none(), "{bad}");
        }
    }
}
