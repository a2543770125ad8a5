//! The one builder of terms: from what is asked for, and the provider's file, to where and how a secret may be used.
//!
//! `credential add` asks with options, discovery with an entry's custom metadata. The rules are the same; what a fault and
//! its mend are called is each asker's own: see [`Words`].

use http::{HeaderName, HeaderValue, Method};

use super::provider::{self, Provider};
use crate::credential::{CredentialName, DEFAULT_AUTH_HEADERS, PathRules, Presentation, Terms};
use crate::host::{HostPattern, PatternError, PatternPort, WildcardBreadth};
use crate::policy::{GlobError, check_glob};

/// How the secret is presented, without what type `header` needs beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `Authorization: Bearer SECRET`
    Bearer,
    /// `Authorization: Basic base64(SECRET)`
    Basic,
    /// A field of its own.
    Header,
}

/// What is asked for. Whatever is not given is the provider's, where the credential's name is a provider's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermsSpec {
    /// The type; else the provider's, else bearer.
    pub kind: Option<Kind>,
    /// Host patterns, in the place of a provider's hosts and of its path rules; empty means not given.
    pub allow: Vec<String>,
    /// Globs of the paths that get it, in the place of a provider's such rules; empty means not given.
    pub paths: Vec<String>,
    /// Globs of paths that are refused, added to a provider's.
    pub deny_paths: Vec<String>,
    /// The methods that get it; empty means all.
    pub methods: Vec<String>,
    /// The field that carries it (type header).
    pub header: Option<String>,
    /// What stands before it in that field.
    pub prefix: Option<String>,
    /// Whether responses are scrubbed of it.
    pub scrub: bool,
    /// Whether it may go over plain HTTP, to ports that a pattern names.
    pub allow_plaintext: bool,
    /// Whether a pattern may cover a public suffix or every host.
    pub allow_broad: bool,
}

impl Default for TermsSpec {
    /// Nothing is given.
    fn default() -> Self {
        Self {
            kind: None,
            allow: Vec::new(),
            paths: Vec::new(),
            deny_paths: Vec::new(),
            methods: Vec::new(),
            header: None,
            prefix: None,
            scrub: true,
            allow_plaintext: false,
            allow_broad: false,
        }
    }
}

/// What an asker calls the parts of a [`TermsSpec`].
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// [`TermsSpec::kind`]
    pub kind: &'static str,
    /// [`TermsSpec::allow`]
    pub allow: &'static str,
    /// [`TermsSpec::methods`]
    pub methods: &'static str,
    /// [`TermsSpec::header`]
    pub header: &'static str,
    /// [`TermsSpec::prefix`]
    pub prefix: &'static str,
    /// [`TermsSpec::allow_plaintext`]
    pub allow_plaintext: &'static str,
    /// [`TermsSpec::allow_broad`], where it can be asked for.
    pub allow_broad: Option<&'static str>,
    /// What stands between a part and its value, as in `--type header`.
    pub between: &'static str,
    /// How two methods are given.
    pub two_methods: &'static str,
}

/// Why there are no terms. It holds nothing that could be a secret: of a header or a name that is wrong not even that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TermsError {
    /// The name is no provider's, and no hosts are given. Holds the name unless it is long, when it could be the secret.
    NoHosts(Option<String>),
    /// A pattern is malformed.
    Pattern(PatternError),
    /// A pattern covers more than any one owner's hosts.
    Broad(HostPattern, WildcardBreadth),
    /// A glob is malformed.
    Glob(GlobError),
    /// Plain HTTP is asked for, and no pattern names a port.
    NoPort,
    /// A header is named for a type that has none.
    HeaderWithoutType,
    /// A prefix is given for a type that has none.
    PrefixWithoutType,
    /// Type header without a header.
    NoHeader,
    /// The header is no field name.
    HeaderName,
    /// The header is one that the proxy or the connection owns.
    Reserved(HeaderName),
    /// The prefix cannot stand in a field.
    Prefix,
    /// A method that never carries a credential: CONNECT or TRACE.
    NeverSent(Method),
    /// A method is no token.
    Method,
}

