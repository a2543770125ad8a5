//! Allowed domains: which hosts a credential may go to.
//!
//! Labels are compared, never strings: `*.openrouter.ai` is `openrouter.ai` and what ends in
//! `.openrouter.ai`, so `evilopenrouter.ai` and `openrouter.ai.evil.com` cannot match by accident.

use std::fmt;

use super::authority::{parse_port, split_port};
use super::{Authority, Host, HostError};

/// One pattern of a credential's allowed domains, or of `[egress]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    kind: Kind,
    port: PatternPort,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    /// That host only.
    Exact(Host),
    /// The domain itself and every subdomain at any depth.
    Subdomains(Box<str>),
    /// One label that begins and ends so, then exactly this parent domain.
    Label { before: Box<str>, after: Box<str>, parent: Box<str> },
    /// Every host.
    Any,
}

/// The port that a pattern allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PatternPort {
    /// The pattern names none: 443 for a credential, the ports of `[egress]` for an egress list.
    Default,
    /// That port only.
    Exact(u16),
    /// `:*`: any port.
    Any,
}

/// How narrow a pattern is; a greater value is narrower and wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Specificity {
    kind: u8,
    labels: usize,
}

/// What makes a pattern too broad to be accepted without `--allow-broad`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WildcardBreadth {
    /// `*`.
    EveryHost,
    /// `*.com`, `*.co.uk`: everything below a public suffix.
    PublicSuffix,
}

/// Why a string is no pattern, with the place of the fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern `{}`, at character {at}: {why}", pattern.escape_debug())]
pub struct PatternError {
    /// The pattern as given.
    pub pattern: String,
    /// The character where it goes wrong, counted from 1.
    pub at: usize,
    /// What is wrong there.
    pub why: String,
}

