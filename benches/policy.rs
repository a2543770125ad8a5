//! What a decision costs with one credential and one agent, and with a thousand of each, and what finding a host costs among up to
//! 100,000 patterns: it should be the same.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::Method;
use keyhatch::agent::{AgentName, TokenDigest};
use keyhatch::credential::{CredentialId, CredentialName, PathRules, Presentation, Terms};
use keyhatch::host::{Authority, HostPattern};
use keyhatch::policy::{AgentEntry, CredentialEntry, Decision, Egress, Facts, Roster, Route, Scheme, Snapshot};

fn id(i: u32) -> CredentialId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&i.to_be_bytes());
    CredentialId(id)
}

/// One agent that is granted `n` patterns, a hundred to a credential: exact hosts and wildcards in turn.
fn patterns(n: u32) -> Snapshot {
    let agent = AgentName::parse("agent").expect("a name");
    let pattern = |i: u32| {
        let wild = if i.is_multiple_of(2) { "*." } else { "" };
        HostPattern::parse(&format!("{wild}host-{i}.example")).expect("a pattern")
    };
    let numbers: Vec<u32> = (0..n).collect();
    let credentials = numbers.chunks(100).map(|some| CredentialEntry {
        id: id(some[0]),
        name: CredentialName::parse(&format!("credential-{}", some[0])).expect("a name"),
        version: 1,
        terms: Terms {
            presentation: Presentation::Bearer,
            allowed_domains: some.iter().map(|i| pattern(*i)).collect(),
            rules: PathRules::default(),
            auth_headers: Vec::new(),
            auth_query: Vec::new(),
            provider: None,
            scrub: true,
            allow_plaintext: false,
            enabled: true,
        },
        broken: None,
    });
    let credentials: Vec<CredentialEntry> = credentials.collect();
    let grants = credentials.iter().map(|c| (agent.clone(), c.id)).collect();
    let agents = vec![AgentEntry { name: agent, token: TokenDigest::of(b"token"), generation: 1 }];
    let egress = Egress { allow_by_default: true, allow_hosts: Vec::new(), deny_hosts: Vec::new(), ports: vec![443] };
    Snapshot::compile(&Roster { credentials, agents, grants }, egress, 1)
}

fn hosts(c: &mut Criterion) {
    let authority = |host: &str| Authority::parse(host, Some(443)).expect("an authority");
    let (exact, wild, none) = (authority("host-1.example"), authority("a.b.host-2.example"), authority("a.b.other.example"));
    for n in [10, 1_000, 100_000] {
        let snapshot = patterns(n);
        let agent = snapshot.agent("agent").expect("there");
        for (what, host, matches) in [("host-exact", &exact, true), ("host-wildcard", &wild, true), ("host-none", &none, false)] {
            assert_eq!(matches!(snapshot.route(agent, Scheme::Https, host), Route::Matched(_)), matches, "{what}");
            c.bench_with_input(BenchmarkId::new(what, n), host, |b, host| b.iter(|| snapshot.route(agent, Scheme::Https, black_box(host))));
        }
    }
}

/// `n` credentials, each for a domain of its own and granted to an agent of its own; the first agent is granted them all.
fn snapshot(n: u32) -> Snapshot {
    let agent = |i: u32| AgentName::parse(&format!("agent-{i}")).expect("a name");
    let credentials = (0..n).map(|i| CredentialEntry {
        id: id(i),
        name: CredentialName::parse(&format!("credential-{i}")).expect("a name"),
        version: 1,
        terms: Terms {
            presentation: Presentation::Bearer,
            allowed_domains: vec![HostPattern::parse(&format!("*.host-{i}.example")).expect("a pattern")],
            rules: PathRules { allow: vec!["/api/**".to_owned()], deny: vec!["/api/v1/keys/**".to_owned()], methods: Vec::new() },
            auth_headers: Vec::new(),
            auth_query: Vec::new(),
            provider: None,
            scrub: true,
            allow_plaintext: false,
            enabled: true,
        },
        broken: None,
    });
    let agents = (0..n).map(|i| AgentEntry { name: agent(i), token: TokenDigest::of(&i.to_be_bytes()), generation: 1 }).collect();
    let grants = (0..n).map(|i| (agent(i), id(i))).chain((1..n).map(|i| (agent(0), id(i)))).collect();
    let egress = Egress { allow_by_default: true, allow_hosts: Vec::new(), deny_hosts: Vec::new(), ports: vec![443] };
    Snapshot::compile(&Roster { credentials: credentials.collect(), agents, grants }, egress, 1)
}

fn decisions(c: &mut Criterion) {
    let method = Method::POST;
    let facts = Facts { method: &method, path: "/api/v1/chat/completions", pick: None };
    let authority = Authority::parse("api.host-0.example:443", None).expect("an authority");
    for n in [1, 10, 1_000] {
        let snapshot = snapshot(n);
        c.bench_with_input(BenchmarkId::new("authenticate", n), &snapshot, |b, s| b.iter(|| s.agent_by_token(black_box(&0_u32.to_be_bytes()))));
        let agent = snapshot.agent("agent-0").expect("there");
        c.bench_with_input(BenchmarkId::new("route", n), &snapshot, |b, s| b.iter(|| s.route(agent, Scheme::Https, black_box(&authority))));
        let Route::Matched(candidates) = snapshot.route(agent, Scheme::Https, &authority) else { unreachable!("it matches") };
        c.bench_with_input(BenchmarkId::new("decide", n), &candidates, |b, c| {
            b.iter(|| matches!(c.decide(black_box(&facts)), Decision::Inject(..)));
        });
    }
}

criterion_group!(benches, decisions, hosts);
criterion_main!(benches);
