//! The environment that an agent is given: proxy, trust and placeholders; what is taken out of it; and how it is printed.

mod print;

pub(crate) use print::{Format, print};

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use zeroize::Zeroizing;

use crate::agent::AgentName;
use crate::config::provider;

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
    /// The placeholders of what it was granted: variables and their values.
    pub(crate) placeholders: Vec<(String, String)>,
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
        for (name, value) in &self.placeholders {
            set(name, value);
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

/// Whether `run` takes a variable out of the command's environment by its name: what is Keyhatch's, Vault's or OpenBao's own, what
/// leads to the passphrase, and what a provider's clients read a key from.
fn is_taken_out(name: &OsStr) -> bool {
    let own = |name: &str| ["KEYHATCH_", "VAULT_", "BAO_"].iter().any(|own| name.starts_with(own)) || name == "CREDENTIALS_DIRECTORY";
    name.to_str().is_some_and(|n| own(n) || provider::variables().any(|v| v == n))
}

/// What is left of the operator's environment for the command. `reveals` says which of the values hold a stored
/// secret; where the store is locked nobody can say, and none is taken out for that.
pub(crate) fn inherited<E>(
    all: impl Iterator<Item = (OsString, OsString)>,
    reveals: impl FnOnce(&[&[u8]]) -> Result<Vec<bool>, E>,
) -> Result<Vec<(OsString, OsString)>, E> {
    let named: Vec<_> = all.filter(|(name, _)| !is_taken_out(name)).collect();
    let values: Vec<&[u8]> = named.iter().map(|(_, value)| value.as_bytes()).collect();
    let found = reveals(&values)?;
    Ok(named.into_iter().zip(found).filter(|(_, found)| !found).map(|(variable, _)| variable).collect())
}

#[cfg(test)]
pub(crate) fn example() -> AgentEnvironment {
    AgentEnvironment {
        proxy_url: "http://127.0.0.1:8877".to_owned(),
        agent: AgentName::parse("default").expect("a name"),
        token: Zeroizing::new("khs_abc".to_owned()),
        bundle: "/h/ca-bundle.pem".to_owned(),
        ca: "/h/ca.pem".to_owned(),
        placeholders: vec![("OPENROUTER_API_KEY".to_owned(), "sk-or-keyhatch-placeholder-openrouter".to_owned())],
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
        assert_eq!(get("OPENAI_API_KEY"), None, "not granted");
    }

    #[test]
    fn what_leads_to_a_key_is_taken_out() {
        let left = |names: &[(&str, &str)]| {
            let all = names.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
            let reveals = |values: &[&[u8]]| Ok::<_, ()>(values.iter().map(|v| v.ends_with(b"sk-or-v1-test-0001")).collect());
            inherited(all, reveals).expect("no failure").into_iter().map(|(n, _)| n.into_string().expect("UTF-8")).collect::<Vec<_>>()
        };
        for name in ["KEYHATCH_HOME", "KEYHATCH_PASSPHRASE", "VAULT_TOKEN", "VAULT_ADDR", "VAULT_CLIENT_KEY", "BAO_TOKEN", "CREDENTIALS_DIRECTORY"] {
            assert!(left(&[(name, "x")]).is_empty(), "{name}");
        }
        for name in ["OPENROUTER_API_KEY", "ANTHROPIC_AUTH_TOKEN"] {
            assert!(left(&[(name, "x")]).is_empty(), "{name}");
        }
        let all = [("PATH", "x"), ("MY_KEY", "Bearer sk-or-v1-test-0001"), ("KEYHATCHLING", "x"), ("SSL_CERT_DIR", "x"), ("MY_OTHER", "sk-or-v1")];
        assert_eq!(left(&all), ["PATH", "KEYHATCHLING", "SSL_CERT_DIR", "MY_OTHER"]);
    }
}
