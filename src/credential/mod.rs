//! Credentials: a named secret, how it is presented, and where it may go.

mod injection;
mod placeholder;
mod reference;
mod secret;

pub use injection::{InjectionError, Material};
pub use placeholder::{MARKER, contains_marker, explicit_name, placeholder, placeholder_name};
pub use reference::{ReferenceError, VaultReference, check_path};
pub use secret::{Secret, SecretError, WEAK_BELOW};

use std::fmt;

use crate::agent::{NameError, check_name};
use crate::host::HostPattern;

/// The name of a credential; the rule is that of [`crate::agent::AgentName`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct CredentialName(Box<str>);

impl CredentialName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`NameError`] where the string breaks the rule.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_name(text, "credential").map(|()| Self(text.into()))
    }

    /// The name as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A credential's identity for its whole life: 128 random bits, never used again after `remove`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialId(pub [u8; 16]);

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// How a secret is presented to the origin (the credential's type).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presentation {
    /// `Authorization: Bearer SECRET` (RFC 6750 2.1).
    Bearer,
    /// `Authorization: Basic base64(SECRET)`, the secret being `user:password` (RFC 7617).
    Basic,
    /// `NAME: PREFIX SECRET` with nothing between prefix and secret but what the prefix holds.
    Header {
        /// The field's name.
        name: http::HeaderName,
        /// What stands before the secret, perhaps nothing.
        prefix: String,
    },
}

impl Presentation {
    /// The word for `--type` and for JSON: `bearer`, `basic` or `header`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Basic => "basic",
            Self::Header { .. } => "header",
        }
    }

    /// The header field that carries the secret.
    #[must_use]
    pub fn field(&self) -> &http::HeaderName {
        match self {
            Self::Bearer | Self::Basic => const { &http::header::AUTHORIZATION },
            Self::Header { name, .. } => name,
        }
    }
}

/// Where a credential's secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The local store holds the secret itself, sealed.
    Local,
    /// HashiCorp Vault holds it.
    Vault(VaultReference),
}

impl Source {
    /// The word for what is said without the place: `store` or `vault`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Local => "store",
            Self::Vault(_) => "vault",
        }
    }

    /// Reads what `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("vault:") {
            Some(reference) => VaultReference::parse(reference).ok().map(Self::Vault),
            None => (text == "store").then_some(Self::Local),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("store"),
            Self::Vault(reference) => write!(f, "vault:{reference}"),
        }
    }
}

/// Which requests to the allowed domains may carry the credential. Globs are kept as given;
/// [`crate::policy`] compiles them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathRules {
    /// `--path`: where there are any, a path must match one.
    pub allow: Vec<String>,
    /// `--deny-path`: a path that matches one (case aside) is refused, before `allow`.
    pub deny: Vec<String>,
    /// `--method`: where there are any, the method must be one of them.
    pub methods: Vec<String>,
}

impl PathRules {
    /// Whether there is no rule about paths (methods aside).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

/// Everything that says where and how a secret may be used: sealed with it as associated data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// How the secret is presented.
    pub presentation: Presentation,
    /// The hosts and ports it may go to; never empty.
    pub allowed_domains: Vec<HostPattern>,
    /// The paths and methods it may go to.
    pub rules: PathRules,
    /// Header fields by which that origin can be authenticated to: the agent's own are dropped.
    pub auth_headers: Vec<String>,
    /// Query parameters likewise.
    pub auth_query: Vec<String>,
    /// The provider file this came from, if any.
    pub provider: Option<String>,
    /// Whether responses are scrubbed of the secret.
    pub scrub: bool,
    /// Whether it may go over plain `http://` where a pattern names the port.
    pub allow_plaintext: bool,
    /// Whether requests get it at all; a disabled credential's requests are refused.
    pub enabled: bool,
}

/// The header fields dropped from an injected request where the provider names none.
pub const DEFAULT_AUTH_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
