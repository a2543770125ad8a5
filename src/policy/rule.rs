//! A credential's terms, compiled: what of a request to an allowed domain may carry it.
//!
//! A path is judged in exactly the bytes that are sent. Where an origin might read those bytes as
//! another path (an escaped letter, a dot segment, a doubled slash), the request is refused instead of guessed at.
//! `--deny-path` is asked a second time, about what such a path comes to where escapes, case and width do not count.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use http::Method;

use super::roster::CredentialEntry;
use crate::credential::{CredentialId, CredentialName, DEFAULT_AUTH_HEADERS, PathRules, Presentation};

/// A credential as the data path needs it. Holds no secret.
pub struct Rule {
    /// Its identity.
    pub id: CredentialId,
    /// The version of its secret and terms.
    pub version: u64,
    /// Its name.
    pub name: CredentialName,
    /// How it is presented.
    pub presentation: Presentation,
    /// The provider file that it came from, if any.
    pub provider: Option<String>,
    /// Header fields of the agent's that are dropped, lower case; never empty.
    pub auth_headers: Vec<String>,
    /// Query parameters of the agent's that are dropped.
    pub auth_query: Vec<String>,
    /// Whether responses are scrubbed.
    pub scrub: bool,
    /// Whether it may go over plain HTTP where a pattern names the port.
    pub allow_plaintext: bool,
    /// Why it cannot be had, if so: disabled, or its row does not open.
    pub unavailable: Option<&'static str>,
    paths: PathMatcher,
    methods: Vec<Method>,
}

/// Why a rule refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleRefusal {
    /// The path: which rule, in a few words.
    Path(&'static str),
    /// The method is not among those allowed.
    Method,
}

impl Rule {
    /// Compiles a credential. A glob that does not compile makes the credential unavailable, never wider.
    #[must_use]
    pub fn compile(entry: &CredentialEntry) -> Self {
        let terms = &entry.terms;
        let paths = PathMatcher::compile(&terms.rules);
        let methods: Option<Vec<Method>> = terms.rules.methods.iter().map(|m| m.parse().ok()).collect();
        let unavailable = if entry.broken.is_some() {
            Some("does_not_open")
        } else if !terms.enabled {
            Some("disabled")
        } else if paths.is_err() || methods.is_none() {
            Some("bad_rule")
        } else {
            None
        };
        let mut auth_headers: Vec<String> = if terms.auth_headers.is_empty() {
            DEFAULT_AUTH_HEADERS.iter().map(|h| (*h).to_owned()).collect()
        } else {
            terms.auth_headers.iter().map(|h| h.to_ascii_lowercase()).collect()
        };
        let own = terms.presentation.field().as_str();
        if !auth_headers.iter().any(|h| h == own) {
            auth_headers.push(own.to_owned());
        }
        Self {
            id: entry.id,
            version: entry.version,
            name: entry.name.clone(),
            presentation: terms.presentation.clone(),
            provider: terms.provider.clone(),
            auth_headers,
            auth_query: terms.auth_query.clone(),
            scrub: terms.scrub,
            allow_plaintext: terms.allow_plaintext,
            unavailable,
            paths: paths.unwrap_or_default(),
            methods: methods.unwrap_or_default(),
        }
    }

    /// Whether the credential has rules about paths or methods.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        self.paths.any || !self.methods.is_empty()
    }

    /// Judges a request by its method and by its path as sent (without the query).
    ///
    /// # Errors
    /// [`RuleRefusal`] where a rule does not let it pass.
    pub fn judge(&self, method: &Method, path: &str) -> Result<(), RuleRefusal> {
        if !self.methods.is_empty() && !self.methods.contains(method) {
            return Err(RuleRefusal::Method);
        }
        self.paths.judge(path).map_err(RuleRefusal::Path)
    }
}

#[derive(Default)]
struct PathMatcher {
    any: bool,
    restricts: bool,
    allow: GlobSet,
    deny: GlobSet,
    /// The same globs in their plainest form, for paths in theirs.
    deny_plain: GlobSet,
}

/// Why a path glob is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path pattern `{}`: {why}", glob.escape_debug())]
pub struct GlobError {
    /// The glob as given.
    pub glob: String,
    /// What is wrong.
    pub why: String,
}

/// Checks a path glob as `--path` and `--deny-path` take it.
///
/// # Errors
/// [`GlobError`] where it does not begin with `/` or is no glob.
pub fn check_glob(glob: &str) -> Result<(), GlobError> {
    let mut set = GlobSetBuilder::new();
    add_glob(&mut set, glob, false)?;
    add_glob(&mut set, &plain_glob(glob), true).map_err(|e| GlobError { glob: glob.to_owned(), ..e })
}

