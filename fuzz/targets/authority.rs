//! Hosts and authorities: one value for each, whatever its spelling.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use keyhatch::host::{Authority, Host};

pub fn run(data: &[u8]) {
    let known = [Authority::parse("openrouter.ai:443", None), Authority::parse("127.0.0.1:8443", None), Authority::parse("[::1]:443", None)];
    let Ok(text) = std::str::from_utf8(data) else {
        assert!(known.iter().flatten().all(|a| !a.is_named_by(data, 443)), "what is no text names no host");
        return;
    };
    host(text);
    for default in [None, Some(80), Some(443)] {
        let Ok(read) = Authority::parse(text, default) else { continue };
        assert!(read.port != 0 && !text.contains('@') && !text.bytes().any(|b| b.is_ascii_control() || b == b' '), "{text:?}");
        assert_eq!(Authority::parse(&read.to_string(), None).as_ref(), Ok(&read));
        assert_eq!(Authority::parse(&read.host_field(443), Some(443)).as_ref(), Ok(&read));
        let default = default.unwrap_or(443);
        assert_eq!(read.is_named_by(data, default), text.is_ascii() && Authority::parse(text, Some(default)).as_ref() == Ok(&read), "{text:?}");
    }
    for one in known.iter().flatten() {
        let named = text.is_ascii() && Authority::parse(text, Some(443)).as_ref() == Ok(one);
        assert_eq!(one.is_named_by(data, 443), named, "{text:?}");
    }
}

fn host(text: &str) {
    let Ok(read) = Host::parse(text) else {
        assert!(text.parse::<Ipv4Addr>().is_err(), "{text:?} is an address");
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        assert!(inner.is_none_or(|inner| inner.parse::<Ipv6Addr>().is_err()), "{text:?} is an address");
        return;
    };
    let shown = read.to_string();
    assert_eq!(Host::parse(&shown).as_ref(), Ok(&read), "{text:?} shows as {shown}");
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    match &read {
        Host::Ip(IpAddr::V6(ip)) => assert_eq!(text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).and_then(|t| t.parse().ok()), Some(*ip)),
        _ => assert!(text.bytes().all(|b| plain(b) || !b.is_ascii()), "{text:?} holds what no host holds"),
    }
    match &read {
        Host::Dns(name) => {
            assert!(!name.is_empty() && name.len() <= 253 && !name.ends_with('.'), "{name}");
            assert!(name.split('.').all(|label| (1..=63).contains(&label.len())), "{name}");
            assert!(name.bytes().all(|b| plain(b) && !b.is_ascii_uppercase()), "{name}");
            assert!(name.parse::<IpAddr>().is_err() && inet_aton(name).is_none(), "{name} is an address too");
        }
        Host::Ip(IpAddr::V4(ip)) if text.is_ascii() => assert_eq!(inet_aton(text.strip_suffix('.').unwrap_or(text)), Some(*ip), "{text:?}"),
        Host::Ip(_) => {}
    }
    if text.is_ascii() {
        assert_eq!(Host::parse(&text.to_ascii_uppercase()).as_ref(), Ok(&read), "{text:?} in capitals");
        if !text.ends_with(['.', ']']) {
            assert_eq!(Host::parse(&format!("{text}.")).as_ref(), Ok(&read), "{text:?} with a dot");
        }
    }
}

/// What the C library would make an IPv4 address of: one to four numbers, decimal, octal or hexadecimal, the last one filling the rest.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| {
        let part = part.to_ascii_lowercase();
        match part.strip_prefix("0x") {
            Some("") => Some(0),
            Some(digits) => u128::from_str_radix(digits, 16).ok(),
            None if part.starts_with('0') && part.len() > 1 => u128::from_str_radix(&part[1..], 8).ok(),
            None => part.parse().ok(),
        }
    };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() > 4 || !parts.iter().all(|p| is_number(p)) {
        return None;
    }
    let numbers = parts.into_iter().map(number).collect::<Option<Vec<u128>>>()?;
    let (last, front) = numbers.split_last()?;
    if front.iter().any(|n| *n > 255) || *last >= 1 << (8 * (4 - front.len())) {
        return None;
    }
    let front = front.iter().enumerate().map(|(i, n)| n << (24 - 8 * i)).sum::<u128>();
    u32::try_from(front + last).ok().map(Ipv4Addr::from)
}
