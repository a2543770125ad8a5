//! One roster of what the local store has and what was discovered.

use std::collections::{HashMap, HashSet};

use super::Discovered;
use crate::agent::AgentName;
use crate::policy::{AgentEntry, Roster};

/// Puts what was discovered beside what the store has; without a store, [`Roster::default`]. `damaged` are the store's agents that do
/// not open, whose names must not come back to life by another way.
///
/// A name that the store has is the store's. Grants go by the agents' names, wherever the agents come from. The second part of the answer is
/// what was left out, and why: one line each, with the name.
#[must_use]
pub fn merge(local: &Roster, damaged: &[AgentName], discovered: Vec<Discovered>, agents: Vec<AgentEntry>) -> (Roster, Vec<String>) {
    let mut problems = Vec::new();
    let mut out = Roster { credentials: local.credentials.clone(), agents: local.agents.clone(), grants: local.grants.clone() };
    add_agents(&mut out, damaged, agents, &mut problems);
    let there: HashSet<AgentName> = out.agents.iter().map(|a| a.name.clone()).collect();
    let mut taken: HashSet<_> = out.credentials.iter().map(|c| c.name.clone()).collect();
    for Discovered { entry, agents, reference, .. } in discovered {
        if !taken.insert(entry.name.clone()) {
            problems.push(format!(
                "{}: there is a credential `{}` already, which counts; remove or rename one of them",
                reference.path(),
                entry.name
            ));
            continue;
        }
        for agent in agents {
            if there.contains(&agent) {
                out.grants.push((agent, entry.id));
            } else {
                problems.push(format!("{}: there is no agent `{agent}` to grant it to; make one, or name others in `agents`", reference.path()));
            }
        }
        out.credentials.push(entry);
    }
    (out, problems)
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
