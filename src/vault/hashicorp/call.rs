//! What is asked of Vault: one `Call` each. Bodies are written here, into memory that is wiped.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::error::VaultError;
use super::transit::TransitKey;
use crate::credential::Secret;

/// How much of Vault's own words goes into an error, in characters.
const SAID_LIMIT: usize = 200;

/// One thing asked of Vault.
pub(super) enum Call<'a> {
    Kv2Read {
        mount: &'a str,
        path: &'a str,
        version: Option<u64>,
    },
    Kv2Metadata {
        mount: &'a str,
        path: &'a str,
    },
    Kv2List {
        mount: &'a str,
        path: &'a str,
    },
    Health,
    LookupSelf,
    RenewSelf,
    RevokeSelf,
    /// The token is the wrapping token.
    Unwrap,
    Decrypt {
        key: &'a TransitKey,
        ciphertext: &'a str,
    },
    Written(Written<'a>),
}

/// A method of HTTP, or Vault's own `LIST`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    List,
    Post,
}

/// A request that vaultrs has not, or has with a body that would not be wiped.
pub(super) struct Written<'a> {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<Zeroizing<Vec<u8>>>,
    /// The capability that it takes.
    verb: &'static str,
    /// The secret in the body, where Vault might repeat it.
    sent: Option<&'a Secret>,
    /// Whether it reads a secret, or lists some.
    is_read: bool,
}

impl<'a> Call<'a> {
    /// `GET PATH`: KV version 1 and every other engine.
    pub(super) fn read(path: &str) -> Self {
        Self::Written(Written { is_read: true, ..Written::new(Method::Get, path, "read") })
    }

    /// `LIST PATH`: the same.
    pub(super) fn list(path: &str) -> Self {
        Self::Written(Written { is_read: true, ..Written::new(Method::List, path, "list") })
    }

    /// Which engine is mounted above the path: `GET sys/internal/ui/mounts/PATH`.
    pub(super) fn mount_of(path: &str) -> Self {
        Self::Written(Written::new(Method::Get, format!("sys/internal/ui/mounts/{path}"), "read"))
    }

    /// `POST MOUNT/data/PATH` with check-and-set 0: only where there is nothing yet.
    pub(super) fn kv2_create(mount: &str, path: &str, fields: &[(&str, &Secret)]) -> Result<Self, VaultError> {
        let written = Written::new(Method::Post, format!("{mount}/data/{path}"), "create");
        Ok(Self::Written(Written { body: Some(create_body(fields)?), ..written }))
    }

    /// `POST sys/wrapping/lookup`.
    pub(super) fn wrapping_lookup(wrapping: &'a Secret) -> Result<Self, VaultError> {
        Self::post("sys/wrapping/lookup", &[("token", wrapping.expose())], Some(wrapping))
    }

    /// `POST auth/MOUNT/login` with a role id and, where the role asks for one, a secret id.
    pub(super) fn login_approle(mount: &str, role_id: &str, secret_id: Option<&'a Secret>) -> Result<Self, VaultError> {
        let given = secret_id.map(Secret::expose).unwrap_or_default();
        Self::post(format!("auth/{mount}/login"), &[("role_id", role_id.as_bytes()), ("secret_id", given)], secret_id)
    }

    /// `POST auth/MOUNT/login` with a role and a JWT.
    pub(super) fn login_jwt(mount: &str, role: &str, jwt: &'a Secret) -> Result<Self, VaultError> {
        Self::post(format!("auth/{mount}/login"), &[("role", role.as_bytes()), ("jwt", jwt.expose())], Some(jwt))
    }

    /// `POST sys/leases/renew`.
    pub(super) fn renew_lease(id: &str) -> Result<Self, VaultError> {
        Self::post("sys/leases/renew", &[("lease_id", id.as_bytes())], None)
    }

    /// `POST sys/leases/revoke`.
    pub(super) fn revoke_lease(id: &str) -> Result<Self, VaultError> {
        Self::post("sys/leases/revoke", &[("lease_id", id.as_bytes())], None)
    }

    /// `POST MOUNT/encrypt/NAME`.
    pub(super) fn encrypt(key: &TransitKey, plain: &Secret) -> Result<Self, VaultError> {
        let plain = plain.expose();
        // Longer than needed, and never grown: a growing buffer leaves copies behind.
        let mut text = Zeroizing::new(vec![0; plain.len() * 4 / 3 + 4]);
        let length = BASE64.encode_slice(plain, &mut text).expect("base64 makes four bytes of three");
        Self::post(format!("{}/encrypt/{}", key.mount, key.name), &[("plaintext", &text[..length])], None)
    }

    /// `POST PATH`, which ends in `sign-intermediate`.
    pub(super) fn sign(path: &str, csr: &str, common_name: &str, ttl: Duration) -> Self {
        // A length of 0: what is signed may sign leaves, and no further CA.
        let body = serde_json::json!({
            "csr": csr, "common_name": common_name, "ttl": format!("{}s", ttl.as_secs()), "format": "pem",
            "max_path_length": 0, "exclude_cn_from_sans": true,
        });
        let body = Some(Zeroizing::new(body.to_string().into_bytes()));
        Self::Written(Written { body, ..Written::new(Method::Post, path, "update") })
    }

