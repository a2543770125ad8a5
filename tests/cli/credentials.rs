//! `credential` and `agent`.

use crate::support::{Home, fresh_key, holds};

#[test]
fn what_is_no_secret_is_refused_with_2() {
    let home = Home::new("");
    let add = |input: &str, more: &[&str]| home.say(&[&["credential", "add", "x", "--allow", "example.net"], more].concat(), input);
    let long = "a".repeat((64 << 10) + 1);
    for (what, input) in [
        ("empty", ""),
        ("only white space", " \n\t "),
        ("control", "0123456789abcdef\u{1}x"),
        ("newline within", "0123456789\nabcdef01"),
        ("long", &long),
        ("weak", "qzxvw7"),
    ] {
        let said = add(input, &[]);
        assert_eq!(said.code, 2, "{what}: {said:?}");
        said.expect_error(2);
        assert!(input.trim().is_empty() || !holds(said.stderr.as_bytes(), input.trim()), "{what}: the refused secret is not printed");
    }
    assert_eq!(add("qzxvw7", &["--allow-weak"]).code, 0);
    assert_eq!(home.say(&["credential", "add", "x", "--allow", "example.net"], &fresh_key()).code, 1, "the name is taken");
}

#[test]
fn a_pattern_that_is_malformed_or_too_broad_is_refused_with_its_place() {
    let home = Home::new("");
    for (pattern, word) in [
        ("*", "--allow-broad"),
        ("*.com", "--allow-broad"),
        ("*.co.uk", "--allow-broad"),
        ("https://x.y", "https://"),
        ("a.*.b", "a.*.b"),
        ("x:0", "x:0"),
        ("", ""),
    ] {
        let said = home.say(&["credential", "add", "x", "--allow", pattern], &fresh_key());
        said.expect_error(2);
        assert!(said.stderr.contains(word), "{pattern}: {said:?}");
    }
    assert_eq!(home.say(&["credential", "add", "x", "--allow", "*.com", "--allow-broad"], &fresh_key()).code, 0);
    assert_eq!(home.say(&["credential", "add", "nothing"], &fresh_key()).code, 2, "no provider of that name, no pattern");
}

