use super::*;
use crate::tls::acceptance::in_memory::{client_config, handshake};
use jiff::SignedDuration;
use rustls::HandshakeKind;
use std::time::Duration;

fn host(name: &str) -> Host {
    Host::parse(name).expect(name)
}

fn agent(name: &str) -> AgentName {
    AgentName::parse(name).expect(name)
}

fn one() -> AgentName {
    agent("one")
}

fn cache() -> LeafCache {
    LeafCache::new(Arc::new(CaState::generate(clock::now()).expect("made"))).expect("made")
}

fn after(at: Timestamp, hours: i64) -> Timestamp {
    at.saturating_add(SignedDuration::from_hours(hours)).expect("in range")
}

#[tokio::test]
async fn a_host_is_minted_once_for_all_who_wait() {
    let cache = Arc::new(cache());
    assert!(cache.cached(&one(), &host("a.example")).is_none());
    let waiting: Vec<_> = (0..16)
        .map(|_| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.get(&one(), &host("A.example.")).await.expect("minted").config })
        })
        .collect();
    let first = cache.get(&one(), &host("a.example")).await.expect("minted");
    for other in waiting {
        assert!(Arc::ptr_eq(&other.await.expect("runs"), &first.config));
    }
    let again = cache.get(&one(), &host("a.example")).await.expect("there");
    assert!(!first.hit && again.hit);
    assert!(Arc::ptr_eq(&cache.cached(&one(), &host("a.example")).expect("there"), &first.config));
    assert!(!cache.get(&one(), &host("b.example")).await.expect("minted").hit);
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let cache = cache();
    let now = clock::now();
    for i in 0..5 * LEAST_LOOKED_OVER {
        cache.slot(&one(), &host(&format!("h{i}.example")), now);
    }
    let slots = cache.slots();
    assert_eq!(slots.agents.peek(&one()).map(|share| share.hosts.len()), Some(CAPACITY.get()));
    assert!(slots.hosts.len() <= 2 * LEAST_LOOKED_OVER, "{}", slots.hosts.len());
    assert!(slots.hosts.get(&host("h0.example")).is_none_or(|slot| slot.upgrade().is_none()));
}

#[tokio::test]
async fn an_agents_many_hosts_put_out_no_leaf_of_anothers() {
    let cache = cache();
    let (shared, now) = (host("shared.example"), clock::now());
    let first = cache.get(&agent("two"), &shared).await.expect("minted").config;
    // The flood asks for that host too.
    assert!(cache.get(&one(), &shared).await.expect("there").hit);
    for i in 0..2 * CAPACITY.get() {
        cache.slot(&one(), &host(&format!("h{i}.example")), now);
    }
    assert!(Arc::ptr_eq(&cache.cached(&agent("two"), &shared).expect("kept"), &first));
}

#[tokio::test]
async fn many_agents_on_one_host_hold_one_leaf() {
    let cache = cache();
    let a = host("a.example");
    let first = cache.get(&agent("first"), &a).await.expect("minted");
    for n in 0..50 {
        let leaf = cache.get(&agent(&format!("agent-{n}")), &a).await.expect("there");
        assert!(leaf.hit && Arc::ptr_eq(&leaf.config, &first.config));
    }
    // One that was made anew is everybody's.
    let later = after(clock::now(), 85);
    let new = cache.get_at(&agent("agent-7"), &a, later).await.expect("minted");
    assert!(!new.hit && Arc::ptr_eq(&cache.get_at(&agent("first"), &a, later).await.expect("there").config, &new.config));
}

#[tokio::test]
async fn an_agents_queue_is_not_anothers() {
    let cache = Arc::new(cache());
    // One agent's turn does not come: all that it wants waits, also a host that others want.
    let (_, minting) = cache.slot(&one(), &host("held.example"), clock::now());
    let turn = minting.acquire().await.expect("open");
    let waiting: Vec<_> = (0..100)
        .map(|i| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.get(&one(), &host(&format!("h{i}.example"))).await.map(|leaf| leaf.hit) })
        })
        .collect();
    tokio::task::yield_now().await;
    for name in ["other.example", "h0.example", "h99.example"] {
        let other = tokio::time::timeout(Duration::from_secs(10), cache.get(&agent("two"), &host(name))).await;
        assert!(!other.expect("at once").expect("minted").hit, "{name}");
    }
    drop(turn);
    for task in waiting {
        task.await.expect("runs").expect("minted");
    }
}

