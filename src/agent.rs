//! Agents: their names, and the tokens by which they prove themselves.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

/// The name of an agent or a credential is 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no {what} name: use 1 to 64 letters, digits, `.`, `_` or `-`, beginning with a letter or digit")]
pub struct NameError {
    /// The string as given, cut at 64 characters and escaped.
    pub name: String,
    /// `agent` or `credential`.
    pub what: &'static str,
}

/// Checks the rule that agent and credential names share.
pub(crate) fn check_name(text: &str, what: &'static str) -> Result<(), NameError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let good = (1..=64).contains(&text.len()) && text.bytes().all(plain) && text.as_bytes()[0].is_ascii_alphanumeric();
    if good { Ok(()) } else { Err(NameError { name: text.chars().take(64).flat_map(char::escape_default).collect(), what }) }
}

/// The name of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct AgentName(Box<str>);

impl AgentName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`NameError`] where the string breaks the rule.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_name(text, "agent").map(|()| Self(text.into()))
    }

    /// The name as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The prefix of an agent's own long-lived token.
pub const TOKEN_PREFIX: &str = "kha_";

/// An agent's long-lived token: `kha_` and 43 characters of base64url (256 random bits).
/// It has no `Debug`, `Display` or `Clone`, and is wiped on drop.
pub struct AgentToken(Zeroizing<String>);

impl AgentToken {
    /// Makes the token of 32 random bytes.
    #[must_use]
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(48));
        text.push_str(TOKEN_PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
        Self(text)
    }

    /// The token, to be shown once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the store keeps of it.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.0.as_bytes())
    }
}

/// SHA-256 of a token. The token has 256 random bits, so the digest needs neither salt nor stretching.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token as presented.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        let mut hash = Sha256::digest(token);
        let out = Self(hash.into());
        hash.as_mut_slice().zeroize();
        out
    }

    /// A digest as it is stored.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for TokenDigest {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenDigest {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["default", "a", "A.b_c-9"] {
            assert!(AgentName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "a:b", "ä", &"a".repeat(65)] {
            assert!(AgentName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_has_its_form() {
        let token = AgentToken::from_random(&[0xfb; 32]);
        assert_eq!(token.expose().len(), 47);
        assert!(token.expose().starts_with("kha_-_v7"));
        assert!(token.digest() == TokenDigest::of(token.expose().as_bytes()));
    }
}
