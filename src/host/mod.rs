//! Host names and addresses, normalised once at the edge.
//!
//! Everything inside compares [`Host`] values, never strings: a host is lower-case, without its
//! trailing dot, in IDNA A-label form, and an IP literal is the address it means, however it was spelled.

mod address;
mod authority;
mod pattern;

pub use address::{Embedded, Refusal, ends, refusal, refusals};
pub use authority::{Authority, AuthorityError};
pub use pattern::{HostPattern, IndexKey, PatternError, PatternPort, Specificity, WildcardBreadth};

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host as it appears in a URI or a CONNECT target: a DNS name or an IP address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name in normal form: A-labels, lower case, no trailing dot, 1 to 253 octets.
    Dns(Box<str>),
    /// An address, from a literal in any spelling.
    Ip(IpAddr),
}

/// Why a string is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing was there.
    #[error("the host is empty")]
    Empty,
    /// A label is empty, over 63 octets, or the name is over 253 octets.
    #[error("the host has an empty label or is too long")]
    Length,
    /// An octet that no host name holds.
    #[error("the host holds a character that no host name may hold")]
    Character,
    /// The last label is a number, but the whole is no IPv4 address.
    #[error("the host ends in a number but is no IPv4 address")]
    Ipv4,
    /// Brackets round something that is no IPv6 address, or a zone identifier.
    #[error("the host is no IPv6 address")]
    Ipv6,
    /// IDNA processing (UTS 46) refused the name.
    #[error("the host is no valid internationalised name")]
    Idna,
}

impl Host {
    /// Reads a host as it stands in an authority: a name, an IPv4 address in any spelling that
    /// the WHATWG URL standard reads (`127.1`, `0x7f.1`, `2130706433`), or a bracketed IPv6 address.
    ///
    /// # Errors
    /// [`HostError`] says which rule the string breaks.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Ipv6)?;
            return inner.parse::<Ipv6Addr>().map(|a| Self::Ip(IpAddr::V6(a))).map_err(|_| HostError::Ipv6);
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        let name = normalise(name)?;
        if ends_in_number(&name) {
            return parse_ipv4(&name).map(|a| Self::Ip(IpAddr::V4(a))).ok_or(HostError::Ipv4);
        }
        Ok(Self::Dns(name))
    }

    /// The DNS name, if this is one.
    #[must_use]
    pub fn dns(&self) -> Option<&str> {
        match self {
            Self::Dns(name) => Some(name),
            Self::Ip(_) => None,
        }
    }

    /// The address, if this is a literal.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Dns(_) => None,
            Self::Ip(ip) => Some(*ip),
        }
    }
}

impl fmt::Display for Host {
    /// The form that goes into a URI: an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// Lower case and A-labels. A name of plain ASCII without `xn--` needs no tables.
fn normalise(name: &str) -> Result<Box<str>, HostError> {
    let plain = name.is_ascii() && !contains_ace(name);
    let out: Box<str> = if plain {
        name.to_ascii_lowercase().into()
    } else {
        use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
        let ascii = Uts46::new().to_ascii(name.as_bytes(), AsciiDenyList::URL, Hyphens::Allow, DnsLength::Ignore).map_err(|_| HostError::Idna)?;
        // A full-width full stop at the end becomes an ordinary one only here.
        ascii.strip_suffix('.').unwrap_or(&ascii).into()
    };
    check_labels(&out)?;
    Ok(out)
}

fn contains_ace(name: &str) -> bool {
    name.split('.').any(|label| label.get(..4).is_some_and(|p| p.eq_ignore_ascii_case("xn--")))
}

/// Letters, digits, `-` and `_` only: what a resolver may be asked for (RFC 1123, and `_` as seen in the wild).
fn check_labels(name: &str) -> Result<(), HostError> {
    if name.len() > 253 {
        return Err(HostError::Length);
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err(HostError::Length);
        }
        if !label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_') {
            return Err(HostError::Character);
        }
    }
    Ok(())
}

/// The WHATWG "ends in a number" check: such a name is an address or nothing.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.bytes().all(|b| b.is_ascii_digit()) || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The WHATWG IPv4 parser: one to four parts, each decimal, octal (`0`) or hexadecimal (`0x`),
/// the last one filling what is left.
fn parse_ipv4(name: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = name.split('.').collect();
    if parts.len() > 4 {
        return None;
    }
    let numbers: Vec<u64> = parts.iter().map(|p| ipv4_number(p)).collect::<Option<_>>()?;
    let (last, front) = numbers.split_last()?;
    if front.iter().any(|&n| n > 255) || *last >= 256_u64.pow(5 - u32::try_from(numbers.len()).ok()?) {
        return None;
    }
    let mut value = *last;
    for (i, n) in front.iter().enumerate() {
        value += n << (8 * (3 - i));
    }
    u32::try_from(value).ok().map(Ipv4Addr::from)
}

fn ipv4_number(part: &str) -> Option<u64> {
    if let Some(hex) = part.strip_prefix("0x") {
        return if hex.is_empty() { Some(0) } else { u64::from_str_radix(hex, 16).ok() };
    }
    if part.len() > 1 && part.starts_with('0') {
        return u64::from_str_radix(&part[1..], 8).ok();
    }
    part.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &str) -> String {
        Host::parse(text).expect(text).to_string()
    }

    #[test]
    fn a_name_is_normalised() {
        assert_eq!(ok("OpenRouter.AI"), "openrouter.ai");
        assert_eq!(ok("openrouter.ai."), "openrouter.ai");
        assert_eq!(ok("bücher.example"), "xn--bcher-kva.example");
        assert_eq!(ok("BÜCHER.example."), "xn--bcher-kva.example");
        assert_eq!(ok("XN--bcher-kva.example"), "xn--bcher-kva.example");
        assert_eq!(ok("a。b"), "a.b");
        assert_eq!(ok("a_b.example"), "a_b.example");
    }

    #[test]
    fn an_address_is_itself_in_any_spelling() {
        for text in ["127.0.0.1", "127.1", "0x7f.1", "0X7F.0.0.1", "2130706433", "0177.0.0.1", "127.0.0.1.", "0x7f000001"] {
            assert_eq!(ok(text), "127.0.0.1", "{text}");
        }
        assert_eq!(ok("[::1]"), "[::1]");
        assert_eq!(ok("[0:0::0001]"), "[::1]");
        assert_eq!(ok("１２７.0.0.1"), "127.0.0.1");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            "a b",
            "a/b",
            "a%2eb",
            "a@b",
            "::1",
            "[::1",
            "[fe80::1%25eth0]",
            "1.2.3.4.5",
            "256.1.1.1",
            "a.1",
            "*",
            "a\u{0}b",
            "xn--a.example.\u{ff}!",
        ] {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
        assert!(Host::parse(&"a".repeat(64)).is_err());
        assert!(Host::parse(&vec!["a"; 128].join(".")).is_err());
    }
}
