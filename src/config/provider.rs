//! What is known of the providers: the files of `policy/providers/`, compiled in.
//!
//! A provider file supplies what `credential add NAME` would otherwise be told: how the secret is presented, where it
//! may go, what else could authenticate there, the URL that `credential test` asks, and the placeholder variables.

use std::path::Path;
use std::sync::LazyLock;

use http::{HeaderName, HeaderValue};

use super::ConfigError;
use super::reader::{Item, Table, read_document};
use crate::credential::{CredentialName, PathRules, Presentation, placeholder};
use crate::host::HostPattern;

/// The files, in the order in which help texts name them.
const FILES: [(&str, &str); 9] = [
    ("openrouter", include_str!("../../policy/providers/openrouter.toml")),
    ("openai", include_str!("../../policy/providers/openai.toml")),
    ("anthropic", include_str!("../../policy/providers/anthropic.toml")),
    ("github", include_str!("../../policy/providers/github.toml")),
    ("gemini", include_str!("../../policy/providers/gemini.toml")),
    ("mistral", include_str!("../../policy/providers/mistral.toml")),
    ("groq", include_str!("../../policy/providers/groq.toml")),
    ("deepseek", include_str!("../../policy/providers/deepseek.toml")),
    ("xai", include_str!("../../policy/providers/xai.toml")),
];

/// One provider.
#[derive(Debug, Clone)]
pub struct Provider {
    /// The name that `credential add` knows it by: the file's.
    pub name: &'static str,
    /// Its name as it writes it itself.
    pub title: String,
    /// How the secret is presented.
    pub presentation: Presentation,
    /// The hosts it may go to.
    pub allowed_domains: Vec<HostPattern>,
    /// The paths it may go to: not those that mint or list keys.
    pub rules: PathRules,
    /// The header fields by which this origin can be authenticated to.
    pub auth_headers: Vec<String>,
    /// The query parameters likewise.
    pub auth_query: Vec<String>,
    /// What `credential test` asks with `GET`.
    pub test_url: String,
    /// Header fields that the test URL needs beside the credential.
    pub test_headers: Vec<(HeaderName, HeaderValue)>,
    /// What `run` and `env` set in the key's stead.
    pub placeholders: Vec<PlaceholderVariable>,
    /// Variables that `run` takes out of the command's environment and does not set.
    pub hide_variables: Vec<String>,
}

/// An environment variable in which this provider's clients look for the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceholderVariable {
    /// Its name.
    pub variable: String,
    /// What a key of this provider begins with; some clients check it.
    pub prefix: String,
}

/// All providers.
#[must_use]
pub fn all() -> &'static [Provider] {
    static ALL: LazyLock<Vec<Provider>> = LazyLock::new(|| {
        let read = |(name, text): (&'static str, &str)| read(name, text).expect("a provider file that is compiled in is sound; a test reads each");
        FILES.into_iter().map(read).collect()
    });
    &ALL
}

/// The provider of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Provider> {
    all().iter().find(|p| p.name == name)
}

/// Every variable that some provider's clients read a key from.
pub fn variables() -> impl Iterator<Item = &'static str> {
    all().iter().flat_map(|p| p.placeholders.iter().map(|v| v.variable.as_str()).chain(p.hide_variables.iter().map(String::as_str)))
}

/// What `run` and `env` set for credentials: each is its name and its provider's. The same at every run.
#[must_use]
pub fn placeholders<'a>(credentials: impl Iterator<Item = (&'a CredentialName, Option<&'a str>)>) -> Vec<(String, String)> {
    let known = credentials.filter_map(|(name, provider)| Some((name, find(provider?)?)));
    known.flat_map(|(name, p)| p.placeholders.iter().map(|v| (v.variable.clone(), placeholder(&v.prefix, name)))).collect()
}

fn read(name: &'static str, text: &str) -> Result<Provider, ConfigError> {
    let file = format!("policy/providers/{name}.toml");
    read_document(Path::new(&file), text, |t| {
        Ok(Provider {
            name,
            title: t.required("title", word)?,
            presentation: presentation(t)?,
            allowed_domains: t.required("allowed_domains", |i| i.list("host patterns", |p| p.parse("a host pattern", HostPattern::parse)))?,
            rules: PathRules { allow: paths(t, "paths")?, deny: paths(t, "deny_paths")?, methods: Vec::new() },
            auth_headers: t.required("auth_headers", |i| {
                i.list("field names", |h| h.parse("a field name", |s| HeaderName::try_from(s).map(|n| n.as_str().to_owned())))
            })?,
            auth_query: t.required("auth_query", words)?,
            test_url: t.required("test_url", |i| {
                i.parse("an https URL", |s| if s.starts_with("https://") { Ok(s.to_owned()) } else { Err("a key goes over TLS only") })
            })?,
            test_headers: t.or("test_headers", Vec::new(), |i| i.tables(test_header))?,
            placeholders: t.required("placeholder", |i| i.tables(placeholder_variable))?,
            hide_variables: t.or("hide_variables", Vec::new(), words)?,
        })
    })
}