impl PathMatcher {
    fn compile(rules: &PathRules) -> Result<Self, GlobError> {
        let build = |globs: &[String], fold: bool| -> Result<GlobSet, GlobError> {
            let mut set = GlobSetBuilder::new();
            globs.iter().try_for_each(|g| add_glob(&mut set, g, fold))?;
            set.build().map_err(|e| GlobError { glob: globs.join(" "), why: e.to_string() })
        };
        let plain: Vec<String> = rules.deny.iter().map(|glob| plain_glob(glob)).collect();
        Ok(Self {
            any: !rules.is_empty(),
            restricts: !rules.allow.is_empty(),
            allow: build(&rules.allow, false)?,
            deny: build(&rules.deny, true)?,
            deny_plain: build(&plain, true)?,
        })
    }

    fn judge(&self, path: &str) -> Result<(), &'static str> {
        if !self.any {
            return Ok(());
        }
        if let Some(why) = ambiguous(path) {
            return Err(why);
        }
        let without_slash = path.strip_suffix('/').filter(|p| !p.is_empty());
        let closed = self.deny.is_match(path) || without_slash.is_some_and(|p| self.deny.is_match(p));
        if closed || (!self.deny.is_empty() && self.deny_plain.is_match(plain_path(path))) {
            return Err("the path matches a --deny-path rule");
        }
        if self.restricts && !self.allow.is_match(path) {
            return Err("the path matches no --path rule");
        }
        Ok(())
    }
}

fn add_glob(set: &mut GlobSetBuilder, glob: &str, fold: bool) -> Result<(), GlobError> {
    let fail = |why: String| GlobError { glob: glob.to_owned(), why };
    if !glob.starts_with('/') {
        return Err(fail("a path begins with `/`".to_owned()));
    }
    if let Some(at) = glob.find(['?', '#']) {
        return Err(fail(format!("`{}` is not part of a path", &glob[at..=at])));
    }
    let mut add = |text: &str| {
        let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(false).case_insensitive(fold).build();
        glob.map(|g| {
            set.add(g);
        })
        .map_err(|e| fail(e.kind().to_string()))
    };
    add(glob)?;
    // globset's `P/**` does not cover P itself.
    match glob.strip_suffix("/**") {
        Some(parent) if !parent.is_empty() => add(parent),
        _ => Ok(()),
    }
}

/// What in a path an origin may read in another way than these rules do (RFC 3986 6.2.2).
fn ambiguous(path: &str) -> Option<&'static str> {
    if path.contains(';') || path.contains('\\') {
        return Some("the path holds `;` or a backslash");
    }
    if path.contains("//") {
        return Some("the path has an empty segment");
    }
    if path.split('/').any(|s| !s.is_empty() && s.bytes().all(|b| b == b'.')) {
        return Some("the path has a dot segment");
    }
    let mut rest = path.as_bytes();
    while let Some(at) = memchr::memchr(b'%', rest) {
        let Some(byte) = rest.get(at + 1..at + 3).and_then(unhex) else {
            return Some("the path has a malformed percent escape");
        };
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            return Some("the path escapes a character that needs no escape");
        }
        if matches!(byte, b'/' | b'\\' | b'%' | b';' | b'?' | b'#') || byte.is_ascii_control() {
            return Some("the path escapes a separator, a percent sign or a control character");
        }
        rest = &rest[at + 3..];
    }
    // An overlong form of `/` is one (RFC 3629 10).
    if std::str::from_utf8(&unescaped(path)).is_err() {
        return Some("the path escapes bytes that are not UTF-8");
    }
    None
}

fn unhex(pair: &[u8]) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()
}

/// A path's bytes with each escape taken for what it means; a malformed one stays.
fn unescaped(path: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let meant = if byte == b'%' { after.get(..2).and_then(unhex) } else { None };
        out.push(meant.unwrap_or(byte));
        rest = if meant.is_some() { &after[2..] } else { after };
    }
    out
}

/// The path that an origin serves which unescapes, does not look at case and width, and passes over what Windows passes over: dots and
/// spaces that end a segment.
fn plain_path(path: &str) -> String {
    let text = String::from_utf8_lossy(&unescaped(path)).chars().flat_map(plain).collect::<String>();
    let segments: Vec<&str> = text.split('/').map(|segment| segment.trim_end_matches(['.', ' '])).collect();
    let joined = segments.join("/");
    joined.strip_suffix('/').filter(|p| !p.is_empty()).map_or(joined.clone(), str::to_owned)
}

