//! One question to an origin with a credential: by the same rules, to the same checked address, over the same verified TLS
//! as the proxy's requests.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;

use crate::agent::{AgentName, TokenDigest};
use crate::cli::base::Base;
use crate::cli::context::runtime;
use crate::cli::error::CommandError;
use crate::config::provider;
use crate::credential::Material;
use crate::host::Authority;
use crate::policy::{AgentEntry, Candidates, Decision, DenialCode, Egress, Facts, Permit, Pick, Roster, Scheme, Snapshot};
use crate::server;
use crate::upstream::resolve::{OURSELVES, Resolver};
use crate::upstream::{Dialer, OffLimits};
use crate::vault::local::CredentialInfo;

/// How long an origin may take to answer a question as small as this.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked, and of whom.
pub(super) struct Question {
    uri: Uri,
    authority: Authority,
    headers: Vec<(http::HeaderName, HeaderValue)>,
}

/// What the policy says of the question.
pub(super) enum Leave {
    /// The credential may go there.
    Given(Permit),
    /// It could, but is disabled or does not open.
    Unavailable(String),
}

impl Question {
    /// The provider's test URL, or `url` in its place.
    pub(super) fn new(info: &CredentialInfo, url: Option<&str>) -> Result<Self, CommandError> {
        let provider = info.entry.terms.provider.as_deref().and_then(provider::find);
        let text = url.or(provider.map(|p| p.test_url.as_str())).ok_or_else(|| {
            CommandError::usage(format!("credential `{}` is no provider's, so there is no test URL", info.entry.name)).hint("give one with --url")
        })?;
        let bad = |why: String| CommandError::usage(format!("that is no URL to ask: {why}")).hint("give one such as https://api.example.com/whoami");
        let uri: Uri = text.parse().map_err(|e: http::uri::InvalidUri| bad(e.to_string()))?;
        if uri.scheme_str() != Some("https") {
            return Err(bad("it does not begin with https://".to_owned()));
        }
        let authority = uri.authority().ok_or_else(|| bad("it has no host".to_owned()))?.as_str();
        let authority = Authority::parse(authority, Some(443)).map_err(|e| bad(e.to_string()))?;
        // The provider's own fields fit its own URL.
        let headers = provider.filter(|_| url.is_none()).map(|p| p.test_headers.clone()).unwrap_or_default();
        Ok(Self { uri, authority, headers })
    }

    /// Asks the policy whether the credential may go there, as for an agent that was granted this one alone.
    pub(super) fn judge(&self, info: &CredentialInfo) -> Result<Leave, CommandError> {
        let asker = AgentName::parse("test")?;
        let roster = Roster {
            credentials: vec![info.entry.clone()],
            agents: vec![AgentEntry { name: asker.clone(), token: TokenDigest::from_bytes([0; 32]), generation: 0 }],
            grants: vec![(asker.clone(), info.entry.id)],
        };
        // Nothing but the credential's own rules counts here.
        let egress = Egress { allow_by_default: false, allow_hosts: Vec::new(), deny_hosts: Vec::new(), ports: Vec::new() };
        let snapshot = Snapshot::compile(&roster, egress, 0);
        let candidates: Option<Candidates> = snapshot.agent(asker.as_str()).and_then(|a| snapshot.candidates(a, Scheme::Https, &self.authority));
        let refused = |why: String| CommandError::usage(format!("the credential may not go to {}: {why}", self.uri));
        let candidates =
            candidates.ok_or_else(|| refused("no pattern of it covers that host".to_owned()).hint("give a URL that it covers with --url"))?;
        let pick = Some(Pick::Explicit(info.entry.name.as_str()));
        match candidates.decide(&Facts { method: &Method::GET, path: self.uri.path(), pick }) {
            Decision::Inject(permit, _) => Ok(Leave::Given(permit)),
            Decision::Deny(denial) if denial.code == DenialCode::Unavailable => Ok(Leave::Unavailable(denial.reason)),
            Decision::Deny(denial) => Err(refused(denial.reason).hint("give a URL that its rules let pass with --url")),
        }
    }

    /// Asks, and gives back the status; nothing of the answer's body is read.
    pub(super) fn ask(&self, base: &Base, material: &Material) -> Result<StatusCode, CommandError> {
        let dialer = dialer(base)?;
        runtime()?.block_on(async {
            match tokio::time::timeout(PATIENCE, self.exchange(&dialer, material)).await {
                Ok(answer) => answer,
                Err(_) => {
                    Err(CommandError::failed(format!("{} did not answer within {} s", self.authority, PATIENCE.as_secs())).hint("try again later"))
                }
            }
        })
    }

    async fn exchange(&self, dialer: &Dialer, material: &Material) -> Result<StatusCode, CommandError> {
        let failed = |e: hyper::Error| CommandError::failed(format!("{} broke off: {e}", self.authority)).hint("try again later");
        let stream = dialer.connect(&self.authority, true, OURSELVES).await.map_err(|e| CommandError::failed(e.to_string()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let driver = tokio::spawn(connection);
        let answer = sender.send_request(self.request(material)?).await;
        driver.abort();
        Ok(answer.map_err(failed)?.status())
    }

    fn request(&self, material: &Material) -> Result<Request<Empty<bytes::Bytes>>, CommandError> {
        let target = self.uri.path_and_query().map_or("/", |p| p.as_str());
        let mut request = Request::builder().method(Method::GET).uri(target).header(header::HOST, self.authority.host_field(443));
        request = request.header(header::ACCEPT, "application/json");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request = request.header(material.name(), material.value());
        request.body(Empty::new()).map_err(CommandError::doing("the request cannot be made"))
    }
}

/// Connects as the proxy of this configuration does.
fn dialer(base: &Base) -> Result<Dialer, CommandError> {
    let dialer = server::dialer(&base.config, &base.own_keys()?, &Arc::new(Resolver::system()), &OffLimits::default());
    dialer.map_err(|e| CommandError::failed(e.to_string()))
}
