//! The one type that holds a plaintext.

use zeroize::Zeroizing;

use crate::locked::Locked;

/// The longest secret, in bytes.
pub(super) const MAX_LEN: usize = 64 * 1024;
/// A shorter secret needs `--allow-weak`, and is not scrubbed from bodies.
pub const WEAK_BELOW: usize = 16;

/// A secret's plaintext, in memory of its own. It has no `Debug`, `Display`, `Clone` or `Serialize`, is wiped on drop,
/// and is read only by [`Secret::expose`], whose callers can therefore be counted.
pub struct Secret(Locked);

/// Why a string is not taken as a secret. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing but white space.
    #[error("the secret is empty")]
    Empty,
    /// A control character, which no header field could carry.
    #[error("the secret holds a control character")]
    Control,
    /// Over 64 KiB.
    #[error("the secret is longer than 64 KiB")]
    TooLong,
    /// Under 16 bytes.
    #[error("the secret has fewer than 16 bytes; give --allow-weak if it is meant so")]
    Weak,
}

impl Secret {
    /// Takes a secret as an operator gives it: white space at both ends is cut.
    ///
    /// # Errors
    /// [`SecretError`] where it is empty, holds a control character, is too long, or is short and `allow_weak` is off.
    pub fn accept(raw: Zeroizing<Vec<u8>>, allow_weak: bool) -> Result<Self, SecretError> {
        let trimmed = raw.trim_ascii();
        if trimmed.is_empty() {
            return Err(SecretError::Empty);
        }
        if trimmed.len() > MAX_LEN {
            return Err(SecretError::TooLong);
        }
        if trimmed.iter().any(u8::is_ascii_control) {
            return Err(SecretError::Control);
        }
        if trimmed.len() < WEAK_BELOW && !allow_weak {
            return Err(SecretError::Weak);
        }
        Ok(Self(Locked::copy_of(trimmed)))
    }

    /// A secret that was sealed before, as the envelope opened it.
    #[must_use]
    pub fn from_opened(plain: &[u8]) -> Self {
        Self(Locked::copy_of(plain))
    }

    /// The same secret as an operator would have given it, by the rules of [`Secret::accept`] for weak ones.
    ///
    /// # Errors
    /// [`SecretError`] where it is empty, holds a control character, or is too long.
    pub fn accepted(&self) -> Result<Self, SecretError> {
        Self::accept(Zeroizing::new(self.0.to_vec()), true)
    }

    /// The plaintext. Every call is a place to review.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is too short to be scrubbed from bodies.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.0.len() < WEAK_BELOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &[u8]) -> Result<Vec<u8>, SecretError> {
        Secret::accept(Zeroizing::new(text.to_vec()), false).map(|s| s.expose().to_vec())
    }

    #[test]
    fn rules() {
        assert_eq!(accept(b" \tsk-or-v1-test-0001\r\n").expect("good"), b"sk-or-v1-test-0001");
        assert_eq!(accept(b" \n"), Err(SecretError::Empty));
        assert_eq!(accept(b"sk-or-v1-te\nst-0001"), Err(SecretError::Control));
        assert_eq!(accept(b"short"), Err(SecretError::Weak));
        assert_eq!(accept(&vec![b'a'; MAX_LEN + 1]), Err(SecretError::TooLong));
        assert!(Secret::accept(Zeroizing::new(b"short".to_vec()), true).expect("allowed").is_weak());
    }
}
