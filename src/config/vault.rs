//! `[vault]`: where HashiCorp Vault (or OpenBao) is, how Keyhatch logs in, and what it takes from there.

use std::path::PathBuf;
use std::time::Duration;

use super::ConfigError;
use super::parse::{duration, fail, patterns, some_time};
use super::reader::{Item, Table};
use crate::credential::check_path;
use crate::host::{Authority, HostPattern};

/// `[vault]`. What is `None` may still come from Vault's own variables, such as `VAULT_ADDR`.
#[derive(Debug, Clone, PartialEq)]
pub struct VaultConfig {
    /// `address`
    pub address: Option<String>,
    /// `namespace`
    pub namespace: Option<String>,
    /// `ca_file`: what Vault's certificate is verified by, in the place of the system's anchors.
    pub ca_file: Option<PathBuf>,
    /// `client_cert` and `client_key`
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// `skip_verify`
    pub skip_verify: bool,
    /// `auth`
    pub auth: Option<VaultAuth>,
    /// `refresh`: how old a value may be before it is asked for again; default 30 s.
    pub refresh: Duration,
    /// `max_stale`: how long a known value is used while Vault cannot be asked; default 10 min.
    pub max_stale: Duration,
    /// `discover`: the folder whose entries are credentials.
    pub discover: Option<String>,
    /// `discover_allow`: what the patterns of discovered entries must lie within; `None` is no cap.
    pub discover_allow: Option<Vec<HostPattern>>,
    /// `discover_fields`: whether fields of the value count where custom metadata says nothing.
    pub discover_fields: bool,
    /// `discover_agents`: the folder whose entries are agents.
    pub discover_agents: Option<String>,
    /// `ca`: the entry that holds the CA, or the path of a PKI engine that signs one.
    pub ca: Option<String>,
    /// `signing_key`: the entry that holds the key of session tokens and fingerprints.
    pub signing_key: Option<String>,
}

/// How Keyhatch logs in. The secrets themselves stand in files or variables, never here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAuth {
    /// `method = "token"`: `token_file`, else `VAULT_TOKEN`, else `~/.vault-token`.
    Token {
        /// `token_file`
        file: Option<PathBuf>,
    },
    /// `method = "approle"`
    AppRole {
        /// `mount`; default `approle`.
        mount: String,
        /// `role_id`, or the content of `role_id_file`.
        role_id: RoleId,
        /// `secret_id_file`
        secret_id_file: Option<PathBuf>,
        /// `wrapped`: the file holds a token that wraps the secret id.
        wrapped: bool,
    },
    /// `method = "kubernetes"` or `"jwt"`
    Jwt {
        /// `mount`; default the method's name.
        mount: String,
        /// `role`
        role: String,
        /// `jwt_file`; default for Kubernetes the service account's token.
        jwt_file: PathBuf,
    },
}

/// AppRole's role id, which is no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleId {
    /// `role_id`
    Given(String),
    /// `role_id_file`
    File(PathBuf),
}

/// Where Kubernetes puts a pod's own token.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const PATH_FORM: &str = "a path in Vault such as \"secret/keyhatch\", without data/ or metadata/ in it";
const ADDRESS_FORM: &str = "a URL such as \"https://vault.example:8200\"";

impl Default for VaultConfig {
    fn default() -> Self {
        Self {
            address: None,
            namespace: None,
            ca_file: None,
            client_cert: None,
            skip_verify: false,
            auth: None,
            refresh: Duration::from_secs(30),
            max_stale: Duration::from_secs(600),
            discover: None,
            discover_allow: None,
            discover_fields: false,
            discover_agents: None,
            ca: None,
            signing_key: None,
        }
    }
}

pub(super) fn vault(t: &Table<'_, '_>) -> Result<VaultConfig, ConfigError> {
    let default = VaultConfig::default();
    let (cert, key) = (t.opt("client_cert", Item::path)?, t.opt("client_key", Item::path)?);
    if cert.is_some() != key.is_some() {
        let there = if cert.is_some() { "client_cert" } else { "client_key" };
        fail(t, there, "a client certificate needs its key", "both `client_cert` and `client_key`, or neither")?;
    }
    let out = VaultConfig {
        address: t.opt("address", |i| i.parse(ADDRESS_FORM, |text| address(text).map(|_| text.trim_end_matches('/').to_owned())))?,
        namespace: t.opt("namespace", |i| word(i, "a namespace such as \"team/a\""))?,
        ca_file: t.opt("ca_file", Item::path)?,
        client_cert: cert.zip(key),
        skip_verify: t.or("skip_verify", false, Item::bool)?,
        auth: t.get("auth").map(|item| item.into_table(auth)).transpose()?,
        refresh: t.or("refresh", default.refresh, some_time)?,
        max_stale: t.or("max_stale", default.max_stale, duration)?,
        discover: t.opt("discover", path)?,
        discover_allow: t.opt("discover_allow", patterns)?,
        discover_fields: t.or("discover_fields", false, Item::bool)?,
        discover_agents: t.opt("discover_agents", path)?,
        ca: t.opt("ca", path)?,
        signing_key: t.opt("signing_key", path)?,
    };
    keep_apart(t, &out)?;
    if out.discover.is_none() {
        for (key, given) in [("discover_allow", out.discover_allow.is_some()), ("discover_fields", out.discover_fields)] {
            if given {
                fail(t, key, "it does nothing without `discover`", "`discover` beside it")?;
            }
        }
    }
    Ok(out)
}

