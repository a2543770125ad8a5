//! What can go wrong with Vault, in words for the operator.

use std::fmt::Display;

/// What kind of failure it is: what may be done next hangs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VaultErrorKind {
    /// No connection, or it broke off.
    Unreachable,
    /// TLS failed: a certificate that is not believed, mostly.
    Tls,
    /// No answer within the time limit.
    Timeout,
    /// Vault is sealed, or was never initialised (503).
    Sealed,
    /// Vault answers, but cannot serve now (429, 472, 473, any other 5xx), or what answers is no Vault: a page of what stands before
    /// it, a redirect that is not followed, a good status with something else than Vault's JSON.
    Unavailable,
    /// 403 with a token that is known to be good: the policy does not allow it.
    Denied,
    /// There is no good token: the log-in was refused, or the token given is over.
    LoginRefused,
    /// Nothing is at the path.
    NotFound,
    /// The version is soft-deleted or destroyed (KV version 2).
    Deleted,
    /// No engine is mounted where the path points.
    NoMount,
    /// Vault says that the request was wrong.
    BadAnswer,
    /// The settings cannot be used, or the call does not fit the engine.
    Settings,
}

impl VaultErrorKind {
    /// Whether it says nothing about the secret itself, so that a value read before may go on being used.
    #[must_use]
    pub fn is_outage(self) -> bool {
        matches!(self, Self::Unreachable | Self::Tls | Self::Timeout | Self::Sealed | Self::Unavailable | Self::LoginRefused)
    }

    /// One short word, for metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Sealed => "sealed",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::LoginRefused => "login_refused",
            Self::NotFound => "not_found",
            Self::Deleted => "deleted",
            Self::NoMount => "no_mount",
            Self::BadAnswer => "bad_answer",
            Self::Settings => "settings",
        }
    }
}

/// A failure, as one line for the operator: what happened, why, the mend. It holds no token, no secret and no secret id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct VaultError {
    /// What kind it is.
    pub kind: VaultErrorKind,
    /// The line.
    pub detail: String,
}

impl VaultError {
    /// An error of a kind.
    #[must_use]
    pub fn new(kind: VaultErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// Settings that cannot be used.
    pub(super) fn settings(detail: impl Into<String>) -> Self {
        Self::new(VaultErrorKind::Settings, detail)
    }

    /// An answer that cannot be understood: an outage, for it may well be a stranger's. `what` was asked for.
    pub(super) fn not_vaults(what: impl Display) -> Self {
        Self::new(VaultErrorKind::Unavailable, format!("Vault's answer to {what} cannot be understood: is the address that of a Vault?"))
    }
}

/// A 403, with the line that the token's policy lacks.
pub(super) fn denied(verb: &str, path: &str) -> VaultError {
    let line = policy_line(verb, path);
    VaultError::new(VaultErrorKind::Denied, format!("Vault refuses \"{verb}\" on {path}: the token's policy needs  {line}"))
}

/// A rule as it stands in a policy of Vault.
pub(super) fn policy_line(verb: &str, path: &str) -> String {
    format!("path \"{path}\" {{ capabilities = [\"{verb}\"] }}")
}

/// Nothing is mounted where the path points.
pub(super) fn no_mount(path: &str) -> VaultError {
    let first = path.split('/').next().unwrap_or(path);
    VaultError::new(
        VaultErrorKind::NoMount,
        format!("no engine of Vault is mounted at {first}/, so there is no {path}: `vault secrets list` shows the mounts"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_line_that_the_policy_needs() {
        let error = denied("read", "secret/data/openrouter");
        assert_eq!(
            error.to_string(),
            "Vault refuses \"read\" on secret/data/openrouter: the token's policy needs  path \"secret/data/openrouter\" { capabilities = [\"read\"] }"
        );
        assert!(!error.kind.is_outage());
        assert!(no_mount("kv/a/b").to_string().contains("at kv/, so there is no kv/a/b: `vault secrets list`"));
    }

    #[test]
    fn what_says_nothing_of_the_secret_is_an_outage() {
        use VaultErrorKind as K;
        for kind in [K::Unreachable, K::Tls, K::Timeout, K::Sealed, K::Unavailable, K::LoginRefused] {
            assert!(kind.is_outage(), "{}", kind.word());
        }
        for kind in [K::Denied, K::NotFound, K::Deleted, K::NoMount, K::BadAnswer, K::Settings] {
            assert!(!kind.is_outage(), "{}", kind.word());
        }
    }
}
