//! What Vault answers, read out of its JSON. Values become [`Secret`]s without a stop in a type that could print them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::error::VaultError;
use super::unescape::unescaped;
use crate::credential::Secret;

/// The fields of a secret, by name. It has no `Debug`.
pub struct Fields(BTreeMap<String, Secret>);

/// One read of a secret.
pub struct Reading {
    /// Its fields.
    pub fields: Fields,
    /// The version that was read (KV version 2 alone has them).
    pub version: Option<u64>,
    /// When that version was written, in Vault's own words.
    pub created: Option<String>,
    /// The lease, where the engine gives one.
    pub lease: Option<Lease>,
}

/// A lease: how long a secret lives. It also ends with the token that it was read with ([`super::Vault::session`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its id, which renews and revokes it.
    pub id: String,
    /// How long it lives from now.
    pub duration: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
}

/// What KV version 2 says about a secret without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The current version; 0 where there is none yet.
    pub version: u64,
    /// When that version was written, in Vault's own words: an entry that was removed and made anew counts from 1 again.
    pub created: Option<String>,
    /// Whether the current version is soft-deleted or destroyed, or there is none.
    pub gone: bool,
    /// The custom metadata.
    pub custom: BTreeMap<String, String>,
}

/// Which engine is mounted where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// With a slash at its end: `secret/`.
    pub path: String,
    /// The engine.
    pub kind: MountKind,
}

/// An engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// Key/value, version 1.
    KvV1,
    /// Key/value, version 2.
    KvV2,
    /// Another one, by its type: `ssh`, `database`, ...
    Other(String),
}

/// What `sys/health` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Health {
    /// Whether it was ever initialised.
    #[serde(default)]
    pub initialized: bool,
    /// Whether it is sealed: it then serves nothing.
    #[serde(default)]
    pub sealed: bool,
    /// Whether it is a standby, which passes requests on.
    #[serde(default)]
    pub standby: bool,
    /// Its version, as `1.21.0`; OpenBao counts from 2.0.
    #[serde(default)]
    pub version: String,
}

/// What Vault says about the token in use. The token itself is not in it, nor its accessor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// How long it lives from now; `None` for one without an end.
    pub ttl: Option<Duration>,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Its policies, those of its identity too.
    pub policies: Vec<String>,
    /// `approle`, `token`, `kubernetes-default-keyhatch`, ...
    pub display_name: String,
}

/// What the PKI engine signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCa {
    /// The intermediate's certificate, PEM.
    pub certificate: String,
    /// Those above it, PEM, the signer first, the root last where Vault gives it.
    pub chain: Vec<String>,
}

/// A token as a log-in or a renewal gives it.
pub(super) struct Grant {
    pub(super) token: Arc<Secret>,
    /// How long it lives from now; `None` for one without an end.
    pub(super) ttl: Option<Duration>,
    pub(super) renewable: bool,
    pub(super) policies: Vec<String>,
}

impl Fields {
    /// A field's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.0.get(name)
    }

    /// The text of a field that is no secret: what `discover_fields` lets say where the value may go.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|field| std::str::from_utf8(field.expose()).ok()).map(str::to_owned)
    }

    /// Takes a field's value out.
    pub fn take(&mut self, name: &str) -> Option<Secret> {
        self.0.remove(name)
    }

    /// The names there are, sorted, for the message that one is missing.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Text, numbers (as written) and booleans become secrets; nested values and null have no place in a header and are left out.
    fn of(map: BTreeMap<String, &RawValue>) -> Self {
        let secret = |raw: &RawValue| {
            let text = raw.get();
            match text.as_bytes().first()? {
                b'"' => Some(Secret::from_opened(unescaped(raw)?.as_bytes())),
                b't' | b'f' | b'-' | b'0'..=b'9' => Some(Secret::from_opened(text.as_bytes())),
                _ => None,
            }
        };
        Self(map.into_iter().filter_map(|(name, raw)| Some((name, secret(raw)?))).collect())
    }
}

/// The frame round every answer of Vault.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(default)]
    lease_id: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    auth: Option<&'a RawValue>,
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, VaultError> {
    // serde's own message may quote the body, so it is left out.
    serde_json::from_slice(body).map_err(|_| VaultError::not_vaults(what))
}

/// The `data` of an answer.
fn data<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, VaultError> {
    let frame = parse::<Frame<'a>>(body, what)?;
    let raw = frame.data.ok_or_else(|| VaultError::not_vaults(what))?;
    serde_json::from_str(raw.get()).map_err(|_| VaultError::not_vaults(what))
}

