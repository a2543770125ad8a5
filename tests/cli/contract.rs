//! Clauses of the contract that no other file asks the binary for: places of faults, channels, exit codes, who may run what.

use std::process::Command;

use crate::support::home::{PASSPHRASE, said, set_mode};
use crate::support::{Home, Serve, binary, fresh_key};

/// Under `setsid` there is no terminal to ask at, as under cron and in CI.
fn without_terminal(home: &Home, args: &[&str]) -> crate::support::Said {
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(binary()).args(args);
    home.dress(&mut command);
    said(command, b"")
}

#[test]
fn a_file_of_the_configuration_that_cannot_be_used_is_named_with_its_line() {
    let home = Home::new("");
    let text = home.outside().join("text");
    std::fs::write(&text, "no certificate, no key, no token\n").unwrap();
    let text = text.to_str().unwrap();
    let (listen, rest) = ("[proxy]\nlisten = \"127.0.0.1:0\"\n", "[admin]\nlisten = \"127.0.0.1:0\"\n");
    for (configuration, line, key) in [
        (format!("{listen}{rest}[upstream]\nextra_ca_files = [\"/nonexistent/ca.pem\"]\n"), 6, "upstream.extra_ca_files"),
        (format!("{listen}{rest}[upstream]\n\ncrl_files = [\"{text}\"]\n"), 7, "upstream.crl_files"),
        (format!("{listen}{rest}token_file = \"{text}\"\n"), 5, "admin.token_file"),
        (format!("{listen}tls_listen = \"127.0.0.1:0\"\n{rest}"), 3, "proxy.tls_listen"),
        (format!("{listen}tls_listen = \"127.0.0.1:0\"\ntls_cert = \"{text}\"\ntls_key = \"{text}\"\n{rest}"), 4, "proxy.tls_cert"),
        (format!("{listen}{rest}[limits]\nhead_bytes = \"1B\"\n"), 6, "limits.head_bytes"),
    ] {
        std::fs::write(home.path().join("keyhatch.toml"), &configuration).unwrap();
        let said = home.say(&["serve"], "");
        said.expect_no_panic();
        assert_eq!(said.code, 2, "{configuration}: {said:?}");
        let wanted = format!("keyhatch.toml:{line}: key `{key}`: ");
        assert!(said.stderr.contains(&wanted) && said.stderr.contains("; allowed: "), "{configuration}: {said:?}");
    }
}

#[test]
fn a_refused_pattern_has_the_place_of_its_fault() {
    let home = Home::new("");
    for (pattern, at) in [
        ("https://openrouter.ai", 6),
        ("openrouter.ai/api", 14),
        ("user@host", 5),
        ("a..b", 3),
        ("{a,b}.example.com", 1),
        ("api.{a,b}.com", 5),
        ("api.*.com", 5),
        ("*.*.com", 3),
        ("host:0", 6),
        ("host:65536", 6),
        ("::1", 1),
        ("[fe80::1%25eth0]", 1),
        ("bücher.exa mple", 11),
        ("api.256.1.1.1", 13),
    ] {
        let said = home.say(&["credential", "add", "x", "--allow", pattern], &fresh_key());
        said.expect_error(2);
        assert!(said.stderr.contains(&format!("at character {at}: ")), "{pattern}: {said:?}");
    }
    assert_eq!(home.json(&["credential", "list"]), serde_json::json!([]));
}

#[test]
fn run_refuses_an_option_that_it_does_not_have() {
    let home = Home::new("");
    for args in [&["run", "--bogus"][..], &["run", "--agnet", "x", "--", "true"], &["run", "-x", "true"]] {
        let said = home.say(args, "");
        said.expect_error(2);
        assert!(said.stderr.contains("there is no option -"), "{said:?}");
    }
    // What follows the command is the command's own.
    assert_eq!(home.ok(&["run", "echo", "--agent", "x", "--json"]), "--agent x --json\n");
    assert_eq!(home.ok(&["run", "--", "echo", "--", "-n"]), "-- -n\n");
    for (program, code) in [("/nonexistent/program", 127), ("/", 126)] {
        let said = home.say(&["run", "--json", "--", program], "");
        assert_eq!(said.code, code, "{said:?}");
        let error: serde_json::Value = serde_json::from_str(&said.stderr).unwrap();
        assert_eq!(error["error"]["exit_code"], code, "{said:?}");
    }
}

