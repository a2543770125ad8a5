//! A store that Vault's transit engine unlocks: the store keeps a wrapped key, and Vault alone can unwrap it.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::error::ReloadError;
use super::patience::Patience;
use super::vault_settings::{Asker, vault_settings};
use crate::config::Config;
use crate::credential::Secret;
use crate::envelope::{SealedBy, UnlockKey};
use crate::random;
use crate::vault::hashicorp::{TransitKey, Vault, VaultError, VaultErrorKind};

/// How long the end of a token of our own may take: it would end by itself later.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why Vault gives no key. Holds none.
#[derive(Debug, thiserror::Error)]
pub enum TransitError {
    /// `[vault]` and the environment do not say how to ask.
    #[error(transparent)]
    Settings(#[from] ReloadError),
    /// Vault did not do it.
    #[error("{error}")]
    Vault {
        /// What happened.
        error: VaultError,
        /// What to do about it, where the error does not say so itself.
        mend: Option<String>,
    },
    /// It is sealed in another way.
    #[error("it is sealed with {0}, which is not for Vault to open")]
    Other(SealedBy),
}

impl TransitError {
    /// What to do about it, where the error does not say so itself.
    #[must_use]
    pub fn mend(&self) -> Option<&str> {
        match self {
            Self::Vault { mend, .. } => mend.as_deref(),
            Self::Settings(_) | Self::Other(_) => None,
        }
    }

    fn is_outage(&self) -> bool {
        matches!(self, Self::Vault { error, .. } if error.kind.is_outage())
    }

