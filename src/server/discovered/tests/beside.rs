//! What is discovered beside what there is already, and what stands for an entry that cannot be used.

use super::*;
use crate::policy::Roster;

fn discovered(name: &'static str, agents: &str) -> Discovered {
    covering("a.example", name, agents)
}

fn covering(hosts: &str, name: &'static str, agents: &str) -> Discovered {
    entry(name, &[("allowed_domains", hosts), ("agents", agents)], KEY).good()
}

fn granted(roster: &Roster) -> Vec<(String, String)> {
    let name = |id| roster.credentials.iter().find(|c| c.id == id).map(|c| c.name.to_string()).unwrap_or_default();
    roster.grants.iter().map(|(agent, id)| (agent.to_string(), name(*id))).collect()
}

#[test]
fn sources_are_merged_by_name_and_the_store_wins() {
    let mut own = discovered("own", "").entry;
    own.id = CredentialId([7; 16]);
    let store_agent = AgentEntry { generation: 3, ..found_agent("default", TOKEN) };
    let local =
        Roster { credentials: vec![own.clone()], agents: vec![store_agent], grants: vec![(AgentName::parse("default").expect("a name"), own.id)] };
    let found = vec![discovered("own", "default"), covering("b.example", "new", "default builder ghost")];
    let agents = vec![found_agent("builder", &"b".repeat(40)), found_agent("default", &"d".repeat(40))];
    let Merged { roster, problems, .. } = merge(&local, &[], found, agents);
    let pairs = [("default", "own"), ("default", "new"), ("builder", "new")];
    let mut is = granted(&roster);
    let mut expected = pairs.map(|(a, c)| (a.to_owned(), c.to_owned()));
    is.sort();
    expected.sort();
    assert_eq!(is, expected);
    assert_eq!(roster.credentials.iter().map(|c| (c.name.as_str(), c.id)).next(), Some(("own", own.id)));
    assert_eq!((roster.credentials.len(), roster.agents.len(), roster.agents[0].generation), (2, 2, 3));
    assert_eq!(problems.len(), 3, "{problems:?}");
    for (problem, words) in problems.iter().zip(["agent `default`", "secret/keyhatch/own", "`ghost`"]) {
        assert!(problem.contains(words), "{problem}");
    }
}

#[test]
fn two_agents_with_one_token_are_both_refused() {
    let agents = || vec![found_agent("a", TOKEN), found_agent("b", TOKEN), found_agent("c", &"c".repeat(32))];
    let Merged { roster, problems, .. } = merge(&Roster::default(), &[], Vec::new(), agents());
    assert_eq!(roster.agents.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["c"]);
    assert!(problems.len() == 2 && problems.iter().all(|p| p.contains("the same token")), "{problems:?}");
    // The store's own agent keeps its token; nobody else may have it.
    let local = Roster { agents: vec![found_agent("mine", TOKEN)], ..Roster::default() };
    let Merged { roster, problems, .. } = merge(&local, &[], Vec::new(), agents());
    assert_eq!(roster.agents.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["mine", "c"]);
    assert_eq!(problems.len(), 2);
    let damaged = [AgentName::parse("c").expect("a name")];
    assert!(merge(&Roster::default(), &damaged, vec![discovered("x", "c")], agents()).roster.agents.is_empty(), "a damaged one does not come back");
}

#[test]
fn a_hosts_own_credential_in_the_store_wins() {
    let name = |n: &str| AgentName::parse(n).expect("a name");
    let local = |hosts: &str, agent: &str| {
        let own = covering(hosts, "own", agent).entry;
        let agents = vec![found_agent("default", TOKEN), found_agent("builder", &"b".repeat(40))];
        let own = CredentialEntry { id: CredentialId([7; 16]), ..own };
        Roster { grants: vec![(name(agent), own.id)], credentials: vec![own], agents }
    };
    for (own, found, guarded) in [
        ("a.example", "a.example", ""),
        ("*.corp.example", "a.corp.example b.test", "b.test"),
        ("a.corp.example", "*.corp.example", "*.corp.example"),
        ("a*.corp.example", "*a.corp.example", ""),
        ("a.example:8443", "a.example:*", ""),
    ] {
        let local = local(own, "default");
        let Merged { roster, kept, problems } = merge(&local, &[], vec![covering(found, "new", "default")], Vec::new());
        assert!(
            problems.len() == 1 && problems[0].starts_with("secret/keyhatch/new: its pattern `") && problems[0].contains("`own`"),
            "{problems:?}"
        );
        let hosts: Vec<String> = kept.iter().flat_map(domains).collect();
        assert_eq!(hosts.join(" "), guarded, "{own} {found}");
        assert!(roster.credentials.iter().skip(1).all(|c| !c.terms.enabled) && kept.iter().all(|d| d.hold == Hold::Withheld));
        // To somebody else it may go.
        let Merged { roster, problems, .. } = merge(&local, &[], vec![covering(found, "new", "builder")], Vec::new());
        assert!(problems.is_empty() && roster.credentials[1].terms.enabled, "{problems:?}");
    }
    let apart = merge(&local("a.example", "default"), &[], vec![covering("b.example a.example:8443", "new", "default")], Vec::new());
    assert!(apart.problems.is_empty() && apart.kept[0].hold == Hold::None);
}

