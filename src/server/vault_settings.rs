//! How Vault is reached: `[vault]`, and for what it does not say the variables that Vault's own tools read.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::ReloadError;
use crate::config::{RoleId, VaultAuth, VaultConfig, vault_address};
use crate::credential::Secret;
use crate::environment;
use crate::host::Authority;
use crate::vault::hashicorp::{DEFAULT_ADDRESS, Freshness, Login, VaultSettings};

type Env<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// Where a token lies after `vault login`.
const TOKEN_HELPER: &str = ".vault-token";

/// Who asks Vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The proxy of `serve` or `run`, for as long as it runs.
    Proxy,
    /// Any other command, and the unlocking of a store. It must leave a wrapped secret id, which opens once, to the proxy.
    Command,
}

/// What `[vault]` and the environment say together. The file comes first: a stray variable must not lead to another Vault.
///
/// # Errors
/// [`ReloadError`] where a variable cannot be understood, a file cannot be read, or there is no way to log in.
pub fn vault_settings(config: &VaultConfig, asker: Asker) -> Result<VaultSettings, ReloadError> {
    settings_in(config, asker, &environment::var)
}

/// Whether there is no log-in for a command, because the secret id is wrapped and kept for the proxy.
#[must_use]
pub fn is_for_the_proxy_alone(config: &VaultConfig) -> bool {
    matches!(config.auth, Some(VaultAuth::AppRole { wrapped: true, .. })) && environment::var("VAULT_TOKEN").is_none()
}

/// How fresh `[vault]` wants values to be.
#[must_use]
pub(super) fn freshness(config: &VaultConfig) -> Freshness {
    Freshness { refresh: config.refresh, max_stale: config.max_stale }
}

/// Whether the set-up speaks of a Vault at all: then `doctor` looks at it even where nothing is kept there yet.
#[must_use]
pub fn speaks_of_vault(config: &VaultConfig) -> bool {
    *config != VaultConfig::default() || environment::var("VAULT_ADDR").is_some()
}

/// Where Vault is asked, or would be: `None` where `VAULT_ADDR` cannot be understood, and so nothing can be asked.
#[must_use]
pub(super) fn vault_authority(config: &VaultConfig) -> Option<Authority> {
    address(config, &environment::var).ok().and_then(|text| vault_address(&text).ok())
}

fn address(config: &VaultConfig, env: &Env<'_>) -> Result<String, ReloadError> {
    match (&config.address, text(env, "VAULT_ADDR")?) {
        (Some(own), _) => Ok(own.clone()),
        (None, Some(given)) => vault_address(&given).map(|_| given.clone()).map_err(|why| variable("VAULT_ADDR", why)),
        (None, None) => Ok(DEFAULT_ADDRESS.to_owned()),
    }
}

fn settings_in(config: &VaultConfig, asker: Asker, env: &Env<'_>) -> Result<VaultSettings, ReloadError> {
    let address = address(config, env)?;
    let file = |own: &Option<PathBuf>, name: &str| own.clone().or_else(|| env(name).map(PathBuf::from));
    let client_cert = match &config.client_cert {
        Some(both) => Some(both.clone()),
        None => match (env("VAULT_CLIENT_CERT"), env("VAULT_CLIENT_KEY")) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            _ => return Err(variable("VAULT_CLIENT_CERT", "it goes together with VAULT_CLIENT_KEY")),
        },
    };
    Ok(VaultSettings {
        address,
        namespace: config.namespace.clone().map_or_else(|| text(env, "VAULT_NAMESPACE"), |own| Ok(Some(own)))?,
        ca_file: file(&config.ca_file, "VAULT_CACERT"),
        client_cert,
        skip_verify: config.skip_verify || flag(env, "VAULT_SKIP_VERIFY")?,
        login: login(config.auth.as_ref(), asker, env)?,
        also_warn: unheeded(config, env),
    })
}

