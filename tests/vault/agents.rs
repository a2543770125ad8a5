//! `[vault] discover_agents`: each entry of a folder is an agent of its name.

use keyhatch::agent::TokenDigest;

use super::fleet::{Fleet, INTERNAL, OPENROUTER, SOON, bare};
use crate::support::{Agent, Bao, Home, Serve, fresh_key, within};

const BOTH: &str = "discover = \"secret/keyhatch\"\ndiscover_agents = \"secret/keyhatch-agents\"\n";
const BUILDER: &str = "secret/keyhatch-agents/builder";

/// What the proxy answers to a CONNECT of this agent.
#[track_caller]
fn knock(agent: &Agent) -> u16 {
    agent.connect("example.net:443").0.status
}

/// The hex digits of a token's digest.
fn digest(token: &str) -> String {
    TokenDigest::of(token.as_bytes()).as_bytes().iter().map(|b| format!("{b:02x}")).collect()
}

/// An agent by a session token that this `serve` has minted for it.
#[track_caller]
fn session(home: &Home, serve: &Serve, name: &str) -> Agent {
    Agent::named(home, serve, name)
}

#[test]
fn each_proves_itself_and_gets_what_it_was_granted() {
    let Some(bao) = Bao::dev("vault::agents::each_proves_itself_and_gets_what_it_was_granted") else { return };
    let (one, two, builders, testers) = (fresh_key(), fresh_key(), fresh_key(), fresh_key());
    bao.put("secret/keyhatch/openrouter", &[("api_key", &one)]);
    bao.custom_metadata("secret/keyhatch/openrouter", &[("agents", "builder")]);
    bao.put("secret/keyhatch/internal", &[("api_key", &two)]);
    bao.custom_metadata("secret/keyhatch/internal", &[("allowed_domains", INTERNAL), ("agents", "tester")]);
    bao.put(BUILDER, &[("token", &builders)]);
    bao.put("secret/keyhatch-agents/tester", &[("token_sha256", &digest(&testers))]);
    let fleet = Fleet::one(bao, BOTH);
    let replica = &fleet.replicas[0];
    let (builder, tester) = (replica.agent_with("builder", &builders), replica.agent_with("tester", &testers));
    let injected = |key: &str| (200, Some(format!("Bearer {key}")));
    for (agent, sessions) in
        [(&builder, &session(&replica.home, &replica.serve, "builder")), (&tester, &session(&replica.home, &replica.serve, "tester"))]
    {
        let first = std::ptr::eq(agent, &builder);
        for agent in [agent, sessions] {
            assert_eq!(fleet.ask_as(agent, OPENROUTER, "/api/v1/x"), if first { injected(&one) } else { bare() });
            assert_eq!(fleet.ask_as(agent, INTERNAL, "/"), if first { bare() } else { injected(&two) });
        }
    }
    assert_eq!(fleet.ask(OPENROUTER, "/api/v1/x"), bare(), "nothing was granted to the store's agent");
    for (name, token) in [("builder", testers.as_str()), ("tester", &builders), ("tester", &digest(&testers)), ("nobody", &builders)] {
        assert_eq!(knock(&replica.agent_with(name, token)), 407, "{name}");
    }
    // A grant that is taken away.
    fleet.bao.custom_metadata("secret/keyhatch/openrouter", &[("agents", "tester")]);
    within(SOON, "the grant is another's", || (fleet.ask_as(&builder, OPENROUTER, "/api/v1/x") == bare()).then_some(()));
    assert_eq!(fleet.ask_as(&tester, OPENROUTER, "/api/v1/x"), injected(&one));
    let log = replica.serve.log();
    assert!(![&builders, &testers, &digest(&builders)].iter().any(|secret| log.contains(secret.as_str())));
}