/// Nothing where Vault means "without an end".
fn seconds(n: u64) -> Option<Duration> {
    (n > 0).then(|| Duration::from_secs(n))
}

/// KV version 2, `GET MOUNT/data/REST`. `None`: the version is soft-deleted or destroyed.
pub(super) fn kv2(body: &[u8], what: &str) -> Result<Option<Reading>, VaultError> {
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow, default)]
        data: Option<BTreeMap<String, &'a RawValue>>,
        #[serde(default)]
        metadata: Option<Version>,
    }
    #[derive(Deserialize)]
    struct Version {
        version: u64,
        #[serde(default)]
        created_time: Option<String>,
    }
    let found = data::<Data<'_>>(body, what)?;
    let (version, created) = found.metadata.map_or((None, None), |m| (Some(m.version), m.created_time));
    if found.data.is_none() && version.is_none() {
        return Err(VaultError::not_vaults(what));
    }
    Ok(found.data.map(|map| Reading { fields: Fields::of(map), version, created, lease: None }))
}

/// Any other engine: the data is the fields, and there may be a lease.
pub(super) fn plain(body: &[u8], what: &str) -> Result<Reading, VaultError> {
    let frame = parse::<Frame<'_>>(body, what)?;
    let map = data(body, what)?;
    // KV version 1 names a duration, but has no lease.
    let Frame { lease_id: id, lease_duration, renewable, .. } = frame;
    let lease = (!id.is_empty()).then(|| Lease { id, duration: Duration::from_secs(lease_duration), renewable });
    Ok(Reading { fields: Fields::of(map), version: None, created: None, lease })
}

/// `sys/leases/renew`.
pub(super) fn lease(body: &[u8]) -> Result<Lease, VaultError> {
    let frame = parse::<Frame<'_>>(body, "sys/leases/renew")?;
    Ok(Lease { id: frame.lease_id, duration: Duration::from_secs(frame.lease_duration), renewable: frame.renewable })
}

/// KV version 2, `GET MOUNT/metadata/REST`. `now` tells a deletion that is planned (`delete_version_after`) from one that has been.
pub(super) fn metadata(body: &[u8], what: &str, now: jiff::Timestamp) -> Result<Metadata, VaultError> {
    #[derive(Deserialize)]
    struct Data {
        current_version: u64,
        #[serde(default)]
        custom_metadata: Option<BTreeMap<String, String>>,
        versions: BTreeMap<String, Version>,
    }
    #[derive(Deserialize)]
    struct Version {
        #[serde(default)]
        created_time: Option<String>,
        #[serde(default)]
        deletion_time: String,
        #[serde(default)]
        destroyed: bool,
    }
    let mut found = data::<Data>(body, what)?;
    let deleted = |v: &Version| !v.deletion_time.is_empty() && v.deletion_time.parse::<jiff::Timestamp>().is_ok_and(|at| at <= now);
    let current = found.versions.remove(&found.current_version.to_string());
    let gone = current.as_ref().is_none_or(|v| v.destroyed || deleted(v));
    let (created, custom) = (current.and_then(|v| v.created_time), found.custom_metadata.unwrap_or_default());
    Ok(Metadata { version: found.current_version, created, gone, custom })
}

/// A LIST.
pub(super) fn keys(body: &[u8], what: &str) -> Result<Vec<String>, VaultError> {
    #[derive(Deserialize)]
    struct Data {
        keys: Vec<String>,
    }
    Ok(data::<Data>(body, what)?.keys)
}

/// `sys/internal/ui/mounts/PATH`, asked for `path`.
pub(super) fn mount(body: &[u8], path: &str) -> Result<Mount, VaultError> {
    #[derive(Deserialize)]
    struct Data {
        path: String,
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        options: Option<BTreeMap<String, String>>,
    }
    let found = data::<Data>(body, "sys/internal/ui/mounts")?;
    // Log-in methods are told without the `auth/` that they are under.
    let at = if path.starts_with("auth/") { format!("auth/{}", found.path) } else { found.path };
    let version = found.options.as_ref().and_then(|o| o.get("version")).map(String::as_str);
    let kind = match (found.kind.as_str(), version) {
        ("kv", Some("2")) => MountKind::KvV2,
        ("kv" | "generic", _) => MountKind::KvV1,
        _ => MountKind::Other(found.kind),
    };
    Ok(Mount { path: if at.ends_with('/') { at } else { at + "/" }, kind })
}

