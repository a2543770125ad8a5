//! A credential as lists show it: the documented JSON, and rows for people.

use serde::Serialize;

use crate::cli::error::CommandError;
use crate::cli::output::{Output, time, time_or_dash, time_or_never};
use crate::credential::{Presentation, WEAK_BELOW};
use crate::vault::local::CredentialInfo;

/// The JSON schema of `credential list`, `show` and `add`. Fields are added, never renamed or removed.
#[derive(Debug, Serialize)]
pub(super) struct CredentialView {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    source: String,
    provider: Option<String>,
    header: Option<String>,
    prefix: Option<String>,
    allowed_domains: Vec<String>,
    paths: Vec<String>,
    deny_paths: Vec<String>,
    methods: Vec<String>,
    scrub: bool,
    /// What of an answer is scrubbed in effect: see [`scrubbed`].
    scrubbed: &'static str,
    allow_plaintext: bool,
    agents: Vec<String>,
    enabled: bool,
    /// Null where Vault holds the secret, and was not or could not be asked for it.
    fingerprint: Option<String>,
    /// Null of one that was discovered in Vault.
    created_at: Option<String>,
    rotated_at: Option<String>,
    last_used_at: Option<String>,
    last_origin_status: Option<u16>,
    can_roll_back: bool,
    /// Why it does not open, if it does not.
    broken: Option<String>,
}

impl From<&CredentialInfo> for CredentialView {
    fn from(c: &CredentialInfo) -> Self {
        let terms = &c.entry.terms;
        let (header, prefix) = match &terms.presentation {
            Presentation::Header { name, prefix } => (Some(name.to_string()), Some(prefix.clone())),
            Presentation::Bearer | Presentation::Basic => (None, None),
        };
        Self {
            name: c.entry.name.to_string(),
            kind: terms.presentation.kind(),
            source: c.source.to_string(),
            provider: terms.provider.clone(),
            header,
            prefix,
            allowed_domains: terms.allowed_domains.iter().map(ToString::to_string).collect(),
            paths: terms.rules.allow.clone(),
            deny_paths: terms.rules.deny.clone(),
            methods: terms.rules.methods.clone(),
            scrub: terms.scrub,
            scrubbed: scrubbed(c),
            allow_plaintext: terms.allow_plaintext,
            agents: c.agents.iter().map(ToString::to_string).collect(),
            enabled: terms.enabled,
            fingerprint: c.fingerprint.clone(),
            created_at: time(c.created_at),
            rotated_at: time(c.rotated_at),
            last_used_at: time(c.last_used_at),
            last_origin_status: c.last_origin_status,
            can_roll_back: c.has_previous,
            broken: c.entry.broken.clone(),
        }
    }
}

/// One word for a table: whether requests get it.
fn condition(c: &CredentialInfo) -> &'static str {
    if c.entry.broken.is_some() {
        "broken"
    } else if c.entry.terms.enabled {
        "enabled"
    } else {
        "disabled"
    }
}

/// What of an answer is scrubbed of it: `on`, `off`, `fields` where the secret is too short for bodies, and `unless_short` where that is not
/// known: Vault holds the secret, or it is a pair whose password is looked for by itself.
fn scrubbed(c: &CredentialInfo) -> &'static str {
    match c.secret_length {
        _ if !c.entry.terms.scrub => "off",
        Some(length) if length < WEAK_BELOW => "fields",
        Some(_) if c.entry.terms.presentation != Presentation::Basic => "on",
        _ => "unless_short",
    }
}

/// The same for a person.
fn scrubbed_line(c: &CredentialInfo) -> String {
    let short = match (scrubbed(c), &c.entry.terms.presentation) {
        ("off", _) => return "no".to_owned(),
        ("fields", _) => return "header and trailer fields only: the secret has under 16 bytes".to_owned(),
        ("unless_short", Presentation::Basic) => "; a password under 16 bytes from fields only",
        ("unless_short", _) => "; a secret under 16 bytes from fields only",
        _ => "",
    };
    format!("yes, but for messages of WebSockets, and of gRPC where they are compressed or in pieces{short}")
}

/// A fingerprint for a person: `-` of a secret that Vault holds.
pub(super) fn fingerprint(known: Option<&str>) -> &str {
    known.unwrap_or("-")
}

/// The head of [`row`].
pub(super) const HEADS: [&str; 9] = ["NAME", "TYPE", "SOURCE", "ALLOWED", "AGENTS", "STATE", "SCRUB", "FINGERPRINT", "LAST USED"];

/// A row of `credential list`.
pub(super) fn row(c: &CredentialInfo) -> Vec<String> {
    let terms = &c.entry.terms;
    let used = match c.last_origin_status {
        Some(status) => format!("{} ({status})", time_or_never(c.last_used_at)),
        None => time_or_never(c.last_used_at),
    };
    vec![
        c.entry.name.to_string(),
        terms.presentation.kind().to_owned(),
        c.source.to_string(),
        join(&terms.allowed_domains),
        join(&c.agents),
        condition(c).to_owned(),
        scrubbed(c).replace('_', " "),
        fingerprint(c.fingerprint.as_deref()).to_owned(),
        used,
    ]
}

/// Everything but the secret, for a person: one thing a line.
pub(super) fn details(out: &Output, c: &CredentialInfo) -> Result<(), CommandError> {
    let terms = &c.entry.terms;
    let presented = match &terms.presentation {
        Presentation::Bearer => "Authorization: Bearer SECRET".to_owned(),
        Presentation::Basic => "Authorization: Basic base64(SECRET)".to_owned(),
        Presentation::Header { name, prefix } => format!("{name}: {prefix}SECRET"),
    };
    let mut lines = vec![("name", c.entry.name.to_string()), ("sent as", presented), ("source", c.source.to_string())];
    lines.extend(terms.provider.iter().map(|p| ("provider", p.clone())));
    lines.extend(terms.allowed_domains.iter().map(|p| ("covers", format!("{p}: {}", p.describe()))));
    lines.extend(terms.rules.allow.iter().map(|p| ("path", p.clone())));
    lines.extend(terms.rules.deny.iter().map(|p| ("deny path", p.clone())));
    lines.extend(terms.rules.methods.iter().map(|m| ("method", m.clone())));
    lines.push(("scrubbed", scrubbed_line(c)));
    if terms.allow_plaintext {
        lines.push(("plaintext", "allowed to ports that a pattern names".to_owned()));
    }
    lines.push(("agents", if c.agents.is_empty() { "none".to_owned() } else { join(&c.agents) }));
    lines.push(("state", condition(c).to_owned()));
    lines.extend(c.entry.broken.iter().map(|why| ("broken", why.clone())));
    lines.push(("fingerprint", fingerprint(c.fingerprint.as_deref()).to_owned()));
    lines.push(("created", time_or_dash(c.created_at)));
    lines.push(("rotated", time_or_never(c.rotated_at)));
    let status = c.last_origin_status.map(|s| format!(", the origin said {s}")).unwrap_or_default();
    lines.push(("last used", format!("{}{status}", time_or_never(c.last_used_at))));
    if c.has_previous {
        lines.push(("previous", "kept: `keyhatch credential rollback` goes back to it".to_owned()));
    }
    out.fields(&lines)
}

fn join(list: &[impl ToString]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
