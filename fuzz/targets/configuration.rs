//! `keyhatch.toml`: read, or refused in one line that says where.

use std::path::Path;

use keyhatch::config::units::{parse_duration, parse_size};
use keyhatch::config::{parse, proxy_url, transit_key};

/// The input: the file.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(e) = parse(Path::new("keyhatch.toml"), text) {
        let lines = text.bytes().filter(|b| *b == b'\n').count() + 1;
        let line = e.line.expect("a fault in the text has a line");
        assert!((1..=lines).contains(&line), "line {line} of {lines}");
        let said = e.to_string();
        assert!(said.starts_with(&format!("keyhatch.toml:{line}: ")), "{said}");
        assert!(!said.chars().any(char::is_control), "{said:?} is no line");
    }
    let first = text.lines().next().unwrap_or_default();
    if let Some(time) = parse_duration(first) {
        assert!(!first.is_empty() && first.bytes().next().is_some_and(|b| b.is_ascii_digit()), "{first:?} is {time:?}");
    }
    if let Some(size) = parse_size(first) {
        assert!(first.bytes().next().is_some_and(|b| b.is_ascii_digit()), "{first:?} is {size} bytes");
    }
    if let Ok(url) = proxy_url(first) {
        assert_eq!(proxy_url(&url).as_ref(), Ok(&url), "{first:?}");
        assert!(url.starts_with("http") && !url.contains(|c: char| c.is_control() || c == ' ' || c == '\''), "{url:?}");
    }
    if let Ok(key) = transit_key(first) {
        assert_eq!(transit_key(&key).as_ref(), Ok(&key), "{first:?}");
        assert!(!key.split('/').any(|s| s.is_empty() || s == ".." || s == "."), "{key}");
    }
}
