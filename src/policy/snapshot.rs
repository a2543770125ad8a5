//! All that decisions need at one moment, indexed so that a look-up costs the same whatever the number of
//! credentials, agents and patterns.

use std::collections::HashMap;
use std::sync::Arc;

use super::egress::Egress;
use super::roster::Roster;
use super::rule::Rule;
use crate::agent::{AgentName, TokenDigest};
use crate::host::{Authority, Host, HostPattern, IndexKey, Specificity};

/// An immutable picture of credentials, agents, grants and egress rules. Readers share it by `Arc`.
pub struct Snapshot {
    pub(super) egress: Egress,
    agents: HashMap<Box<str>, Arc<AgentView>>,
    tokens: HashMap<[u8; 32], Arc<AgentView>>,
    pub(super) all: Index,
    rules: Vec<Arc<Rule>>,
    serial: u64,
}

/// One agent, with an index of what it was granted.
pub struct AgentView {
    /// Its name.
    pub name: AgentName,
    /// The generation that its session tokens must name.
    pub generation: u64,
    token: TokenDigest,
    pub(super) granted: Index,
}

/// A credential that covers a host, and the pattern by which it does.
#[derive(Clone)]
pub struct Candidate {
    /// The credential.
    pub rule: Arc<Rule>,
    /// The pattern.
    pub pattern: Arc<HostPattern>,
}

impl AgentView {
    /// The credentials that this agent was granted, each once, by name.
    #[must_use]
    pub fn granted_rules(&self) -> Vec<&Arc<Rule>> {
        let mut rules: Vec<&Arc<Rule>> = self.granted.all().map(|c| &c.rule).collect();
        rules.sort_by(|a, b| a.name.cmp(&b.name));
        rules.dedup_by_key(|r| r.id);
        rules
    }
}

impl Candidate {
    pub(super) fn specificity(&self) -> Specificity {
        self.pattern.specificity()
    }
}

impl Snapshot {
    /// Compiles a roster. `serial` tells this picture from every other one of the process.
    #[must_use]
    pub fn compile(roster: &Roster, egress: Egress, serial: u64) -> Self {
        let mut all = Index::default();
        let mut by_id = HashMap::new();
        let mut rules = Vec::new();
        for entry in &roster.credentials {
            let rule = Arc::new(Rule::compile(entry));
            let candidates: Vec<Candidate> = (entry.terms.allowed_domains.iter())
                .map(|pattern| Candidate { rule: Arc::clone(&rule), pattern: Arc::new(pattern.clone()) })
                .collect();
            candidates.iter().for_each(|c| all.insert(c));
            by_id.insert(entry.id, candidates);
            rules.push(rule);
        }
        let mut granted: HashMap<&AgentName, Index> = HashMap::new();
        for (agent, id) in &roster.grants {
            let index = granted.entry(agent).or_default();
            by_id.get(id).into_iter().flatten().for_each(|c| index.insert(c));
        }
        let views = roster.agents.iter().map(|a| {
            let granted = granted.remove(&a.name).unwrap_or_default();
            Arc::new(AgentView { name: a.name.clone(), generation: a.generation, token: a.token, granted })
        });
        let agents: HashMap<_, _> = views.map(|v| (v.name.as_str().into(), v)).collect();
        let tokens = agents.values().map(|v| (*v.token.as_bytes(), Arc::clone(v))).collect();
        Self { egress, agents, tokens, all, rules, serial }
    }

    /// Tells this picture from every other one of the process.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// The agent of that name.
    #[must_use]
    pub fn agent(&self, name: &str) -> Option<&Arc<AgentView>> {
        self.agents.get(name)
    }

    /// The agent whose own token this is. The look-up is by SHA-256, which an attacker cannot steer; the
    /// comparison is in constant time.
    #[must_use]
    pub fn agent_by_token(&self, token: &[u8]) -> Option<&Arc<AgentView>> {
        let digest = TokenDigest::of(token);
        self.tokens.get(digest.as_bytes()).filter(|view| view.token == digest)
    }

    /// How many agents there are.
    #[must_use]
    pub fn agent_count(&self) -> usize {
        self.agents.len()
    }

    /// The credentials, in no order.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.iter()
    }

    /// The egress rules.
    #[must_use]
    pub fn egress(&self) -> &Egress {
        &self.egress
    }
}

/// Patterns filed under the name that a host is looked up by.
#[derive(Default)]
pub(super) struct Index {
    exact: HashMap<Host, Vec<Candidate>>,
    below: HashMap<Box<str>, Vec<Candidate>>,
    label: HashMap<Box<str>, Vec<Candidate>>,
    everything: Vec<Candidate>,
}

impl Index {
    fn insert(&mut self, candidate: &Candidate) {
        let slot = match candidate.pattern.index_key() {
            IndexKey::Host(host) => self.exact.entry(host.clone()).or_default(),
            IndexKey::Below(domain) => self.below.entry(domain.into()).or_default(),
            IndexKey::LabelUnder(parent) => self.label.entry(parent.into()).or_default(),
            IndexKey::Everything => &mut self.everything,
        };
        slot.push(candidate.clone());
    }

    fn all(&self) -> impl Iterator<Item = &Candidate> {
        let named = self.exact.values().chain(self.below.values()).chain(self.label.values());
        named.flatten().chain(&self.everything)
    }

    /// Every candidate that covers the authority: one look-up for the host, and one for each of its parents.
    pub(super) fn lookup<'a>(&'a self, authority: &'a Authority, default_ports: &'a [u16]) -> impl Iterator<Item = &'a Candidate> {
        let name = authority.host.dns();
        let exact = self.exact.get(&authority.host).into_iter().flatten();
        let below = parents(name).filter_map(|domain| self.below.get(domain)).flatten();
        let label = name.and_then(|n| n.split_once('.')).and_then(|(_, parent)| self.label.get(parent)).into_iter().flatten();
        exact.chain(below).chain(label).chain(&self.everything).filter(move |c| c.pattern.matches(authority, default_ports))
    }
}

/// The name itself, then each domain above it.
fn parents(name: Option<&str>) -> impl Iterator<Item = &str> {
    std::iter::successors(name, |n| n.split_once('.').map(|(_, rest)| rest))
}
