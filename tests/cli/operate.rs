//! `store`, `ca`, `audit`, `policy`, `demo` and the listeners for operators.

use std::io::{Read as _, Write as _};

use crate::support::{Home, Said, Serve, World, fresh_key};

#[test]
fn backup_and_restore_bring_back_what_was() {
    let home = Home::new("");
    home.add_key("one", &["example.net"], &fresh_key());
    let before = home.json(&["credential", "list"]);
    let file = home.outside().join("backup");
    let file = file.to_str().unwrap();
    home.ok(&["store", "backup", file]);
    assert_ne!(home.say(&["store", "backup", file], "").code, 0, "a backup is not overwritten");
    home.ok(&["credential", "remove", "one"]);
    home.add_key("two", &["example.org"], &fresh_key());
    let said = home.say(&["store", "restore", file], "");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(format!("{}{}", said.stdout, said.stderr).contains("one"), "it says what it brings back: {said:?}");
    assert_eq!(home.json(&["credential", "list"]), before);
    home.ok(&["store", "verify"]);
    let kept = home.files().into_iter().filter(|(p, _)| p.file_name().unwrap().to_string_lossy().starts_with("store")).count();
    assert!(kept >= 2, "the store that was replaced is kept");
}

#[test]
fn rekey_seals_all_anew_and_the_old_passphrase_is_of_no_use() {
    let mut home = Home::new("");
    home.add_key("one", &["example.net"], &fresh_key());
    let next = home.outside().join("next");
    std::fs::write(&next, "another passphrase\n").unwrap();
    home.ok(&["store", "rekey", "--new-passphrase-file", next.to_str().unwrap()]);
    home.say(&["credential", "list"], "").expect_error(3);
    home.set("KEYHATCH_PASSPHRASE", Some("another passphrase"));
    assert_eq!(home.json(&["credential", "list"])[0]["name"], "one");
    home.ok(&["store", "verify"]);
    home.ok(&["audit", "verify"]);
    let _serve = Serve::start(&home);
    home.say(&["store", "rekey", "--new-passphrase-file", next.to_str().unwrap()], "").expect_error(1);
    let file = home.outside().join("backup");
    home.ok(&["store", "backup", file.to_str().unwrap()]);
    home.say(&["store", "restore", file.to_str().unwrap()], "").expect_error(1);
}

#[test]
fn ca_export_prints_the_ca_and_the_bundle_has_the_systems_too() {
    let home = Home::new("");
    let own = std::fs::read_to_string(home.path().join("ca.pem")).unwrap();
    assert_eq!(home.ok(&["ca", "export"]).trim(), own.trim());
    let file = home.outside().join("bundle.pem");
    home.ok(&["ca", "export", "--bundle", "-o", file.to_str().unwrap()]);
    assert!(std::fs::read_to_string(file).unwrap().contains(own.trim()));
    assert!(!own.contains("PRIVATE"));
}