#[test]
fn another_token_or_none_ends_the_old_one_its_sessions_and_its_tunnels() {
    let Some(bao) = Bao::dev("vault::agents::another_token_or_none_ends_the_old_one_its_sessions_and_its_tunnels") else { return };
    let (old, new, key) = (fresh_key(), fresh_key(), fresh_key());
    bao.put("secret/keyhatch/openrouter", &[("api_key", &key)]);
    bao.custom_metadata("secret/keyhatch/openrouter", &[("agents", "builder other")]);
    bao.put(BUILDER, &[("token", &old)]);
    bao.put("secret/keyhatch-agents/other", &[("token", &fresh_key())]);
    let fleet = Fleet::one(bao, BOTH);
    let replica = &fleet.replicas[0];
    let mut others = session(&replica.home, &replica.serve, "other").open("example.net:443");

    let change = |act: &dyn Fn(), token: &str| {
        let (by_token, by_session) = (replica.agent_with("builder", token), session(&replica.home, &replica.serve, "builder"));
        let mut tunnels = [by_token.open("example.net:443"), by_session.open("example.net:443")];
        let mut inside = by_session.open("openrouter.ai:443");
        assert_eq!(inside.get(OPENROUTER, "/api/v1/x").status, 200);
        act();
        within(SOON, "the old token is over", || (knock_or_close(&by_token) == 407).then_some(()));
        assert_eq!(knock(&by_session), 407, "and its session tokens with it");
        assert!(tunnels.iter_mut().all(|t| t.closes_within(SOON)), "and its blind tunnels");
        // An intercepted one carries nothing more.
        let sent = inside.try_send(format!("GET /api/v1/x HTTP/1.1\r\nHost: {OPENROUTER}\r\n\r\n"));
        assert!(sent.and_then(|()| inside.try_reply()).map_or(0, |r| r.status) != 200);
    };
    let put_new = || {
        fleet.bao.put(BUILDER, &[("token", &new)]);
    };
    change(&put_new, &old);
    assert_eq!(fleet.ask_as(&replica.agent_with("builder", &new), OPENROUTER, "/api/v1/x"), (200, Some(format!("Bearer {key}"))));
    change(&|| fleet.bao.custom_metadata(BUILDER, &[("enabled", "false")]), &new);
    fleet.bao.custom_metadata(BUILDER, &[("enabled", "true")]);
    within(SOON, "it is back", || (knock_or_close(&replica.agent_with("builder", &new)) == 200).then_some(()));
    change(&|| fleet.bao.delete(BUILDER), &new);
    fleet.reports(&["agent `builder`", "neither a field `token` nor `token_sha256`"]);
    fleet.bao.undelete(BUILDER, 2);
    within(SOON, "it is back", || (knock_or_close(&replica.agent_with("builder", &new)) == 200).then_some(()));
    change(&|| fleet.bao.purge(BUILDER), &new);
    assert_eq!(others.get("example.net", "/").status, 200, "another agent's tunnel stays all the while");
}

#[test]
fn a_token_that_is_put_back_brings_no_session_back_and_replicas_agree() {
    let Some(bao) = Bao::dev("vault::agents::a_token_that_is_put_back_brings_no_session_back_and_replicas_agree") else { return };
    let (first, second) = (fresh_key(), fresh_key());
    bao.put(BUILDER, &[("token", &first)]);
    let mut fleet = Fleet::new(bao, super::fleet::ALL);
    fleet.start(2);
    let (one, two) = (&fleet.replicas[0], &fleet.replicas[1]);
    let old = session(&one.home, &one.serve, "builder");
    let elsewhere = |serve: &Serve| Agent::from_url(&one.home, serve, &one.serve.env_for(&one.home, "builder")["HTTPS_PROXY"]);
    assert_eq!((knock(&old), knock(&elsewhere(&two.serve))), (200, 200));
    for token in [&second, &first] {
        fleet.bao.put(BUILDER, &[("token", token)]);
        within(SOON, "the token is known", || (knock_or_close(&one.agent_with("builder", token)) == 200).then_some(()));
        assert_eq!(knock(&old), 407, "its sessions are over");
    }
    let young = elsewhere(&two.serve);
    within(SOON, "a new session holds at the other replica", || (knock_or_close(&young) == 200).then_some(()));
}

/// The same as [`knock`]; 0 where the connection was closed at that moment.
fn knock_or_close(agent: &Agent) -> u16 {
    agent.try_connect("example.net:443").map_or(0, |(reply, _)| reply.status)
}

#[test]
fn what_is_no_agent_is_named_and_leaves_the_others_alone() {
    let Some(bao) = Bao::dev("vault::agents::what_is_no_agent_is_named_and_leaves_the_others_alone") else { return };
    let (good, twice) = (fresh_key(), fresh_key());
    bao.put(BUILDER, &[("token", &good)]);
    bao.put("secret/keyhatch-agents/short", &[("token", "too short")]);
    bao.put("secret/keyhatch-agents/hex", &[("token_sha256", "0123")]);
    bao.put("secret/keyhatch-agents/twin-a", &[("token", &twice)]);
    bao.put("secret/keyhatch-agents/twin-b", &[("token_sha256", &digest(&twice))]);
    bao.put("secret/keyhatch-agents/default", &[("token", &fresh_key())]);
    bao.put("secret/keyhatch-agents/sub/deep", &[("token", &fresh_key())]);
    let fleet = Fleet::one(bao, BOTH);
    let replica = &fleet.replicas[0];
    assert_eq!(knock(&replica.agent_with("builder", &good)), 200);
    for (name, words) in [
        ("agent `short`", "32 or more"),
        ("agent `hex`", "64 hex digits"),
        ("agent `twin-a`", "another agent has the same token"),
        ("agent `twin-b`", "another agent has the same token"),
        ("agent `default`", "one of that name already"),
        ("secret/keyhatch-agents/sub", "folder"),
    ] {
        fleet.reports(&[name, words]);
    }
    assert_eq!(knock(&replica.agent_with("twin-a", &twice)), 407);
    assert_eq!(knock(&replica.agent()), 200, "the store's own agent stays");
    assert!(!replica.serve.log().contains("too short"));
}
