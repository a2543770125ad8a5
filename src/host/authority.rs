//! `host:port`, as a CONNECT target, a `Host` field and an absolute URI name it.

use std::fmt;

use super::{Host, HostError};

/// A host and the port on it: what a decision is taken on, what is dialled and what is sent are all this one value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    /// The host, in normal form.
    pub host: Host,
    /// The TCP port, 1 to 65535.
    pub port: u16,
}

/// Why a string is no authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The host part is bad.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The port is missing where one is needed, is no number, or is out of range.
    #[error("the port is missing or no number from 1 to 65535")]
    Port,
    /// `user@host` is not accepted.
    #[error("user information before the host is not accepted")]
    UserInfo,
}

impl Authority {
    /// A host and a port.
    #[must_use]
    pub fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// Reads `host` or `host:port` (RFC 3986 3.2, without user information). Without a port it is
    /// `default_port`; where that is `None` a port must be there (RFC 9110 9.3.6: a CONNECT target).
    ///
    /// # Errors
    /// [`AuthorityError`] says which part is bad.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, AuthorityError> {
        if text.contains('@') {
            return Err(AuthorityError::UserInfo);
        }
        let (host, port) = split_port(text);
        let port = match (port, default_port) {
            (Some(""), Some(default)) | (None, Some(default)) => default,
            (Some(digits), _) => parse_port(digits).ok_or(AuthorityError::Port)?,
            (None, None) => return Err(AuthorityError::Port),
        };
        Ok(Self { host: Host::parse(host)?, port })
    }

    /// Whether this is what a `Host` field or an `:authority` names, in whatever spelling. What is not ASCII is no authority on the
    /// wire, whatever it could be mapped to.
    #[must_use]
    pub fn is_named_by(&self, text: &[u8], default_port: u16) -> bool {
        let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii());
        text.is_some_and(|text| Self::parse(text, Some(default_port)).is_ok_and(|named| named == *self))
    }

    /// The form for a `Host` field: without the port where it is the scheme's own.
    #[must_use]
    pub fn host_field(&self, default_port: u16) -> String {
        if self.port == default_port { self.host.to_string() } else { self.to_string() }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Splits at the colon that begins the port; a colon inside brackets belongs to the address.
pub(super) fn split_port(text: &str) -> (&str, Option<&str>) {
    let after_bracket = text.rfind(']').map_or(0, |i| i + 1);
    match text[after_bracket..].find(':') {
        Some(i) => (&text[..after_bracket + i], Some(&text[after_bracket + i + 1..])),
        None => (text, None),
    }
}

/// One to five ASCII digits, 1 to 65535; no sign, no space.
pub(super) fn parse_port(digits: &str) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|&p| p != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port() {
        let a = Authority::parse("OpenRouter.AI.:443", None).expect("valid");
        assert_eq!(a.to_string(), "openrouter.ai:443");
        assert_eq!(a.host_field(443), "openrouter.ai");
        assert_eq!(Authority::parse("[::1]:8443", None).expect("valid").to_string(), "[::1]:8443");
        assert_eq!(Authority::parse("h", Some(80)).expect("valid").port, 80);
        assert_eq!(Authority::parse("h:", Some(80)).expect("valid").port, 80);
    }

    #[test]
    fn bad_authorities() {
        for text in ["h", "h:", "h:0", "h:65536", "h:+1", "h: 1", ":443", "u@h:443", "a:b:443", "::1:443", "[::1]x:443", "h:443/"] {
            assert!(Authority::parse(text, None).is_err(), "{text}");
        }
    }
}
