//! What appears, changes or vanishes in Vault: a command leaves a record of what it changes, and this does.

use std::collections::{BTreeMap, HashSet};

use crate::agent::AgentName;
use crate::credential::CredentialName;
use crate::server::discovered::{Discovered, Hold};
use crate::server::picture::Picture;

/// What of a picture was discovered.
#[derive(Default)]
pub(super) struct Known {
    credentials: BTreeMap<CredentialName, Discovered>,
    agents: BTreeMap<AgentName, u64>,
}

/// One change, for the log and the audit log. Holds no secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) event: &'static str,
    pub(super) agent: Option<String>,
    pub(super) credential: Option<String>,
    pub(super) detail: String,
}

impl Known {
    pub(super) fn of(picture: &Picture) -> Self {
        let stored: HashSet<&AgentName> = picture.stored.iter().flat_map(|s| &s.agents).map(|a| &a.name).collect();
        let agents = picture.roster.agents.iter().filter(|a| !stored.contains(&a.name));
        Self {
            credentials: picture.discovered.values().map(|d| (d.entry.name.clone(), d.clone())).collect(),
            agents: agents.map(|a| (a.name.clone(), a.generation)).collect(),
        }
    }

    /// All that there is, in one line; `None` where there is nothing.
    pub(super) fn summary(&self) -> Option<String> {
        let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let credentials = list(self.credentials.keys().map(CredentialName::as_str).collect());
        let agents = list(self.agents.keys().map(AgentName::as_str).collect());
        let any = !self.credentials.is_empty() || !self.agents.is_empty();
        any.then(|| format!("{} credential(s): {credentials}; {} agent(s): {agents}", self.credentials.len(), self.agents.len()))
    }

    /// What has become of it.
    pub(super) fn changes(&self, now: &Self) -> Vec<Change> {
        let credential = |event, name: &CredentialName, detail| Change { event, agent: None, credential: Some(name.to_string()), detail };
        let agent =
            |event, name: &AgentName, detail: &str| Change { event, agent: Some(name.to_string()), credential: None, detail: detail.to_owned() };
        let mut out = Vec::new();
        for (name, found) in &now.credentials {
            match self.credentials.get(name) {
                None => out.push(credential("discovered.credential.add", name, terms(found))),
                Some(old) if !alike(old, found) => out.push(credential("discovered.credential.change", name, terms(found))),
                Some(_) => {}
            }
        }
        let gone = self.credentials.iter().filter(|(name, _)| !now.credentials.contains_key(*name));
        out.extend(gone.map(|(name, old)| credential("discovered.credential.remove", name, old.reference.path().to_owned())));
        for (name, generation) in &now.agents {
            match self.agents.get(name) {
                None => out.push(agent("discovered.agent.add", name, "")),
                Some(old) if old != generation => out.push(agent("discovered.agent.change", name, "another token, or its entry was written again")),
                Some(_) => {}
            }
        }
        let gone = self.agents.keys().filter(|name| !now.agents.contains_key(*name));
        out.extend(gone.map(|name| agent("discovered.agent.remove", name, "")));
        out
    }
}

fn alike(a: &Discovered, b: &Discovered) -> bool {
    a.entry == b.entry && a.agents == b.agents && a.reference == b.reference && a.hold == b.hold
}

/// Where it may go, for whom, and whether it does.
fn terms(found: &Discovered) -> String {
    let hosts: Vec<String> = found.entry.terms.allowed_domains.iter().map(ToString::to_string).collect();
    let agents: Vec<&str> = found.agents.iter().map(AgentName::as_str).collect();
    let state = match found.hold {
        Hold::None if found.entry.terms.enabled => "",
        Hold::None => "; disabled",
        Hold::Withheld | Hold::Unread => "; not used, its hosts are guarded",
    };
    format!("{} for {}; agents {}{state}", found.reference, hosts.join(", "), agents.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::discovered::{DiscoverRules, Found, credential};

    fn found(name: &str, hosts: &str) -> Discovered {
        let custom = BTreeMap::from([("allowed_domains".to_owned(), hosts.to_owned())]);
        let found =
            Found { folder: "secret/keyhatch", name, custom: &custom, version: Some(1), empty: false, field_names: &["api_key"], plain: &|_| None };
        credential(&found, &DiscoverRules::default()).unwrap_or_else(|e| panic!("{e}"))
    }

    fn known(credentials: Vec<Discovered>, agents: &[(&str, u64)]) -> Known {
        Known {
            credentials: credentials.into_iter().map(|d| (d.entry.name.clone(), d)).collect(),
            agents: agents.iter().map(|(n, g)| (AgentName::parse(n).expect("a name"), *g)).collect(),
        }
    }

    #[test]
    fn each_change_is_told_once() {
        let before = known(vec![found("a", "a.example"), found("b", "b.example")], &[("x", 1), ("y", 1)]);
        let now = known(vec![found("a", "a.example, evil.example"), found("c", "c.example")], &[("x", 2), ("z", 1)]);
        let said: Vec<String> = before
            .changes(&now)
            .into_iter()
            .map(|c| format!("{} {}{} {}", c.event, c.agent.unwrap_or_default(), c.credential.unwrap_or_default(), c.detail))
            .collect();
        assert_eq!(
            said,
            [
                "discovered.credential.change a secret/keyhatch/a#api_key for a.example, evil.example; agents default",
                "discovered.credential.add c secret/keyhatch/c#api_key for c.example; agents default",
                "discovered.credential.remove b secret/keyhatch/b",
                "discovered.agent.change x another token, or its entry was written again",
                "discovered.agent.add z ",
                "discovered.agent.remove y ",
            ]
        );
        assert!(now.changes(&now).is_empty());
        let mut held = found("a", "a.example");
        held.hold = Hold::Withheld;
        assert!(known(vec![found("a", "a.example")], &[]).changes(&known(vec![held], &[]))[0].detail.ends_with("its hosts are guarded"));
        assert_eq!(before.summary().as_deref(), Some("2 credential(s): a, b; 2 agent(s): x, y"));
        assert_eq!(Known::default().summary(), None);
    }
}
