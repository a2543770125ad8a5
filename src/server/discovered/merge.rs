//! One roster of what the local store has and what was discovered.

use std::collections::{HashMap, HashSet};

use super::{Discovered, Hold, version};
use crate::agent::AgentName;
use crate::credential::CredentialName;
use crate::host::HostPattern;
use crate::policy::{AgentEntry, CredentialEntry, Roster};

/// What the store has and what was discovered, in one.
pub struct Merged {
    /// All that there is.
    pub roster: Roster,
    /// What was discovered and is in the roster, as it is there.
    pub kept: Vec<Discovered>,
    /// What was left out, and why: one line each, with the name.
    pub problems: Vec<String>,
}

/// Puts what was discovered beside what the store has; without a store, [`Roster::default`]. `damaged` are the store's agents that do
/// not open, whose names must not come back to life by another way.
///
/// A name that the store has is the store's, and so are the hosts of its credentials, for the agents that they are granted to. Grants go by
/// the agents' names, wherever the agents come from.
#[must_use]
pub fn merge(local: &Roster, damaged: &[AgentName], mut discovered: Vec<Discovered>, agents: Vec<AgentEntry>) -> Merged {
    let mut problems = Vec::new();
    let mut roster = Roster { credentials: local.credentials.clone(), agents: local.agents.clone(), grants: local.grants.clone() };
    add_agents(&mut roster, damaged, agents, &mut problems);
    let there: HashSet<AgentName> = roster.agents.iter().map(|a| a.name.clone()).collect();
    let mut taken: HashSet<_> = roster.credentials.iter().map(|c| c.name.clone()).collect();
    let mut kept = Vec::with_capacity(discovered.len());
    // For whom an unread one is, is told by what all others are for.
    discovered.sort_by_key(|d| d.hold == Hold::Unread);
    for mut found in discovered {
        let path = found.reference.path().to_owned();
        if !taken.insert(found.entry.name.clone()) {
            problems.push(format!("{path}: there is a credential `{}` already, which counts; remove or rename one of them", found.entry.name));
            continue;
        }
        if let Some(problem) = yield_to(local, &mut found) {
            problems.push(format!("{path}: {problem}"));
        }
        if found.entry.terms.allowed_domains.is_empty() {
            continue;
        }
        if found.hold == Hold::Unread {
            found.agents = there.iter().filter(|agent| !has_one_for(&roster, agent, &found)).cloned().collect();
            found.agents.sort();
        }
        for agent in &found.agents {
            if there.contains(agent) {
                roster.grants.push((agent.clone(), found.entry.id));
            } else if found.hold == Hold::None {
                problems.push(format!("{path}: there is no agent `{agent}` to grant it to; make one, or name others in `agents`"));
            }
        }
        roster.credentials.push(found.entry.clone());
        kept.push(found);
    }
    Merged { roster, kept, problems }
}

/// Withholds what reaches into the hosts of the store's own credentials, and says so. Of its patterns those stay that never win over the
/// store's: the other hosts that they cover go on being guarded.
fn yield_to(local: &Roster, found: &mut Discovered) -> Option<String> {
    let shares = |own: &CredentialEntry| local.grants.iter().any(|(agent, id)| *id == own.id && found.agents.contains(agent));
    let own: Vec<(&HostPattern, &CredentialName)> =
        local.credentials.iter().filter(|c| shares(c)).flat_map(|c| c.terms.allowed_domains.iter().map(|p| (p, &c.name))).collect();
    let terms = &mut found.entry.terms;
    let (pattern, (_, name)) = terms.allowed_domains.iter().find_map(|p| Some((p.clone(), *own.iter().find(|(own, _)| own.overlaps(p))?)))?;
    terms.allowed_domains.retain(|p| own.iter().filter(|(own, _)| own.overlaps(p)).all(|(own, _)| own.specificity() > p.specificity()));
    terms.enabled = false;
    found.entry.version = version(terms, &found.reference);
    found.hold = Hold::Withheld;
    Some(format!(
        "its pattern `{pattern}` covers hosts of the store's credential `{name}`, which counts; name other hosts, or grant one of them to other agents"
    ))
}

/// Whether an agent has a credential already for a host of this one.
fn has_one_for(roster: &Roster, agent: &AgentName, found: &Discovered) -> bool {
    let of_agent = |c: &&CredentialEntry| roster.grants.iter().any(|(name, id)| name == agent && *id == c.id);
    let mut patterns = roster.credentials.iter().filter(of_agent).flat_map(|c| &c.terms.allowed_domains);
    patterns.any(|p| found.entry.terms.allowed_domains.iter().any(|own| own.overlaps(p)))
}

/// A token proves one agent. Of two with the same one neither is taken, for nothing says which is meant.
fn add_agents(out: &mut Roster, damaged: &[AgentName], agents: Vec<AgentEntry>, problems: &mut Vec<String>) {
    let mut holders: HashMap<[u8; 32], usize> = HashMap::new();
    for agent in out.agents.iter().chain(&agents) {
        *holders.entry(*agent.token.as_bytes()).or_default() += 1;
    }
    let mut taken: HashSet<AgentName> = out.agents.iter().map(|a| a.name.clone()).chain(damaged.iter().cloned()).collect();
    for agent in agents {
        let name = &agent.name;
        if taken.contains(name) {
            problems.push(format!("agent `{name}`: there is one of that name already, which counts; remove or rename one of them"));
        } else if holders.get(agent.token.as_bytes()).is_some_and(|&count| count > 1) {
            problems.push(format!("agent `{name}`: another agent has the same token; give each its own"));
        } else {
            taken.insert(name.clone());
            out.agents.push(agent);
        }
    }
}
