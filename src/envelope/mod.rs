//! What makes a stored byte trustworthy: sealing, key derivation and the one canonical encoding, as pure functions.
//! Random bytes and the time are arguments. These are the only files that name `aes_gcm`, `argon2` and `hkdf`.
//!
//! ```text
//! passphrase --Argon2id--+
//!                        +--> KEK --AES-256-GCM--> DEK --AES-256-GCM--> secrets, items, the manifest
//! key file ----HKDF------+                          +--HKDF, one label per purpose--> row MACs, session tokens
//! 32 bytes ----HKDF------+
//!  (which Vault's transit engine unwraps)
//! ```

mod aead;
mod format;
mod header;
mod kdf;
mod key;

pub use aead::{NONCE_LEN, SealError, open, seal, sealed_length};
pub use format::{DecodeError, Decoder, Encoder, FORMAT};
pub use header::{Header, HeaderError, UnlockError, unlock};
pub use kdf::{Kdf, KdfError};
pub use key::{Key, KeyFileError, Purpose, SealedBy, UnlockKey, key_file_text, parse_key_file};
