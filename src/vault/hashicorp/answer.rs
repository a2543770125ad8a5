//! One answer of Vault, and what its status means.

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::error::{self, VaultError, VaultErrorKind};

/// What came back, whatever its status.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// The path that was asked, as a policy names it.
    pub(super) path: String,
    /// The capability that it takes.
    pub(super) verb: &'static str,
    /// Vault's own `errors`, on one line, without anything that was sent as a secret.
    pub(super) said: String,
    /// Where Vault is, for messages.
    pub(super) at: String,
}

impl Answer {
    /// The answer, where it is a good one.
    ///
    /// # Errors
    /// [`VaultError`] for any status but 2xx.
    pub(super) fn ok(self) -> Result<Self, VaultError> {
        if (200..300).contains(&self.status) { Ok(self) } else { Err(self.failure()) }
    }

    /// Whether Vault itself says this, and not what stands before it: each of its answers is an object with `errors`, `data` or
    /// `warnings`. A page of an ingress must neither end a value nor have a token replaced.
    pub(super) fn is_vaults(&self) -> bool {
        #[derive(serde::Deserialize)]
        struct Members<'a> {
            #[serde(borrow)]
            errors: Option<&'a RawValue>,
            #[serde(borrow)]
            data: Option<&'a RawValue>,
            #[serde(borrow)]
            warnings: Option<&'a RawValue>,
        }
        let is_list = |raw: &RawValue| raw.get().starts_with('[');
        serde_json::from_slice::<Members<'_>>(&self.body)
            .is_ok_and(|m| m.errors.is_some_and(is_list) || m.warnings.is_some_and(is_list) || m.data.is_some_and(|d| d.get().starts_with('{')))
    }

    /// Whether Vault itself refuses it: 403.
    pub(super) fn is_refusal(&self) -> bool {
        self.status == 403 && self.is_vaults()
    }

    /// Whether Vault itself says that there is nothing: 404.
    pub(super) fn is_nothing(&self) -> bool {
        self.status == 404 && self.is_vaults()
    }

    /// What a status other than 2xx means.
    pub(super) fn failure(&self) -> VaultError {
        use VaultErrorKind as K;
        let Self { status, path, verb, said, at, .. } = self;
        let words = if said.is_empty() { String::new() } else { format!(": {said}") };
        match status {
            300..=399 => VaultError::new(
                K::Unavailable,
                format!("Vault at {at} sends requests elsewhere (status {status}): give the address that it means (VAULT_ADDR)"),
            ),
            _ if !self.is_vaults() => VaultError::new(
                K::Unavailable,
                format!("what answers at {at} is no Vault (status {status}): look at what stands before it, or correct the address (VAULT_ADDR)"),
            ),
            403 => error::denied(verb, path),
            404 if said.contains("no handler for route") => error::no_mount(path),
            404 => VaultError::new(K::NotFound, format!("Vault has nothing at {path}")),
            // KV version 2 in its first moments.
            400 if said.contains("Upgrading from non-versioned") => {
                VaultError::new(K::Unavailable, format!("Vault at {at} is not ready yet for {path}{words}"))
            }
            503 if said.contains("ealed") || said.contains("not initialized") => {
                VaultError::new(K::Sealed, format!("Vault at {at} is sealed: `vault operator unseal` opens it"))
            }
            429 | 472 | 473 | 412 | 500..=599 => VaultError::new(K::Unavailable, format!("Vault at {at} cannot serve now (status {status}){words}")),
            _ => VaultError::new(K::BadAnswer, format!("Vault refuses \"{verb}\" on {path} (status {status}){words}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let said = if body.contains("sealed") { "Vault is sealed" } else { "" }.to_owned();
        let body = Zeroizing::new(body.as_bytes().to_vec());
        Answer { status, body, path: "secret/data/a".into(), verb: "read", said, at: "https://v".into() }
    }

    #[test]
    fn what_a_stranger_says_is_an_outage() {
        let pages = ["<html>404</html>", "", "404 page not found", "{\"message\":\"no Route matched\"}", "[]", "\"errors\"", "{\"errors\":\"x\"}"];
        for page in pages {
            for status in [302, 400, 401, 403, 404, 405, 407, 410, 451, 503] {
                let error = answer(status, page).failure();
                assert!(error.kind.is_outage(), "{status} {page}: {error}");
                assert!(error.to_string().contains("https://v") && error.to_string().contains("VAULT_ADDR"), "{error}");
            }
            assert!(!answer(403, page).is_refusal() && !answer(404, page).is_nothing());
        }
    }

    #[test]
    fn what_vault_says_is_believed() {
        use VaultErrorKind as K;
        let warned = r#"{"request_id":"","lease_id":"","data":null,"warnings":["Invalid path for a versioned K/V secrets engine."]}"#;
        for (status, body, kind) in [
            (403, r#"{"errors":["permission denied"]}"#, K::Denied),
            (404, r#"{"errors":[]}"#, K::NotFound),
            (404, warned, K::NotFound),
            (404, r#"{"data":{"data":null},"warnings":null}"#, K::NotFound),
            (405, r#"{"errors":[]}"#, K::BadAnswer),
            (503, r#"{"errors":["Vault is sealed"]}"#, K::Sealed),
        ] {
            assert_eq!(answer(status, body).failure().kind, kind, "{status} {body}");
        }
        assert!(answer(404, warned).is_nothing() && answer(403, r#"{"errors":[]}"#).is_refusal());
    }
}