#[test]
fn completions_and_the_manual_are_printed() {
    let home = Home::bare("");
    for shell in ["bash", "zsh", "fish"] {
        let text = home.ok(&["completions", shell]);
        assert!(text.contains("keyhatch") && text.contains("credential") && !text.contains("demo-child"), "{shell}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let home = Home::bare("");
    for command in [
        "init",
        "serve",
        "run",
        "env",
        "demo",
        "credential add",
        "credential rotate",
        "agent add",
        "policy explain",
        "ca export",
        "store backup",
        "audit tail",
    ] {
        let args = command.split(' ').chain(["--help"]).collect::<Vec<_>>();
        let text = home.ok(&args);
        assert!(text.contains(&format!("keyhatch {command}")), "{command}: {text}");
    }
    let said = home.say(&["run", "--help"], "");
    assert!(
        said.stdout.contains("admin.sock") || said.stdout.contains("same user") || said.stdout.contains("own uid"),
        "the boundary is named: {}",
        said.stdout
    );
}

fn get(serve: &Serve, target: &str, host: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(serve.admin()).unwrap();
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

#[test]
fn health_readiness_and_metrics_answer_and_a_foreign_host_is_refused() {
    let world = World::new();
    let host = world.serve.admin().to_string();
    assert_eq!(get(&world.serve, "/healthz", &host).0, 200);
    assert_eq!(get(&world.serve, "/readyz", &host).0, 200);
    world.agent().get("openrouter.ai", "/");
    world.agent().get("example.net", "/");
    let (status, text) = get(&world.serve, "/metrics", &host);
    assert_eq!(status, 200);
    assert!(text.contains("keyhatch") && text.contains("injected") && text.contains("_bucket"), "{text}");
    for foreign in ["evil.example", "evil.example:80", ""] {
        assert!(get(&world.serve, "/metrics", foreign).0 >= 400, "{foreign}");
    }
    assert_eq!(get(&world.serve, "/nothing", &host).0, 404);
}

#[test]
fn metrics_do_not_grow_with_what_an_agent_sends() {
    let world = World::new();
    let host = world.serve.admin().to_string();
    let agent = world.agent();
    let ask = |from: usize| {
        for n in from..from + 30 {
            let mut conn = agent.open("openrouter.ai:443");
            conn.ask(format!("M{n} /path-{n} HTTP/1.1\r\nHost: openrouter.ai\r\nX-N{n}: {n}\r\nConnection: close\r\n\r\n"));
            agent.connect(&format!("10.0.0.{n}:443"));
        }
    };
    ask(0);
    let lines = || get(&world.serve, "/metrics", &host).1.lines().count();
    let before = lines();
    ask(30);
    assert_eq!(lines(), before);
}

#[test]
fn the_audit_log_has_one_verifiable_record_a_request() {
    let mut world = World::new();
    let agent = world.agent();
    agent.get("openrouter.ai", "/api/v1/models?secret=query");
    agent.get("example.net", "/");
    agent.connect("openrouter.ai:8443");
    world.serve.stop();
    let records = records(&world.home);
    let fields = [
        "seq",
        "ts",
        "id",
        "agent",
        "method",
        "host",
        "port",
        "path",
        "status",
        "decision",
        "credential",
        "reason",
        "upstream_addr",
        "bytes_up",
        "bytes_down",
        "ttfb_ms",
        "duration_ms",
        "client_protocol",
        "upstream_protocol",
        "mac",
    ];
    let injected = records.iter().find(|r| r["decision"] == "injected").unwrap();
    for field in fields {
        assert!(injected.get(field).is_some(), "{field}: {injected}");
    }
    assert_eq!(
        (injected["path"].as_str(), injected["credential"].as_str(), injected["status"].as_u64()),
        (Some("/api/v1/models"), Some("real"), Some(200))
    );
    assert!(records.iter().any(|r| r["decision"] == "tunnelled" && r["host"] == "example.net" && r["credential"].is_null()));
    assert!(records.iter().any(|r| r["decision"] == "denied" && r["reason"] == "port_denied"));
    assert!(records.iter().any(|r| r["event"] == "credential.add"));
    for pair in records.windows(2) {
        assert_eq!(pair[0]["seq"].as_u64().unwrap() + 1, pair[1]["seq"].as_u64().unwrap());
    }
    world.home.ok(&["audit", "verify"]);
    assert!(world.home.ok(&["audit", "tail"]).contains("openrouter.ai"));
}

fn records(home: &Home) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(home.path().join("audit.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

/// Changes the log's lines and asks `audit verify`.
fn verify_after(home: &Home, change: impl FnOnce(&mut Vec<String>)) -> Said {
    let path = home.path().join("audit.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines = text.lines().map(str::to_owned).collect();
    change(&mut lines);
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let said = home.say(&["audit", "verify"], "");
    std::fs::write(&path, text).unwrap();
    said
}

#[test]
fn audit_verify_finds_what_was_changed_removed_added_or_cut() {
    let mut world = World::new();
    let agent = world.agent();
    for n in 0..8 {
        agent.get("openrouter.ai", &format!("/{n}"));
    }
    world.serve.stop();
    let home = &world.home;
    assert_eq!(verify_after(home, |_| {}).code, 0);
    let middle = records(home).len() / 2;
    for (what, said) in [
        ("changed", verify_after(home, |l| l[middle] = l[middle].replacen("20", "21", 1))),
        ("removed", verify_after(home, |l| drop(l.remove(middle)))),
        ("doubled", verify_after(home, |l| l.insert(middle, l[middle].clone()))),
        ("swapped", verify_after(home, |l| l.swap(middle, middle + 1))),
        ("first gone", verify_after(home, |l| drop(l.remove(0)))),
        ("tail cut", verify_after(home, |l| l.truncate(middle))),
    ] {
        assert_eq!(said.code, 1, "{what}: {said:?}");
        said.expect_no_panic();
    }
    // A torn last line is named, not fatal: what a crash in the middle of a write leaves.
    let path = home.path().join("audit.jsonl");
    let next = records(home).last().unwrap()["seq"].as_u64().unwrap() + 1;
    std::fs::File::options().append(true).open(&path).unwrap().write_all(format!("{{\"seq\":{next},\"ts\":\"20").as_bytes()).unwrap();
    let said = home.say(&["audit", "verify"], "");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(format!("{}{}", said.stdout, said.stderr).contains("torn"), "{said:?}");
}

#[test]
fn strings_of_an_agent_are_shown_escaped() {
    let world = World::new();
    world.agent().open("openrouter.ai:443").ask("GET /\u{1b}[31m\u{202e}x HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    let text = crate::support::within(std::time::Duration::from_secs(5), "the record is written", || {
        let text = std::fs::read_to_string(world.home.path().join("audit.jsonl")).unwrap();
        (text.contains("bad_request") || text.contains("injected")).then_some(text)
    });
    let shown = world.home.ok(&["audit", "tail"]);
    for out in [text, shown, world.serve.log()] {
        assert!(!out.contains('\u{1b}') && !out.contains('\u{202e}'), "{out:?}");
    }
}

#[test]
fn the_demo_passes_in_a_clean_environment() {
    let home = Home::bare("");
    let start = std::time::Instant::now();
    let said = home.say(&["demo"], "");
    assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
    assert!(!said.stdout.contains("FAIL") && said.stdout.contains("(the real key)"), "{}", said.stdout);
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}