impl TermsError {
    /// What is wrong, in one line.
    #[must_use]
    pub fn message(&self, words: &Words) -> String {
        match self {
            Self::NoHosts(Some(name)) => format!("`{name}` is no provider's name, and no hosts were given"),
            Self::NoHosts(None) => "that is no provider's name, and no hosts were given".to_owned(),
            Self::Pattern(e) => e.to_string(),
            Self::Broad(pattern, WildcardBreadth::EveryHost) => format!("pattern `{pattern}` covers every host"),
            Self::Broad(pattern, WildcardBreadth::PublicSuffix) => {
                format!("pattern `{pattern}` covers a public suffix, where anyone can own a name")
            }
            Self::Glob(e) => e.to_string(),
            Self::NoPort => format!("{} is for patterns that name their port, and none does", words.allow_plaintext),
            Self::HeaderWithoutType => format!("{} says how type header presents the secret", words.header),
            Self::PrefixWithoutType => format!("{} says how type header presents the secret", words.prefix),
            Self::NoHeader => "type header needs the field's name".to_owned(),
            Self::HeaderName => format!("{} is no field name", words.header),
            Self::Reserved(name) => format!("the field {name} cannot carry a secret to an origin"),
            Self::Prefix => "the prefix holds a character that no header field carries".to_owned(),
            Self::NeverSent(method) => format!("{method} is never sent to an origin with a credential"),
            Self::Method => format!("{} is no method's name", words.methods),
        }
    }

    /// What to do about it, in one line.
    #[must_use]
    pub fn mend(&self, words: &Words) -> String {
        let set = |part: &str, value: &str| format!("{part}{}{value}", words.between);
        match self {
            Self::NoHosts(_) => {
                let known: Vec<&str> = provider::all().iter().map(|p| p.name).collect();
                let allow = set(words.allow, "PATTERN");
                format!("give {allow} for the hosts that it may go to, or one of these names: {}", known.join(", "))
            }
            Self::Pattern(_) => "patterns are `example.com`, `*.example.com`, `api-*.example.com`, each with `:PORT` or `:*`".to_owned(),
            Self::Broad(..) => match words.allow_broad {
                Some(part) => format!("name the hosts, or give {part} if it is meant so"),
                None => "name the hosts".to_owned(),
            },
            Self::Glob(_) => "a glob is as in `/api/v1/**` or `/repos/*/issues`".to_owned(),
            Self::NoPort => format!("give one, as in {}", set(words.allow, "example.com:80")),
            Self::HeaderWithoutType | Self::PrefixWithoutType => format!("give {}", set(words.kind, "header")),
            Self::NoHeader => format!("give {}, as in {}", set(words.header, "NAME"), set(words.header, "X-Api-Key")),
            Self::HeaderName => format!("it is a name alone, as in {}", set(words.header, "X-Api-Key")),
            Self::Reserved(_) => "name the field that the origin's documentation names".to_owned(),
            Self::Prefix => format!("check {}", words.prefix),
            Self::NeverSent(_) => format!("leave it out of {}", words.methods),
            Self::Method => format!("as in {}", words.two_methods),
        }
    }
}

impl TermsSpec {
    /// The terms of a credential of that name, enabled.
    ///
    /// # Errors
    /// [`TermsError`]: what is asked for cannot be, or says too little.
    pub fn terms(&self, name: &CredentialName) -> Result<Terms, TermsError> {
        let provider = provider::find(name.as_str());
        let presentation = self.presentation(provider)?;
        let mut auth_headers = provider.map(|p| p.auth_headers.clone()).unwrap_or_default();
        // Without a provider the list stays empty, which means the usual four and the own one. Hosts of the operator's own
        // may know more ways than the provider does.
        let more = if self.allow.is_empty() { &[][..] } else { &DEFAULT_AUTH_HEADERS };
        let own = presentation.field().as_str();
        for header in more.iter().copied().chain([own]).filter(|_| provider.is_some()) {
            if !auth_headers.iter().any(|h| h == header) {
                auth_headers.push(header.to_owned());
            }
        }
        let allowed_domains = self.allowed_domains(name, provider)?;
        if self.allow_plaintext && !allowed_domains.iter().any(|p| matches!(p.port(), PatternPort::Exact(_))) {
            return Err(TermsError::NoPort);
        }
        Ok(Terms {
            presentation,
            allowed_domains,
            rules: self.rules(provider)?,
            auth_headers,
            auth_query: provider.map(|p| p.auth_query.clone()).unwrap_or_default(),
            provider: provider.map(|p| p.name.to_owned()),
            scrub: self.scrub,
            allow_plaintext: self.allow_plaintext,
            enabled: true,
        })
    }

