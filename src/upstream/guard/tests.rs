//! The guard on addresses that are given; names are looked up in `tests/hostile/addresses.rs`.

use super::*;
use crate::host::Host;

fn at(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

fn guard(cidrs: &[&str]) -> Guard {
    Guard { allow_cidrs: cidrs.iter().map(|net| net.parse().expect(net)).collect(), ..Guard::default() }
}

/// Whether what is reserved may be connected to, with a listener and a Vault there.
async fn reserved(listener: &str, vault: &str, address: &str) -> Result<(), String> {
    let vaults = Arc::new(Vaults::default());
    vaults.add(Authority::parse(vault, None).expect(vault));
    let off_limits = OffLimits { listeners: vec![at(listener)], vaults };
    let guard = Guard { allow_private: true, off_limits, ..Guard::default() };
    guard.check_reserved(&[at(address)], &Resolver::system(), Duration::from_secs(5)).await.map_err(|e| e.detail)
}

#[test]
fn an_allowed_block_opens_itself_and_not_what_its_addresses_hold() {
    let passes = |cidrs: &[&str], ip: &str| guard(cidrs).check_public(SocketAddr::new(ip.parse().expect(ip), 443)).is_ok();
    assert!(passes(&["10.0.0.0/8"], "10.1.2.3") && passes(&["10.0.0.0/8"], "::ffff:10.1.2.3") && passes(&[], "11.0.0.1"));
    assert!(!passes(&["10.0.0.0/8"], "192.168.0.1") && !passes(&["10.0.0.0/8"], "64:ff9b::192.168.0.1"));
    assert!(passes(&["10.0.0.0/8"], "64:ff9b::10.0.0.1"), "the translator's own block is public");
    assert!(!passes(&["64:ff9b:1::/48"], "64:ff9b:1::10.0.0.1"), "the block of the translator is no leave for what lies behind it");
    assert!(passes(&["64:ff9b:1::/48", "10.0.0.0/8"], "64:ff9b:1::10.0.0.1") && passes(&["64:ff9b:1::/48"], "64:ff9b:1::8.8.8.8"));
    assert!(!passes(&["2002::/16"], "2002:7f00:1::") && !passes(&["10.0.0.0/8"], "2002:a00:1::"));
    assert!(!passes(&["::/0"], "64:ff9b::127.0.0.1") && passes(&["::/0"], "fd00::1"));
}

#[tokio::test]
async fn listeners_and_vault_in_every_form() {
    let (listener, vault) = ("127.0.0.1:8877", "203.0.113.7:8200");
    for address in ["127.0.0.1:8877", "[::ffff:127.0.0.1]:8877", "0.0.0.0:8877", "[::]:8877", "[64:ff9b::127.0.0.1]:8877", "[::127.0.0.1]:8877"] {
        assert_eq!(reserved(listener, vault, address).await, Err(OWN_LISTENER.to_owned()), "{address}");
    }
    for address in ["203.0.113.7:8200", "[::ffff:203.0.113.7]:8200", "[64:ff9b::203.0.113.7]:8200", "[2002:cb00:7107::]:8200", "[::203.0.113.7]:8200"]
    {
        assert_eq!(reserved(listener, vault, address).await, Err(VAULTS_OWN.to_owned()), "{address}");
    }
    for address in ["127.0.0.1:8878", "203.0.113.7:8201", "203.0.113.8:8200", "127.0.0.1:8200"] {
        assert_eq!(reserved(listener, vault, address).await, Ok(()), "{address}");
    }
}

#[tokio::test]
async fn a_vault_on_this_machine_is_at_all_its_addresses() {
    for vault in ["127.0.0.1:8200", "[::1]:8200", "localhost:8200"] {
        for address in ["127.0.0.1:8200", "127.0.0.2:8200", "[::1]:8200", "0.0.0.0:8200", "[::ffff:127.9.9.9]:8200"] {
            assert_eq!(reserved("127.0.0.1:1", vault, address).await, Err(VAULTS_OWN.to_owned()), "{vault} {address}");
        }
        assert_eq!(reserved("127.0.0.1:1", vault, "203.0.113.8:8200").await, Ok(()));
    }
}

#[tokio::test]
async fn a_listener_on_every_address_is_at_all_of_this_machines() {
    for address in ["127.0.0.1:8877", "127.0.0.2:8877", "[::1]:8877", "[::]:8877"] {
        assert_eq!(reserved("0.0.0.0:8877", "v.example:1", address).await, Err(OWN_LISTENER.to_owned()), "{address}");
    }
    assert_eq!(reserved("0.0.0.0:8877", "v.example:1", "203.0.113.8:8877").await, Ok(()));
}

#[test]
fn vaults_name_is_refused_before_any_look_up() {
    let guard = Guard::default();
    guard.off_limits.vaults.add(Authority::new(Host::parse("vault.example").expect("a name"), 8200));
    for (text, passes) in [("vault.example:8200", false), ("VAULT.example.:8200", false), ("vault.example:443", true), ("a.vault.example:8200", true)]
    {
        assert_eq!(guard.check_name(&Authority::parse(text, None).expect(text)).is_ok(), passes, "{text}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_closes_nothing() {
    let dir = tempfile::tempdir().expect("made");
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, "203.0.113.9 vault.example\n").expect("written");
    let resolver = Resolver::with_files(hosts, dir.path().join("resolv.conf"));
    let vaults = Vaults::default();
    vaults.add(Authority::parse("vault.example:8200", None).expect("a name"));
    vaults.add(Authority::parse("none.example:8200", None).expect("a name"));
    let limit = Duration::from_secs(5);
    assert_eq!(vaults.addresses(8200, &resolver, limit).await, Ok(vec![at("203.0.113.9:8200")]));
    assert_eq!(vaults.addresses(443, &resolver, limit).await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn what_was_known_of_vault_outlives_its_name() {
    let dir = tempfile::tempdir().expect("made");
    let resolver = |name: &str, text: &str| {
        let hosts = dir.path().join(name);
        std::fs::write(&hosts, text).expect("written");
        Resolver::with_files(hosts, dir.path().join("resolv.conf"))
    };
    let first = resolver("first", "203.0.113.9 vault.example\n");
    let second = resolver("second", "203.0.113.10 vault.example\n");
    let none = resolver("none", "");
    let vaults = Vaults::default();
    vaults.add(Authority::parse("vault.example:8200", None).expect("a name"));
    let known = async |resolver: &Resolver| {
        tokio::time::advance(Duration::from_secs(20)).await;
        vaults.addresses(8200, resolver, Duration::from_secs(5)).await
    };
    let (old, new) = (at("203.0.113.9:8200"), at("203.0.113.10:8200"));
    assert_eq!(known(&first).await, Ok(vec![old]));
    assert_eq!(known(&none).await, Ok(vec![old]), "a name that is gone");
    assert_eq!(known(&second).await, Ok(vec![old, new]), "a balancer's other address");
    tokio::time::advance(Duration::from_secs(2 * 60 * 60)).await;
    assert_eq!(known(&none).await, Ok(vec![old, new]));
    assert_eq!(known(&second).await, Ok(vec![new]));
}
