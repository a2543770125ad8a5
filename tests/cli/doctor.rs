//! `doctor`, and the questions to an origin: `credential test`, `credential rotate --test`.

use crate::support::home::set_mode;
use crate::support::world::{HOSTS, configuration};
use crate::support::{Home, Origin, Serve, fresh_key};

fn home_with(origin: &Origin, more: &str) -> Home {
    let home = Home::bare("");
    home.configure(&configuration(&home, origin, more));
    home.ok(&["init"]);
    home
}

#[test]
fn a_credential_is_tried_out_with_the_origin() {
    let key = fresh_key();
    let origin = Origin::demanding(&HOSTS, &key);
    let home = home_with(&origin, "");
    home.ok_with(&["credential", "add", "openrouter"], &key);
    let said = home.say(&["credential", "test", "openrouter"], "");
    assert_eq!((said.code, said.stdout.trim()), (0, "200 OK"), "{said:?}");
    assert_eq!(origin.last().values("authorization"), [format!("Bearer {key}")]);
    assert_eq!(home.json(&["credential", "test", "openrouter"])["status"], 200);

    // A bad secret is seen before it replaces the good one.
    let before = home.json(&["credential", "show", "openrouter"]);
    let bad = fresh_key();
    let said = home.say(&["credential", "rotate", "openrouter", "--test"], &bad);
    said.expect_error(1);
    assert!(said.stderr.contains("401") && said.stderr.contains("nothing was changed") && !said.stderr.contains(&bad), "{said:?}");
    assert_eq!(home.json(&["credential", "show", "openrouter"]), before);
    home.ok_with(&["credential", "rotate", "openrouter", "--test"], &key);
    home.ok_with(&["credential", "rotate", "openrouter"], &bad);
    home.say(&["credential", "test", "openrouter"], "").expect_error(1);
}

#[test]
fn a_credential_is_not_sent_where_it_may_not_go() {
    let key = fresh_key();
    let origin = Origin::demanding(&HOSTS, &key);
    let home = home_with(&origin, "");
    home.ok_with(&["credential", "add", "openrouter"], &key);
    for url in [
        "https://example.net/",
        "https://evilopenrouter.ai/api/v1/key",
        "http://openrouter.ai/api/v1/key",
        "https://openrouter.ai/api/v1/keys",
        "https://openrouter.ai:8443/api/v1/key",
        "openrouter.ai",
    ] {
        home.say(&["credential", "test", "openrouter", "--url", url], "").expect_error(2);
        home.say(&["credential", "rotate", "openrouter", "--test", "--url", url], &fresh_key()).expect_error(2);
    }
    home.ok(&["credential", "disable", "openrouter"]);
    home.say(&["credential", "test", "openrouter"], "").expect_error(1);
    home.add_key("other", &["example.net"], &key);
    home.say(&["credential", "test", "other"], "").expect_error(2);
    assert_eq!(origin.accepted(), 0, "nothing was even dialled");
}

/// The finding of one check at one level, if there is one.
fn found(home: &Home, check: &str, level: &str) -> Option<serde_json::Value> {
    let said = home.say(&["doctor", "--json"], "");
    let all = said.json();
    let wrong = all.as_array().unwrap().iter().any(|f| f["level"] == "wrong");
    assert_eq!(said.code, i32::from(wrong), "{said:?}");
    all.as_array().unwrap().iter().find(|f| f["check"] == check && f["level"] == level).cloned()
}

#[test]
fn doctor_finds_what_is_wrong_and_says_the_mend() {
    let key = fresh_key();
    let home = home_with(&Origin::demanding(&HOSTS, &key), "");
    home.ok_with(&["credential", "add", "openrouter"], &key);
    for check in ["home", "permissions", "configuration", "ca", "store", "trust", "clock", "audit"] {
        assert!(found(&home, check, "ok").is_some(), "{check}");
    }
    let resolve = found(&home, "resolve", "warning").expect("[resolve] sends a credential's host elsewhere");
    assert!(resolve["message"].as_str().unwrap().contains("openrouter"), "{resolve}");
    assert!(found(&home, "boundary", "note").is_some() && found(&home, "serve", "note").is_some());

    set_mode(&home.store(), 0o644);
    let mode = found(&home, "permissions", "wrong").expect("others can read the store");
    assert!(mode["mend"].as_str().unwrap().contains("chmod 600"), "{mode}");
    set_mode(&home.store(), 0o600);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ca = home.path().join("ca.pem");
    std::fs::rename(&ca, home.outside().join("ca.pem")).unwrap();
    home.configure(&format!("[proxy]\nlisten = \"{}\"\nauth = \"off\"\n", taken.local_addr().unwrap()));
    assert!(found(&home, "ports", "wrong").expect("the port is taken")["message"].as_str().unwrap().contains("another program"));
    assert!(found(&home, "auth", "warning").is_some() && found(&home, "ca", "wrong").is_some());

    home.configure("");
    let serve = Serve::start(&home);
    assert!(found(&home, "serve", "ok").expect("it runs")["message"].as_str().unwrap().contains(&serve.pid().to_string()));
    assert!(found(&home, "ca", "ok").is_some(), "serve wrote the certificate anew");

    std::fs::write(home.path().join("keyhatch.toml"), "[proxy]\nnonsense = 1\n").unwrap();
    assert!(found(&home, "configuration", "wrong").expect("a bad key")["message"].as_str().unwrap().contains("nonsense"));
}
