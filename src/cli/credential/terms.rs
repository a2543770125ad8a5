//! From the options of `credential add` and the provider's file to the terms of a credential.

use clap::{Args, ValueEnum};
use http::{HeaderName, HeaderValue, Method};

use crate::cli::error::CommandError;
use crate::config::provider::{self, Provider};
use crate::credential::{CredentialName, DEFAULT_AUTH_HEADERS, PathRules, Presentation, Terms};
use crate::host::{HostPattern, PatternPort, WildcardBreadth};
use crate::policy::check_glob;

/// `--type`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Type {
    /// Authorization: Bearer SECRET
    Bearer,
    /// Authorization: Basic base64(SECRET); the secret is `user:password`
    Basic,
    /// A field of its own: see --header
    Header,
}

/// `--scrub`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnOff {
    /// Yes
    On,
    /// No
    Off,
}

/// Where the secret may go, and how it is presented.
#[derive(Debug, Args)]
pub(crate) struct TermsArgs {
    /// How the secret is presented [default: the provider's, else bearer]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Type>,
    /// The hosts it may go to; in the place of a provider's hosts and of its --path rules
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    allow: Vec<String>,
    /// Only paths that match a glob get it; in the place of a provider's such rules
    #[arg(long, value_name = "GLOB")]
    path: Vec<String>,
    /// Paths that match a glob are refused, before --path and whatever the case; added to a provider's
    #[arg(long, value_name = "GLOB")]
    deny_path: Vec<String>,
    /// Only requests with this method get it
    #[arg(long, value_name = "M")]
    method: Vec<String>,
    /// The header field that carries it (type header)
    #[arg(long, value_name = "NAME")]
    header: Option<String>,
    /// What stands before the secret in that field, as in "Token "
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    prefix: Option<String>,
    /// Whether responses are scrubbed of the secret
    #[arg(long, value_name = "WHEN", default_value = "on")]
    scrub: OnOff,
    /// Let it go over plain http:// too, to ports that a pattern names
    #[arg(long)]
    allow_plaintext: bool,
    /// Accept a pattern that covers a public suffix or every host
    #[arg(long)]
    allow_broad: bool,
}

impl TermsArgs {
    /// The terms; what is not given is the provider's, where the credential's name is a provider's.
    pub(crate) fn terms(&self, name: &CredentialName) -> Result<Terms, CommandError> {
        let provider = provider::find(name.as_str());
        let presentation = self.presentation(provider)?;
        let mut auth_headers = provider.map(|p| p.auth_headers.clone()).unwrap_or_default();
        // Without a provider the list stays empty, which means the usual four and the own one. Hosts of the operator's own
        // may know more ways than the provider does.
        let more = if self.allow.is_empty() { &[][..] } else { &DEFAULT_AUTH_HEADERS };
        let own = presentation.field().as_str();
        for header in more.iter().copied().chain([own]).filter(|_| provider.is_some()) {
            if !auth_headers.iter().any(|h| h == header) {
                auth_headers.push(header.to_owned());
            }
        }
        let allowed_domains = self.allowed_domains(name, provider)?;
        if self.allow_plaintext && !allowed_domains.iter().any(|p| matches!(p.port(), PatternPort::Exact(_))) {
            return Err(CommandError::usage("--allow-plaintext is for patterns that name their port, and none does")
                .hint("give one, as in --allow example.com:80"));
        }
        Ok(Terms {
            presentation,
            allowed_domains,
            rules: self.rules(provider)?,
            auth_headers,
            auth_query: provider.map(|p| p.auth_query.clone()).unwrap_or_default(),
            provider: provider.map(|p| p.name.to_owned()),
            scrub: self.scrub == OnOff::On,
            allow_plaintext: self.allow_plaintext,
            enabled: true,
        })
    }

    /// Whether a provider's `--path` rules would have counted, had no hosts been given.
    pub(crate) fn leaves_rules_out(&self, name: &CredentialName) -> bool {
        !self.allow.is_empty() && self.path.is_empty() && provider::find(name.as_str()).is_some_and(|p| !p.rules.allow.is_empty())
    }

