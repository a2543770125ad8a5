//! The store's header: how the data-encryption key is wrapped.
//!
//! A checksum tells damage from a wrong passphrase. It guards against accidents only; whoever changes the header
//! and the checksum together finds that the wrapped key no longer opens, since the header is its associated data.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::aead::{NONCE_LEN, open, seal};
use super::format::{DecodeError, Decoder, Encoder};
use super::kdf::{Kdf, KdfError};
use super::key::{Key, KeyFileError, SealedBy, UnlockKey, parse_key_file};

/// What is known of a store before it is unlocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The store's identity, for its whole life.
    pub store_id: [u8; 16],
    /// How the key-encryption key is derived.
    pub kdf: Kdf,
    sealed_by: SealedBy,
    wrapped: Vec<u8>,
}

/// A header that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its key record is damaged")]
pub struct HeaderError;

impl From<DecodeError> for HeaderError {
    fn from(_: DecodeError) -> Self {
        Self
    }
}

/// Why a store does not unlock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// The passphrase, or the key file, is not the one it was sealed with.
    #[error("wrong key")]
    Wrong,
    /// A passphrase for a store sealed by a key file, or the like.
    #[error("it is sealed with {sealed}, not with {given}")]
    Mismatch {
        /// What was given.
        given: Box<SealedBy>,
        /// What it is sealed with.
        sealed: Box<SealedBy>,
    },
    /// The key file is none.
    #[error("the key file {}: {why}", path.display())]
    KeyFile {
        /// Its place.
        path: PathBuf,
        /// What is wrong with it.
        why: KeyFileError,
    },
    /// Parameters out of bounds.
    #[error(transparent)]
    Kdf(#[from] KdfError),
}

const HEADER: &str = "keyhatch/header";
const RECORD: &str = "keyhatch/key-record";

/// What stands after the derivation: what the header remembers of the key, after one of these.
const NOTHING_MORE: u8 = 0;
const KEY_FILE: u8 = 1;
const TRANSIT: u8 = 2;

impl Header {
    /// Wraps `dek` for whoever has `key`. `salt` and `nonce` must be fresh random bytes.
    ///
    /// # Errors
    /// [`UnlockError`] where the key file is none, or memory for Argon2id is short.
    pub fn wrap(store_id: [u8; 16], dek: &Key, key: &UnlockKey, salt: [u8; 16], nonce: [u8; NONCE_LEN]) -> Result<Self, UnlockError> {
        let kdf = match key {
            UnlockKey::Passphrase(_) => Kdf::argon2id(salt),
            UnlockKey::KeyFile { .. } | UnlockKey::Transit { .. } => Kdf::hkdf(salt),
        };
        let mut header = Self { store_id, kdf, sealed_by: key.kind(), wrapped: Vec::new() };
        header.wrapped = seal(&header.kek(key)?, nonce, &header.associated(), dek.bytes());
        Ok(header)
    }

    /// How the store is sealed.
    #[must_use]
    pub fn sealed_by(&self) -> SealedBy {
        self.sealed_by.clone()
    }