/// The variables of Vault's and OpenBao's own tools that are set, and lead nowhere here.
fn unheeded(config: &VaultConfig, env: &Env<'_>) -> Vec<String> {
    let is_set = |name: &str| env(name).is_some();
    // Those that are heeded by Vault's name for them.
    let renamed = [
        ("ADDR", "address", config.address.is_some()),
        ("TOKEN", "auth", config.auth.is_some()),
        ("NAMESPACE", "namespace", config.namespace.is_some()),
        ("CACERT", "ca_file", config.ca_file.is_some()),
        ("CLIENT_CERT", "client_cert", config.client_cert.is_some()),
        ("CLIENT_KEY", "client_key", config.client_cert.is_some()),
        ("SKIP_VERIFY", "skip_verify", config.skip_verify),
    ];
    let renamed = renamed.into_iter().filter(|(name, _, said)| !said && is_set(&format!("BAO_{name}")) && !is_set(&format!("VAULT_{name}")));
    let renamed = renamed.map(|(name, key, _)| (format!("BAO_{name}"), format!("set VAULT_{name}, or `{key}` in [vault]")));
    let has_ca = config.ca_file.is_some() || is_set("VAULT_CACERT");
    let unknown = [
        ("CAPATH", "write the certificates of its directory into one file, and name that (VAULT_CACERT, or `ca_file` in [vault])", has_ca),
        ("CACERT_BYTES", "write the certificate into a file, and name that (VAULT_CACERT, or `ca_file` in [vault])", has_ca),
        ("TLS_SERVER_NAME", "give the address by a name that the certificate has (VAULT_ADDR, or `address` in [vault])", false),
        ("AGENT_ADDR", "give the agent's address as VAULT_ADDR, or `address` in [vault]", config.address.is_some()),
        ("PROXY_ADDR", "Vault is asked directly: give an address that is reached without a proxy", false),
    ];
    let unknown = unknown.into_iter().filter(|(.., said)| !said).flat_map(|(name, mend, _)| {
        let names = ["VAULT", "BAO"].map(|tool| format!("{tool}_{name}"));
        names.into_iter().map(move |name| (name, mend.to_owned()))
    });
    let unknown = unknown.filter(|(name, _)| is_set(name));
    renamed.chain(unknown).map(|(name, mend)| format!("{name} is set, but not heeded: {mend}")).collect()
}

fn login(auth: Option<&VaultAuth>, asker: Asker, env: &Env<'_>) -> Result<Login, ReloadError> {
    Ok(match auth {
        Some(VaultAuth::AppRole { wrapped: true, .. }) if asker == Asker::Command => given_token(env)?.ok_or_else(|| ReloadError::Setting {
            key: "vault.auth",
            why: "`wrapped` opens once, and this command leaves that to the proxy of `serve` or `run`: set VAULT_TOKEN for this command, or unwrap \
                  the secret id into a file and leave `wrapped` away"
                .to_owned(),
        })?,
        Some(VaultAuth::Token { file: Some(file) }) => Login::TokenFile(file.clone()),
        None | Some(VaultAuth::Token { file: None }) => token(env)?,
        Some(VaultAuth::AppRole { mount, role_id, secret_id_file, wrapped }) => Login::AppRole {
            mount: mount.clone(),
            role_id: match role_id {
                RoleId::Given(role_id) => role_id.clone(),
                RoleId::File(file) => role_id_of(file)?,
            },
            secret_id_file: secret_id_file.clone(),
            wrapped: *wrapped,
        },
        Some(VaultAuth::Jwt { mount, role, jwt_file }) => Login::Jwt { mount: mount.clone(), role: role.clone(), jwt_file: jwt_file.clone() },
    })
}

fn given_token(env: &Env<'_>) -> Result<Option<Login>, ReloadError> {
    let token = env("VAULT_TOKEN").map(|token| Secret::accept(Zeroizing::new(token.into_vec()), true)).transpose();
    token.map(|token| token.map(Login::Token)).map_err(|e| variable("VAULT_TOKEN", &e.to_string()))
}

fn token(env: &Env<'_>) -> Result<Login, ReloadError> {
    if let Some(given) = given_token(env)? {
        return Ok(given);
    }
    let helper = env("HOME").map(|home| PathBuf::from(home).join(TOKEN_HELPER)).filter(|file| file.exists());
    let other = if env("BAO_TOKEN").is_some() { " (BAO_TOKEN is not heeded)" } else { "" };
    helper.map(Login::TokenFile).ok_or_else(|| ReloadError::Setting {
        key: "vault.auth",
        why: format!("there is no way to log in to Vault: set VAULT_TOKEN{other}, run `vault login`, or write `auth` here"),
    })
}