impl HostPattern {
    /// Reads a pattern: `host`, `*.domain`, `pre*post.domain`, `*`, each with `:port` or `:*`.
    ///
    /// # Errors
    /// [`PatternError`] with the place of the fault.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        // `at` is a byte; a person counts characters.
        let character = |at: usize| text.char_indices().take_while(|(i, _)| *i < at).count() + 1;
        let fail = |at: usize, why: &str| PatternError { pattern: text.to_owned(), at: character(at), why: why.to_owned() };
        if let Some(at) = text.find("://") {
            return Err(fail(at, "a pattern is a host, not a URL; leave the scheme out"));
        }
        if let Some(at) = text.find(['/', '?', '#', '@', ' ']) {
            return Err(fail(at, "a pattern is a host and perhaps a port, nothing else"));
        }
        if text.parse::<std::net::Ipv6Addr>().is_ok() {
            return Err(fail(0, "an IPv6 address stands in brackets, as in `[::1]`"));
        }
        let (host, port) = split_port(text);
        let port = match port {
            None => PatternPort::Default,
            Some("*") => PatternPort::Any,
            Some(digits) => {
                PatternPort::Exact(parse_port(digits).ok_or_else(|| fail(host.len() + 1, "the port is a number from 1 to 65535, or `*`"))?)
            }
        };
        Ok(Self { kind: parse_kind(host).map_err(|(at, why)| fail(at, &why))?, port })
    }

    /// Whether the host and port are covered. A pattern without a port covers `default_ports` only.
    #[must_use]
    pub fn matches(&self, authority: &Authority, default_ports: &[u16]) -> bool {
        let port = match self.port {
            PatternPort::Default => default_ports.contains(&authority.port),
            PatternPort::Exact(p) => p == authority.port,
            PatternPort::Any => true,
        };
        port && self.matches_host(&authority.host)
    }

    /// Whether the host is covered, whatever the port.
    #[must_use]
    pub fn matches_host(&self, host: &Host) -> bool {
        match (&self.kind, host) {
            (Kind::Any, _) => true,
            (Kind::Exact(own), _) => own == host,
            (_, Host::Ip(_)) => false,
            (Kind::Subdomains(domain), Host::Dns(name)) => is_or_below(name, domain),
            (Kind::Label { before, after, parent }, Host::Dns(name)) => name.split_once('.').is_some_and(|(label, rest)| {
                rest == &**parent && label.len() >= before.len() + after.len() && label.starts_with(&**before) && label.ends_with(&**after)
            }),
        }
    }

    /// Whether every host and port that this pattern covers is covered by `cap` as well.
    #[must_use]
    pub fn within(&self, cap: &Self) -> bool {
        let port = cap.port == PatternPort::Any || cap.port == self.port || https(cap.port) && https(self.port);
        let host = match (&self.kind, &cap.kind) {
            (_, Kind::Any) => true,
            (Kind::Any, _) => false,
            (Kind::Exact(host), _) => cap.matches_host(host),
            (Kind::Subdomains(domain), Kind::Subdomains(above)) => is_or_below(domain, above),
            (Kind::Label { parent, .. }, Kind::Subdomains(above)) => is_or_below(parent, above),
            (Kind::Label { .. }, Kind::Label { .. }) => self.kind == cap.kind,
            (Kind::Subdomains(_) | Kind::Label { .. }, _) => false,
        };
        port && host
    }

    /// Whether there is a host and port that both patterns cover, where a pattern without a port means 443.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let any = |p: &Self| p.port == PatternPort::Any;
        let port = any(self) || any(other) || self.port == other.port || https(self.port) && https(other.port);
        let one_way = |a: &Self, b: &Self| match (&a.kind, &b.kind) {
            (Kind::Any, _) => true,
            (Kind::Exact(host), _) => b.matches_host(host),
            (Kind::Subdomains(domain), Kind::Subdomains(above)) => is_or_below(domain, above),
            // What the glob covers lies below the domain, or is the domain.
            (Kind::Label { parent, .. }, Kind::Subdomains(domain)) => is_or_below(parent, domain) || a.matches_host(&Host::Dns(domain.clone())),
            (Kind::Label { before, after, parent }, Kind::Label { before: b, after: a, parent: same }) => {
                let meet = |(x, y): (&str, &str), fits: fn(&str, &str) -> bool| fits(x, y) || fits(y, x);
                parent == same && meet((before, b), |x, y| x.starts_with(y)) && meet((after, a), |x, y| x.ends_with(y))
            }
            (Kind::Subdomains(_) | Kind::Label { .. }, _) => false,
        };
        port && (one_way(self, other) || one_way(other, self))
    }

    /// How narrow the pattern is: exact before label glob before `*.`, more labels before fewer.
    #[must_use]
    pub fn specificity(&self) -> Specificity {
        let (kind, labels) = match &self.kind {
            Kind::Exact(Host::Ip(_)) => (3, 1),
            Kind::Exact(Host::Dns(name)) => (3, label_count(name)),
            Kind::Label { parent, .. } => (2, label_count(parent) + 1),
            Kind::Subdomains(domain) => (1, label_count(domain)),
            Kind::Any => (0, 0),
        };
        Specificity { kind, labels }
    }

    /// Whether and why the pattern covers more than any one owner's hosts (Mozilla's public suffix list).
    #[must_use]
    pub fn breadth(&self) -> Option<WildcardBreadth> {
        let covered = match &self.kind {
            Kind::Any => return Some(WildcardBreadth::EveryHost),
            Kind::Exact(_) => return None,
            Kind::Subdomains(domain) => domain,
            Kind::Label { parent, .. } => parent,
        };
        let suffix = psl::suffix_str(covered);
        (suffix == Some(covered)).then_some(WildcardBreadth::PublicSuffix)
    }

    /// The key under which an index finds this pattern: see [`IndexKey`].
    #[must_use]
    pub fn index_key(&self) -> IndexKey<'_> {
        match &self.kind {
            Kind::Exact(host) => IndexKey::Host(host),
            Kind::Subdomains(domain) => IndexKey::Below(domain),
            Kind::Label { parent, .. } => IndexKey::LabelUnder(parent),
            Kind::Any => IndexKey::Everything,
        }
    }

    /// The port part.
    #[must_use]
    pub fn port(&self) -> PatternPort {
        self.port
    }

    /// The host of an exact pattern.
    #[must_use]
    pub fn exact_host(&self) -> Option<&Host> {
        match &self.kind {
            Kind::Exact(host) => Some(host),
            _ => None,
        }
    }

    /// What the pattern covers, in a person's words, for `credential add`.
    #[must_use]
    pub fn describe(&self) -> String {
        let hosts = match &self.kind {
            Kind::Exact(host) => format!("{host} only"),
            Kind::Subdomains(domain) => format!("{domain} and every subdomain of it"),
            Kind::Label { before, after, parent } => format!("one label `{before}…{after}` directly below {parent}"),
            Kind::Any => "every host".to_owned(),
        };
        match self.port {
            PatternPort::Default => format!("{hosts}, port 443"),
            PatternPort::Exact(p) => format!("{hosts}, port {p}"),
            PatternPort::Any => format!("{hosts}, any port"),
        }
    }
}