/// A glob of `--deny-path` for such paths. What its escapes mean stands for itself.
fn plain_glob(glob: &str) -> String {
    let mut text = Vec::with_capacity(glob.len());
    let mut rest = glob.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let meant = if byte == b'%' { after.get(..2).and_then(unhex) } else { None };
        match meant {
            Some(special @ (b'*' | b'?' | b'[' | b']' | b'{' | b'}')) => text.extend([b'[', special, b']']),
            Some(meant) => text.push(meant),
            None => text.push(byte),
        }
        rest = if meant.is_some() { &after[2..] } else { after };
    }
    let text = String::from_utf8_lossy(&text).chars().flat_map(plain).collect::<String>();
    text.strip_suffix('/').filter(|p| !p.is_empty()).map_or(text.clone(), str::to_owned)
}

/// A character without case and width: full-width ones are meant as ASCII by programs that look at neither (Unicode NFKC).
fn plain(c: char) -> impl Iterator<Item = char> {
    let narrow = match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{3000}' => ' ',
        // In upper case it is S, which has another letter as its lower case.
        '\u{17f}' => 's',
        c => c,
    };
    narrow.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(allow: &[&str], deny: &[&str], path: &str) -> bool {
        let own = |globs: &[&str]| globs.iter().map(|g| (*g).to_owned()).collect();
        PathMatcher::compile(&PathRules { allow: own(allow), deny: own(deny), methods: Vec::new() }).expect("globs").judge(path).is_ok()
    }

    #[test]
    fn openrouters_rules() {
        let (allow, deny) = (&["/api/v1/**"][..], &["/api/v1/keys/**", "/api/v1/auth/keys/**"][..]);
        for path in ["/api/v1", "/api/v1/chat/completions", "/api/v1/auth/key", "/api/v1/key", "/api/v1/a%20b", "/api/v1/models/"] {
            assert!(judge(allow, deny, path), "{path}");
        }
        for path in [
            "/",
            "/api",
            "/api/v2/x",
            "/api/v1/keys",
            "/api/v1/keys/",
            "/api/v1/keys/x/y",
            "/api/v1/KEYS",
            "/API/v1/chat",
            "/api/v1/auth/keys",
            "/api/v1/%6beys",
            "/api/v1//keys",
            "/api/v1/./keys",
            "/api/v1/x/../keys",
            "/api/v1/%2e%2e/v1/keys",
            "/api/v1/x%2fkeys",
            "/api/v1/x%5Ckeys",
            "/api/v1/%256beys",
            "/api/v1/keys;x",
            "/api/v1\\keys",
            "/api/v1/%zz",
            "/api/v1/%0a",
            "/api/v1/%c0%af",
            "/api/v1/a%3fb",
            "/api/v1/a%23b",
            "/api/v1/.../x",
            "/api/v1/keys.",
            "/api/v1/keys%20/x",
            "/api/v1/ke\u{ff59}s",
            "/api/v1/%EF%BD%8Beys",
            "/api/v1/%E2%84%AAeys",
            "/api/v1/key\u{17f}",
            "*",
            "//api/v1/x",
        ] {
            assert!(!judge(allow, deny, path), "{path}");
        }
    }

    #[test]
    fn a_closed_path_is_closed_however_its_letters_are_escaped() {
        let deny = &["/caf\u{e9}/**", "/na%C3%AFve", "/a b/**", "/users/@me/**", "/models/*:delete", "/x%2Ay/", "/%5b1]"][..];
        for path in [
            "/caf%C3%A9",
            "/caf%c3%a9/x",
            "/caf\u{e9}/x",
            "/CAF%C3%89",
            "/na\u{ef}ve",
            "/NA%C3%8FVE/",
            "/a%20b/c",
            "/users/%40me",
            "/USERS/@ME/x",
            "/models/m%3Adelete",
            "/models/m:DELETE",
            "/x*y",
            "/x%2ay/",
            "/[1]",
        ] {
            assert!(!judge(&[], deny, path), "{path}");
        }
        for path in ["/cafe", "/na%C3%AFv", "/a%20bc", "/users/@you", "/models/m", "/xzy", "/stra%C3%9Fe", "/a.b/c..d", "/%E6%97%A5%E6%9C%AC"] {
            assert!(judge(&[], deny, path), "{path}");
        }
    }

    #[test]
    fn a_bad_glob_is_told_in_one_line() {
        let said = check_glob("/a\n{b").expect_err("bad").to_string();
        assert!(said.starts_with("path pattern `/a\\n{b`: ") && !said.contains(char::is_control), "{said}");
    }

    #[test]
    fn a_star_stays_in_its_segment_and_no_rules_pass_all() {
        assert!(judge(&["/a/*/c"], &[], "/a/b/c") && !judge(&["/a/*/c"], &[], "/a/b/b/c"));
        assert!(judge(&[], &[], "/any//../%2e;\\"));
        assert!(check_glob("a/**").is_err() && check_glob("/a?b").is_err() && check_glob("/a/{b").is_err() && check_glob("/**").is_ok());
    }
}
