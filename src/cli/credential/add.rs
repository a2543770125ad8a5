//! `keyhatch credential add`

use clap::Args;

use super::terms::TermsArgs;
use super::view::{self, CredentialView};
use crate::agent::AgentName;
use crate::cli::DEFAULT_AGENT;
use crate::cli::base::Matter;
use crate::cli::context::{Change, Context, Unlocked};
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::cli::source::SourceArgs;
use crate::credential::{CredentialName, Source};
use crate::vault::local::{StoreError, Stored};

/// Add a credential: a secret, and where it may go
///
/// The secret comes from standard input, or a prompt that does not show it, or --from-env or
/// --from-file; never from an argument. White space at both ends is cut. With --vault it stays in
/// HashiCorp Vault or OpenBao: the store keeps its place only, and `serve` reads it when it is
/// needed, as [vault] and Vault's own variables say. Nothing is asked of Vault by this command.
///
/// A provider's name alone is enough: openrouter, openai, anthropic, github, gemini, mistral,
/// groq, deepseek, xai. It supplies the type, the hosts, the path rules (which keep an agent
/// from the endpoints that mint or list keys), the URL that `keyhatch credential test` asks, and
/// the placeholder variable that `run` sets. What you give on top: --type, --header, --prefix,
/// --path and --method stand in the provider's place, and --deny-path is added to its own.
/// --allow stands in the place of its hosts and of its --path rules, which are about those hosts;
/// its --deny-path rules, which guard the endpoints that mint keys, stay.
///
/// Answers to requests that carry the secret are scrubbed of it, in their heads, bodies and
/// trailers, unless you say --scrub off. Not scrubbed: messages of WebSockets, messages of gRPC that
/// are compressed or come in pieces, and the bodies of answers where the secret has under 16 bytes
/// (--allow-weak). `credential list` shows it.
///
/// Patterns: `example.com` is that host; `*.example.com` is example.com and every subdomain;
/// `api-*.example.com` is one label that begins so. Without a port it is 443 only; `host:8443`
/// is that port, `host:*` any. Path globs: `*` stays within a segment, `/a/**` covers /a too.
///
/// Rules speak of the method and the path on the wire. An origin that takes another method from
/// the query or the body (`_method=DELETE`), or serves one path under two names (`/keys.json`),
/// needs a rule that says so; fields such as X-HTTP-Method-Override are dropped.
///
/// Examples:
///
///   keyhatch credential add openrouter < key.txt
///   keyhatch credential add openai --from-env OPENAI_API_KEY
///   keyhatch credential add anthropic --vault secret/anthropic#api_key
///   keyhatch credential add internal --allow '*.corp.example' --type header --header X-Api-Key
///   keyhatch credential add registry --allow registry.example:5000 --type basic --agent builder
///   keyhatch credential add ci --allow ci.example --path '/api/**' --deny-path '/api/tokens/**'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct AddArgs {
    /// The credential's name; a provider's name supplies the rest
    name: String,
    #[command(flatten)]
    terms: TermsArgs,
    #[command(flatten)]
    source: SourceArgs,
    /// Grant it to this agent [default: default]
    #[arg(long, value_name = "A")]
    agent: Vec<String>,
}

pub(super) fn run(ctx: &Context, args: &AddArgs) -> Outcome {
    // All that can be judged without the secret comes before anybody types one.
    let name = CredentialName::parse(&args.name)?;
    let terms = args.terms.terms(&name)?;
    args.source.check()?;
    let agents = args.agents()?;
    let unlocked = ctx.unlock_for(Matter::Credentials)?;
    is_new(&unlocked, &name, &agents)?;
    let value = args.source.read(&format!("Secret of {name}"))?;
    let weak = matches!(&value, Stored::Secret(secret) if secret.is_weak());
    unlocked.store.add_credential(&name, terms, &value, &agents)?;
    let info = unlocked.credential(&name)?;
    let mut detail = info.entry.terms.allowed_domains.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if matches!(info.source, Source::Vault(_)) {
        detail = format!("{detail}; {}", info.source);
    }
    unlocked.changed(Change { event: "credential.add", agent: None, credential: Some(&name), detail })?;
    if args.terms.leaves_rules_out(&name) {
        ctx.out.warn(&format!("--allow was given, so the --path rules of provider {name} do not count; its --deny-path rules do"));
    }
    if weak {
        ctx.out.warn("the secret is short: it is not scrubbed from the bodies of responses");
    }
    if ctx.out.json {
        ctx.out.json(&CredentialView::from(&info))?;
    } else {
        view::details(&ctx.out, &info)?;
    }
    super::say_of_vault(ctx, &name, &info.source);
    DONE
}

/// Whether the name is free and the agents are there. The store itself says so again when it is written.
fn is_new(unlocked: &Unlocked, name: &CredentialName, agents: &[AgentName]) -> Result<(), CommandError> {
    let state = unlocked.state()?;
    if state.credentials.iter().any(|c| c.entry.name == *name) {
        return Err(StoreError::Exists { what: "credential", name: name.to_string() }.into());
    }
    match agents.iter().find(|agent| !state.agents.iter().any(|a| a.name == **agent)) {
        Some(agent) => Err(StoreError::NotFound { what: "agent", name: agent.to_string() }.into()),
        None => Ok(()),
    }
}

impl AddArgs {
    /// The agents that it is granted to, each once.
    fn agents(&self) -> Result<Vec<AgentName>, CommandError> {
        if self.agent.is_empty() {
            return Ok(vec![AgentName::parse(DEFAULT_AGENT)?]);
        }
        let mut out = self.agent.iter().map(|a| AgentName::parse(a)).collect::<Result<Vec<_>, _>>()?;
        out.sort();
        out.dedup();
        Ok(out)
    }
}
