//! From what the operator has (a passphrase, a key file) to the key-encryption key.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

use super::format::{DecodeError, Decoder, Encoder};
use super::key::Key;

/// Argon2id's memory in KiB, passes and lanes. The default is also the least that is taken.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// Above these a store's header is an attack on the machine that opens it, not a precaution.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 64;
const LANES_MAX: u32 = 16;

/// How the key-encryption key is derived; kept in the store's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kdf {
    /// Argon2id (RFC 9106) of a passphrase.
    Argon2id {
        /// Random, 128 bits.
        salt: [u8; 16],
        /// Memory, KiB.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// HKDF-SHA256 (RFC 5869) of 256 random bits: those of a key file, or those that Vault unwraps.
    Hkdf {
        /// Random, 128 bits.
        salt: [u8; 16],
    },
}

/// Derivation parameters that are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KdfError {
    /// Below the default cost: whoever wrote the header wants the passphrase cheap to guess.
    #[error("its Argon2id parameters ({0} KiB, {1} passes, {2} lanes) are weaker than 65536 KiB, 3 passes, 4 lanes")]
    Weak(u32, u32, u32),
    /// Above any sensible cost.
    #[error("its Argon2id parameters ({0} KiB, {1} passes, {2} lanes) ask for absurdly much")]
    Absurd(u32, u32, u32),
    /// No memory for it.
    #[error("there is not enough memory for Argon2id ({0} KiB)")]
    Memory(u32),
}

impl Kdf {
    /// Argon2id at the default cost.
    #[must_use]
    pub fn argon2id(salt: [u8; 16]) -> Self {
        Self::Argon2id { salt, memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES }
    }

    /// HKDF.
    #[must_use]
    pub fn hkdf(salt: [u8; 16]) -> Self {
        Self::Hkdf { salt }
    }

    /// Derives the key-encryption key from a passphrase, or the bytes of a key file or of Vault.
    ///
    /// # Errors
    /// [`KdfError`] where the parameters are out of bounds, or memory is short.
    pub fn derive(&self, input: &[u8]) -> Result<Key, KdfError> {
        let mut out = Zeroizing::new([0; 32]);
        match self {
            Self::Hkdf { salt } => {
                Hkdf::<Sha256>::new(Some(salt), input).expand(b"keyhatch/1/kek", out.as_mut_slice()).expect("HKDF gives 32 bytes");
            }
            Self::Argon2id { salt, memory_kib, passes, lanes } => {
                check_cost(*memory_kib, *passes, *lanes)?;
                argon2id(input, salt, (*memory_kib, *passes, *lanes), &mut out)?;
            }
        }
        Ok(Key::from_bytes(*out))
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Argon2id { salt, memory_kib, passes, lanes } => {
                out.byte(1).bytes(salt).number((*memory_kib).into()).number((*passes).into()).number((*lanes).into());
            }
            Self::Hkdf { salt } => {
                out.byte(2).bytes(salt);
            }
        }
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let small = |n: u64| u32::try_from(n).map_err(|_| DecodeError);
        match from.byte()? {
            1 => Ok(Self::Argon2id {
                salt: from.array()?,
                memory_kib: small(from.number()?)?,
                passes: small(from.number()?)?,
                lanes: small(from.number()?)?,
            }),
            2 => Ok(Self::Hkdf { salt: from.array()? }),
            _ => Err(DecodeError),
        }
    }
}

fn check_cost(memory_kib: u32, passes: u32, lanes: u32) -> Result<(), KdfError> {
    if memory_kib < MEMORY_KIB || passes < PASSES || lanes < LANES {
        return Err(KdfError::Weak(memory_kib, passes, lanes));
    }
    if memory_kib > MEMORY_KIB_MAX || passes > PASSES_MAX || lanes > LANES_MAX {
        return Err(KdfError::Absurd(memory_kib, passes, lanes));
    }
    Ok(())
}

/// Argon2id over memory of our own, wiped afterwards.
fn argon2id(input: &[u8], salt: &[u8], (memory_kib, passes, lanes): (u32, u32, u32), out: &mut [u8; 32]) -> Result<(), KdfError> {
    let params = Params::new(memory_kib, passes, lanes, Some(out.len())).map_err(|_| KdfError::Absurd(memory_kib, passes, lanes))?;
    let count = params.block_count();
    let mut memory: Vec<Block> = Vec::new();
    memory.try_reserve_exact(count).map_err(|_| KdfError::Memory(memory_kib))?;
    memory.resize_with(count, Block::default);
    let result = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into_with_memory(input, salt, out, &mut memory);
    memory.iter_mut().for_each(|block| block.zeroize());
    result.map_err(|_| KdfError::Absurd(memory_kib, passes, lanes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_bounds_is_refused_before_any_work() {
        let kdf = |memory_kib, passes, lanes| Kdf::Argon2id { salt: [1; 16], memory_kib, passes, lanes }.derive(b"x").err();
        for (m, t, p) in [(65_535, 3, 4), (65_536, 2, 4), (65_536, 3, 3), (8, 1, 1), (0, 0, 0)] {
            assert_eq!(kdf(m, t, p), Some(KdfError::Weak(m, t, p)));
        }
        for (m, t, p) in [(u32::MAX, 3, 4), (65_536, u32::MAX, 4), (65_536, 3, u32::MAX)] {
            assert_eq!(kdf(m, t, p), Some(KdfError::Absurd(m, t, p)));
        }
    }

    /// A test vector of the reference implementation (github.com/P-H-C/phc-winner-argon2, `test.c`):
    /// argon2id, version 0x13, t = 2, m = 2^16 KiB, p = 1.
    #[test]
    fn argon2id_known_answer() {
        let mut out = [0; 32];
        argon2id(b"password", b"somesalt", (65_536, 2, 1), &mut out).expect("runs");
        let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7");
    }

    #[test]
    fn salt_and_input_count() {
        let derive = |salt, input: &[u8]| *Kdf::hkdf([salt; 16]).derive(input).expect("derives").bytes();
        assert_eq!(derive(1, b"k"), derive(1, b"k"));
        assert_ne!(derive(1, b"k"), derive(2, b"k"));
        assert_ne!(derive(1, b"k"), derive(1, b"l"));
    }
}
