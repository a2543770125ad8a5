//! `keyhatch policy explain`

use clap::Args;
use http::{Method, Uri};

use crate::agent::AgentName;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::config::Config;
use crate::host::{Authority, refusal};
use crate::policy::{Egress, Explanation, Facts, Scheme, Snapshot};

/// Say which rule and which credential a request would meet, and why; sends nothing
///
/// With --json, an object: decision (injected, tunnelled, forwarded, denied), credential,
/// pattern, reason, detail. Addresses are not looked up, so what `private_address` would refuse
/// is not seen here.
///
/// Examples:
///
///   keyhatch policy explain GET https://openrouter.ai/api/v1/models
///   keyhatch policy explain --agent builder POST https://openrouter.ai/api/v1/keys --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ExplainArgs {
    /// The agent whose grants count
    #[arg(long, value_name = "A", default_value = "default")]
    agent: String,
    /// The request's method
    method: String,
    /// The request's URL
    url: String,
}

pub(super) fn run(ctx: &Context, args: &ExplainArgs) -> Outcome {
    let agent = AgentName::parse(&args.agent)?;
    let request = Request::parse(&args.method, &args.url)?;
    let unlocked = ctx.unlock()?;
    let snapshot = Snapshot::compile(&unlocked.state()?.roster, egress(&unlocked.config), 0);
    let view = snapshot.agent(agent.as_str());
    let view = view.ok_or_else(|| CommandError::not_found(format!("there is no agent `{agent}`")).hint("see `keyhatch agent list`"))?;
    let facts = Facts { method: &request.method, path: request.uri.path(), pick: None };
    let explanation = snapshot.explain(view, request.scheme, &request.authority, &facts);
    let explanation = check_method(&request, check_address(&request, &unlocked.config, explanation));
    if ctx.out.json {
        ctx.out.json(&explanation)?;
    } else {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        ctx.out.fields(&[
            ("decision", explanation.decision.to_owned()),
            ("credential", or_none(explanation.credential)),
            ("pattern", or_none(explanation.pattern)),
            ("reason", explanation.reason),
            ("because", explanation.detail),
        ])?;
    }
    DONE
}

struct Request {
    method: Method,
    uri: Uri,
    scheme: Scheme,
    authority: Authority,
}

impl Request {
    fn parse(method: &str, url: &str) -> Result<Self, CommandError> {
        let bad = |why: &str| CommandError::usage(format!("that is no URL: {why}")).hint("give one such as https://openrouter.ai/api/v1/models");
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| CommandError::usage("that is no method").hint("give one such as GET"))?;
        let uri: Uri = url.parse().map_err(|e: http::uri::InvalidUri| bad(&e.to_string()))?;
        let (scheme, port) = match uri.scheme_str() {
            Some("https" | "wss") => (Scheme::Https, 443),
            Some("http" | "ws") => (Scheme::Http, 80),
            _ => return Err(bad("it begins with https:// or http://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?.as_str();
        let authority = Authority::parse(authority, Some(port)).map_err(|e| bad(&e.to_string()))?;
        Ok(Self { method, uri, scheme, authority })
    }
}

/// The egress rules of the configuration.
fn egress(config: &Config) -> Egress {
    let e = &config.egress;
    Egress { allow_by_default: e.allow_by_default, allow_hosts: e.allow_hosts.clone(), deny_hosts: e.deny_hosts.clone(), ports: e.ports.clone() }
}

/// An address that stands in the URL itself is judged without a look-up.
fn check_address(request: &Request, config: &Config, explanation: Explanation) -> Explanation {
    let Some(ip) = request.authority.host.ip() else { return explanation };
    let Some(refused) = refusal(ip).filter(|_| explanation.decision != "denied") else { return explanation };
    let overridden = config.resolve.iter().any(|(from, _)| *from == request.authority);
    if overridden || config.egress.allow_private || config.egress.allow_cidrs.iter().any(|net| net.contains(&ip)) {
        return explanation;
    }
    let detail = format!("{ip} is a special-purpose address ({}), and neither private_addresses nor allow_cidrs lets it pass", refused.block);
    Explanation { decision: "denied", reason: "private_address".to_owned(), detail, ..explanation }
}

/// Methods that no request inside a tunnel may have.
fn check_method(request: &Request, explanation: Explanation) -> Explanation {
    if explanation.decision != "injected" || !matches!(request.method, Method::TRACE | Method::CONNECT) {
        return explanation;
    }
    let detail = format!("{} is never sent to an origin that gets a credential", request.method);
    Explanation { decision: "denied", reason: "method_denied".to_owned(), detail, ..explanation }
}