#[tokio::test]
async fn a_leaf_is_made_anew_at_half_its_life() {
    let cache = cache();
    let (a, now) = (host("a.example"), clock::now());
    let first = cache.get_at(&one(), &a, now).await.expect("minted").config;
    assert!(cache.cached_at(&one(), &a, after(now, 83)).is_some());
    assert!(cache.cached_at(&one(), &a, after(now, 85)).is_none());
    assert!(cache.cached_at(&one(), &a, after(now, -25)).is_none());
    let second = cache.get_at(&one(), &a, after(now, 85)).await.expect("minted");
    assert!(!second.hit && !Arc::ptr_eq(&first, &second.config));
}

#[tokio::test]
async fn another_ca_means_other_leaves() {
    let cache = cache();
    let (a, now) = (host("a.example"), clock::now());
    cache.get(&one(), &a).await.expect("minted");
    let mut next = CaState::from_secret(&cache.authority().to_secret()).expect("reads");
    next.rotate(now, false).expect("rotates");
    cache.replace_ca(Arc::new(next));
    let old = cache.get(&one(), &a).await.expect("minted");
    assert!(!old.hit);
    // The new CA begins to sign by the clock alone.
    assert!(cache.cached_at(&one(), &a, after(now, 7 * 24 - 100)).is_some());
    cache.get_at(&one(), &a, after(now, 7 * 24 - 1)).await.expect("minted");
    assert!(cache.cached_at(&one(), &a, after(now, 7 * 24 - 1)).is_some());
    assert!(cache.cached_at(&one(), &a, after(now, 7 * 24)).is_none());
}

#[tokio::test]
async fn an_ended_ca_mints_nothing_and_says_so() {
    let cache = cache();
    let later = after(clock::now(), 731 * 24);
    let error = cache.get_at(&one(), &host("a.example"), later).await.expect_err("ended");
    assert!(matches!(error, LeafError::Ca(CaError::Ended(_))) && error.to_string().contains("ca rotate --now"), "{error}");
    // Near its end a leaf ends with the CA, and is not minted for each connection.
    let last_hour = after(cache.authority().expires_at(), -1);
    assert!(!cache.get_at(&one(), &host("b.example"), last_hour).await.expect("minted").hit);
    assert!(cache.get_at(&one(), &host("b.example"), last_hour).await.expect("there").hit);
}

#[tokio::test]
async fn sessions_are_resumed_for_the_same_host_only() {
    for version in super::super::VERSIONS {
        let cache = cache();
        let pem = cache.authority().anchors_pem(clock::now());
        let client = client_config(&pem, &[version], &[b"http/1.1"]);
        let a = cache.get(&one(), &host("a.example")).await.expect("minted").config;
        let b = cache.get(&one(), &host("b.example")).await.expect("minted").config;
        assert_eq!(handshake(&client, "a.example", &a).expect("trusted").kind, Some(HandshakeKind::Full));
        assert_eq!(handshake(&client, "a.example", &a).expect("trusted").kind, Some(HandshakeKind::Resumed));
        // Names `a` with a ticket of `a` where `b` answers: a full handshake, and b's certificate is not a's.
        let error = handshake(&client, "a.example", &b).expect_err("another host's certificate");
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
    }
}

#[tokio::test]
async fn no_early_data_and_http_2_before_http_1_1() {
    let cache = cache();
    let pem = cache.authority().anchors_pem(clock::now());
    let config = cache.get(&one(), &host("a.example")).await.expect("minted").config;
    assert_eq!(config.max_early_data_size, 0);
    for (offered, chosen) in [(&[&b"h2"[..], b"http/1.1"][..], &b"h2"[..]), (&[b"http/1.1"], b"http/1.1"), (&[b"h2"], b"h2")] {
        let done = handshake(&client_config(&pem, super::super::VERSIONS, offered), "a.example", &config).expect("trusted");
        assert_eq!(done.alpn.as_deref(), Some(chosen));
    }
    let done = handshake(&client_config(&pem, super::super::VERSIONS, &[]), "a.example", &config).expect("trusted");
    assert_eq!(done.alpn, None);
}
