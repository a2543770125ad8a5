//! A credential goes over plain `http://` only where it says `--allow-plaintext` and its pattern names the port
//! (CONTRACT 5, points 7 and 12).

use std::io::Write as _;

use crate::support::raw::{Reply, read_reply};
use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Home, Origin, Serve, fresh_key};

struct Stage {
    serve: Serve,
    origin: Origin,
    home: Home,
    key: String,
}

/// A serve with one bearer key for the pattern.
fn stage(pattern: &str, flags: &[&str]) -> Stage {
    let origin = Origin::agreeable(&HOSTS);
    let home = Home::bare("");
    home.configure(&configuration(&home, &origin, ""));
    home.ok(&["init"]);
    let key = fresh_key();
    home.ok_with(&[&["credential", "add", "plain", "--type", "bearer", "--allow", pattern], flags].concat(), &key);
    let serve = Serve::start(&home);
    Stage { serve, origin, home, key }
}

impl Stage {
    fn agent(&self) -> Agent {
        Agent::new(&self.home, &self.serve)
    }

    /// `GET http://host:port/` in absolute form.
    fn absolute(&self, authority: &str) -> Reply {
        self.agent().absolute(&format!("GET http://{authority}/absolute HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: {{auth}}\r\n\r\n"))
    }

    /// The same in plaintext inside a CONNECT.
    fn inside(&self, authority: &str) -> Reply {
        let (reply, mut stream) = self.agent().connect(authority);
        assert_eq!(reply.status, 200, "{reply:?}");
        stream.write_all(format!("GET /inside HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).unwrap();
        read_reply(&mut stream, None).unwrap()
    }

    /// What the one request that reached the origin since had as its `Authorization`.
    #[track_caller]
    fn got(&self) -> Vec<String> {
        let all = self.origin.recorded();
        let [one] = all.as_slice() else { panic!("one request: {all:?}") };
        assert!(!one.tls && one.values("proxy-authorization").is_empty(), "{one:?}");
        self.origin.forget();
        one.values("authorization")
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }
}

#[test]
fn a_key_that_allows_plaintext_goes_on_where_its_pattern_names_the_port() {
    let stage = stage("example.net:80", &["--allow-plaintext"]);
    assert_eq!(stage.absolute("example.net").status, 200);
    assert_eq!(stage.got(), [stage.bearer()]);
    assert_eq!(stage.absolute("example.net:80").status, 200);
    assert_eq!(stage.got(), [stage.bearer()]);
    assert_eq!(stage.inside("example.net:80").status, 200);
    assert_eq!(stage.got(), [stage.bearer()]);
    // Another host of the same origin gets nothing.
    assert_eq!(stage.absolute("api.example.com").status, 200);
    assert!(stage.got().is_empty());
}

#[test]
fn a_key_that_does_not_allow_plaintext_stays_away_from_it() {
    let stage = stage("example.net:80", &[]);
    assert_eq!(stage.absolute("example.net").status, 200);
    assert!(stage.got().is_empty());
    assert_eq!(stage.inside("example.net:80").status, 200);
    assert!(stage.got().is_empty());
    // Over TLS to the same port it does go on, so the credential itself is in order.
    let reply = stage.agent().open("example.net:80").get("example.net:80", "/");
    assert_eq!((reply.status, stage.origin.last().values("authorization")), (200, vec![stage.bearer()]));
}

#[test]
fn a_pattern_that_does_not_name_the_port_is_not_enough() {
    let stage = stage("example.net:80", &["--allow-plaintext", "--allow", "api.example.com", "--allow", "openrouter.ai:*"]);
    for host in ["api.example.com", "openrouter.ai"] {
        assert_eq!(stage.absolute(host).status, 200);
        assert!(stage.got().is_empty(), "{host}");
        for port in [80, 443] {
            assert_eq!(stage.inside(&format!("{host}:{port}")).status, 200);
            assert!(stage.got().is_empty(), "{host}:{port}");
        }
    }
    assert_eq!(stage.absolute("example.net").status, 200);
    assert_eq!(stage.got(), [stage.bearer()], "the pattern that does name it");
    // A credential with no such pattern at all is a mistake, and said to be.
    let said = stage.home.say(&["credential", "add", "other", "--type", "bearer", "--allow", "example.net", "--allow-plaintext"], &fresh_key());
    said.expect_error(2);
}