    fn presentation(&self, provider: Option<&Provider>) -> Result<Presentation, CommandError> {
        let provided = provider.map(|p| &p.presentation);
        let kind = match (self.kind, &self.header, provided) {
            (Some(kind), _, _) => kind,
            (None, Some(_), _) => Type::Header,
            (None, None, Some(p)) => {
                if self.prefix.is_none() {
                    return Ok(p.clone());
                }
                if matches!(p, Presentation::Header { .. }) { Type::Header } else { Type::Bearer }
            }
            (None, None, None) => Type::Bearer,
        };
        if kind != Type::Header {
            let given = [("--header", self.header.is_some()), ("--prefix", self.prefix.is_some())].into_iter().find(|(_, given)| *given);
            return match given {
                Some((option, _)) => {
                    Err(CommandError::usage(format!("{option} says how type header presents the secret")).hint("give --type header"))
                }
                None if kind == Type::Basic => Ok(Presentation::Basic),
                None => Ok(Presentation::Bearer),
            };
        }
        let name = match (&self.header, provided) {
            (Some(name), _) => field_name(name)?,
            (None, Some(Presentation::Header { name, .. })) => name.clone(),
            _ => return Err(CommandError::usage("type header needs the field's name").hint("give --header NAME, as in --header X-Api-Key")),
        };
        let prefix = self.prefix.clone().unwrap_or_default();
        if HeaderValue::try_from(prefix.as_str()).is_err() || !prefix.is_ascii() {
            return Err(CommandError::usage("the prefix holds a character that no header field carries").hint("check --prefix"));
        }
        Ok(Presentation::Header { name, prefix })
    }

    fn allowed_domains(&self, name: &CredentialName, provider: Option<&Provider>) -> Result<Vec<HostPattern>, CommandError> {
        if self.allow.is_empty() {
            return provider.map(|p| p.allowed_domains.clone()).ok_or_else(|| no_hosts(name));
        }
        let mut out: Vec<HostPattern> = Vec::new();
        for text in &self.allow {
            let pattern = HostPattern::parse(text).map_err(|e| {
                CommandError::usage(e.to_string()).hint("patterns are `example.com`, `*.example.com`, `api-*.example.com`, each with `:PORT` or `:*`")
            })?;
            if let Some(breadth) = pattern.breadth().filter(|_| !self.allow_broad) {
                let why = match breadth {
                    WildcardBreadth::EveryHost => "covers every host",
                    WildcardBreadth::PublicSuffix => "covers a public suffix, where anyone can own a name",
                };
                return Err(CommandError::usage(format!("pattern `{pattern}` {why}")).hint("name the hosts, or give --allow-broad if it is meant so"));
            }
            if !out.contains(&pattern) {
                out.push(pattern);
            }
        }
        Ok(out)
    }

    fn rules(&self, provider: Option<&Provider>) -> Result<PathRules, CommandError> {
        for glob in self.path.iter().chain(&self.deny_path) {
            check_glob(glob).map_err(|e| CommandError::usage(e.to_string()).hint("a glob is as in `/api/v1/**` or `/repos/*/issues`"))?;
        }
        let mut rules = provider.map(|p| p.rules.clone()).unwrap_or_default();
        // Whoever names other hosts names the paths that are served there; what guards the provider's keys stays.
        if !self.allow.is_empty() {
            rules.allow.clear();
        }
        if !self.path.is_empty() {
            rules.allow = self.path.clone();
        }
        let added: Vec<String> = self.deny_path.iter().filter(|g| !rules.deny.contains(g)).cloned().collect();
        rules.deny.extend(added);
        rules.methods = self.method.iter().map(|m| method(m)).collect::<Result<_, _>>()?;
        Ok(rules)
    }
}

fn no_hosts(name: &CredentialName) -> CommandError {
    let known: Vec<&str> = provider::all().iter().map(|p| p.name).collect();
    // The name is not repeated: somebody may have given the secret in its place.
    let message = if name.as_str().len() > 20 { "that is no provider's name".to_owned() } else { format!("`{name}` is no provider's name") };
    CommandError::usage(format!("{message}, and no hosts were given"))
        .hint(format!("give --allow PATTERN for the hosts that it may go to, or one of these names: {}", known.join(", ")))
}

/// Fields that the proxy or the connection owns.
const RESERVED: [&str; 10] =
    ["host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "keep-alive", "expect", "content-encoding"];

fn field_name(text: &str) -> Result<HeaderName, CommandError> {
    let name = HeaderName::try_from(text)
        .map_err(|_| CommandError::usage("--header is no field name").hint("it is a name alone, as in --header X-Api-Key"))?;
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
        return Err(CommandError::usage(format!("the field {name} cannot carry a secret to an origin"))
            .hint("name the field that the origin's documentation names"));
    }
    Ok(name)
}

