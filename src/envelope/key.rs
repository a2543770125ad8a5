//! Keys, what each is for, and the form of a key file.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::credential::Secret;
use crate::locked::Locked;

/// 256 secret bits, in memory of their own. No `Debug`, no `Clone`; wiped on drop.
pub struct Key(Locked);

/// What a subkey is for: each has a label of its own, so none can stand in for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The MAC on the rows of agents, grants and usage.
    RowMac,
    /// The signature of session tokens.
    SessionToken,
    /// The audit log's chain, where there is no store with a key for it.
    AuditChain,
    /// Fingerprints of secrets, where replicas share their key.
    Fingerprint,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::RowMac => b"keyhatch/1/row-mac",
            Self::SessionToken => b"keyhatch/1/session-token",
            Self::AuditChain => b"keyhatch/1/audit-chain",
            Self::Fingerprint => b"keyhatch/1/fingerprint",
        }
    }
}

impl Key {
    /// A key of its bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self(Locked::copy_of(bytes.as_slice()))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        self.0.first_chunk().expect("a key has 32 bytes")
    }

    /// The subkey for a purpose (HKDF-SHA256, RFC 5869; the key is random, so no salt is needed).
    #[must_use]
    pub fn subkey(&self, purpose: Purpose) -> Self {
        let mut out = Locked::zeroed(32);
        Hkdf::<Sha256>::new(None, self.bytes()).expand(purpose.label(), &mut out).expect("HKDF gives 32 bytes");
        Self(out)
    }

    /// HMAC-SHA256 (RFC 2104) of a message.
    #[must_use]
    pub fn mac(&self, message: &[u8]) -> [u8; 32] {
        self.hmac(message).finalize().into_bytes().into()
    }

    /// The keyed fingerprint of a secret: the first 8 hex digits of its HMAC.
    #[must_use]
    pub fn fingerprint(&self, secret: &Secret) -> String {
        self.mac(secret.expose())[..4].iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Whether `tag` is the HMAC of the message, in constant time.
    #[must_use]
    pub fn mac_is(&self, message: &[u8], tag: &[u8]) -> bool {
        self.hmac(message).verify_slice(tag).is_ok()
    }

    fn hmac(&self, message: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.bytes()).expect("HMAC takes a key of any length");
        mac.update(message);
        mac
    }
}

/// What unlocks a store.
pub enum UnlockKey {
    /// A passphrase, as typed.
    Passphrase(Secret),
    /// A key file.
    KeyFile {
        /// Its content: see [`key_file_text`].
        text: Secret,
        /// Where it lies. A store remembers the place it was made or rekeyed with.
        path: PathBuf,
    },
    /// Random bytes that Vault's transit engine has wrapped. The store keeps the wrapped form, so Vault opens it.
    Transit {
        /// Mount and name of the key in Vault: `transit/keyhatch`.
        key: String,
        /// The wrapped form, as Vault gave it: `vault:v1:...`. Without Vault it is of no use, and no secret.
        ciphertext: String,
        /// The 32 bytes themselves.
        plain: Secret,
    },
}

impl UnlockKey {
    /// How a store unlocked by this is sealed.
    #[must_use]
    pub fn kind(&self) -> SealedBy {
        match self {
            Self::Passphrase(_) => SealedBy::Passphrase,
            Self::KeyFile { path, .. } => SealedBy::KeyFile { path: path.clone() },
            Self::Transit { key, ciphertext, .. } => SealedBy::Transit { key: key.clone(), ciphertext: ciphertext.clone() },
        }
    }
}

/// How a store is sealed, as its header says before it is unlocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealedBy {
    /// With a passphrase.
    Passphrase,
    /// With a key file, which lay here when the store was made or rekeyed.
    KeyFile {
        /// The place.
        path: PathBuf,
    },
    /// By Vault's transit engine.
    Transit {
        /// Mount and name of the key in Vault: `transit/keyhatch`.
        key: String,
        /// What Vault is to decrypt.
        ciphertext: String,
    },
}

