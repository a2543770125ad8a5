//! Session tokens: what `env` and `run` put into an agent's proxy URL.
//!
//! A token is `khs_` and base64url of `claims || HMAC-SHA256(key, label || claims)`. It says who the agent is and until when, so
//! `serve` needs no list of sessions and a restart ends none. The caller compares [`Claims::generation`] with the agent's: a rotated or
//! removed agent's tokens are dead at once. A [`SessionKind::Run`] token also has to be
//! held by its command over `admin.sock`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::agent::AgentName;
use crate::locked::Locked;

/// The prefix of a session token.
pub const TOKEN_PREFIX: &str = "khs_";

/// The longest that a session lasts.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// One key, one purpose, one label: the MAC of a session token is no MAC of anything else.
const LABEL: &[u8] = b"keyhatch session token v1\0";
const FORMAT: u8 = 1;
const MAC_LEN: usize = 32;
/// Format, kind, generation, expiry, id.
const FIXED_LEN: usize = 1 + 1 + 8 + 8 + 8;
/// The longest agent name.
const NAME_MAX: usize = 64;
/// The longest token: nothing longer is looked at.
const TOKEN_MAX: usize = TOKEN_PREFIX.len() + (FIXED_LEN + NAME_MAX + MAC_LEN).div_ceil(3) * 4;

/// The key under which session tokens are signed. It has no `Debug` or `Clone`, and is wiped on drop.
pub struct SessionKey(Locked);

impl SessionKey {
    /// Takes 32 secret bytes, which serve no other purpose.
    #[must_use]
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(Locked::copy_of(bytes.as_slice()))
    }

    fn mac(&self, claims: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(LABEL);
        mac.update(claims);
        mac
    }
}

/// Who asked for a session, and so when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// `keyhatch env`: ends at its expiry.
    Env,
    /// `keyhatch run`: ends with the command, at its expiry at the latest.
    Run,
}

impl SessionKind {
    fn byte(self) -> u8 {
        match self {
            Self::Env => 1,
            Self::Run => 2,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Env),
            2 => Some(Self::Run),
            _ => None,
        }
    }
}

/// What a session token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The agent.
    pub agent: AgentName,
    /// The agent's generation when the token was minted; see [`crate::policy::AgentEntry::generation`].
    pub generation: u64,
    /// The first moment at which the token is no longer good, in seconds since 1970-01-01T00:00:00Z.
    pub expires: i64,
    /// 64 random bits.
    pub id: u64,
    /// Who asked for it.
    pub kind: SessionKind,
}

/// Why a token is not taken. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// It has not the form of a session token.
    #[error("the session token is malformed")]
    Malformed,
    /// It was not signed with this key.
    #[error("the session token is not of this store")]
    Forged,
    /// Its time is over.
    #[error("the session token has expired")]
    Expired,
}

/// Makes a token.
#[must_use]
pub fn mint(key: &SessionKey, claims: &Claims) -> Zeroizing<String> {
    let name = claims.agent.as_str().as_bytes();
    let mut bytes = Zeroizing::new(Vec::with_capacity(FIXED_LEN + name.len() + MAC_LEN));
    bytes.push(FORMAT);
    bytes.push(claims.kind.byte());
    bytes.extend_from_slice(&claims.generation.to_be_bytes());
    bytes.extend_from_slice(&claims.expires.to_be_bytes());
    bytes.extend_from_slice(&claims.id.to_be_bytes());
    bytes.extend_from_slice(name);
    let mac = key.mac(&bytes).finalize().into_bytes();
    bytes.extend_from_slice(&mac);
    let mut token = Zeroizing::new(String::with_capacity(TOKEN_MAX));
    token.push_str(TOKEN_PREFIX);
    URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut token);
    token
}

/// Reads a token. `now` is in seconds since 1970-01-01T00:00:00Z. The MAC is compared in constant time and before anything else
/// of the token is believed.
///
/// # Errors
/// [`SessionError`]; whether the agent's generation is still this one is for the caller to see.
pub fn verify(key: &SessionKey, token: &str, now: i64) -> Result<Claims, SessionError> {
    if token.len() > TOKEN_MAX {
        return Err(SessionError::Malformed);
    }
    let text = token.strip_prefix(TOKEN_PREFIX).ok_or(SessionError::Malformed)?;
    // The engine refuses padding and stray trailing bits: one token has one spelling.
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).map_err(|_| SessionError::Malformed)?);
    let split = bytes.len().checked_sub(MAC_LEN).filter(|&n| n > FIXED_LEN && n <= FIXED_LEN + NAME_MAX);
    let (claims, mac) = bytes.split_at(split.ok_or(SessionError::Malformed)?);
    key.mac(claims).verify_slice(mac).map_err(|_| SessionError::Forged)?;
    let claims = parse(claims).ok_or(SessionError::Malformed)?;
    if now >= claims.expires { Err(SessionError::Expired) } else { Ok(claims) }
}