#[test]
fn a_session_lasts_from_a_second_to_thirty_days() {
    let home = Home::new("");
    let _serve = Serve::start(&home);
    for ttl in ["0", "0s", "31d", "1w", "-1h", ""] {
        home.say(&["env", &format!("--ttl={ttl}")], "").expect_error(2);
    }
    for ttl in ["1s", "90m", "30d"] {
        home.ok(&["env", "--ttl", ttl]);
    }
}

#[test]
fn without_a_terminal_it_says_what_each_command_lacks() {
    let mut home = Home::bare("");
    home.set("KEYHATCH_PASSPHRASE", None);
    let said = without_terminal(&home, &["init"]);
    said.expect_error(3);
    for way in ["new store", "--passphrase-file", "KEYHATCH_PASSPHRASE_FILE", "keyhatch-passphrase", "init --key-file"] {
        assert!(said.stderr.contains(way), "{way}: {said:?}");
    }
    assert!(!home.store().exists());
    home.set("KEYHATCH_PASSPHRASE", Some(PASSPHRASE));
    home.ok(&["init"]);
    let said = without_terminal(&home, &["store", "rekey"]);
    said.expect_error(3);
    assert!(said.stderr.contains("--new-passphrase-file") && said.stderr.contains("--new-key-file"), "{said:?}");
    home.ok(&["store", "verify"]);
}

#[test]
fn what_is_no_backup_is_not_restored() {
    let home = Home::new("");
    home.add_key("one", &["example.net"], &fresh_key());
    let text = home.outside().join("text");
    std::fs::write(&text, "this is no store\n".repeat(400)).unwrap();
    let nowhere = home.outside().join("nowhere/backup.db");
    let nowhere = nowhere.to_str().unwrap();
    for (file, word) in [(text.to_str().unwrap(), "damaged"), (nowhere, "not there")] {
        let said = home.say(&["store", "restore", file], "");
        said.expect_error(1);
        assert!(said.stderr.contains("cannot be restored") && said.stderr.contains(word) && said.stderr.contains(file), "{said:?}");
    }
    let said = home.say(&["store", "backup", nowhere], "");
    said.expect_error(1);
    assert!(said.stderr.contains("cannot be used"), "{said:?}");
    assert_eq!(home.json(&["credential", "list"])[0]["name"], "one");
}

#[test]
fn a_backup_is_restored_on_a_new_machine() {
    let home = Home::new("");
    home.add_key("one", &["example.net"], &fresh_key());
    let file = home.outside().join("backup");
    home.ok(&["store", "backup", file.to_str().unwrap()]);
    let mut other = Home::bare("");
    let place = other.outside().join("elsewhere/keyhatch");
    other.set("KEYHATCH_HOME", place.to_str());
    let nowhere = other.outside().join("nowhere/backup.db");
    let said = other.say(&["store", "restore", nowhere.to_str().unwrap()], "");
    said.expect_error(1);
    assert!(!place.exists(), "{said:?}");
    other.ok(&["store", "restore", file.to_str().unwrap()]);
    assert_eq!(other.json(&["credential", "list"]), home.json(&["credential", "list"]));
    assert_eq!(std::fs::read(place.join("ca.pem")).unwrap(), std::fs::read(home.path().join("ca.pem")).unwrap());
    other.ok(&["store", "verify"]);
}

#[test]
fn doctor_names_the_files_that_serve_would_lack() {
    let home = Home::new("[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"/nonexistent/token\"\n");
    let said = home.say(&["doctor", "--json"], "");
    assert_eq!(said.code, 1, "{said:?}");
    let found = said.json();
    let wrong = found.as_array().unwrap().iter().find(|f| f["level"] == "wrong").unwrap();
    assert!(wrong["message"].as_str().unwrap().contains("key `admin.token_file`") && wrong["mend"].is_string(), "{wrong}");
}

