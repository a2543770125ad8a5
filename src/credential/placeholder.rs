//! Placeholders: what an agent holds in a key's stead, since many clients start only if some key is set.

use super::CredentialName;

/// What every placeholder holds; a header value with it never leaves.
pub const MARKER: &str = "keyhatch-placeholder";

/// The placeholder of a credential: the provider's prefix, the marker, the credential's name; the same at every run.
#[must_use]
pub fn placeholder(prefix: &str, name: &CredentialName) -> String {
    format!("{prefix}{MARKER}-{name}")
}

/// Whether a header value holds the marker, in any case.
#[must_use]
pub fn contains_marker(value: &[u8]) -> bool {
    // Values are long and many, and seldom hold a `k`.
    memchr::memchr2_iter(b'k', b'K', value).any(|at| value[at..].get(..MARKER.len()).is_some_and(|w| w.eq_ignore_ascii_case(MARKER.as_bytes())))
}

/// The credential that an agent names outright: `Bearer keyhatch:NAME`, or `keyhatch:NAME` alone.
#[must_use]
pub fn explicit_name(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?.trim();
    text.strip_prefix("keyhatch:").or_else(|| bearer(text)?.strip_prefix("keyhatch:"))
}

/// The credential whose placeholder a value holds.
#[must_use]
pub fn placeholder_name(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let at = memchr::memchr_iter(b'k', text.as_bytes()).find(|&at| text.as_bytes()[at..].starts_with(MARKER.as_bytes()))?;
    text[at + MARKER.len()..].strip_prefix('-')
}

fn bearer(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let name = CredentialName::parse("openrouter").expect("valid");
        assert_eq!(placeholder("sk-or-", &name), "sk-or-keyhatch-placeholder-openrouter");
        assert_eq!(placeholder_name(b"Bearer sk-or-keyhatch-placeholder-openrouter"), Some("openrouter"));
        assert_eq!(explicit_name(b"bearer  keyhatch:a.b"), Some("a.b"));
        assert_eq!(explicit_name(b"keyhatch:x"), Some("x"));
        assert_eq!(placeholder_name(b"Bearer sk-or-v1-test"), None);
        assert_eq!(placeholder_name(b"k keyhatch-placeholde keyhatch-placeholder-a.b "), Some("a.b"));
        assert!(contains_marker(b"kkeyhatch-keyhatch-placeholder") && !contains_marker(b"keyhatch-placeholde"));
        assert!(contains_marker(b"x KEYHATCH-Placeholder y") && !contains_marker(b"keyhatch"));
    }
}