impl fmt::Display for SealedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passphrase => f.write_str("a passphrase"),
            Self::KeyFile { path } => write!(f, "the key file {}", path.display()),
            Self::Transit { key, .. } => write!(f, "the transit key {key} of Vault"),
        }
    }
}

const KEY_FILE_PREFIX: &str = "keyhatch-key-v1:";
const CHECK_LEN: usize = 4;

/// Why a file is no key file. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Another kind of file.
    #[error("it is no keyhatch key file (one begins with `keyhatch-key-v1:`)")]
    Prefix,
    /// Too short.
    #[error("it is cut short")]
    Short,
    /// Changed characters.
    #[error("it is garbled: its check digits do not fit")]
    Garbled,
}

fn key_check(key: &[u8; 32]) -> [u8; CHECK_LEN] {
    let hash = Sha256::new().chain_update(KEY_FILE_PREFIX).chain_update(key).finalize();
    *hash.first_chunk().expect("SHA-256 gives 32 bytes")
}

/// The text of a key file: the prefix, then base64url of 32 random bytes and four check bytes, then a newline.
#[must_use]
pub fn key_file_text(random: &[u8; 32]) -> Secret {
    let raw = Zeroizing::new([&random[..], &key_check(random)].concat());
    let body = Zeroizing::new(URL_SAFE_NO_PAD.encode(raw.as_slice()));
    Secret::from_opened(&Zeroizing::new([KEY_FILE_PREFIX.as_bytes(), body.as_bytes(), b"\n"].concat()))
}

/// Reads a key file's text; white space at both ends is no part of it.
///
/// # Errors
/// [`KeyFileError`] where it is something else, cut short or garbled.
pub fn parse_key_file(text: &Secret) -> Result<Key, KeyFileError> {
    let text = text.expose().trim_ascii();
    let body = text.strip_prefix(KEY_FILE_PREFIX.as_bytes()).ok_or_else(|| {
        if text.len() < KEY_FILE_PREFIX.len() && KEY_FILE_PREFIX.as_bytes().starts_with(text) { KeyFileError::Short } else { KeyFileError::Prefix }
    })?;
    if body.len() < (32 + CHECK_LEN) * 4 / 3 {
        return Err(KeyFileError::Short);
    }
    let raw = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).map_err(|_| KeyFileError::Garbled)?);
    let (key, check) = raw.split_first_chunk::<32>().ok_or(KeyFileError::Short)?;
    if check != key_check(key) {
        return Err(KeyFileError::Garbled);
    }
    Ok(Key::from_bytes(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_read_back_and_every_fault_is_seen() {
        let text = key_file_text(&[0xfb; 32]);
        assert_eq!(parse_key_file(&text).map(|k| *k.bytes()), Ok([0xfb; 32]));
        let bytes = text.expose().to_vec();
        let parse = |b: &[u8]| parse_key_file(&Secret::from_opened(b)).err();
        for end in 0..bytes.len() - 1 {
            assert_eq!(parse(&bytes[..end]), Some(KeyFileError::Short), "cut at {end}");
        }
        assert_eq!(parse(&bytes[..bytes.len() - 1]), None, "the newline is no part of it");
        for at in 0..bytes.len() - 1 {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(parse(&other).is_some(), "byte {at}");
        }
        assert_eq!(parse(b"-----BEGIN KEY-----"), Some(KeyFileError::Prefix));
    }

    #[test]
    fn purposes_have_keys_of_their_own() {
        let dek = Key::from_bytes([3; 32]);
        assert_ne!(dek.subkey(Purpose::RowMac).bytes(), dek.subkey(Purpose::SessionToken).bytes());
        assert_ne!(dek.subkey(Purpose::RowMac).bytes(), dek.bytes());
    }

    /// RFC 4231, test case 2 has a short key; HMAC pads it to the same block as 32 bytes with zeros after it.
    #[test]
    fn hmac_known_answer() {
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let mac = Key::from_bytes(key).mac(b"what do ya want for nothing?");
        let hex: String = mac.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert!(Key::from_bytes(key).mac_is(b"what do ya want for nothing?", &mac));
        assert!(!Key::from_bytes(key).mac_is(b"what do ya want for nothing", &mac));
    }
}
