//! HashiCorp Vault and OpenBao, which speaks the same API.
//!
//! This file alone names `vaultrs`, `rustify` and `reqwest`: it makes one HTTP exchange of one `Call`. vaultrs gives the
//! endpoints' types; rustify makes requests of them; reqwest sends those. vaultrs' own client is not used: it obeys `HTTP_PROXY`, reads
//! `VAULT_*` by itself, does not show the body of an answer with another status than 2xx (a soft-deleted version is a 404 with one), and
//! cannot read OpenBao's `sys/health`. What is held here of a body is wiped; reqwest's own buffers are not in our hands.

mod answer;
mod answers;
mod cells;
mod client;
mod error;
mod folder;
mod keeper;
mod leases;
mod login;
mod paths;
mod queue;
mod renewal;
mod settings;
mod source;
mod tls;
mod transit;
mod wrapped;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderName, HeaderValue};
use rustify::client::Client as _;
use rustify::endpoint::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use vaultrs::api::auth::approle::requests::LoginWithApproleRequest;
use vaultrs::api::kv2::requests::{ListSecretsRequest, ReadSecretMetadataRequest, ReadSecretRequest};
use vaultrs::api::sys::requests::{ReadHealthRequest, UnwrapRequest, WrappingLookupRequest};
use vaultrs::api::token::requests::{LookupTokenSelfRequest, RenewTokenSelfRequest, RevokeTokenSelfRequest};
use vaultrs::api::transit::requests::{DecryptDataRequest, EncryptDataRequest};
use zeroize::{Zeroize as _, Zeroizing};

pub use answers::{Fields, Health, Lease, Metadata, Mount, MountKind, Reading, SignedCa, TokenInfo};
pub use cells::Wanted;
pub use client::{Vault, VaultStats};
pub use error::{VaultError, VaultErrorKind};
pub use folder::{Child, Entries, Folder, Listing, Made};
pub use paths::{Freshness, Standing};
pub use settings::{DEFAULT_ADDRESS, Login, VaultSettings};
pub use source::HashicorpSource;
pub use transit::TransitKey;

use crate::credential::Secret;
use answer::Answer;
use settings::Address;

/// To connect, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The whole call. A hung server takes connections and never answers.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How many redirects are followed: a standby names the active node in one.
const REDIRECTS: usize = 3;
/// How much of Vault's own words goes into an error, in characters.
const SAID_LIMIT: usize = 200;

/// One thing asked of Vault.
enum Call<'a> {
    /// `GET PATH`: KV version 1 and every other engine.
    Read {
        path: &'a str,
    },
    /// `LIST PATH`: the same.
    List {
        path: &'a str,
    },
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
    /// With check-and-set 0: only where there is nothing yet.
    Kv2Create {
        mount: &'a str,
        path: &'a str,
        fields: &'a [(&'a str, &'a Secret)],
    },
    /// Which engine is mounted above the path.
    MountOf {
        path: &'a str,
    },
    Health,
    LookupSelf,
    RenewSelf,
    RevokeSelf,
    WrappingLookup {
        token: &'a Secret,
    },
    /// The token is the wrapping token.
    Unwrap,
    LoginAppRole {
        mount: &'a str,
        role_id: &'a str,
        secret_id: Option<&'a Secret>,
    },
    LoginJwt {
        mount: &'a str,
        role: &'a str,
        jwt: &'a Secret,
    },
    RenewLease {
        id: &'a str,
    },
    RevokeLease {
        id: &'a str,
    },
    Encrypt {
        key: &'a TransitKey,
        plain: &'a Secret,
    },
    Decrypt {
        key: &'a TransitKey,
        ciphertext: &'a str,
    },
    Sign {
        path: &'a str,
        csr: &'a str,
        common_name: &'a str,
        ttl: Duration,
    },
}

/// An endpoint that vaultrs has not, or has with a body that would not be wiped.
struct Plain {
    method: RequestMethod,
    path: String,
    query: Option<String>,
    body: Option<Zeroizing<Vec<u8>>>,
}