/// `sys/health`.
pub(super) fn health(body: &[u8]) -> Result<Health, VaultError> {
    parse(body, "sys/health")
}

/// `auth/token/lookup-self`.
pub(super) fn token_info(body: &[u8]) -> Result<TokenInfo, VaultError> {
    #[derive(Deserialize)]
    struct Data {
        ttl: u64,
        #[serde(default)]
        expire_time: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        renewable: Option<bool>,
        #[serde(default)]
        policies: Option<Vec<String>>,
        #[serde(default)]
        identity_policies: Option<Vec<String>>,
        #[serde(default)]
        display_name: String,
    }
    let found = data::<Data>(body, "auth/token/lookup-self")?;
    let policies = found.policies.into_iter().chain(found.identity_policies).flatten().collect();
    // One in its last second has a `ttl` of 0, as one without an end has.
    let ttl = found.expire_time.map(|_| Duration::from_secs(found.ttl)).or(seconds(found.ttl));
    Ok(TokenInfo { ttl, renewable: found.renewable.unwrap_or(false), policies, display_name: found.display_name })
}

/// The `auth` part of a log-in or a renewal.
pub(super) fn grant(body: &[u8], what: &str) -> Result<Grant, VaultError> {
    #[derive(Deserialize)]
    struct Auth<'a> {
        #[serde(borrow)]
        client_token: &'a RawValue,
        #[serde(default)]
        lease_duration: u64,
        #[serde(default)]
        renewable: bool,
        #[serde(default)]
        policies: Option<Vec<String>>,
    }
    let frame = parse::<Frame<'_>>(body, what)?;
    let raw = frame.auth.ok_or_else(|| VaultError::not_vaults(what))?;
    let auth = serde_json::from_str::<Auth<'_>>(raw.get()).map_err(|_| VaultError::not_vaults(what))?;
    let token = unescaped(auth.client_token).ok_or_else(|| VaultError::not_vaults(what))?;
    let token = Arc::new(Secret::from_opened(token.as_bytes()));
    Ok(Grant { token, ttl: seconds(auth.lease_duration), renewable: auth.renewable, policies: auth.policies.unwrap_or_default() })
}

/// One text field of an answer's data, where it is no secret: `creation_path`, `ciphertext`.
pub(super) fn text(body: &[u8], name: &str, what: &str) -> Result<String, VaultError> {
    let map = data::<BTreeMap<String, &RawValue>>(body, what)?;
    let raw = map.get(name).ok_or_else(|| VaultError::not_vaults(what))?;
    serde_json::from_str(raw.get()).map_err(|_| VaultError::not_vaults(what))
}

/// One text field in base64 that is a secret: transit's `plaintext`.
pub(super) fn base64_secret(body: &[u8], name: &str, what: &str) -> Result<Secret, VaultError> {
    let map = data::<BTreeMap<String, &RawValue>>(body, what)?;
    let text = map.get(name).and_then(|raw| unescaped(raw)).ok_or_else(|| VaultError::not_vaults(what))?;
    let plain = Zeroizing::new(BASE64.decode(text.as_bytes()).map_err(|_| VaultError::not_vaults(what))?);
    Ok(Secret::from_opened(&plain))
}

/// One text field that is a secret: a secret id.
pub(super) fn secret(body: &[u8], name: &str, what: &str) -> Result<Secret, VaultError> {
    data::<BTreeMap<String, &RawValue>>(body, what).map(Fields::of)?.take(name).ok_or_else(|| VaultError::not_vaults(what))
}

/// `sign-intermediate`.
pub(super) fn signed(body: &[u8], what: &str) -> Result<SignedCa, VaultError> {
    #[derive(Deserialize)]
    struct Data {
        certificate: String,
        #[serde(default)]
        issuing_ca: Option<String>,
        #[serde(default)]
        ca_chain: Option<Vec<String>>,
    }
    let found = data::<Data>(body, what)?;
    let certificate = found.certificate.trim().to_owned();
    let mut chain = Vec::<String>::new();
    // `ca_chain` begins with the certificate itself in some versions, and lacks the issuer in others.
    for pem in found.issuing_ca.into_iter().chain(found.ca_chain.unwrap_or_default()) {
        let pem = pem.trim().to_owned();
        if !pem.is_empty() && pem != certificate && !chain.contains(&pem) {
            chain.push(pem);
        }
    }
    Ok(SignedCa { certificate, chain })
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