#[test]
fn explain_denies_an_address_that_is_not_connected_to() {
    let home = Home::new("[egress]\nallow_cidrs = [\"10.9.0.0/16\"]\n[resolve]\n\"10.8.0.1:443\" = \"127.0.0.1:1\"\n");
    for (url, decision, reason) in [
        ("https://10.0.0.1/", "denied", "private_address"),
        ("http://169.254.169.254/latest", "denied", "private_address"),
        ("https://[::ffff:127.0.0.1]/", "denied", "private_address"),
        ("https://10.9.0.1/", "tunnelled", "unmatched"),
        ("https://10.8.0.1/", "tunnelled", "unmatched"),
        ("https://8.8.8.8/", "tunnelled", "unmatched"),
    ] {
        let said = home.json(&["policy", "explain", "GET", url]);
        assert_eq!((said["decision"].as_str(), said["reason"].as_str()), (Some(decision), Some(reason)), "{url}: {said}");
        assert!(said["credential"].is_null() && said["pattern"].is_null(), "{url}: {said}");
    }
}

#[test]
fn a_secret_is_not_asked_for_in_vain() {
    let home = Home::new("");
    home.add_key("one", &["example.net"], &fresh_key());
    // The secret would be refused too; what is wrong with the name comes first.
    home.say(&["credential", "rotate", "nope"], "").expect_error(4);
    home.say(&["credential", "add", "two", "--allow", "example.org", "--agent", "nobody"], "").expect_error(4);
    home.say(&["credential", "add", "one", "--allow", "example.net"], "").expect_error(1);
    home.say(&["credential", "add", "two", "--allow", "example.org"], "").expect_error(2);
}

#[test]
fn data_goes_to_stdout_and_talk_to_stderr() {
    let home = Home::new("");
    home.add_key("one", &["example.net"], &fresh_key());
    // A token stands alone, so that `$(keyhatch agent rotate x)` is it.
    for args in [&["agent", "add", "builder"][..], &["agent", "rotate", "builder"]] {
        let token = home.ok(args);
        let (token, newline) = token.split_at(token.len() - 1);
        let form = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        assert!(newline == "\n" && token.starts_with("kha_") && token.len() == 47 && token.bytes().all(form), "{token:?}");
    }
    for args in [
        &["agent", "grant", "builder", "one"][..],
        &["agent", "revoke", "builder", "one"],
        &["credential", "disable", "one"],
        &["credential", "enable", "one"],
        &["store", "verify"],
        &["audit", "verify"],
        &["credential", "remove", "one"],
        &["agent", "remove", "builder"],
    ] {
        let said = home.say(args, "");
        assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{args:?}: {said:?}");
        assert!(!said.stderr.is_empty(), "{args:?}");
    }
    // An empty list is an empty array to a program, and a word to a person.
    assert_eq!(home.json(&["credential", "list"]), serde_json::json!([]));
    let said = home.say(&["credential", "list"], "");
    assert!(said.stdout.is_empty() && said.stderr.contains("credential add"), "{said:?}");
}

#[test]
fn root_leaves_nothing_in_another_users_home() {
    if !rustix::process::geteuid().is_root() {
        crate::support::skip("root_leaves_nothing_in_another_users_home", "not root");
        return;
    }
    let mut home = Home::new("");
    set_mode(home.outside(), 0o755);
    let owner = Some(65534);
    std::os::unix::fs::chown(home.path(), owner, None).unwrap();
    let before = home.files();
    for args in [
        &["init"][..],
        &["serve"],
        &["env"],
        &["run", "--", "true"],
        &["credential", "list"],
        &["agent", "rotate", "default"],
        &["store", "verify"],
        &["audit", "tail"],
        &["ca", "export"],
        &["policy", "explain", "GET", "https://openrouter.ai/"],
    ] {
        let said = home.say(args, "");
        said.expect_error(1);
        assert!(said.stderr.contains("belongs to user 65534") && said.stderr.contains("sudo -u"), "{args:?}: {said:?}");
    }
    assert_eq!(home.files(), before, "nothing was written");
    // A home that is not there yet, in a directory of the one who called sudo.
    let user = home.outside().join("user");
    std::os::unix::fs::chown(&user, owner, None).unwrap();
    home.set("SUDO_UID", Some("65534"));
    let place = user.join("share/keyhatch");
    let said = home.say(&["init", "--home", place.to_str().unwrap()], "");
    said.expect_error(1);
    assert!(said.stderr.contains("without sudo") && !user.join("share").exists(), "{said:?}");
}
