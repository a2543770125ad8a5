//! The environment that an agent is given: proxy, trust and placeholders; what is taken out of it; and how it is printed.

mod print;

pub(crate) use print::{Format, print};

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use zeroize::Zeroizing;

use crate::agent::AgentName;
use crate::config::provider;
use crate::credential::{CredentialName, placeholder};

/// The variables that name the proxy. curl never reads the upper-case `HTTP_PROXY`, grpc and wget only the lower-case ones.
const PROXY: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
/// The clients understand different things by wildcards and dots, so there are only literals.
const NO_PROXY: &str = "127.0.0.1,localhost,::1";
/// The variables whose file replaces a client's roots: they name the bundle of the system's anchors and ours.
const REPLACES_ROOTS: [&str; 10] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "npm_config_cafile",
    "CODEX_CA_CERTIFICATE",
];
/// The variables whose file adds to a client's roots.
const ADDS_ROOTS: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// What the environment is made of.
pub(crate) struct AgentEnvironment {
    /// The proxy's address: `http://HOST:PORT`, without a user.
    pub(crate) proxy_url: String,
    /// The agent.
    pub(crate) agent: AgentName,
    /// Its session token.
    pub(crate) token: Zeroizing<String>,
    /// Where the agent finds the system's anchors and our CA in one file.
    pub(crate) bundle: String,
    /// Where it finds our CA alone.
    pub(crate) ca: String,
    /// The credentials granted to it.
    pub(crate) granted: Vec<CredentialName>,
}

/// Variables and their values. A value may hold a token, so all are wiped.
pub(crate) type Variables = BTreeMap<String, Zeroizing<String>>;

impl AgentEnvironment {
    /// All variables to set.
    pub(crate) fn variables(&self) -> Variables {
        let mut out = Variables::new();
        let mut set = |name: &str, value: &str| out.insert(name.to_owned(), Zeroizing::new(value.to_owned()));
        let url = self.url();
        for name in PROXY {
            set(name, &url);
        }
        for name in ["NO_PROXY", "no_proxy"] {
            set(name, NO_PROXY);
        }
        for name in REPLACES_ROOTS {
            set(name, &self.bundle);
        }
        for name in ADDS_ROOTS {
            set(name, &self.ca);
        }
        set("NODE_USE_ENV_PROXY", "1");
        for name in &self.granted {
            for p in provider::find(name.as_str()).into_iter().flat_map(|p| &p.placeholders) {
                set(&p.variable, &placeholder(&p.prefix, name));
            }
        }
        out
    }

    /// The proxy URL with the agent's name as the user and the token as the password. Neither holds a character that
    /// needs an escape there: names are letters, digits, `.`, `_` and `-`, tokens base64url with a prefix.
    fn url(&self) -> Zeroizing<String> {
        let (scheme, rest) = self.proxy_url.split_once("://").unwrap_or(("http", &self.proxy_url));
        let rest = rest.trim_end_matches('/');
        Zeroizing::new(format!("{scheme}://{}:{}@{rest}", self.agent, *self.token))
    }
}

/// Whether `run` takes a variable out of the command's environment: what is Keyhatch's or Vault's own, what leads to the
/// passphrase, what a provider's clients read a key from, and what holds one of `secrets`.
pub(crate) fn is_taken_out(name: &OsStr, value: &OsStr, secrets: &[Zeroizing<Vec<u8>>]) -> bool {
    let own = |name: &str| name.starts_with("KEYHATCH_") || name.starts_with("VAULT_") || name == "CREDENTIALS_DIRECTORY";
    let named = name.to_str().is_some_and(|n| own(n) || provider::variables().any(|v| v == n));
    named || secrets.iter().any(|s| !s.is_empty() && memchr::memmem::find(value.as_bytes(), s).is_some())
}

/// What is left of the operator's environment for the command.
pub(crate) fn inherited(all: impl Iterator<Item = (OsString, OsString)>, secrets: &[Zeroizing<Vec<u8>>]) -> Vec<(OsString, OsString)> {
    all.filter(|(name, value)| !is_taken_out(name, value, secrets)).collect()
}

#[cfg(test)]
pub(crate) fn example() -> AgentEnvironment {
    AgentEnvironment {
        proxy_url: "http://127.0.0.1:8877".to_owned(),
        agent: AgentName::parse("default").expect("a name"),
        token: Zeroizing::new("khs_abc".to_owned()),
        bundle: "/h/ca-bundle.pem".to_owned(),
        ca: "/h/ca.pem".to_owned(),
        granted: ["openrouter", "github", "own"].iter().map(|n| CredentialName::parse(n).expect("a name")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_the_contract() {
        let v = example().variables();
        let get = |name: &str| v.get(name).map(|v| v.as_str());
        for name in PROXY {
            assert_eq!(get(name), Some("http://default:khs_abc@127.0.0.1:8877"), "{name}");
        }
        assert_eq!((get("NO_PROXY"), get("no_proxy")), (Some(NO_PROXY), Some(NO_PROXY)));
        assert_eq!((get("SSL_CERT_FILE"), get("NODE_EXTRA_CA_CERTS")), (Some("/h/ca-bundle.pem"), Some("/h/ca.pem")));
        assert_eq!(get("NODE_USE_ENV_PROXY"), Some("1"));
        assert_eq!(get("OPENROUTER_API_KEY"), Some("sk-or-keyhatch-placeholder-openrouter"));
        assert_eq!((get("GITHUB_TOKEN"), get("GH_TOKEN")), (Some("ghp_keyhatch-placeholder-github"), Some("github_pat_keyhatch-placeholder-github")));
        assert_eq!(get("OPENAI_API_KEY"), None, "not granted");
    }

    #[test]
    fn what_leads_to_a_key_is_taken_out() {
        let secrets = [Zeroizing::new(b"sk-or-v1-test-0001".to_vec()), Zeroizing::new(Vec::new())];
        let taken = |name: &str, value: &str| is_taken_out(OsStr::new(name), OsStr::new(value), &secrets);
        for name in ["KEYHATCH_HOME", "KEYHATCH_PASSPHRASE", "VAULT_TOKEN", "CREDENTIALS_DIRECTORY", "OPENROUTER_API_KEY", "ANTHROPIC_AUTH_TOKEN"] {
            assert!(taken(name, "x"), "{name}");
        }
        assert!(taken("MY_KEY", "Bearer sk-or-v1-test-0001"));
        for name in ["PATH", "HOME", "KEYHATCHLING", "MY_KEY", "SSL_CERT_DIR"] {
            assert!(!taken(name, "x"), "{name}");
        }
    }
}