fn presentation(t: &Table<'_, '_>) -> Result<Presentation, ConfigError> {
    let kind = t.required("type", |i| i.choice(&[("bearer", 0), ("basic", 1), ("header", 2)]))?;
    let name = t.opt("header", |i| i.parse("a field name", |s| HeaderName::try_from(s)))?;
    let prefix = t.or("prefix", String::new(), word)?;
    Ok(match (kind, name) {
        (0, None) => Presentation::Bearer,
        (1, None) => Presentation::Basic,
        (2, Some(name)) => Presentation::Header { name, prefix },
        _ => return t.required("type", |i| Err(i.error("type \"header\" and the key `header` go together", ""))),
    })
}

fn test_header(t: &Table<'_, '_>) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let name = t.required("name", |i| i.parse("a field name", |s| HeaderName::try_from(s)))?;
    let value = t.required("value", |i| i.parse("a field value", |s| HeaderValue::try_from(s)))?;
    Ok((name, value))
}

fn placeholder_variable(t: &Table<'_, '_>) -> Result<PlaceholderVariable, ConfigError> {
    Ok(PlaceholderVariable { variable: t.required("variable", word)?, prefix: t.required("prefix", word)? })
}

fn paths(t: &Table<'_, '_>, key: &'static str) -> Result<Vec<String>, ConfigError> {
    t.or(key, Vec::new(), |i| {
        i.list("path globs", |p| {
            p.parse("a glob that begins with `/`", |s| if s.starts_with('/') { Ok(s.to_owned()) } else { Err("it must begin with `/`") })
        })
    })
}

fn words(i: &Item<'_, '_>) -> Result<Vec<String>, ConfigError> {
    i.list("a list of strings", word)
}

fn word(i: &Item<'_, '_>) -> Result<String, ConfigError> {
    i.str("a string").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::contains_marker;
    use crate::host::Authority;

    #[test]
    fn every_shipped_file_reads() {
        for (name, text) in FILES {
            read(name, text).unwrap_or_else(|e| panic!("{e}"));
        }
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/policy/providers");
        let count = std::fs::read_dir(dir).expect("the directory").count();
        assert_eq!(count, FILES.len(), "a file of {dir} is not compiled in");
    }

    #[test]
    fn the_test_url_goes_where_the_key_may_go() {
        for p in all() {
            let uri: http::Uri = p.test_url.parse().expect("a URL");
            let target = Authority::parse(uri.authority().expect("an authority").as_str(), Some(443)).expect("an authority");
            assert!(p.allowed_domains.iter().any(|d| d.matches(&target, &[443])), "{}", p.name);
            assert!(p.allowed_domains.iter().all(|d| d.breadth().is_none()), "{}", p.name);
            assert!(p.auth_headers.iter().any(|h| h == p.presentation.field().as_str()), "{}: its own field is not among auth_headers", p.name);
        }
    }

    #[test]
    fn placeholders_carry_prefix_marker_and_name() {
        let p = find("openrouter").expect("shipped");
        let name = CredentialName::parse(p.name).expect("a name");
        let github = CredentialName::parse("github").expect("a name");
        let all = placeholders([(&name, Some(p.name)), (&github, Some("github")), (&name, None), (&name, Some("none"))].into_iter());
        let plain: Vec<(&str, &str)> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            plain,
            [
                ("OPENROUTER_API_KEY", "sk-or-keyhatch-placeholder-openrouter"),
                ("GITHUB_TOKEN", "ghp_keyhatch-placeholder-github"),
                ("GH_TOKEN", "github_pat_keyhatch-placeholder-github")
            ]
        );
        assert!(all.iter().all(|(_, v)| contains_marker(v.as_bytes())));
        assert!(variables().any(|v| v == "GOOGLE_API_KEY") && variables().any(|v| v == "GH_TOKEN"));
    }

    #[test]
    fn a_bad_file_says_where() {
        let text = "title = \"T\"\ntype = \"digest\"\n";
        let e = read("t", text).expect_err("bad");
        assert_eq!(
            e.to_string(),
            "policy/providers/t.toml:2: key `type`: \"digest\" is not a value of it; allowed: \"bearer\", \"basic\", \"header\""
        );
    }
}