fn role_id_of(file: &Path) -> Result<String, ReloadError> {
    let fail = |why: &str| ReloadError::Setting { key: "vault.auth", why: format!("role_id_file {}: {why}", file.display()) };
    let text = std::fs::read_to_string(file).map_err(|e| fail(&format!("it cannot be read: {e}")))?;
    let role_id = text.trim();
    if role_id.is_empty() || role_id.contains(char::is_whitespace) { Err(fail("it holds no role id")) } else { Ok(role_id.to_owned()) }
}

fn text(env: &Env<'_>, name: &'static str) -> Result<Option<String>, ReloadError> {
    env(name).map(|value| value.into_string().map_err(|_| variable(name, "it is not UTF-8"))).transpose()
}

/// A flag as Go's `strconv.ParseBool` reads it, which Vault's own tools use.
fn flag(env: &Env<'_>, name: &'static str) -> Result<bool, ReloadError> {
    match text(env, name)?.as_deref() {
        None | Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
        Some(_) => Err(variable(name, "it is neither true nor false")),
    }
}

fn variable(name: &str, why: &str) -> ReloadError {
    ReloadError::Other(format!("the variable {name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &VaultConfig, pairs: &[(&str, &str)]) -> Result<VaultSettings, String> {
        let env = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        settings_in(config, Asker::Proxy, &env).map_err(|e| e.to_string())
    }

    #[test]
    fn the_environment_fills_in_what_the_file_leaves_out() {
        let token = ("VAULT_TOKEN", "hvs.test");
        let default = VaultConfig::default();
        let settings = read(&default, &[token]).expect("enough");
        assert_eq!(settings.address, "https://127.0.0.1:8200");
        assert!(matches!(settings.login, Login::Token(_)) && !settings.skip_verify);
        let all = [token, ("VAULT_ADDR", "http://v.example:8200"), ("VAULT_NAMESPACE", "team"), ("VAULT_SKIP_VERIFY", "t"), ("VAULT_CACERT", "/ca")];
        let settings = read(&default, &all).expect("good");
        assert_eq!((settings.address.as_str(), settings.namespace.as_deref()), ("http://v.example:8200", Some("team")));
        assert!(settings.skip_verify && settings.ca_file == Some("/ca".into()));
        let own = VaultConfig { address: Some("https://own.example".into()), namespace: Some("own".into()), ..VaultConfig::default() };
        let settings = read(&own, &all).expect("good");
        assert_eq!((settings.address.as_str(), settings.namespace.as_deref()), ("https://own.example", Some("own")), "the file comes first");
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        let default = VaultConfig::default();
        for (pairs, want) in [
            (&[("VAULT_ADDR", "v.example")][..], "VAULT_ADDR"),
            (&[("VAULT_SKIP_VERIFY", "yes"), ("VAULT_TOKEN", "x")], "VAULT_SKIP_VERIFY"),
            (&[("VAULT_CLIENT_CERT", "/c"), ("VAULT_TOKEN", "x")], "VAULT_CLIENT_KEY"),
            (&[], "VAULT_TOKEN, run `vault login`"),
        ] {
            let error = read(&default, pairs).err().expect(want);
            assert!(error.contains(want), "{error}");
        }
        let error = read(&default, &[("VAULT_TOKEN", "hvs.te\nst")]).err().expect("refused");
        assert!(!error.contains("hvs"), "{error}");
    }

    #[test]
    fn a_token_that_vault_login_left_is_found() {
        let home = tempfile::tempdir().expect("temp dir");
        std::fs::write(home.path().join(TOKEN_HELPER), "hvs.test").expect("written");
        let at = home.path().to_str().expect("UTF-8");
        let login = |pairs: &[(&str, &str)]| read(&VaultConfig::default(), pairs).expect("found").login;
        assert!(matches!(login(&[("HOME", at)]), Login::TokenFile(file) if file == home.path().join(TOKEN_HELPER)));
        assert!(matches!(login(&[("HOME", at), ("VAULT_TOKEN", "hvs.x")]), Login::Token(_)));
    }

    #[test]
    fn a_wrapped_secret_id_is_left_to_the_proxy() {
        let auth = |wrapped| {
            let role_id = RoleId::Given("r".into());
            Some(VaultAuth::AppRole { mount: "approle".into(), role_id, secret_id_file: Some("/s".into()), wrapped })
        };
        let login = |wrapped, asker, token: Option<&str>| {
            let config = VaultConfig { auth: auth(wrapped), ..VaultConfig::default() };
            let env = |name: &str| token.filter(|_| name == "VAULT_TOKEN").map(OsString::from);
            settings_in(&config, asker, &env).map(|s| s.login)
        };
        assert!(matches!(login(true, Asker::Proxy, Some("hvs.x")), Ok(Login::AppRole { wrapped: true, .. })));
        assert!(matches!(login(true, Asker::Command, Some("hvs.x")), Ok(Login::Token(_))));
        assert!(matches!(login(false, Asker::Command, Some("hvs.x")), Ok(Login::AppRole { wrapped: false, .. })));
        let error = login(true, Asker::Command, None).err().expect("refused");
        assert!(matches!(error, ReloadError::Setting { key: "vault.auth", .. }));
        let error = error.to_string();
        assert!(["`wrapped` opens once", "set VAULT_TOKEN", "leave `wrapped` away"].iter().all(|w| error.contains(w)), "{error}");
        assert!(!error.contains('\n') && !error.contains("  "), "{error}");
    }

    #[test]
    fn a_variable_that_leads_nowhere_is_told() {
        let token = ("VAULT_TOKEN", "hvs.test");
        let warned = |config: &VaultConfig, pairs: &[(&str, &str)]| read(config, &[&[token], pairs].concat()).expect("good").also_warn;
        let default = VaultConfig::default();
        assert!(warned(&default, &[("VAULT_ADDR", "http://v"), ("VAULT_CACERT", "/ca"), ("VAULT_NAMESPACE", "n")]).is_empty());
        for (name, mend) in [
            ("BAO_ADDR", "set VAULT_ADDR, or `address`"),
            ("BAO_NAMESPACE", "set VAULT_NAMESPACE"),
            ("BAO_CACERT", "set VAULT_CACERT, or `ca_file`"),
            ("BAO_SKIP_VERIFY", "set VAULT_SKIP_VERIFY"),
            ("BAO_CLIENT_KEY", "set VAULT_CLIENT_KEY"),
            ("VAULT_CAPATH", "VAULT_CACERT"),
            ("BAO_CAPATH", "VAULT_CACERT"),
            ("VAULT_CACERT_BYTES", "VAULT_CACERT"),
            ("VAULT_TLS_SERVER_NAME", "VAULT_ADDR"),
            ("VAULT_AGENT_ADDR", "VAULT_ADDR"),
            ("VAULT_PROXY_ADDR", "directly"),
        ] {
            let said = warned(&default, &[(name, "hidden")]);
            assert!(
                said.len() == 1 && said[0].starts_with(&format!("{name} is set, but not heeded: ")) && said[0].contains(mend),
                "{name}: {said:?}"
            );
            assert!(!said[0].contains("hidden"), "{said:?}");
        }
        // What is said otherwise is not asked for again: whoever has both tools sets both variables.
        assert!(warned(&default, &[("BAO_TOKEN", "hvs.test"), ("BAO_ADDR", "http://v"), ("VAULT_ADDR", "http://v")]).is_empty());
        let own = VaultConfig { address: Some("https://own.example".into()), ca_file: Some("/ca".into()), ..VaultConfig::default() };
        assert!(warned(&own, &[("BAO_ADDR", "http://v"), ("VAULT_CAPATH", "/certs"), ("BAO_CACERT", "/ca")]).is_empty());
        // Where a token is missing, the error says it.
        let error = read(&default, &[("BAO_TOKEN", "hvs.hidden")]).err().expect("refused");
        assert!(error.contains("BAO_TOKEN is not heeded") && !error.contains("hidden"), "{error}");
    }
}