    /// Whether a provider's rules about paths would have counted, had no hosts been given.
    #[must_use]
    pub fn leaves_rules_out(&self, name: &CredentialName) -> bool {
        !self.allow.is_empty() && self.paths.is_empty() && provider::find(name.as_str()).is_some_and(|p| !p.rules.allow.is_empty())
    }

    fn presentation(&self, provider: Option<&Provider>) -> Result<Presentation, TermsError> {
        let provided = provider.map(|p| &p.presentation);
        let kind = match (self.kind, &self.header, provided) {
            (Some(kind), _, _) => kind,
            (None, Some(_), _) => Kind::Header,
            (None, None, Some(p)) => {
                if self.prefix.is_none() {
                    return Ok(p.clone());
                }
                if matches!(p, Presentation::Header { .. }) { Kind::Header } else { Kind::Bearer }
            }
            (None, None, None) => Kind::Bearer,
        };
        if kind != Kind::Header {
            return match (&self.header, &self.prefix) {
                (Some(_), _) => Err(TermsError::HeaderWithoutType),
                (None, Some(_)) => Err(TermsError::PrefixWithoutType),
                (None, None) if kind == Kind::Basic => Ok(Presentation::Basic),
                (None, None) => Ok(Presentation::Bearer),
            };
        }
        let name = match (&self.header, provided) {
            (Some(name), _) => field_name(name)?,
            (None, Some(Presentation::Header { name, .. })) => name.clone(),
            _ => return Err(TermsError::NoHeader),
        };
        let prefix = self.prefix.clone().unwrap_or_default();
        if HeaderValue::try_from(prefix.as_str()).is_err() || !prefix.is_ascii() {
            return Err(TermsError::Prefix);
        }
        Ok(Presentation::Header { name, prefix })
    }

    fn allowed_domains(&self, name: &CredentialName, provider: Option<&Provider>) -> Result<Vec<HostPattern>, TermsError> {
        if self.allow.is_empty() {
            // A long name is not repeated: somebody may have given the secret in its place.
            let no_hosts = || TermsError::NoHosts((name.as_str().len() <= 20).then(|| name.to_string()));
            return provider.map(|p| p.allowed_domains.clone()).ok_or_else(no_hosts);
        }
        let mut out: Vec<HostPattern> = Vec::new();
        for text in &self.allow {
            let pattern = HostPattern::parse(text).map_err(TermsError::Pattern)?;
            if let Some(breadth) = pattern.breadth().filter(|_| !self.allow_broad) {
                return Err(TermsError::Broad(pattern, breadth));
            }
            if !out.contains(&pattern) {
                out.push(pattern);
            }
        }
        Ok(out)
    }

    fn rules(&self, provider: Option<&Provider>) -> Result<PathRules, TermsError> {
        for glob in self.paths.iter().chain(&self.deny_paths) {
            check_glob(glob).map_err(TermsError::Glob)?;
        }
        let mut rules = provider.map(|p| p.rules.clone()).unwrap_or_default();
        // Whoever names other hosts names the paths that are served there; what guards the provider's keys stays.
        if !self.allow.is_empty() {
            rules.allow.clear();
        }
        if !self.paths.is_empty() {
            rules.allow = self.paths.clone();
        }
        let added: Vec<String> = self.deny_paths.iter().filter(|g| !rules.deny.contains(g)).cloned().collect();
        rules.deny.extend(added);
        rules.methods = self.methods.iter().map(|m| method(m)).collect::<Result<_, _>>()?;
        Ok(rules)
    }
}

/// Fields that the proxy or the connection owns.
const RESERVED: [&str; 10] =
    ["host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "keep-alive", "expect", "content-encoding"];

fn field_name(text: &str) -> Result<HeaderName, TermsError> {
    let name = HeaderName::try_from(text).map_err(|_| TermsError::HeaderName)?;
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
        return Err(TermsError::Reserved(name));
    }
    Ok(name)
}

fn method(text: &str) -> Result<String, TermsError> {
    let upper = text.to_ascii_uppercase();
    match Method::from_bytes(upper.as_bytes()) {
        Ok(method @ (Method::CONNECT | Method::TRACE)) => Err(TermsError::NeverSent(method)),
        Ok(_) => Ok(upper),
        Err(_) => Err(TermsError::Method),
    }
}
