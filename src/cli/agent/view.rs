//! An agent as lists show it: the documented JSON, and rows for people.

use serde::Serialize;

use crate::cli::base::Base;
use crate::cli::error::CommandError;
use crate::cli::output::{Output, time, time_or_dash, time_or_never};
use crate::server::Picture;
use crate::vault::local::AgentInfo;

/// The JSON schema of `agent list` and `show`. Fields are added, never renamed or removed.
#[derive(Debug, Serialize)]
pub(super) struct AgentView {
    name: String,
    source: String,
    grants: Vec<String>,
    /// Null of one that was discovered.
    created_at: Option<String>,
    last_seen_at: Option<String>,
    /// Why it cannot authenticate, if its row is not as sealed.
    broken: Option<String>,
}

impl AgentView {
    /// Of an agent that comes from there.
    pub(super) fn new(a: &AgentInfo, source: String) -> Self {
        Self {
            name: a.name.to_string(),
            source,
            grants: a.grants.iter().map(ToString::to_string).collect(),
            created_at: time(a.created_at),
            last_seen_at: time(a.last_seen_at),
            broken: a.broken.clone(),
        }
    }
}

/// Where an agent comes from: `store`, or the place of its entry in Vault.
pub(super) fn source(base: &Base, picture: &Picture, a: &AgentInfo) -> String {
    match &base.config.vault.discover_agents {
        Some(folder) if !picture.is_stored(&a.name) => format!("vault:{folder}/{}", a.name),
        _ => "store".to_owned(),
    }
}

/// The head of [`row`].
pub(super) const HEADS: [&str; 4] = ["NAME", "GRANTS", "CREATED", "LAST SEEN"];

/// A row of `agent list`.
pub(super) fn row(a: &AgentInfo) -> Vec<String> {
    let name = if a.broken.is_some() { format!("{} (broken)", a.name) } else { a.name.to_string() };
    vec![name, grants(a), time_or_dash(a.created_at), time_or_never(a.last_seen_at)]
}

/// Everything but the token, for a person.
pub(super) fn details(out: &Output, a: &AgentInfo, source: String) -> Result<(), CommandError> {
    let mut lines = vec![
        ("name", a.name.to_string()),
        ("source", source),
        ("grants", grants(a)),
        ("created", time_or_dash(a.created_at)),
        ("last seen", time_or_never(a.last_seen_at)),
    ];
    lines.extend(a.broken.iter().map(|why| ("broken", why.clone())));
    out.fields(&lines)
}

fn grants(a: &AgentInfo) -> String {
    if a.grants.is_empty() { "none".to_owned() } else { a.grants.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ") }
}