    /// The record as it is stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(RECORD).bytes(&self.associated()).bytes(&self.wrapped).finish();
        let sum = Sha256::digest(&out);
        out.extend_from_slice(&sum);
        out
    }

    /// Reads a stored record.
    ///
    /// # Errors
    /// [`HeaderError`] where any byte of it was changed by accident.
    pub fn decode(record: &[u8]) -> Result<Self, HeaderError> {
        let (body, sum) = record.split_last_chunk::<32>().ok_or(HeaderError)?;
        if Sha256::digest(body)[..] != sum[..] {
            return Err(HeaderError);
        }
        let mut outer = Decoder::new(body, RECORD)?;
        let (inner, wrapped) = (outer.bytes()?, outer.bytes()?.to_vec());
        outer.finish()?;
        let mut inner = Decoder::new(inner, HEADER)?;
        let (store_id, kdf) = (inner.array()?, Kdf::decode(&mut inner)?);
        let sealed_by = match (inner.byte()?, &kdf) {
            (NOTHING_MORE, Kdf::Argon2id { .. }) => SealedBy::Passphrase,
            (KEY_FILE, Kdf::Hkdf { .. }) => SealedBy::KeyFile { path: Path::new(OsStr::from_bytes(inner.bytes()?)).to_path_buf() },
            (TRANSIT, Kdf::Hkdf { .. }) => SealedBy::Transit { key: inner.text()?.to_owned(), ciphertext: inner.text()?.to_owned() },
            _ => return Err(HeaderError),
        };
        inner.finish()?;
        Ok(Self { store_id, kdf, sealed_by, wrapped })
    }

    fn associated(&self) -> Vec<u8> {
        let mut out = Encoder::new(HEADER);
        out.bytes(&self.store_id);
        self.kdf.encode(&mut out);
        match &self.sealed_by {
            SealedBy::Passphrase => out.byte(NOTHING_MORE),
            SealedBy::KeyFile { path } => out.byte(KEY_FILE).bytes(path.as_os_str().as_bytes()),
            SealedBy::Transit { key, ciphertext } => out.byte(TRANSIT).text(key).text(ciphertext),
        };
        out.finish()
    }

    fn kek(&self, key: &UnlockKey) -> Result<Key, UnlockError> {
        match (key, &self.sealed_by) {
            (UnlockKey::Passphrase(text), SealedBy::Passphrase) => Ok(self.kdf.derive(text.expose())?),
            (UnlockKey::KeyFile { text, path }, SealedBy::KeyFile { .. }) => {
                let key = parse_key_file(text).map_err(|why| UnlockError::KeyFile { path: path.clone(), why })?;
                Ok(self.kdf.derive(key.bytes())?)
            }
            (UnlockKey::Transit { plain, .. }, SealedBy::Transit { .. }) => {
                // Whoever may use Vault's key could have it wrap anything, also nothing.
                let plain: &[u8; 32] = plain.expose().try_into().map_err(|_| UnlockError::Wrong)?;
                Ok(self.kdf.derive(plain)?)
            }
            _ => Err(UnlockError::Mismatch { given: Box::new(key.kind()), sealed: Box::new(self.sealed_by()) }),
        }
    }
}