    fn post(path: impl Into<String>, fields: &[(&str, &[u8])], sent: Option<&'a Secret>) -> Result<Self, VaultError> {
        let mut body = Zeroizing::new(Vec::new());
        write_object(&mut body, fields)?;
        Ok(Self::Written(Written { body: Some(body), sent, ..Written::new(Method::Post, path, "update") }))
    }

    /// The capability that it takes.
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::Kv2Read { .. } | Self::Kv2Metadata { .. } | Self::Health | Self::LookupSelf => "read",
            Self::Kv2List { .. } => "list",
            Self::RenewSelf | Self::RevokeSelf | Self::Unwrap | Self::Decrypt { .. } => "update",
            Self::Written(written) => written.verb,
        }
    }

    /// The secret in the body, where Vault might repeat it.
    fn sent(&self) -> Option<&Secret> {
        match self {
            Self::Written(written) => written.sent,
            _ => None,
        }
    }

    /// Whether it reads data, metadata or a list.
    pub(super) fn is_read(&self) -> bool {
        match self {
            Self::Kv2Read { .. } | Self::Kv2Metadata { .. } | Self::Kv2List { .. } => true,
            Self::Written(written) => written.is_read,
            _ => false,
        }
    }

    /// The `errors` of its refusal on one line. Where they repeat the token or a secret that was sent, they are withheld.
    pub(super) fn said(&self, body: &[u8], token: Option<&Secret>) -> String {
        #[derive(serde::Deserialize)]
        struct Errors {
            errors: Vec<String>,
        }
        let Ok(Errors { errors }) = serde_json::from_slice(body) else { return String::new() };
        let all = errors.join("; ");
        let repeats = |s: &Secret| !s.expose().is_empty() && memchr::memmem::find(all.as_bytes(), s.expose()).is_some();
        if [token, self.sent()].into_iter().flatten().any(repeats) {
            return "(its words are withheld: they repeat a secret)".to_owned();
        }
        let words = all.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ");
        words.chars().take(SAID_LIMIT).collect()
    }
}

impl Written<'_> {
    fn new(method: Method, path: impl Into<String>, verb: &'static str) -> Self {
        Self { method, path: path.into(), body: None, verb, sent: None, is_read: false }
    }
}

/// `{"options":{"cas":0},"data":{...}}`, in memory that is wiped.
fn create_body(fields: &[(&str, &Secret)]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    const HEAD: &[u8] = br#"{"options":{"cas":0},"data":"#;
    let mut body = Zeroizing::new(HEAD.to_vec());
    let fields = fields.iter().map(|(name, secret)| (*name, secret.expose())).collect::<Vec<_>>();
    write_object(&mut body, &fields)?;
    body.push(b'}');
    Ok(body)
}

/// Writes a JSON object of texts, growing the buffer once, so that no copy is left behind. One more byte fits after it.
fn write_object(body: &mut Zeroizing<Vec<u8>>, fields: &[(&str, &[u8])]) -> Result<(), VaultError> {
    // A character grows to six at most: `\u0001`.
    body.reserve_exact(fields.iter().map(|(n, v)| 6 * (n.len() + v.len()) + 6).sum::<usize>() + 4);
    let not_text = |_| VaultError::settings("a secret that is not UTF-8 cannot be sent to Vault");
    let mut before = b'{';
    for (name, value) in fields {
        body.push(before);
        before = b',';
        serde_json::to_writer(&mut **body, name).expect("a text is written to memory");
        body.push(b':');
        serde_json::to_writer(&mut **body, std::str::from_utf8(value).map_err(not_text)?).expect("a text is written to memory");
    }
    body.extend_from_slice(if before == b'{' { b"{}" } else { b"}" });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_holds_a_secret_is_written_without_growing() {
        let secret = Secret::from_opened("\u{1}\"\\\n, and ü".as_bytes());
        let key = TransitKey { mount: "transit".into(), name: "k".into() };
        let calls = [
            (Call::login_approle("approle", "role", Some(&secret)).expect("text"), "secret_id"),
            (Call::login_jwt("jwt", "role", &secret).expect("text"), "jwt"),
            (Call::wrapping_lookup(&secret).expect("text"), "token"),
            (Call::encrypt(&key, &secret).expect("text"), "plaintext"),
        ];
        for (call, field) in calls {
            let Call::Written(Written { body: Some(body), .. }) = call else { panic!("{field} is sent in memory that is not wiped") };
            let value = &serde_json::from_slice::<serde_json::Value>(&body).expect("JSON")[field];
            let wanted = if field == "plaintext" { BASE64.encode(secret.expose()) } else { String::from_utf8_lossy(secret.expose()).into_owned() };
            assert_eq!(value, &wanted, "{field}");
        }
        for length in 0..50 {
            let plain = vec![1; length];
            let mut body = Zeroizing::new(Vec::new());
            write_object(&mut body, &[("", &plain), ("a", &plain)]).expect("text");
            let room = 2 * (6 * length + 6) + 6 + 4;
            assert!(body.capacity() == room && body.len() < room, "{length}: grown to {}", body.capacity());
            assert!(matches!(Call::encrypt(&key, &Secret::from_opened(&plain)), Ok(Call::Written(_))), "{length}");
        }
    }
}