fn parse(bytes: &[u8]) -> Option<Claims> {
    let (&format, rest) = bytes.split_first()?;
    let (&kind, rest) = rest.split_first()?;
    let (generation, rest) = rest.split_first_chunk()?;
    let (expires, rest) = rest.split_first_chunk()?;
    let (id, name) = rest.split_first_chunk()?;
    if format != FORMAT {
        return None;
    }
    Some(Claims {
        agent: AgentName::parse(std::str::from_utf8(name).ok()?).ok()?,
        generation: u64::from_be_bytes(*generation),
        expires: i64::from_be_bytes(*expires),
        id: u64::from_be_bytes(*id),
        kind: SessionKind::from_byte(kind)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SessionKey {
        SessionKey::new(Zeroizing::new([byte; 32]))
    }

    fn claims(name: &str) -> Claims {
        Claims { agent: AgentName::parse(name).expect("a name"), generation: 7, expires: 1000, id: 0xfeed, kind: SessionKind::Run }
    }

    #[test]
    fn a_token_says_what_it_was_given() {
        for name in ["a", "default", &"n".repeat(64)] {
            let token = mint(&key(1), &claims(name));
            assert!(token.starts_with("khs_"));
            assert!(token.len() <= TOKEN_MAX);
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "fit for a URL's password");
            assert_eq!(verify(&key(1), &token, 999), Ok(claims(name)));
        }
        let env = Claims { kind: SessionKind::Env, ..claims("a") };
        assert_eq!(verify(&key(1), &mint(&key(1), &env), 0), Ok(env));
    }

    #[test]
    fn it_ends_at_its_expiry() {
        let token = mint(&key(1), &claims("a"));
        assert_eq!(verify(&key(1), &token, 1000), Err(SessionError::Expired));
        assert_eq!(verify(&key(1), &token, i64::MAX), Err(SessionError::Expired));
    }

    #[test]
    fn another_key_or_a_changed_byte_is_seen() {
        let token = mint(&key(1), &claims("default"));
        assert_eq!(verify(&key(2), &token, 0), Err(SessionError::Forged));
        for i in TOKEN_PREFIX.len()..token.len() {
            let mut bytes = token.as_bytes().to_vec();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(verify(&key(1), &changed, 0).is_err(), "place {i}");
        }
    }

    #[test]
    fn only_one_spelling_is_taken() {
        let token = mint(&key(1), &claims("default"));
        let long = format!("{}{}", *token, "A".repeat(200));
        for bad in
            ["", "khs_", "kha_AAAA", "khs_!!!!", &token[4..], &token[..token.len() - 1], &format!("{}=", *token), &format!(" {}", *token), &long]
        {
            assert!(verify(&key(1), bad, 0).is_err(), "{bad}");
        }
        assert_eq!(verify(&key(1), &long, 0), Err(SessionError::Malformed));
    }

    #[test]
    fn what_is_signed_must_still_be_sound() {
        let sign = |bytes: &[u8]| {
            let mut all = bytes.to_vec();
            all.extend_from_slice(&key(1).mac(bytes).finalize().into_bytes());
            format!("khs_{}", URL_SAFE_NO_PAD.encode(all))
        };
        let sound = {
            let token = mint(&key(1), &claims("a"));
            let bytes = URL_SAFE_NO_PAD.decode(&token[4..]).expect("base64");
            bytes[..bytes.len() - MAC_LEN].to_vec()
        };
        assert!(verify(&key(1), &sign(&sound), 0).is_ok());
        for (place, value) in [(0, 2), (1, 0), (1, 3), (26, b':'), (26, 0xff)] {
            let mut bytes = sound.clone();
            bytes[place] = value;
            assert_eq!(verify(&key(1), &sign(&bytes), 0), Err(SessionError::Malformed), "{place} {value}");
        }
        assert_eq!(verify(&key(1), &sign(&sound[..FIXED_LEN]), 0), Err(SessionError::Malformed), "no name");
    }
}