impl Plain {
    fn new(method: RequestMethod, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: None, body: None }
    }

    fn post(path: impl Into<String>, body: &serde_json::Value) -> Self {
        Self { body: Some(Zeroizing::new(body.to_string().into_bytes())), ..Self::new(RequestMethod::POST, path) }
    }
}

impl Endpoint for Plain {
    type Response = serde::de::IgnoredAny;
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        self.method.clone()
    }

    fn query(&self) -> Result<Option<String>, rustify::errors::ClientError> {
        Ok(self.query.clone())
    }

    fn body(&self) -> Result<Option<Vec<u8>>, rustify::errors::ClientError> {
        Ok(self.body.as_ref().map(|b| b.to_vec()))
    }
}

/// The way to Vault: connections, time limits, TLS. It knows nothing of tokens' lives.
struct Wire {
    http: rustify::clients::reqwest::Client,
    namespace: Option<HeaderValue>,
    at: String,
}

impl Wire {
    /// Reads the files of the settings; connects to nothing.
    fn new(settings: &VaultSettings, address: &Address) -> Result<Self, VaultError> {
        let namespace = settings.namespace.as_deref().map(|n| n.trim_matches('/')).filter(|n| !n.is_empty());
        let namespace = namespace.map(HeaderValue::from_str).transpose();
        let namespace =
            namespace.map_err(|_| VaultError::settings("the namespace of Vault holds characters that no header takes (VAULT_NAMESPACE)"))?;
        let scheme = if address.https { "https" } else { "http" };
        let redirects = reqwest::redirect::Policy::custom(move |attempt| {
            // 307 and 308 keep method and body; the others would make a GET of a log-in. The token goes with it, so never to another scheme.
            match attempt.status().as_u16() {
                307 | 308 if attempt.url().scheme() == scheme && attempt.previous().len() <= REDIRECTS => attempt.follow(),
                _ => attempt.stop(),
            }
        });
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config(settings, address.https)?)
            .no_proxy()
            .http1_only()
            .referer(false)
            .redirect(redirects)
            .connect_timeout(CONNECT_LIMIT)
            .timeout(CALL_LIMIT)
            .build()
            .map_err(|_| VaultError::settings("the HTTP client for Vault cannot be set up"))?;
        let http = rustify::clients::reqwest::Client::new(&address.base, client);
        Ok(Self { http, namespace, at: address.shown().to_owned() })
    }

    /// Makes the call, with a token where one is given.
    ///
    /// # Errors
    /// [`VaultError`] where there is no answer. Any answer is `Ok`, also a refusal.
    async fn send(&self, call: &Call<'_>, token: Option<&Secret>) -> Result<Answer, VaultError> {
        match *call {
            Call::Read { path } => self.exchange(&Plain::new(RequestMethod::GET, path), token, "read").await,
            Call::List { path } => self.exchange(&Plain::new(RequestMethod::LIST, path), token, "list").await,
            Call::Kv2Read { mount, path, version } => {
                self.exchange(&ReadSecretRequest { mount: mount.into(), path: path.into(), version }, token, "read").await
            }
            Call::Kv2Metadata { mount, path } => {
                self.exchange(&ReadSecretMetadataRequest { mount: mount.into(), path: path.into() }, token, "read").await
            }
            Call::Kv2List { mount, path } => self.exchange(&ListSecretsRequest { mount: mount.into(), path: path.into() }, token, "list").await,
            Call::Kv2Create { mount, path, fields } => {
                let endpoint = Plain { body: Some(create_body(fields)?), ..Plain::new(RequestMethod::POST, format!("{mount}/data/{path}")) };
                self.exchange(&endpoint, token, "create").await
            }
            Call::MountOf { path } => self.exchange(&Plain::new(RequestMethod::GET, format!("sys/internal/ui/mounts/{path}")), token, "read").await,
            Call::Health => {
                let (yes, ok) = (Some(true), Some(200));
                let endpoint = ReadHealthRequest { standbyok: yes, perfstandbyok: yes, sealedcode: ok, uninitcode: ok, ..Default::default() };
                self.exchange(&endpoint, token, "read").await
            }
            Call::LookupSelf => self.exchange(&LookupTokenSelfRequest {}, token, "read").await,
            Call::RenewSelf => self.exchange(&RenewTokenSelfRequest { increment: None }, token, "update").await,
            Call::RevokeSelf => self.exchange(&RevokeTokenSelfRequest {}, token, "update").await,
            Call::WrappingLookup { token: wrapping } => {
                let mut endpoint = WrappingLookupRequest { token: text(wrapping)?.to_owned() };
                let answer = self.exchange_with(&endpoint, token, "update", Some(wrapping)).await;
                endpoint.token.zeroize();
                answer
            }
            Call::Unwrap => self.exchange(&UnwrapRequest { token: None }, token, "update").await,
            Call::LoginAppRole { mount, role_id, secret_id } => {
                let given = secret_id.map(text).transpose()?.unwrap_or_default();
                let mut endpoint = LoginWithApproleRequest { mount: mount.into(), role_id: role_id.into(), secret_id: given.to_owned() };
                let answer = self.exchange_with(&endpoint, token, "update", secret_id).await;
                endpoint.secret_id.zeroize();
                answer
            }
            Call::LoginJwt { mount, role, jwt } => {
                let mut body = Zeroizing::new(Vec::new());
                write_object(&mut body, &[("role", role.as_bytes()), ("jwt", jwt.expose())])?;
                let endpoint = Plain { body: Some(body), ..Plain::new(RequestMethod::POST, format!("auth/{mount}/login")) };
                self.exchange_with(&endpoint, token, "update", Some(jwt)).await
            }
            Call::RenewLease { id } => self.exchange(&Plain::post("sys/leases/renew", &serde_json::json!({ "lease_id": id })), token, "update").await,
            Call::RevokeLease { id } => {
                self.exchange(&Plain::post("sys/leases/revoke", &serde_json::json!({ "lease_id": id })), token, "update").await
            }
            Call::Encrypt { key, plain } => {
                let (mount, name) = (key.mount.clone(), key.name.clone());
                let mut endpoint = EncryptDataRequest { mount, name, plaintext: BASE64.encode(plain.expose()), ..Default::default() };
                let answer = self.exchange(&endpoint, token, "update").await;
                endpoint.plaintext.zeroize();
                answer
            }
            Call::Decrypt { key, ciphertext } => {
                let (mount, name) = (key.mount.clone(), key.name.clone());
                let endpoint = DecryptDataRequest { mount, name, ciphertext: ciphertext.into(), ..Default::default() };
                self.exchange(&endpoint, token, "update").await
            }
            Call::Sign { path, csr, common_name, ttl } => {
                // A length of 0: what is signed may sign leaves, and no further CA.
                let body = serde_json::json!({
                    "csr": csr, "common_name": common_name, "ttl": format!("{}s", ttl.as_secs()), "format": "pem",
                    "max_path_length": 0, "exclude_cn_from_sans": true,
                });
                self.exchange(&Plain::post(path, &body), token, "update").await
            }
        }
    }

    async fn exchange(&self, endpoint: &impl Endpoint, token: Option<&Secret>, verb: &'static str) -> Result<Answer, VaultError> {
        self.exchange_with(endpoint, token, verb, None).await
    }

    /// One request, one answer. `sent` is a secret in the body: neither it nor the token is repeated in an error.
    async fn exchange_with(
        &self,
        endpoint: &impl Endpoint,
        token: Option<&Secret>,
        verb: &'static str,
        sent: Option<&Secret>,
    ) -> Result<Answer, VaultError> {
        let path = endpoint.path().trim().trim_matches('/').to_owned();
        let unfit = |_| VaultError::settings(format!("no request to Vault can be made of {path:?}"));
        let mut request = endpoint.request(&self.http.base).map_err(unfit)?;
        let headers = request.headers_mut();
        headers.insert(HeaderName::from_static("x-vault-request"), HeaderValue::from_static("true"));
        if let Some(token) = token {
            let value = HeaderValue::from_bytes(token.expose());
            let mut value =
                value.map_err(|_| VaultError::new(VaultErrorKind::LoginRefused, "the token for Vault holds characters that no token has"))?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("x-vault-token"), value);
        }
        // The health of a server is asked outside all namespaces.
        if let Some(namespace) = self.namespace.as_ref().filter(|_| path != "sys/health") {
            headers.insert(HeaderName::from_static("x-vault-namespace"), namespace.clone());
        }
        let response = self.http.send(request).await.map_err(|e| self.trouble(e))?;
        let status = response.status().as_u16();
        let body = Zeroizing::new(response.into_body());
        let said = if (200..300).contains(&status) { String::new() } else { said(&body, &[token, sent]) };
        Ok(Answer { status, body, path, verb, said, at: self.at.clone() })
    }

    /// Why there is no answer. reqwest's own words are left out, for they repeat the URL; the innermost cause's are taken.
    fn trouble(&self, error: rustify::errors::ClientError) -> VaultError {
        use rustify::errors::ClientError as E;
        let (E::RequestError { source, .. } | E::ResponseError { source }) = error else {
            return VaultError::bad_answer(&self.at);
        };
        let at = &self.at;
        if source.chain().filter_map(|e| e.downcast_ref::<reqwest::Error>()).any(reqwest::Error::is_timeout) {
            let (connect, call) = (CONNECT_LIMIT.as_secs(), CALL_LIMIT.as_secs());
            return VaultError::new(
                VaultErrorKind::Timeout,
                format!("Vault at {at} did not answer within {call} s, or not connect within {connect} s"),
            );
        }
        if let Some(tls) = source.chain().find_map(tls_error) {
            return VaultError::new(VaultErrorKind::Tls, format!("TLS with Vault at {at} failed: {tls}; {}", tls_mend(tls)));
        }
        let cause = source.root_cause();
        VaultError::new(VaultErrorKind::Unreachable, format!("Vault at {at} cannot be reached: {cause}"))
    }
}