fn method(text: &str) -> Result<String, CommandError> {
    let upper = text.to_ascii_uppercase();
    match Method::from_bytes(upper.as_bytes()) {
        Ok(Method::CONNECT | Method::TRACE) => {
            Err(CommandError::usage(format!("{upper} is never sent to an origin with a credential")).hint("leave it out of --method"))
        }
        Ok(_) => Ok(upper),
        Err(_) => Err(CommandError::usage("--method is no method's name").hint("as in --method GET --method POST")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        name: String,
        #[command(flatten)]
        terms: TermsArgs,
    }

    fn terms(line: &str) -> Result<Terms, CommandError> {
        let line = Line::try_parse_from(format!("x {line}").split(' ')).expect(line);
        line.terms.terms(&CredentialName::parse(&line.name).expect("a name"))
    }

    #[test]
    fn a_provider_alone() {
        let t = terms("openrouter").expect("known");
        assert_eq!(t.presentation, Presentation::Bearer);
        assert_eq!(t.allowed_domains[0].to_string(), "*.openrouter.ai");
        assert_eq!((t.rules.allow.len(), t.rules.deny.len()), (1, 2));
        assert!(t.scrub && t.enabled && !t.allow_plaintext && t.provider.as_deref() == Some("openrouter"));
        assert!(matches!(terms("anthropic").expect("known").presentation, Presentation::Header { name, .. } if name == "x-api-key"));
    }

    #[test]
    fn options_override_or_add() {
        let t = terms("openrouter --path /v2/** --deny-path /v2/keys/** --method get --scrub off --header X-K").expect("good");
        assert_eq!((t.rules.allow, t.rules.deny.len(), t.rules.methods), (vec!["/v2/**".to_owned()], 3, vec!["GET".to_owned()]));
        assert!(!t.scrub && t.auth_headers.contains(&"x-k".to_owned()) && t.auth_headers.contains(&"authorization".to_owned()));
        let t = terms("openrouter --allow gw.example:8443 *.b.example --deny-path /k").expect("good");
        assert_eq!(t.allowed_domains.iter().map(ToString::to_string).collect::<Vec<_>>(), ["gw.example:8443", "*.b.example"]);
        let guarded = ["/api/v1/keys/**", "/api/v1/auth/keys/**", "/k"].map(str::to_owned);
        assert_eq!((t.rules.allow.len(), t.rules.deny), (0, guarded.to_vec()), "what guards the provider's keys stays");
        let t = terms("anthropic --allow gw.example").expect("good");
        assert!(DEFAULT_AUTH_HEADERS.iter().all(|h| t.auth_headers.iter().any(|a| a == h)), "{:?}", t.auth_headers);
        let t = terms("own --allow a.example --allow b.example a.example").expect("good");
        assert_eq!((t.allowed_domains.len(), t.presentation, t.auth_headers.len(), t.provider), (2, Presentation::Bearer, 0, None));
    }

    #[test]
    fn what_is_refused_exits_2() {
        for line in [
            "own",
            "own --allow *",
            "own --allow *.com",
            "own --allow a.*.b",
            "own --allow https://a.example",
            "own --allow a.example --type header",
            "own --allow a.example --prefix T",
            "own --allow a.example --type basic --header X",
            "own --allow a.example --header Host",
            "own --allow a.example --header Proxy-Authorization",
            "own --allow a.example --header a:b",
            "own --allow a.example --path x",
            "own --allow a.example --deny-path /{",
            "own --allow a.example --method TRACE",
            "own --allow a.example --method a(b",
            "own --allow a.example --allow-plaintext",
            "openrouter --allow-plaintext",
        ] {
            assert_eq!(terms(line).expect_err(line).kind.code(), 2, "{line}");
        }
        assert!(terms("own --allow *.com --allow-broad").is_ok());
        assert!(terms("own --allow a.example:80 --allow-plaintext").is_ok());
        let e = terms("sk-or-v1-0123456789abcdef0123456789abcdef").expect_err("no hosts").to_string();
        assert!(!e.contains("0123456789"), "{e}");
    }
}