#[test]
fn a_secret_comes_from_a_file_or_a_variable_but_never_from_an_argument() {
    let mut home = Home::new("");
    let key = fresh_key();
    let file = home.outside().join("secret");
    std::fs::write(&file, format!("  {key}\n\n")).unwrap();
    home.ok(&["credential", "add", "f", "--allow", "a.example.net", "--from-file", file.to_str().unwrap()]);
    home.set("MY_SECRET", Some(&key));
    home.ok(&["credential", "add", "e", "--allow", "b.example.net", "--from-env", "MY_SECRET"]);
    home.ok_with(&["credential", "add", "s", "--allow", "c.example.net"], &format!("\t{key}\r\n"));
    let list = home.json(&["credential", "list"]);
    let prints = list.as_array().unwrap().iter().map(|c| c["fingerprint"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(prints.len(), 3);
    assert!(prints.iter().all(|p| *p == prints[0] && p.len() == 8 && p.bytes().all(|b| b.is_ascii_hexdigit())), "white space is cut: {prints:?}");
    let help = home.ok(&["credential", "add", "--help"]);
    for flag in ["--secret", "--value", "--key ", "--token"] {
        assert!(!help.contains(flag), "{flag}");
    }
    assert_eq!(home.say(&["credential", "add", "v", "--allow", "d.example.net", "--from-env", "NO_SUCH_VARIABLE"], "").code, 2);
}

#[test]
fn lists_have_the_documented_schema_and_no_secret() {
    let home = Home::new("");
    let key = fresh_key();
    let said = home.say(&["credential", "add", "openrouter"], &key);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("openrouter.ai") || said.stderr.contains("openrouter.ai"), "it prints what the patterns cover: {said:?}");
    let list = home.json(&["credential", "list"]);
    let one = &list[0];
    let wanted = [
        "name",
        "type",
        "source",
        "allowed_domains",
        "agents",
        "enabled",
        "fingerprint",
        "created_at",
        "rotated_at",
        "last_used_at",
        "last_origin_status",
    ];
    for field in wanted {
        assert!(one.get(field).is_some(), "{field}: {one}");
    }
    assert_eq!((one["name"].as_str(), one["type"].as_str(), one["enabled"].as_bool()), (Some("openrouter"), Some("bearer"), Some(true)));
    assert_eq!((&one["allowed_domains"], &one["agents"]), (&serde_json::json!(["*.openrouter.ai"]), &serde_json::json!(["default"])));
    let agents = home.json(&["agent", "list"]);
    for field in ["name", "grants", "created_at", "last_seen_at"] {
        assert!(agents[0].get(field).is_some(), "{field}: {agents}");
    }
    assert_eq!(agents[0]["grants"], serde_json::json!(["openrouter"]));
    for said in
        [home.say(&["credential", "show", "openrouter"], ""), home.say(&["credential", "list"], ""), home.say(&["agent", "show", "default"], "")]
    {
        assert!(said.code == 0 && !said.stdout.contains(&key) && said.stdout.contains("openrouter"), "{said:?}");
    }
}

#[test]
fn no_such_thing_is_4() {
    let home = Home::new("");
    for args in [
        &["credential", "show", "nope"][..],
        &["credential", "disable", "nope"],
        &["credential", "enable", "nope"],
        &["credential", "remove", "nope"],
        &["credential", "rollback", "nope"],
        &["agent", "show", "nope"],
        &["agent", "rotate", "nope"],
        &["agent", "remove", "nope"],
        &["agent", "grant", "nope", "x"],
        &["agent", "grant", "default", "nope"],
        &["agent", "revoke", "default", "nope"],
    ] {
        let said = home.say(args, "");
        said.expect_error(4);
        assert!(said.stderr.contains("nope"), "{args:?}: {said:?}");
    }
    home.say(&["credential", "rotate", "nope"], &fresh_key()).expect_error(4);
    home.say(&["credential", "add", "x", "--allow", "example.net", "--agent", "nope"], &fresh_key()).expect_error(4);
}

#[test]
fn bad_usage_is_2_and_errors_are_json_where_asked_for() {
    let home = Home::new("");
    for args in
        [&["nonsense"][..], &["credential"], &["credential", "add"], &["credential", "add", "x", "--type", "magic"], &["policy", "explain", "GET"]]
    {
        assert_eq!(home.say(args, "").code, 2, "{args:?}");
    }
    let said = home.say(&["credential", "show", "nope", "--json"], "");
    assert_eq!(said.code, 4);
    let text = if said.stdout.trim().is_empty() { &said.stderr } else { &said.stdout };
    let error: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    assert!(error["error"].to_string().contains("nope"), "{error}");
}

#[test]
fn an_agents_token_is_printed_once_alone_on_stdout() {
    let home = Home::new("");
    let said = home.say(&["agent", "add", "worker"], "");
    let token = said.stdout.trim_end();
    assert!(said.code == 0 && said.stdout.lines().count() == 1, "{said:?}");
    assert!(
        token.len() == 47 && token.starts_with("kha_") && token[4..].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'),
        "{token}"
    );
    assert!(home.files().iter().all(|(_, bytes)| !holds(bytes, token)), "the store keeps a digest only");
    let next = home.ok(&["agent", "rotate", "worker"]);
    assert_ne!(next.trim_end(), token);
}

#[test]
fn rollback_brings_the_version_before_back_and_remove_takes_all() {
    let home = Home::new("");
    let (first, second) = (fresh_key(), fresh_key());
    home.add_key("x", &["example.net"], &first);
    let print = || home.json(&["credential", "show", "x"])["fingerprint"].as_str().map(str::to_owned).unwrap();
    let one = print();
    home.ok_with(&["credential", "rotate", "x"], &second);
    let two = print();
    assert_ne!(one, two);
    home.ok(&["credential", "rollback", "x"]);
    assert_eq!(print(), one);
    home.ok(&["credential", "remove", "x"]);
    home.say(&["credential", "show", "x"], "").expect_error(4);
    assert_eq!(home.json(&["agent", "list"])[0]["grants"], serde_json::json!([]));
}
