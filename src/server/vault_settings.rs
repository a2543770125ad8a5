//! How Vault is reached: `[vault]`, and for what it does not say the variables that Vault's own tools read.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::ReloadError;
use crate::config::{RoleId, VaultAuth, VaultConfig, vault_address};
use crate::credential::Secret;
use crate::environment;
use crate::vault::hashicorp::{DEFAULT_ADDRESS, Login, VaultSettings};

type Env<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// Where a token lies after `vault login`.
const TOKEN_HELPER: &str = ".vault-token";

/// What `[vault]` and the environment say together. The file comes first: a stray variable must not lead to another Vault.
///
/// # Errors
/// [`ReloadError`] where a variable cannot be understood, a file cannot be read, or there is no way to log in.
pub fn vault_settings(config: &VaultConfig) -> Result<VaultSettings, ReloadError> {
    settings_in(config, &environment::var)
}

fn settings_in(config: &VaultConfig, env: &Env<'_>) -> Result<VaultSettings, ReloadError> {
    let address = match (&config.address, text(env, "VAULT_ADDR")?) {
        (Some(own), _) => own.clone(),
        (None, Some(given)) => {
            vault_address(&given).map_err(|why| variable("VAULT_ADDR", why))?;
            given
        }
        (None, None) => DEFAULT_ADDRESS.to_owned(),
    };
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
        login: login(config.auth.as_ref(), env)?,
    })
}

fn login(auth: Option<&VaultAuth>, env: &Env<'_>) -> Result<Login, ReloadError> {
    Ok(match auth {
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

fn token(env: &Env<'_>) -> Result<Login, ReloadError> {
    if let Some(token) = env("VAULT_TOKEN") {
        let token = Secret::accept(Zeroizing::new(token.into_vec()), true).map_err(|e| variable("VAULT_TOKEN", &e.to_string()))?;
        return Ok(Login::Token(token));
    }
    let helper = env("HOME").map(|home| PathBuf::from(home).join(TOKEN_HELPER)).filter(|file| file.exists());
    helper.map(Login::TokenFile).ok_or_else(|| ReloadError::Setting {
        key: "vault.auth",
        why: "there is no way to log in to Vault: set VAULT_TOKEN, run `vault login`, or write `auth` here".to_owned(),
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
        settings_in(config, &env).map_err(|e| e.to_string())
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
}
