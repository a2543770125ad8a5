//! Credentials whose secret is in Vault, in hostile hands: a secret never goes there as a path, a path never to an origin.

use std::io::ErrorKind;
use std::net::TcpListener;

use super::*;

/// A place that would be asked if anything were: what connects to it waits to be accepted, and is counted at the end.
struct Asked(TcpListener);

impl Asked {
    fn by(home: &mut Home) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        home.set("VAULT_ADDR", Some(&format!("http://{}", listener.local_addr().unwrap())));
        home.set("VAULT_TOKEN", Some("hvs.no-token-of-any-vault"));
        Self(listener)
    }

    #[track_caller]
    fn expect_nothing(&self, what: &str) {
        assert_eq!(self.0.accept().map(|(_, from)| from).map_err(|e| e.kind()), Err(ErrorKind::WouldBlock), "{what}: Vault was asked");
    }
}

#[test]
fn a_secret_relabelled_as_a_reference_is_not_asked_for() {
    for set in [
        "source = 'vault'",
        "source = 'vault', fingerprint = ''",
        "source = 'vault:secret/evil#f'",
        "source = 'vault', sealed = CAST('secret/evil#f' AS BLOB)",
    ] {
        let mut attacked = Attacked::new();
        let asked = Asked::by(&mut attacked.home);
        assert_eq!(attacked.sql(&format!("UPDATE credentials SET {set} WHERE name = 'target'")), 1);
        attacked.expect_contained(set);
        assert_eq!(attacked.home.json(&["credential", "show", "target"])["source"], "store", "{set}: as it was sealed");
        asked.expect_nothing(set);
    }
}

#[test]
fn a_reference_relabelled_as_a_secret_is_not_sent() {
    for set in [
        "source = 'store'",
        "source = 'store', fingerprint = (SELECT fingerprint FROM credentials WHERE name = 'good')",
        "sealed = previous",
        "sealed = previous, source = 'store'",
        "sealed = (SELECT sealed FROM credentials WHERE name = 'good')",
    ] {
        let mut attacked = Attacked::new();
        let asked = Asked::by(&mut attacked.home);
        attacked.home.ok(&["credential", "rotate", "target", "--vault", "secret/target#api_key"]);
        assert_eq!(attacked.sql(&format!("UPDATE credentials SET {set} WHERE name = 'target'")), 1);
        attacked.expect_contained(set);
        let shown = attacked.home.json(&["credential", "show", "target"]);
        assert_eq!((&shown["source"], &shown["fingerprint"]), (&"vault:secret/target#api_key".into(), &serde_json::Value::Null), "{set}");
        assert!(shown["broken"].as_str().is_some_and(|why| why.contains("--vault MOUNT/PATH#FIELD")), "{set}: {shown}");
        asked.expect_nothing(set);
        // And the mend that it names.
        drop(attacked.serve.take());
        attacked.home.ok(&["credential", "rotate", "target", "--vault", "secret/target#api_key"]);
        attacked.home.ok(&["store", "verify"]);
    }
}
