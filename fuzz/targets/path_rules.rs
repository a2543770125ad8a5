//! Path rules: what passes means the same to every origin, however that reads a path.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use http::Method;
use http::uri::PathAndQuery;
use keyhatch::credential::{CredentialId, CredentialName, PathRules, Presentation, Terms};
use keyhatch::host::HostPattern;
use keyhatch::policy::{CredentialEntry, Rule};

use super::input::percent_decoded;

/// What may be used, and what of it may not.
const ALLOWED: &str = "/api/v1";
const DENIED: [&str; 2] = ["/api/v1/keys", "/api/v1/auth/keys"];

static RULE: LazyLock<Rule> = LazyLock::new(|| {
    let below = |path: &str| format!("{path}/**");
    let rules = PathRules { allow: vec![below(ALLOWED)], deny: DENIED.map(below).to_vec(), methods: vec!["GET".to_owned(), "POST".to_owned()] };
    Rule::compile(&CredentialEntry {
        id: CredentialId([1; 16]),
        name: CredentialName::parse("openrouter").expect("a name"),
        version: 1,
        terms: Terms {
            presentation: Presentation::Bearer,
            allowed_domains: vec![HostPattern::parse("openrouter.ai").expect("a pattern")],
            rules,
            auth_headers: Vec::new(),
            auth_query: Vec::new(),
            provider: None,
            scrub: true,
            allow_plaintext: false,
            enabled: true,
        },
        broken: None,
    })
});

/// The input: a path, as it stands in a request.
pub fn run(data: &[u8]) {
    let Some(path) = std::str::from_utf8(data).ok().filter(|path| path.starts_with('/')) else { return };
    // A request holds no other.
    let Some(path) = PathAndQuery::try_from(path).ok().map(|p| p.path().to_owned()) else { return };
    let path = path.as_str();
    let passed = RULE.judge(&Method::GET, path).is_ok();
    assert!(RULE.judge(&Method::DELETE, path).is_err(), "a method that is not allowed");
    let plain = path.starts_with('/')
        && path.split('/').skip(1).all(|s| !s.is_empty())
        && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_/".contains(&b));
    if plain {
        let wanted = is_under(path, ALLOWED) && !DENIED.iter().any(|d| is_under(&path.to_ascii_lowercase(), d));
        assert_eq!(passed, wanted, "{path}");
    }
    if !passed {
        return;
    }
    for reading in readings(path.as_bytes()) {
        let shown = || format!("{path:?} passed and may be read as {:?}", String::from_utf8_lossy(&reading));
        let lower = reading.to_ascii_lowercase();
        assert!(is_under_bytes(&reading, ALLOWED.as_bytes()), "{}", shown());
        assert!(!DENIED.iter().any(|d| is_under_bytes(&lower, d.as_bytes())), "{}", shown());
    }
}

/// A path or one below it.
fn is_under(path: &str, top: &str) -> bool {
    is_under_bytes(path.as_bytes(), top.as_bytes())
}

fn is_under_bytes(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// One thing that an origin may do to a path.
type Step = fn(&[u8]) -> Vec<u8>;

/// All that origins make of a path, in any order, up to three steps.
fn readings(path: &[u8]) -> BTreeSet<Vec<u8>> {
    let steps: [Step; 6] = [percent_decoded, one_slash, without_dots, without_parameters, forward, until_nul];
    let mut all = BTreeSet::from([path.to_vec()]);
    let mut last: Vec<Vec<u8>> = vec![path.to_vec()];
    for _ in 0..3 {
        let next: Vec<Vec<u8>> = last.iter().flat_map(|p| steps.map(|step| step(p))).filter(|p| all.insert(p.clone())).collect();
        last = next;
    }
    all
}

fn one_slash(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.dedup_by(|a, b| *a == b'/' && *b == b'/');
    out
}

/// RFC 3986 5.2.4.
fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<&[u8]> = Vec::new();
    for segment in path.split(|b| *b == b'/') {
        match segment {
            b"." => {}
            b".." => {
                out.pop();
            }
            segment => out.push(segment),
        }
    }
    out.join(&b'/')
}

/// `;jsessionid=...`, cut from each segment.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    path.split(|b| *b == b'/').map(|s| s.split(|b| *b == b';').next().unwrap_or_default()).collect::<Vec<_>>().join(&b'/')
}

fn forward(path: &[u8]) -> Vec<u8> {
    path.iter().map(|b| if *b == b'\\' { b'/' } else { *b }).collect()
}

/// What is written in C.
fn until_nul(path: &[u8]) -> Vec<u8> {
    path.split(|b| *b == 0).next().unwrap_or_default().to_vec()
}
