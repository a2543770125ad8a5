//! The chain: each record's MAC covers the one before it.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::locked::Locked;

/// The key of the audit log's chain. It has no `Debug`, and is wiped on drop.
pub struct AuditKey(Locked);

impl AuditKey {
    /// Takes 32 secret bytes, which serve no other purpose.
    #[must_use]
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(Locked::copy_of(bytes.as_slice()))
    }

    /// HMAC-SHA256(key, previous MAC || the record's bytes without its `mac` member).
    pub(super) fn link(&self, previous: &ChainMac, body: &[&[u8]]) -> ChainMac {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(&previous.0);
        body.iter().for_each(|part| mac.update(part));
        ChainMac(mac.finalize().into_bytes().into())
    }
}

/// The MAC of one record. It is public: it stands in the file.
#[derive(Clone, Copy)]
pub struct ChainMac(pub [u8; 32]);

impl ChainMac {
    /// What stands before the first record of all.
    pub(super) const GENESIS: Self = Self([0; 32]);

    /// Reads 64 lower-case hex digits.
    pub(super) fn from_hex(hex: &[u8]) -> Option<Self> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        if hex.len() != 64 {
            return None;
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(out))
    }
}

impl PartialEq for ChainMac {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for ChainMac {}

impl fmt::Display for ChainMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for ChainMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place in the chain: a record's number and MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The record's number.
    pub seq: u64,
    /// Its MAC.
    pub mac: ChainMac,
}

impl Checkpoint {
    /// The place before the first record of all.
    pub(super) const GENESIS: Self = Self { seq: 0, mac: ChainMac::GENESIS };
}

/// An error of whoever keeps the checkpoints.
pub type CheckpointError = Box<dyn std::error::Error + Send + Sync>;

/// Where checkpoints are kept: outside the log, so that a cut tail shows.
pub trait Checkpoints: Send + Sync {
    /// Keeps a checkpoint. Several processes save; one with a lower `seq` than the one kept must leave it as it is.
    ///
    /// # Errors
    /// Where it cannot be kept; it is tried again with the next one.
    fn save(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError>;

    /// The checkpoint kept, if there ever was one.
    ///
    /// # Errors
    /// Where that cannot be found out.
    fn load(&self) -> Result<Option<Checkpoint>, CheckpointError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_reads_back_and_only_in_one_spelling() {
        let mac = AuditKey::new(Zeroizing::new([1; 32])).link(&ChainMac::GENESIS, &[b"a", b"b"]);
        let hex = mac.to_string();
        assert_eq!(ChainMac::from_hex(hex.as_bytes()), Some(mac));
        assert_eq!(ChainMac::from_hex(hex.to_uppercase().as_bytes()), None);
        assert_eq!(ChainMac::from_hex(&hex.as_bytes()[1..]), None);
    }

    /// RFC 4231 has no case of this shape; the value is that of an independent HMAC-SHA256.
    #[test]
    fn the_link_is_hmac_of_previous_and_body() {
        let key = AuditKey::new(Zeroizing::new([7; 32]));
        let parts = key.link(&ChainMac([9; 32]), &[b"{\"seq\":1", b"}"]);
        assert_eq!(parts, key.link(&ChainMac([9; 32]), &[b"{\"seq\":1}"]));
        assert_ne!(parts, key.link(&ChainMac([8; 32]), &[b"{\"seq\":1}"]));
        assert_eq!(parts.to_string(), "53ef8a4e1a8bae14a6e43ecd9e75ca14b5c1f389a4d8a0f75737630178c4a8a1");
    }
}
