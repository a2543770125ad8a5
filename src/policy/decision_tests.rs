use super::*;
use crate::agent::{AgentName, TokenDigest};
use crate::credential::{PathRules, Presentation, Terms};
use crate::host::HostPattern;
use crate::policy::{AgentEntry, CredentialEntry, Egress, Roster};

fn credential(n: u8, name: &str, patterns: &[&str], edit: impl FnOnce(&mut Terms)) -> CredentialEntry {
    let mut terms = Terms {
        presentation: Presentation::Bearer,
        allowed_domains: patterns.iter().map(|p| HostPattern::parse(p).expect("pattern")).collect(),
        rules: PathRules::default(),
        auth_headers: Vec::new(),
        auth_query: Vec::new(),
        provider: None,
        scrub: true,
        allow_plaintext: false,
        enabled: true,
    };
    edit(&mut terms);
    CredentialEntry { id: CredentialId([n; 16]), name: CredentialName::parse(name).expect("name"), version: 1, terms, broken: None }
}

fn snapshot(credentials: Vec<CredentialEntry>) -> Snapshot {
    let name = |n: &str| AgentName::parse(n).expect("name");
    let grants = credentials.iter().map(|c| (name("default"), c.id)).collect();
    let agents = ["default", "other"].iter().map(|n| AgentEntry { name: name(n), token: TokenDigest::of(n.as_bytes()), generation: 1 }).collect();
    let egress = Egress { allow_by_default: true, allow_hosts: Vec::new(), deny_hosts: Vec::new(), ports: vec![80, 443] };
    Snapshot::compile(&Roster { credentials, agents, grants }, egress, 1)
}

/// `decision reason credential` of a GET, for short tables.
fn explain(s: &Snapshot, agent: &str, url: &str, pick: Option<Pick<'_>>) -> String {
    let (scheme, rest) = url.split_once("://").expect("url");
    let (authority, path) = rest.find('/').map_or((rest, "/"), |i| (&rest[..i], &rest[i..]));
    let (scheme, port) = if scheme == "https" { (Scheme::Https, 443) } else { (Scheme::Http, 80) };
    let authority = Authority::parse(authority, Some(port)).expect("authority");
    let facts = Facts { method: &Method::GET, path, pick };
    let e = s.explain(s.agent(agent).expect("agent"), scheme, &authority, &facts);
    format!("{} {} {}", e.decision, e.reason, e.credential.unwrap_or_default()).trim_end().to_owned()
}

#[test]
fn a_credential_reaches_its_hosts_and_no_other() {
    let s = snapshot(vec![credential(1, "or", &["*.openrouter.ai"], |_| ())]);
    for url in ["https://openrouter.ai/", "https://a.b.openrouter.ai/", "https://OPENROUTER.AI./"] {
        assert_eq!(explain(&s, "default", url, None), "injected ok or", "{url}");
    }
    for url in ["https://evilopenrouter.ai/", "https://openrouter.ai.evil.com/", "https://1.2.3.4/"] {
        assert_eq!(explain(&s, "default", url, None), "tunnelled unmatched", "{url}");
    }
    assert_eq!(explain(&s, "default", "https://openrouter.ai:8443/", None), "denied port_denied");
    assert_eq!(explain(&s, "default", "http://openrouter.ai/", None), "forwarded unmatched");
    assert_eq!(explain(&s, "other", "https://openrouter.ai/", None), "tunnelled not_granted");
}

#[test]
fn the_narrowest_wins_and_a_tie_is_refused_unless_picked() {
    let s = snapshot(vec![
        credential(1, "wide", &["*.example.com"], |_| ()),
        credential(2, "narrow", &["api.example.com"], |_| ()),
        credential(3, "twin", &["*.example.com"], |_| ()),
    ]);
    assert_eq!(explain(&s, "default", "https://api.example.com/", None), "injected ok narrow");
    assert_eq!(explain(&s, "default", "https://x.example.com/", None), "denied ambiguous_credential");
    let pick = |url, p| explain(&s, "default", url, Some(p));
    assert_eq!(pick("https://x.example.com/", Pick::Placeholder("twin")), "injected ok twin");
    assert_eq!(pick("https://x.example.com/", Pick::Explicit("wide")), "injected ok wide");
    assert_eq!(pick("https://api.example.com/", Pick::Explicit("wide")), "injected ok wide");
    assert_eq!(pick("https://api.example.com/", Pick::Placeholder("wide")), "injected ok narrow");
    assert_eq!(pick("https://x.example.com/", Pick::Explicit("none")), "denied ambiguous_credential");
}

#[test]
fn what_cannot_be_had_is_refused_never_bare() {
    let mut broken = credential(1, "broken", &["a.example"], |_| ());
    broken.broken = Some("the row was changed".to_owned());
    let s = snapshot(vec![broken, credential(2, "off", &["b.example"], |t| t.enabled = false)]);
    assert_eq!(explain(&s, "default", "https://a.example/", None), "denied credential_unavailable broken");
    assert_eq!(explain(&s, "default", "https://b.example/", None), "denied credential_unavailable off");
}

#[test]
fn plaintext_needs_the_flag_and_the_port() {
    let s = snapshot(vec![
        credential(1, "flag", &["a.example:80", "b.example", "c.example:*"], |t| t.allow_plaintext = true),
        credential(2, "none", &["d.example:80"], |_| ()),
    ]);
    assert_eq!(explain(&s, "default", "http://a.example/", None), "injected ok flag");
    for url in ["http://b.example/", "http://c.example/", "http://d.example/"] {
        assert_eq!(explain(&s, "default", url, None), "forwarded unmatched", "{url}");
    }
}

#[test]
fn egress_rules() {
    let pattern = |p: &str| HostPattern::parse(p).expect("pattern");
    let mut s = snapshot(vec![credential(1, "or", &["*.openrouter.ai"], |_| ())]);
    s.egress.deny_hosts = vec![pattern("bad.openrouter.ai")];
    assert_eq!(explain(&s, "default", "https://bad.openrouter.ai/", None), "denied egress_denied");
    s.egress.allow_by_default = false;
    s.egress.allow_hosts = vec![pattern("ok.example"), pattern("ok.example:8443")];
    assert_eq!(explain(&s, "default", "https://ok.example/", None), "tunnelled unmatched");
    assert_eq!(explain(&s, "default", "https://ok.example:8443/", None), "tunnelled unmatched");
    assert_eq!(explain(&s, "default", "https://ok.example:9443/", None), "denied port_denied");
    assert_eq!(explain(&s, "default", "https://no.example/", None), "denied egress_denied");
    assert_eq!(explain(&s, "default", "https://openrouter.ai/", None), "injected ok or");
}

#[test]
fn an_open_tunnel_is_judged_anew() {
    let before = snapshot(vec![]);
    let agent = Arc::clone(before.agent("default").expect("agent"));
    let host = Authority::parse("a.example:443", None).expect("authority");
    assert!(still_tunnelled(&before, &agent, &host));
    assert!(!still_tunnelled(&snapshot(vec![credential(1, "a", &["a.example"], |_| ())]), &agent, &host));
}
