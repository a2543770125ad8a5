//! Allowed domains, held against the table of section 4 of the contract.

use std::net::IpAddr;

use keyhatch::host::{Authority, Host, HostPattern};

/// The input: a pattern, another one, then hosts, a line each.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let (one, other) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let (Some(one), other) = (read(one), read(other)) else { return };
    let mut authorities = derived(&one);
    authorities.extend(lines.take(8).filter_map(|line| Authority::parse(line, Some(443)).ok()));
    if let Some(other) = &other {
        authorities.extend(derived(other));
    }
    for authority in &authorities {
        let matched = one.matches(authority, &[443]);
        assert_eq!(matched, covers(&one.to_string(), authority), "{one} and {authority}");
        assert_eq!(one.matches_host(&authority.host), covers_host(split(&one.to_string()).0, &authority.host.to_string()), "{one} and {authority}");
        let Some(other) = &other else { continue };
        let other_matched = other.matches(authority, &[443]);
        assert!(!one.within(other) || !matched || other_matched, "{one} is within {other}, and {authority} is not");
        assert!(!matched || !other_matched || (one.overlaps(other) && other.overlaps(&one)), "{one} and {other} both cover {authority}");
    }
}

fn read(text: &str) -> Option<HostPattern> {
    let pattern = match HostPattern::parse(text) {
        Ok(pattern) => pattern,
        Err(e) => {
            assert!((1..=text.chars().count() + 1).contains(&e.at), "{e}");
            return None;
        }
    };
    let shown = pattern.to_string();
    assert_eq!(HostPattern::parse(&shown).as_ref(), Ok(&pattern), "{text:?} shows as {shown}");
    assert!(!pattern.describe().is_empty());
    assert!(pattern.within(&pattern) && pattern.overlaps(&pattern), "{shown}");
    // What covers everything, or all of a public suffix, is said to.
    assert!(shown.split(':').next() != Some("*") || pattern.breadth().is_some(), "{shown}");
    Some(pattern)
}

/// Hosts that the pattern covers, and hosts that look as if it did.
fn derived(pattern: &HostPattern) -> Vec<Authority> {
    let text = pattern.to_string();
    let (host, port) = split(&text);
    let base = host.strip_prefix("*.").unwrap_or(host);
    let filled = |with: &str| base.replacen('*', with, 1);
    let mut hosts = vec![filled(""), filled("abc"), filled("a.b"), filled("0")];
    for name in hosts.clone() {
        hosts.extend([format!("x.{name}"), format!("x.y.{name}"), format!("evil{name}"), format!("{name}.evil.com"), format!("{name}x")]);
        hosts.extend(name.split_once('.').map(|(_, parent)| parent.to_owned()));
    }
    hosts.extend(["127.0.0.1", "[::1]", "com", "openrouter.ai"].map(str::to_owned));
    let ports = [443, 80, 8443, port.and_then(|p| p.parse().ok()).unwrap_or(1)];
    let hosts = hosts.iter().filter_map(|host| Host::parse(host).ok());
    hosts.flat_map(|host| ports.map(|port| Authority::new(host.clone(), port))).collect()
}

/// The port of a pattern begins at the colon after the host or its bracket.
fn split(pattern: &str) -> (&str, Option<&str>) {
    let from = pattern.find(']').unwrap_or(0);
    match pattern[from..].find(':') {
        Some(colon) => (&pattern[..from + colon], Some(&pattern[from + colon + 1..])),
        None => (pattern, None),
    }
}

/// The contract: `host:8443` that port only; without a port, 443 only; `:*` any port.
fn covers(pattern: &str, authority: &Authority) -> bool {
    let (host, port) = split(pattern);
    let port = match port {
        None => authority.port == 443,
        Some("*") => true,
        Some(port) => port == authority.port.to_string(),
    };
    port && covers_host(host, &authority.host.to_string())
}

/// The contract: that host; `*.` itself and every subdomain at any depth; one label that begins and ends so; an IP literal only itself.
fn covers_host(pattern: &str, host: &str) -> bool {
    let is_ip = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    if pattern == "*" {
        return true;
    }
    if let Some(domain) = pattern.strip_prefix("*.") {
        return !is_ip && (host == domain || host.ends_with(&format!(".{domain}")));
    }
    if pattern.contains('*') {
        let (ours, theirs) = (pattern.split('.').collect::<Vec<_>>(), host.split('.').collect::<Vec<_>>());
        let (before, after) = ours[0].split_once('*').expect("the `*` is in the first label");
        let label = theirs[0].strip_prefix(before).is_some_and(|rest| rest.ends_with(after));
        return !is_ip && ours[1..] == theirs[1..] && label;
    }
    pattern == host
}
