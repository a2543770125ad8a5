//! The keys by which an entry's custom metadata says what it is, and the forms of their values.

/// What a credential's metadata may say.
pub(super) const CREDENTIAL: [&str; 12] =
    ["allowed_domains", "type", "header", "prefix", "paths", "deny_paths", "methods", "agents", "scrub", "allow_plaintext", "field", "enabled"];

/// What an agent's metadata may say.
pub(super) const AGENT: [&str; 1] = ["enabled"];

/// What people write who mean one of these, and which no count of letters would find.
const MEANT: [(&str, &str); 6] = [
    ("allow", "allowed_domains"),
    ("allowpaths", "paths"),
    ("allowedpaths", "paths"),
    ("deny", "deny_paths"),
    ("deniedpaths", "deny_paths"),
    ("disabled", "enabled"),
];

/// The longest value that is read, in bytes: four times what Vault lets custom metadata hold.
pub(super) const LONGEST: usize = 2048;

/// The key that is meant by one that is nearly it. A rule that does not hold because of a slip must not pass in silence.
pub(super) fn meant(key: &str, known: &[&'static str]) -> Option<&'static str> {
    if known.contains(&key) || key.len() > 64 {
        return None;
    }
    let bare = bare(key);
    let other_word = MEANT.iter().find(|(word, meant)| *word == bare && known.contains(meant)).map(|(_, meant)| *meant);
    other_word.or_else(|| {
        known.iter().copied().find(|known| {
            let wanted = self::bare(known);
            // In a long word two slips are as plain as one in a short one: `allow_domains`.
            edits(&bare, &wanted) <= if wanted.len() > 8 { 2 } else { 1 }
        })
    })
}

/// Case and what stands between words do not count: `allowedDomains`, `deny-paths`.
fn bare(key: &str) -> String {
    key.chars().filter(|c| !matches!(c, '_' | '-' | '.' | ' ')).map(|c| c.to_ascii_lowercase()).collect()
}

/// How many letters must be added, taken away, changed, or swapped with their neighbour to make one word of the other.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// A list: parts between commas or white space, or a JSON array of strings. `None` where it is neither.
pub(super) fn list(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    // A bracket alone begins an IPv6 address as well.
    let array = text.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with(['"', ']']));
    if array {
        return serde_json::from_str(text).ok();
    }
    Some(text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty()).map(str::to_owned).collect())
}

/// A yes or no, as `on` and `off`, or as `true` and `false`.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" => Some(true),
        "off" | "false" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_seen_and_other_words_are_not() {
        for (slip, key) in [
            ("allowed_domain", "allowed_domains"),
            ("allowedDomains", "allowed_domains"),
            ("allow_domains", "allowed_domains"),
            ("Allowed-Domains", "allowed_domains"),
            ("allow", "allowed_domains"),
            ("deny_path", "deny_paths"),
            ("denypaths", "deny_paths"),
            ("denied_paths", "deny_paths"),
            ("path", "paths"),
            ("Paths", "paths"),
            ("allowed_paths", "paths"),
            ("method", "methods"),
            ("agent", "agents"),
            ("agnets", "agents"),
            ("headers", "header"),
            ("tpye", "type"),
            ("allow_plain_text", "allow_plaintext"),
            ("enable", "enabled"),
            ("disabled", "enabled"),
            ("fields", "field"),
        ] {
            assert_eq!(meant(slip, &CREDENTIAL), Some(key), "{slip}");
        }
        for other in ["owner", "team", "description", "rotated_by", "api_key", "apiKey", "key", "token", "value", "secret", "password", "url", "user"]
        {
            assert_eq!(meant(other, &CREDENTIAL), None, "{other}");
        }
        assert!(CREDENTIAL.iter().all(|key| meant(key, &CREDENTIAL).is_none()));
        assert_eq!((meant("disabled", &AGENT), meant("agent", &AGENT)), (Some("enabled"), None));
        assert_eq!(meant(&"x".repeat(100_000), &CREDENTIAL), None);
    }

    #[test]
    fn lists_and_flags() {
        let parts = |text: &str| list(text).map(|l| l.join("|"));
        for (text, expected) in [
            ("a.example", Some("a.example")),
            (" a.example, b.example\tc.example,\nd.example ", Some("a.example|b.example|c.example|d.example")),
            (r#"["a.example", "/x/{a,b}"]"#, Some("a.example|/x/{a,b}")),
            ("[::1]:8443 [::2]", Some("[::1]:8443|[::2]")),
            ("[]", Some("")),
            ("", Some("")),
            (r#"["a""#, None),
            (r#"["a", 1]"#, None),
        ] {
            assert_eq!(parts(text).as_deref(), expected, "{text}");
        }
        assert_eq!(["on", " TRUE ", "off", "no", "", "1", "maybe"].map(flag), [Some(true), Some(true), Some(false), Some(false), None, None, None]);
    }
}