/// Whoever may write in the folder of credentials says where its values go, so neither keys nor agents' tokens may lie there; and whoever may
/// write in that of agents has a token of his, so the keys that are made for all of them may not lie there either.
fn keep_apart(t: &Table<'_, '_>, out: &VaultConfig) -> Result<(), ConfigError> {
    let holds = |folder: &str, path: &str| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let folders = [("discover", &out.discover), ("discover_agents", &out.discover_agents)];
    let entries = [("ca", &out.ca), ("signing_key", &out.signing_key)];
    for (folder_key, folder) in folders.into_iter().filter_map(|(key, folder)| Some((key, folder.as_deref()?))) {
        for (key, path) in folders.into_iter().chain(entries).filter_map(|(key, path)| Some((key, path.as_deref()?))) {
            if key != folder_key && holds(folder, path) {
                let why = match folder == path {
                    true => format!("it is the folder of `{folder_key}` as well"),
                    false => format!("it lies in the folder of `{folder_key}`, and whoever may write there decides what becomes of it"),
                };
                fail(t, key, &why, "a path outside of it, as \"secret/keyhatch-keys\" is outside of \"secret/keyhatch\"")?;
            }
        }
    }
    if out.ca.is_some() && out.ca == out.signing_key {
        fail(t, "signing_key", "it is the entry of `ca` as well", "an entry of its own")?;
    }
    Ok(())
}

fn auth(t: &Table<'_, '_>) -> Result<VaultAuth, ConfigError> {
    #[derive(Clone, Copy)]
    enum Method {
        Token,
        AppRole,
        Kubernetes,
        Jwt,
    }
    let methods = [("token", Method::Token), ("approle", Method::AppRole), ("kubernetes", Method::Kubernetes), ("jwt", Method::Jwt)];
    let method = t.required("method", |i| i.choice(&methods))?;
    let mount = |usual: &str| t.or("mount", usual.to_owned(), |i| word(i, "the path that the auth method is mounted at"));
    match method {
        Method::Token => Ok(VaultAuth::Token { file: t.opt("token_file", Item::path)? }),
        Method::AppRole => {
            let given = t.opt("role_id", |i| word(i, "the role id"))?.map(RoleId::Given);
            let file = t.opt("role_id_file", Item::path)?.map(RoleId::File);
            if given.is_some() && file.is_some() {
                fail(t, "role_id_file", "there is a `role_id` too", "one of `role_id` and `role_id_file`")?;
            }
            // Neither is there: asking for the one says that it is missing.
            let role_id = given.or(file).map_or_else(|| t.required("role_id", |i| word(i, "the role id").map(RoleId::Given)), Ok)?;
            let secret_id_file = t.opt("secret_id_file", Item::path)?;
            let wrapped = t.or("wrapped", false, Item::bool)?;
            if wrapped && secret_id_file.is_none() {
                fail(t, "wrapped", "it is about what `secret_id_file` holds", "`secret_id_file` beside it")?;
            }
            Ok(VaultAuth::AppRole { mount: mount("approle")?, role_id, secret_id_file, wrapped })
        }
        Method::Kubernetes => Ok(VaultAuth::Jwt {
            mount: mount("kubernetes")?,
            role: t.required("role", |i| word(i, "the role to log in as"))?,
            jwt_file: t.or("jwt_file", PathBuf::from(SERVICE_ACCOUNT), Item::path)?,
        }),
        Method::Jwt => Ok(VaultAuth::Jwt {
            mount: mount("jwt")?,
            role: t.required("role", |i| word(i, "the role to log in as"))?,
            jwt_file: t.required("jwt_file", Item::path)?,
        }),
    }
}

fn path(i: &Item<'_, '_>) -> Result<String, ConfigError> {
    i.parse(PATH_FORM, |text| check_path(text).map(str::to_owned).ok_or("this is no MOUNT/PATH"))
}

fn word(i: &Item<'_, '_>, form: &str) -> Result<String, ConfigError> {
    i.parse(form, |text| {
        let text = text.trim_matches('/');
        let plain = |c: char| c.is_ascii_graphic() && !"?#%\\".contains(c);
        if !text.is_empty() && text.len() <= 512 && text.chars().all(plain) && !text.split('/').any(|s| s.is_empty() || s == "." || s == "..") {
            Ok(text.to_owned())
        } else {
            Err("this cannot be it")
        }
    })
}

/// The host and the port that the address of a Vault names: a scheme, a host, perhaps a port, perhaps a path.
///
/// # Errors
/// What is wrong with it, in a few words.
pub fn address(text: &str) -> Result<Authority, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("an address begins with its scheme")?;
    let port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return Err("the scheme is neither http nor https"),
    };
    if rest.contains(['?', '#', '@']) {
        return Err("it holds `?`, `#` or `@`");
    }
    // A Vault behind a gateway may have a path of its own.
    let authority = rest.split('/').next().unwrap_or(rest);
    Authority::parse(authority, Some(port)).map_err(|_| "after the scheme there is no HOST or HOST:PORT")
}