    fn settings(error: VaultError) -> Self {
        Self::Vault { error, mend: None }
    }
}

/// Has Vault unwrap the key of a store that is sealed so.
///
/// # Errors
/// [`TransitError`]
pub async fn open(config: &Config, sealed: &SealedBy) -> Result<UnlockKey, TransitError> {
    let ((key, ciphertext), vault) = (wrapped(sealed)?, vault(config, Asker::Command)?);
    let opened = unwrap(&vault, &key, ciphertext).await;
    farewell(&vault).await;
    opened
}

/// The same for a proxy, which goes on with the client that it was done with: a secret id that was unwrapped for it is used up. While Vault is
/// away or sealed it tries again, with `patience` for half a minute.
///
/// # Errors
/// [`TransitError`], the last one; no token is left behind.
pub async fn open_and_stay(config: &Config, sealed: &SealedBy, patience: bool) -> Result<(UnlockKey, Arc<Vault>), TransitError> {
    let ((key, ciphertext), vault) = (wrapped(sealed)?, vault(config, Asker::Proxy)?);
    vault.warnings().iter().for_each(|w| tracing::warn!("{w}"));
    let say = |left, line: &str| tracing::warn!("the store cannot be unlocked yet, and is tried again for up to {left} s: {line}");
    let opened = Patience::new(patience).wait(TransitError::is_outage, say, async || unwrap(&vault, &key, ciphertext).await).await;
    match opened {
        Ok(key) => Ok((key, vault)),
        Err(e) => {
            farewell(&vault).await;
            Err(e)
        }
    }
}

/// Makes 32 random bytes and has Vault wrap them with a key.
///
/// # Errors
/// [`TransitError`]: nothing was made that would have to be removed.
pub async fn make(config: &Config, key: &TransitKey) -> Result<UnlockKey, TransitError> {
    let vault = vault(config, Asker::Command)?;
    let made = wrap(&vault, key).await;
    farewell(&vault).await;
    made
}

fn vault(config: &Config, asker: Asker) -> Result<Arc<Vault>, TransitError> {
    Vault::new(vault_settings(&config.vault, asker)?).map_err(TransitError::settings)
}

/// The key and what it wrapped. Who writes the store's file chooses the name, so it is looked at before it becomes a path.
fn wrapped(sealed: &SealedBy) -> Result<(TransitKey, &str), TransitError> {
    match sealed {
        SealedBy::Transit { key, ciphertext } => Ok((TransitKey::parse(key).map_err(TransitError::settings)?, ciphertext)),
        other => Err(TransitError::Other(other.clone())),
    }
}

async fn unwrap(vault: &Vault, key: &TransitKey, ciphertext: &str) -> Result<UnlockKey, TransitError> {
    let plain = vault.transit_decrypt(key, ciphertext).await.map_err(|e| told(e, key, Doing::Unwrap))?;
    Ok(UnlockKey::Transit { key: key.to_string(), ciphertext: ciphertext.to_owned(), plain })
}

async fn wrap(vault: &Vault, key: &TransitKey) -> Result<UnlockKey, TransitError> {
    let plain = Secret::from_opened(&*Zeroizing::new(random::bytes::<32>()));
    let ciphertext = vault.transit_encrypt(key, &plain).await.map_err(|e| told(e, key, Doing::Wrap))?;
    // Before anything is sealed with it: where the policy allows `encrypt` alone, no later start would open the store.
    unwrap(vault, key, &ciphertext).await
}

/// Ends the token where this process logged in for it.
pub async fn farewell(vault: &Vault) {
    let _ = tokio::time::timeout(FAREWELL, vault.close()).await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Wrap,
    Unwrap,
}

/// The error with what an operator of Vault would do.
fn told(error: VaultError, key: &TransitKey, doing: Doing) -> TransitError {
    use VaultErrorKind as K;
    let TransitKey { mount, name } = key;
    let says = |words: &str| error.detail.contains(words);
    let make_key = format!("`vault write -f {mount}/keys/{name}`");
    let mend = match (error.kind, doing) {
        (K::NoMount, Doing::Wrap) => {
            let path = if mount == "transit" { String::new() } else { format!(" -path={mount}") };
            Some(format!("run `vault secrets enable{path} transit`, then {make_key}"))
        }
        // Without the key, a wish to encrypt is one to make it, and that takes another right.
        (K::Denied, Doing::Wrap) => Some(format!("where the key is not there yet, an operator makes it: {make_key}")),
        (K::BadAnswer | K::NotFound | K::NoMount, Doing::Unwrap) if says("too old") => Some(format!(
            "lower min_decryption_version of {key} again (`vault write {mount}/keys/{name}/config min_decryption_version=1`), then reseal: `keyhatch store rekey --new-transit-key`"
        )),
        (K::BadAnswer | K::NotFound | K::NoMount, Doing::Unwrap) => Some(format!(
            "the store opens with the very key {key} of the Vault that sealed it: check the address and the namespace (VAULT_ADDR, VAULT_NAMESPACE), or put back Vault's data, or a backup of the store that is sealed in another way"
        )),
        (K::Unreachable | K::Timeout, _) => Some("start Vault, or give its address (VAULT_ADDR, or `address` in [vault])".to_owned()),
        _ => None,
    };
    TransitError::Vault { error, mend }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mend(kind: VaultErrorKind, detail: &str, doing: Doing) -> String {
        let key = TransitKey::parse("kms/keyhatch").expect("a key");
        told(VaultError::new(kind, detail), &key, doing).mend().unwrap_or_default().to_owned()
    }

    #[test]
    fn the_mend_fits_what_was_asked() {
        use VaultErrorKind as K;
        for (kind, detail, doing, want) in [
            (K::NoMount, "", Doing::Wrap, "`vault secrets enable -path=kms transit`, then `vault write -f kms/keys/keyhatch`"),
            (K::Denied, "", Doing::Wrap, "`vault write -f kms/keys/keyhatch`"),
            (K::BadAnswer, "encryption key not found", Doing::Unwrap, "VAULT_ADDR, VAULT_NAMESPACE"),
            (K::BadAnswer, "disallowed by policy (too old)", Doing::Unwrap, "min_decryption_version=1"),
            (K::Unreachable, "", Doing::Unwrap, "start Vault"),
        ] {
            let text = mend(kind, detail, doing);
            assert!(text.contains(want), "{text}");
        }
        assert_eq!(mend(K::Denied, "says its line itself", Doing::Unwrap), "");
    }

    #[test]
    fn a_store_cannot_send_the_question_elsewhere() {
        for key in ["sys/../auth/token", "transit/a?b", "transit/a#b", "", "/", "transit/a%2f.."] {
            let sealed = SealedBy::Transit { key: key.into(), ciphertext: "vault:v1:AAAA".into() };
            assert!(wrapped(&sealed).is_err(), "{key}");
        }
        assert!(matches!(wrapped(&SealedBy::Passphrase), Err(TransitError::Other(SealedBy::Passphrase))));
    }
}