/// What an index files a pattern under, so that a host is found by its own name and its parents'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IndexKey<'a> {
    /// An exact host.
    Host(&'a Host),
    /// A domain whose own name and whole subtree are covered.
    Below(&'a str),
    /// The parent of a label glob.
    LabelUnder(&'a str),
    /// Every host.
    Everything,
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Exact(host) => host.fmt(f)?,
            Kind::Subdomains(domain) => write!(f, "*.{domain}")?,
            Kind::Label { before, after, parent } => write!(f, "{before}*{after}.{parent}")?,
            Kind::Any => f.write_str("*")?,
        }
        match self.port {
            PatternPort::Default => Ok(()),
            PatternPort::Exact(p) => write!(f, ":{p}"),
            PatternPort::Any => f.write_str(":*"),
        }
    }
}

/// A pattern without a port means 443 where a credential has it.
fn https(port: PatternPort) -> bool {
    matches!(port, PatternPort::Default | PatternPort::Exact(443))
}

fn is_or_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

fn label_count(name: &str) -> usize {
    name.split('.').count()
}

/// Where a host goes wrong: the byte at which the label or the character at fault begins, else the host's first.
fn fault_in(host: &str, e: &HostError) -> usize {
    let good = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let starts = std::iter::once(0).chain(host.match_indices('.').map(|(i, _)| i + 1));
    let at = match e {
        HostError::Character => host.find(|c| !good(c)),
        HostError::Length => starts.zip(host.split('.')).find(|(_, label)| label.is_empty() || label.len() > 63).map(|(i, _)| i),
        HostError::Ipv4 => starts.last(),
        HostError::Empty | HostError::Ipv6 | HostError::Idna => None,
    };
    at.unwrap_or(0)
}

fn parse_kind(host: &str) -> Result<Kind, (usize, String)> {
    let Some(star) = host.find('*') else {
        return Host::parse(host).map(Kind::Exact).map_err(|e| (fault_in(host, &e), e.to_string()));
    };
    if let Some(second) = host[star + 1..].find('*') {
        return Err((star + 1 + second, "one `*` is allowed".to_owned()));
    }
    if host == "*" {
        return Ok(Kind::Any);
    }
    let Some(dot) = host.find('.') else {
        return Err((host.len(), "a domain must follow the label with the `*`".to_owned()));
    };
    if star > dot {
        return Err((star, "`*` is allowed in the first label only".to_owned()));
    }
    let parent = match Host::parse(&host[dot + 1..]) {
        Ok(Host::Dns(name)) => name,
        Ok(Host::Ip(_)) => return Err((dot + 1, "an IP address has no subdomains".to_owned())),
        Err(e) => return Err((dot + 1 + fault_in(&host[dot + 1..], &e), e.to_string())),
    };
    let (before, after) = (host[..star].to_ascii_lowercase(), host[star + 1..dot].to_ascii_lowercase());
    if before.is_empty() && after.is_empty() {
        return Ok(Kind::Subdomains(parent));
    }
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !plain(&before) || !plain(&after) {
        return Err((0, "a label with `*` holds letters, digits, `-` and `_` only".to_owned()));
    }
    if before.starts_with("xn--") {
        return Err((0, "a label with `*` cannot be an A-label".to_owned()));
    }
    Ok(Kind::Label { before: before.into(), after: after.into(), parent })
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
