//! HashiCorp Vault and OpenBao, which speaks the same API.
//!
//! This file alone names `vaultrs`, `rustify` and `reqwest`: it makes one HTTP exchange of one `Call`. vaultrs gives the
//! endpoints' types; rustify makes requests of them; reqwest sends those. vaultrs' own client is not used: it obeys `HTTP_PROXY`, reads
//! `VAULT_*` by itself, does not show the body of an answer with another status than 2xx (a soft-deleted version is a 404 with one), and
//! cannot read OpenBao's `sys/health`. What is held here of a body is wiped; reqwest's own buffers are not in our hands.

mod answer;
mod answers;
mod call;
mod cells;
mod client;
mod error;
mod field;
mod folder;
mod fuzzed;
mod keeper;
mod leases;
mod login;
mod mounts;
mod paths;
mod queue;
mod refusals;
mod renewal;
mod settings;
mod source;
mod tls;
mod transit;
mod unescape;
mod wrapped;

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rustify::client::Client as _;
use rustify::endpoint::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use vaultrs::api::kv2::requests::{ListSecretsRequest, ReadSecretMetadataRequest, ReadSecretRequest};
use vaultrs::api::sys::requests::{ReadHealthRequest, UnwrapRequest};
use vaultrs::api::token::requests::{LookupTokenSelfRequest, RenewTokenSelfRequest, RevokeTokenSelfRequest};
use vaultrs::api::transit::requests::DecryptDataRequest;
use zeroize::Zeroizing;

pub use answers::{Fields, Health, Lease, Metadata, Mount, MountKind, Reading, SignedCa, TokenInfo};
pub use cells::Wanted;
pub use client::{Vault, VaultStats};
pub use error::{VaultError, VaultErrorKind};
pub use field::{FieldError, unfit};
pub use folder::{Child, Entries, Folder, Listing, Made};
#[doc(hidden)]
pub use fuzzed::{Answers, answers};
pub use paths::{Freshness, Standing};
pub use settings::{DEFAULT_ADDRESS, Login, VaultSettings};
pub use source::HashicorpSource;
pub use transit::TransitKey;

use crate::credential::Secret;
use answer::Answer;
use call::{Call, Method, Written};
use settings::{Address, is_loopback};

/// To connect, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The whole call. A hung server takes connections and never answers.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How many redirects are followed: a standby names the active node in one.
const REDIRECTS: usize = 3;

/// As rustify takes it. Every endpoint here is of one of vaultrs' types, or this.
impl Endpoint for Written<'_> {
    type Response = serde::de::IgnoredAny;
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        match self.method {
            Method::Get => RequestMethod::GET,
            Method::List => RequestMethod::LIST,
            Method::Post => RequestMethod::POST,
        }
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
        let https = address.https;
        let redirects = reqwest::redirect::Policy::custom(move |attempt| {
            // The token goes along, so never to another scheme, and without TLS to this machine only.
            let to = attempt.url();
            let is_safe = if https { to.scheme() == "https" } else { to.scheme() == "http" && to.host_str().is_some_and(is_loopback) };
            // 307 and 308 keep method and body; the others would make a GET of a log-in.
            match attempt.status().as_u16() {
                307 | 308 if is_safe && attempt.previous().len() <= REDIRECTS => attempt.follow(),
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
        match call {
            Call::Kv2Read { mount, path, version } => {
                let endpoint = ReadSecretRequest { mount: (*mount).into(), path: (*path).into(), version: *version };
                self.exchange(&endpoint, call, token).await
            }
            Call::Kv2Metadata { mount, path } => {
                self.exchange(&ReadSecretMetadataRequest { mount: (*mount).into(), path: (*path).into() }, call, token).await
            }
            Call::Kv2List { mount, path } => self.exchange(&ListSecretsRequest { mount: (*mount).into(), path: (*path).into() }, call, token).await,
            Call::Health => {
                let (yes, ok) = (Some(true), Some(200));
                let endpoint = ReadHealthRequest { standbyok: yes, perfstandbyok: yes, sealedcode: ok, uninitcode: ok, ..Default::default() };
                self.exchange(&endpoint, call, token).await
            }
            Call::LookupSelf => self.exchange(&LookupTokenSelfRequest {}, call, token).await,
            Call::RenewSelf => self.exchange(&RenewTokenSelfRequest { increment: None }, call, token).await,
            Call::RevokeSelf => self.exchange(&RevokeTokenSelfRequest {}, call, token).await,
            Call::Unwrap => self.exchange(&UnwrapRequest { token: None }, call, token).await,
            Call::Decrypt { key, ciphertext } => {
                let (mount, name, ciphertext) = (key.mount.clone(), key.name.clone(), (*ciphertext).to_owned());
                self.exchange(&DecryptDataRequest { mount, name, ciphertext, ..Default::default() }, call, token).await
            }
            Call::Written(written) => self.exchange(written, call, token).await,
        }
    }

    /// One request, one answer.
    async fn exchange(&self, endpoint: &impl Endpoint, call: &Call<'_>, token: Option<&Secret>) -> Result<Answer, VaultError> {
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
        let said = if (200..300).contains(&status) { String::new() } else { call.said(&body, token) };
        Ok(Answer { status, body, path, verb: call.verb(), said, at: self.at.clone() })
    }

    /// Why there is no answer. reqwest's own words are left out, for they repeat the URL; the innermost cause's are taken.
    fn trouble(&self, error: rustify::errors::ClientError) -> VaultError {
        use rustify::errors::ClientError as E;
        let (E::RequestError { source, .. } | E::ResponseError { source }) = error else {
            return VaultError::not_vaults(&self.at);
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
