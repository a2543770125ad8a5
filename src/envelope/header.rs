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
    /// Where the key file lay, for a store sealed by one.
    pub key_file: Option<PathBuf>,
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
    /// A passphrase for a store sealed by a key file, or the other way round.
    #[error("it is sealed with {sealed}, not with {given}")]
    Mismatch {
        /// What was given.
        given: SealedBy,
        /// What it is sealed with.
        sealed: SealedBy,
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

impl Header {
    /// Wraps `dek` for whoever has `key`. `salt` and `nonce` must be fresh random bytes.
    ///
    /// # Errors
    /// [`UnlockError`] where the key file is none, or memory for Argon2id is short.
    pub fn wrap(store_id: [u8; 16], dek: &Key, key: &UnlockKey, salt: [u8; 16], nonce: [u8; NONCE_LEN]) -> Result<Self, UnlockError> {
        let (kdf, key_file) = match key {
            UnlockKey::Passphrase(_) => (Kdf::argon2id(salt), None),
            UnlockKey::KeyFile { path, .. } => (Kdf::hkdf(salt), Some(path.clone())),
        };
        let mut header = Self { store_id, kdf, key_file, wrapped: Vec::new() };
        header.wrapped = seal(&header.kek(key)?, nonce, &header.associated(), dek.bytes());
        Ok(header)
    }

    /// How the store is sealed.
    #[must_use]
    pub fn sealed_by(&self) -> SealedBy {
        match (&self.kdf, &self.key_file) {
            (Kdf::Argon2id { .. }, _) => SealedBy::Passphrase,
            (Kdf::Hkdf { .. }, path) => SealedBy::KeyFile { path: path.clone().unwrap_or_default() },
        }
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
        let key_file = inner.option(|d| d.bytes().map(|b| Path::new(OsStr::from_bytes(b)).to_path_buf()))?;
        inner.finish()?;
        Ok(Self { store_id, kdf, key_file, wrapped })
    }

    fn associated(&self) -> Vec<u8> {
        let mut out = Encoder::new(HEADER);
        out.bytes(&self.store_id);
        self.kdf.encode(&mut out);
        out.option(self.key_file.as_deref(), |e, p| e.bytes(p.as_os_str().as_bytes())).finish()
    }

    fn kek(&self, key: &UnlockKey) -> Result<Key, UnlockError> {
        match (key, &self.kdf) {
            (UnlockKey::Passphrase(text), Kdf::Argon2id { .. }) => Ok(self.kdf.derive(text.expose())?),
            (UnlockKey::KeyFile { text, path }, Kdf::Hkdf { .. }) => {
                let key = parse_key_file(text).map_err(|why| UnlockError::KeyFile { path: path.clone(), why })?;
                Ok(self.kdf.derive(key.bytes())?)
            }
            _ => Err(UnlockError::Mismatch { given: key.kind(), sealed: self.sealed_by() }),
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

    fn header(key: &UnlockKey) -> Header {
        Header::wrap([1; 16], &Key::from_bytes([2; 32]), key, [3; 16], [4; 12]).expect("wraps")
    }

    #[test]
    fn damage_is_told_from_a_wrong_key() {
        let header = header(&key_file(5));
        let record = header.encode();
        assert_eq!(Header::decode(&record).as_ref(), Ok(&header));
        for at in 0..record.len() {
            let mut other = record.clone();
            other[at] ^= 0x40;
            assert_eq!(Header::decode(&other), Err(HeaderError), "byte {at}");
            assert_eq!(Header::decode(&record[..at]), Err(HeaderError), "cut at {at}");
        }
        assert_eq!(unlock(&header, &key_file(5)).map(|k| *k.bytes()), Ok([2; 32]));
        assert_eq!(unlock(&header, &key_file(6)).err(), Some(UnlockError::Wrong));
        assert!(matches!(unlock(&header, &passphrase("x")), Err(UnlockError::Mismatch { .. })));
        assert_eq!(header.sealed_by(), SealedBy::KeyFile { path: "/k".into() });
    }

    #[test]
    fn a_forged_header_with_a_right_checksum_does_not_open() {
        let mut forged = header(&key_file(5));
        forged.key_file = Some("/elsewhere".into());
        let forged = Header::decode(&forged.encode()).expect("the checksum is right");
        assert_eq!(unlock(&forged, &key_file(5)).err(), Some(UnlockError::Wrong));
    }

    #[test]
    fn a_passphrase() {
        let header = header(&passphrase("correct horse"));
        assert_eq!(header.sealed_by(), SealedBy::Passphrase);
        assert_eq!(unlock(&header, &passphrase("correct horse")).map(|k| *k.bytes()), Ok([2; 32]));
        assert_eq!(unlock(&header, &passphrase("correct horse ")).err(), Some(UnlockError::Wrong));
    }
}
