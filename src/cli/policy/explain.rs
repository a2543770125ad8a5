//! `keyhatch policy explain`

use clap::Args;
use http::Method;
use http::uri::PathAndQuery;

use crate::agent::AgentName;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::config::Config;
use crate::host::{Authority, refusal};
use crate::policy::{Explanation, Facts, Scheme, Snapshot};
use crate::server;

/// Say which rule and which credential a request would meet, and why; sends nothing
///
/// With --json, an object: decision (injected, tunnelled, forwarded, denied), credential,
/// pattern, reason, detail. Names are not looked up, so `private_address` is seen only where
/// the URL holds an address.
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
    let base = ctx.base()?;
    let snapshot = Snapshot::compile(&base.picture(ctx)?.roster, server::egress(&base.config), 0);
    let view = snapshot.agent(agent.as_str());
    let view = view.ok_or_else(|| CommandError::not_found(format!("there is no agent `{agent}`")).hint("see `keyhatch agent list`"))?;
    let facts = Facts { method: &request.method, path: request.target.path(), pick: None };
    let explanation = snapshot.explain(view, request.scheme, &request.authority, &facts);
    let explanation = check_method(&request, check_address(&request, &base.config, explanation));
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
    target: PathAndQuery,
    scheme: Scheme,
    authority: Authority,
}

impl Request {
    /// The host may be an internationalised name, which `http::Uri` does not take; the rest is as it would be sent.
    fn parse(method: &str, url: &str) -> Result<Self, CommandError> {
        let bad = |why: &str| CommandError::usage(format!("that is no URL: {why}")).hint("give one such as https://openrouter.ai/api/v1/models");
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| CommandError::usage("that is no method").hint("give one such as GET"))?;
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("it begins with https:// or http://"))?;
        let (scheme, port) = match scheme.to_ascii_lowercase().as_str() {
            "https" | "wss" => (Scheme::Https, 443),
            "http" | "ws" => (Scheme::Http, 80),
            _ => return Err(bad("it begins with https:// or http://")),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let authority = Authority::parse(authority, Some(port)).map_err(|e| bad(&e.to_string()))?;
        Ok(Self { method, target: target.parse().map_err(|e: http::uri::InvalidUri| bad(&e.to_string()))?, scheme, authority })
    }
}

/// The snapshot decides by names; an address in the URL is judged as the proxy judges it before it connects.
fn check_address(request: &Request, config: &Config, explanation: Explanation) -> Explanation {
    let refused = request.authority.host.ip().and_then(|ip| Some((ip, refusal(ip)?)));
    let Some((ip, refused)) = refused.filter(|_| explanation.decision != "denied") else { return explanation };
    let overridden = config.resolve.iter().any(|(from, _)| *from == request.authority);
    if overridden || config.egress.allow_private || config.egress.allow_cidrs.iter().any(|net| net.contains(&ip)) {
        return explanation;
    }
    let detail = format!("{ip} is a special-purpose address ({}), and [egress] does not allow it", refused.block);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let read = |url: &str| Request::parse("GET", url).map(|r| format!("{} {}", r.authority, r.target));
        for (url, want) in [
            ("https://openrouter.ai", "openrouter.ai:443 /"),
            ("HTTPS://OpenRouter.AI./a/%2e?q=1#f", "openrouter.ai:443 /a/%2e?q=1"),
            ("http://h?x", "h:80 /?x"),
            ("https://b\u{fc}cher.example:8443/x", "xn--bcher-kva.example:8443 /x"),
            ("https://[::1]/", "[::1]:443 /"),
        ] {
            assert_eq!(read(url).expect(url), want);
        }
        for url in ["openrouter.ai", "ftp://h/", "https://", "https://u@h/", "https://h:0/", "https://h/a b"] {
            assert_eq!(read(url).expect_err(url).kind.code(), 2, "{url}");
        }
    }
}