#[test]
fn what_cannot_be_used_is_guarded() {
    let of = |name: &'static str, custom: &[(&str, &str)], known: bool, rules: &DiscoverRules, last: Option<&Discovered>| {
        let e = entry(name, custom, &[]);
        let found = Found { folder: "secret/keyhatch", name, custom: &e.custom, version: Some(1), empty: true, field_names: &[], plain: &|_| None };
        let d = guard(&found, known, rules, last)?;
        assert!(!d.entry.terms.enabled && d.reference.path() == format!("secret/keyhatch/{name}") && d.entry.id == id(d.reference.path()));
        Some((domains(&d).join(" "), d.agents.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), d.hold))
    };
    let plain = DiscoverRules::default();
    let is = |hosts: &str, agents: &str, hold| Some((hosts.to_owned(), agents.to_owned(), hold));
    // Never read: a provider's name says the hosts.
    assert_eq!(of("openrouter", &[], false, &plain, None), is("*.openrouter.ai", "", Hold::Unread));
    assert_eq!(of("internal", &[], false, &plain, None), None);
    // What it says is understood as far as it can be.
    assert_eq!(of("openrouter", &[("type", "x")], true, &plain, None), is("*.openrouter.ai", "default", Hold::Withheld));
    let custom = [("allowed_domains", "a.example *.com b..c"), ("deny_path", "/x"), ("agents", "builder")];
    assert_eq!(of("internal", &custom, true, &plain, None), is("a.example", "builder", Hold::Withheld));
    assert_eq!(of("internal", &[("allowed_domains", "a.example"), ("agents", "a/b")], true, &plain, None), is("a.example", "", Hold::Unread));
    // What the operator has shut out is nobody's to close.
    let cap = DiscoverRules { allow: Some(vec![HostPattern::parse("*.example").expect("a pattern")]), fields: false };
    assert_eq!(of("openrouter", &[], false, &cap, None), None);
    assert_eq!(of("internal", &[("allowed_domains", "a.example a.test")], true, &cap, None), is("a.example", "default", Hold::Withheld));
    // What it was while it was used stays guarded, and what it is now is as well.
    let last = covering("a.example", "internal", "builder");
    assert_eq!(of("internal", &[], false, &plain, Some(&last)), is("a.example", "builder", Hold::Withheld));
    assert_eq!(
        of("internal", &[("allowed_domains", "b.example a.example")], true, &plain, Some(&last)),
        is("a.example b.example", "builder default", Hold::Withheld)
    );
}

#[test]
fn an_unread_entry_is_for_whoever_has_no_other() {
    let custom = BTreeMap::new();
    let found =
        Found { folder: "secret/keyhatch", name: "openrouter", custom: &custom, version: Some(1), empty: true, field_names: &[], plain: &|_| None };
    let unread = guard(&found, false, &DiscoverRules::default(), None).expect("a provider");
    let agents = vec![found_agent("builder", TOKEN), found_agent("other", &"b".repeat(40))];
    let Merged { roster, problems, .. } = merge(&Roster::default(), &[], vec![unread, covering("api.openrouter.ai", "mine", "builder")], agents);
    let mut grants = granted(&roster);
    grants.sort();
    assert_eq!(grants, [("builder".to_owned(), "mine".to_owned()), ("other".to_owned(), "openrouter".to_owned())]);
    assert!(problems.is_empty(), "{problems:?}");
}
