//! Where Vault is, how it is asked, and what of that is to be warned about.

use std::net::IpAddr;
use std::path::PathBuf;

use super::error::VaultError;
use crate::credential::Secret;

/// The address that Vault's own tools take where none is given.
pub const DEFAULT_ADDRESS: &str = "https://127.0.0.1:8200";

/// Where Vault is and how it is asked. It has no `Debug`: it may hold a token.
pub struct VaultSettings {
    /// `https://vault.example:8200`, as `VAULT_ADDR` has it; a path is taken as a prefix.
    pub address: String,
    /// Sent as `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// PEM certificates that Vault's is verified against; without it, the system's anchors.
    pub ca_file: Option<PathBuf>,
    /// A certificate and its key, PEM both, to show to Vault.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// Takes any certificate. Warned about.
    pub skip_verify: bool,
    /// How to come to a token.
    pub login: Login,
    /// What else is to be warned about: variables that are set and not heeded.
    pub also_warn: Vec<String>,
}

/// How to come to a token.
pub enum Login {
    /// The token itself (`VAULT_TOKEN`). It is renewed, and never revoked here.
    Token(Secret),
    /// A file with a token: a Vault Agent's sink, `~/.vault-token`. Read anew when it changes.
    TokenFile(PathBuf),
    /// `POST auth/MOUNT/login` with a role id and a secret id.
    AppRole {
        /// Where the method is mounted: `approle`.
        mount: String,
        /// The role's id.
        role_id: String,
        /// The file with the secret id; `None` where the role asks for none (`bind_secret_id=false`).
        secret_id_file: Option<PathBuf>,
        /// The file holds a wrapping token (`vault write -wrap-ttl`), which is unwrapped once.
        wrapped: bool,
    },
    /// `POST auth/MOUNT/login` with a role and a JWT: the `kubernetes` and `jwt` methods.
    Jwt {
        /// Where the method is mounted: `kubernetes`, `jwt`.
        mount: String,
        /// The role.
        role: String,
        /// The file with the JWT, read at each log-in: projected tokens are replaced.
        jwt_file: PathBuf,
    },
}

/// An address that was looked at.
pub(super) struct Address {
    /// `https://host:8200/prefix/v1`, no slash at its end.
    pub(super) base: String,
    pub(super) https: bool,
    loopback: bool,
}

impl Address {
    /// Reads an address. A password in it is refused and never printed.
    pub(super) fn parse(text: &str) -> Result<Self, VaultError> {
        let bad = |why: &str| VaultError::settings(format!("the address of Vault {why}; it is as {DEFAULT_ADDRESS} (VAULT_ADDR)"));
        let text = text.trim();
        if text.contains('@') {
            return Err(bad("holds a user name or a password, which Vault does not take"));
        }
        let uri = text.parse::<http::Uri>().map_err(|_| bad(&format!("cannot be read: {text:?}")))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad(&format!("must begin with https:// or http://: {text:?}"))),
        };
        let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(|| bad(&format!("names no host: {text:?}")))?;
        if uri.query().is_some() || text.contains('#') {
            return Err(bad(&format!("has a part that begins with ? or #: {text:?}")));
        }
        let loopback = is_loopback(host);
        let authority = uri.authority().map_or_else(|| host.to_owned(), ToString::to_string);
        let prefix = uri.path().trim_end_matches('/');
        let scheme = if https { "https" } else { "http" };
        Ok(Self { base: format!("{scheme}://{authority}{prefix}/v1"), https, loopback })
    }

    /// What to print: without the `/v1`.
    pub(super) fn shown(&self) -> &str {
        self.base.trim_end_matches("/v1")
    }
}

/// Whether a host of a URL is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())
}

impl VaultSettings {
    /// A Vault at this address, asked in the usual way: the system's anchors, no namespace, no certificate of one's own.
    #[must_use]
    pub fn new(address: impl Into<String>, login: Login) -> Self {
        let address = address.into();
        Self { address, namespace: None, ca_file: None, client_cert: None, skip_verify: false, login, also_warn: Vec::new() }
    }

    /// What is to be said at every start and by `doctor`: a way to Vault on which others may read or pose.
    pub(super) fn warnings(&self, address: &Address) -> Vec<String> {
        let mut out = self.also_warn.clone();
        if !address.https && !address.loopback {
            out.push(format!(
                "Vault is asked over plain http at {}: the token and every secret can be read on the way; give its https:// address",
                address.shown()
            ));
        }
        if self.skip_verify && address.https {
            out.push(format!(
                "the certificate of Vault at {} is not verified, so anyone on the way can pose as it: give its CA (VAULT_CACERT) instead of VAULT_SKIP_VERIFY",
                address.shown()
            ));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(address: &str, skip_verify: bool) -> VaultSettings {
        let login = Login::Token(Secret::from_opened(b"hvs.test"));
        VaultSettings { skip_verify, ..VaultSettings::new(address, login) }
    }

    #[test]
    fn addresses() {
        for (text, base) in [
            ("https://vault.example:8200", "https://vault.example:8200/v1"),
            (" http://127.0.0.1:8200/ ", "http://127.0.0.1:8200/v1"),
            ("https://[::1]:8200/vault/", "https://[::1]:8200/vault/v1"),
        ] {
            assert_eq!(Address::parse(text).expect(text).base, base);
        }
        for bad in ["", "vault.example:8200", "unix:///run/vault.sock", "https://", "https://v/?a", "https://v/#a", "ftp://v"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        let error = Address::parse("https://user:hunter2@v").err().expect("refused").to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn what_is_warned_about() {
        let warned = |address: &str, skip| {
            let settings = settings(address, skip);
            settings.warnings(&Address::parse(address).expect("good")).len()
        };
        assert_eq!(warned("https://v", false), 0);
        assert_eq!(warned("https://v", true), 1);
        assert_eq!(warned("http://v", true), 1);
        for own in ["http://127.0.0.1:1", "http://localhost", "http://LOCALHOST:8200", "http://[::1]:8200", "http://127.9.9.9"] {
            assert_eq!(warned(own, false), 0, "{own}");
        }
        assert_eq!(warned("http://127.0.0.1.example", false), 1);
    }
}
