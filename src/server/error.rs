//! Why a server does not start, or keeps the state that it has.

use std::path::Path;

use super::listen::ListenError;
use crate::config::Config;
use crate::tls::{ListenerTlsError, TrustError};
use crate::vault::hashicorp::{VaultError, VaultErrorKind};

/// Why a state cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A value of the configuration that was read well and turned out bad in use: a file that is not there, say.
    #[error("key `{key}`: {why}")]
    Setting {
        /// The key with its table, as in `upstream.crl_files`.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Vault cannot be asked for what a key of the configuration names, or refuses it.
    #[error("`{key}` cannot be had: {error}")]
    Vault {
        /// The key with its table, as in `vault.discover`.
        key: &'static str,
        /// What Vault says.
        error: VaultError,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl ReloadError {
    /// What comes of a question for what a key names: a setting is at fault where the path or the engine is, else Vault.
    pub(super) fn vault(key: &'static str, error: VaultError) -> Self {
        match error.kind {
            VaultErrorKind::Settings | VaultErrorKind::NoMount => Self::Setting { key, why: error.to_string() },
            _ => Self::Vault { key, error },
        }
    }

    /// Whether waiting may mend it: Vault is away, sealed, or cannot serve. A refused log-in is no such thing.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Vault { error, .. } if error.kind.is_outage() && error.kind != VaultErrorKind::LoginRefused)
    }

    /// What is wrong with the files that origins are verified by.
    pub(super) fn trust(config: &Config, e: &TrustError) -> Self {
        let is_crl = |file: &Path| config.upstream.crl_files.iter().any(|f| f == file);
        match e.file() {
            Some(file) if is_crl(file) => Self::Setting { key: "upstream.crl_files", why: e.to_string() },
            Some(_) => Self::Setting { key: "upstream.extra_ca_files", why: e.to_string() },
            None => Self::Other(e.to_string()),
        }
    }

    /// What is wrong with the certificate of `tls_listen`.
    pub(super) fn listener(config: &Config, e: &ListenerTlsError) -> Self {
        let is_key = |file: &Path| config.proxy.tls_cert.as_ref().is_some_and(|(cert, key)| key == file && cert != file);
        let key = match e {
            ListenerTlsError::Read { file, .. } | ListenerTlsError::Content { file, .. } if is_key(file) => "proxy.tls_key",
            ListenerTlsError::NoName => "proxy.tls_listen",
            _ => "proxy.tls_cert",
        };
        Self::Setting { key, why: e.to_string() }
    }
}

/// Anything but a value of the configuration.
pub(super) fn failed(error: impl std::fmt::Display) -> ReloadError {
    ReloadError::Other(error.to_string())
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The store or the configuration cannot be put in force.
    #[error(transparent)]
    State(#[from] ReloadError),
    /// The audit log cannot be opened.
    #[error("the audit log cannot be opened: {0}")]
    Audit(String),
}