/// Opens the data-encryption key.
///
/// # Errors
/// [`UnlockError`] where the key is wrong, of the other kind, or the parameters are out of bounds.
pub fn unlock(header: &Header, key: &UnlockKey) -> Result<Key, UnlockError> {
    let plain = open(&header.kek(key)?, &header.associated(), &header.wrapped).map_err(|_| UnlockError::Wrong)?;
    let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(plain.as_slice().try_into().map_err(|_| UnlockError::Wrong)?);
    Ok(Key::from_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::super::key::key_file_text;
    use super::*;
    use crate::credential::Secret;

    fn key_file(byte: u8) -> UnlockKey {
        UnlockKey::KeyFile { text: key_file_text(&[byte; 32]), path: "/k".into() }
    }

    fn passphrase(text: &str) -> UnlockKey {
        UnlockKey::Passphrase(Secret::from_opened(text.as_bytes()))
    }

    fn transit(byte: u8) -> UnlockKey {
        UnlockKey::Transit { key: "transit/k".into(), ciphertext: "vault:v1:AAAA".into(), plain: Secret::from_opened(&[byte; 32]) }
    }

    fn header(key: &UnlockKey) -> Header {
        Header::wrap([1; 16], &Key::from_bytes([2; 32]), key, [3; 16], [4; 12]).expect("wraps")
    }

    #[test]
    fn damage_is_told_from_a_wrong_key() {
        for key in [key_file(5), transit(5), passphrase("x")] {
            let header = header(&key);
            let record = header.encode();
            assert_eq!(Header::decode(&record).as_ref(), Ok(&header));
            for at in 0..record.len() {
                let mut other = record.clone();
                other[at] ^= 0x40;
                assert_eq!(Header::decode(&other), Err(HeaderError), "byte {at}");
                assert_eq!(Header::decode(&record[..at]), Err(HeaderError), "cut at {at}");
            }
        }
        let header = header(&key_file(5));
        assert_eq!(unlock(&header, &key_file(5)).map(|k| *k.bytes()), Ok([2; 32]));
        assert_eq!(unlock(&header, &key_file(6)).err(), Some(UnlockError::Wrong));
        assert!(matches!(unlock(&header, &passphrase("x")), Err(UnlockError::Mismatch { .. })));
        assert_eq!(header.sealed_by(), SealedBy::KeyFile { path: "/k".into() });
    }

    #[test]
    fn a_forged_header_with_a_right_checksum_does_not_open() {
        let mut forged = header(&key_file(5));
        forged.sealed_by = SealedBy::KeyFile { path: "/elsewhere".into() };
        let forged = Header::decode(&forged.encode()).expect("the checksum is right");
        assert_eq!(unlock(&forged, &key_file(5)).err(), Some(UnlockError::Wrong));
        for (key, ciphertext) in [("transit/other", "vault:v1:AAAA"), ("transit/k", "vault:v2:AAAA")] {
            let mut forged = header(&transit(5));
            forged.sealed_by = SealedBy::Transit { key: key.into(), ciphertext: ciphertext.into() };
            let forged = Header::decode(&forged.encode()).expect("the checksum is right");
            assert_eq!(unlock(&forged, &transit(5)).err(), Some(UnlockError::Wrong), "{key} {ciphertext}");
        }
    }

    #[test]
    fn each_kind_has_one_form_and_one_derivation() {
        for (key, kdf) in [(key_file(5), Kdf::argon2id([3; 16])), (transit(5), Kdf::argon2id([3; 16])), (passphrase("x"), Kdf::hkdf([3; 16]))] {
            let mut other = header(&key);
            other.kdf = kdf;
            assert_eq!(Header::decode(&other.encode()), Err(HeaderError), "{:?}", other.sealed_by);
        }
        // A store made by an earlier version reads the same: the tag was that of an option.
        let old = Encoder::new(HEADER).bytes(&[1; 16]).byte(2).bytes(&[3; 16]).option(Some("/k"), |e, p| e.bytes(p.as_bytes())).finish();
        assert_eq!(header(&key_file(5)).associated(), old);
    }

    #[test]
    fn a_key_that_vault_unwraps() {
        let header = header(&transit(5));
        assert_eq!(header.sealed_by(), transit(5).kind());
        assert_eq!(header.sealed_by().to_string(), "the transit key transit/k of Vault");
        assert_eq!(unlock(&header, &transit(5)).map(|k| *k.bytes()), Ok([2; 32]));
        assert_eq!(unlock(&header, &transit(6)).err(), Some(UnlockError::Wrong));
        for length in [0, 31, 33] {
            let plain = Secret::from_opened(&[5; 33][..length]);
            let cut = UnlockKey::Transit { key: "transit/k".into(), ciphertext: "vault:v1:AAAA".into(), plain };
            assert_eq!(unlock(&header, &cut).err(), Some(UnlockError::Wrong));
            assert!(Header::wrap([1; 16], &Key::from_bytes([2; 32]), &cut, [3; 16], [4; 12]).is_err(), "nothing is sealed with {length} bytes");
        }
        for other in [key_file(5), passphrase("x")] {
            assert!(matches!(unlock(&header, &other), Err(UnlockError::Mismatch { .. })));
            assert!(matches!(unlock(&self::header(&other), &transit(5)), Err(UnlockError::Mismatch { .. })));
        }
    }

    #[test]
    fn a_passphrase() {
        let header = header(&passphrase("correct horse"));
        assert_eq!(header.sealed_by(), SealedBy::Passphrase);
        assert_eq!(unlock(&header, &passphrase("correct horse")).map(|k| *k.bytes()), Ok([2; 32]));
        assert_eq!(unlock(&header, &passphrase("correct horse ")).err(), Some(UnlockError::Wrong));
    }
}