/// The error of rustls in another: an `io::Error` keeps what it wraps out of the chain of sources.
fn tls_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.downcast_ref::<rustls::Error>().or_else(|| tls_error(inner?))
}

fn tls_mend(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(_) => {
            "give the certificate of the CA that signed Vault's (VAULT_CACERT), and the address by a name that its certificate has"
        }
        _ => "is https right for this address, and does Vault ask for a client certificate (VAULT_CLIENT_CERT)?",
    }
}

/// A secret as text: JSON carries nothing else.
fn text(secret: &Secret) -> Result<&str, VaultError> {
    std::str::from_utf8(secret.expose()).map_err(|_| VaultError::settings("a secret that is not UTF-8 cannot be sent to Vault"))
}

/// `{"options":{"cas":0},"data":{...}}`, in memory that is wiped.
fn create_body(fields: &[(&str, &Secret)]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let mut body = Zeroizing::new(Vec::new());
    body.extend_from_slice(br#"{"options":{"cas":0},"data":"#);
    let fields = fields.iter().map(|(name, secret)| (*name, secret.expose())).collect::<Vec<_>>();
    write_object(&mut body, &fields)?;
    body.push(b'}');
    Ok(body)
}

/// Writes a JSON object of texts, growing the buffer once, so that no copy is left behind.
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

/// The `errors` of a refusal on one line. Where they repeat a secret that was sent, they are withheld.
fn said(body: &[u8], secrets: &[Option<&Secret>]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(body) else { return String::new() };
    let all = errors.join("; ");
    let repeats = |s: &&Secret| !s.expose().is_empty() && memchr::memmem::find(all.as_bytes(), s.expose()).is_some();
    if secrets.iter().flatten().any(repeats) {
        return "(its words are withheld: they repeat a secret)".to_owned();
    }
    let words = all.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ");
    words.chars().take(SAID_LIMIT).collect()
}
