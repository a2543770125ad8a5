//! Homes, configuration, unlocking.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::home::{PASSPHRASE, set_mode};
use crate::support::{Home, Serve, fresh_key};

#[test]
fn init_makes_the_home_with_the_modes_of_the_contract() {
    let home = Home::bare("");
    std::fs::remove_dir_all(home.path()).unwrap();
    let said = home.say(&["init"], "");
    assert_eq!(said.code, 0, "{said:?}");
    let mode = |name: &str| std::fs::metadata(home.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("store.db"), mode("ca.pem")), (0o700, 0o600, 0o644));
    assert!(format!("{}{}", said.stdout, said.stderr).contains("credential add"), "it says what to do next: {said:?}");
    home.say(&["init"], "").expect_error(1);
    assert_eq!(home.json(&["agent", "list"])[0]["name"], "default");
}

#[test]
fn wrong_configuration_names_file_line_key_and_allowed_values() {
    let table = [
        ("[proxy]\nlisten = \"127.0.0.1:0\"\nlisten_on = 1\n", vec!["listen_on", ":3"]),
        ("[proxy]\nauth = \"maybe\"\n", vec!["auth", "required", "off", ":2"]),
        ("[proxy]\nlisten = 7\n", vec!["listen", ":2"]),
        ("[egress]\ndefault = \"perhaps\"\n", vec!["default", "allow", "deny"]),
        ("[egress]\nports = [\"x\"]\n", vec!["ports"]),
        ("[egress]\nallow_hosts = [\"https://x\"]\n", vec!["allow_hosts", "https://x"]),
        ("[timeouts]\nconnect = \"ten\"\n", vec!["connect", "ten"]),
        ("[nonsense]\n", vec!["nonsense"]),
        ("[resolve]\n\"x\" = \"127.0.0.1:1\"\n", vec!["resolve"]),
        ("this is no toml", vec!["keyhatch.toml"]),
    ];
    let home = Home::new("");
    for (text, wanted) in table {
        std::fs::write(home.path().join("keyhatch.toml"), text).unwrap();
        let said = home.say(&["serve"], "");
        said.expect_error(2);
        for word in wanted.iter().chain(&["keyhatch.toml"]) {
            assert!(said.stderr.contains(word), "{text:?}: {word:?} in {:?}", said.stderr);
        }
    }
    std::fs::write(home.path().join("keyhatch.toml"), "[proxy]\nauth = \"off\"\nlisten = \"0.0.0.0:0\"\nallow_cleartext = true\n").unwrap();
    home.say(&["serve"], "").expect_error(2);
    std::fs::write(home.path().join("keyhatch.toml"), "[proxy]\nlisten = \"0.0.0.0:0\"\n").unwrap();
    let said = home.say(&["serve"], "");
    said.expect_error(2);
    assert!(said.stderr.contains("allow_cleartext"), "{said:?}");
}

#[test]
fn a_home_that_others_can_write_is_refused_with_the_mend() {
    let home = Home::new("");
    set_mode(&home.path(), 0o777);
    let said = home.say(&["credential", "list"], "");
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("chmod"), "{said:?}");
}

#[test]
fn every_way_to_unlock_works_and_the_first_that_is_set_counts() {
    let mut home = Home::new("");
    home.set("KEYHATCH_PASSPHRASE", None);
    let file = home.outside().join("passphrase");
    std::fs::write(&file, format!("{PASSPHRASE}\n")).unwrap();
    let file = file.to_str().unwrap().to_owned();
    assert_eq!(home.say(&["credential", "list", "--passphrase-file", &file], "").code, 0);
    home.set("KEYHATCH_PASSPHRASE_FILE", Some(&file));
    assert_eq!(home.say(&["credential", "list"], "").code, 0);
    home.set("KEYHATCH_PASSPHRASE", Some("wrong"));
    assert_eq!(home.say(&["credential", "list"], "").code, 0, "the file comes before the variable");
    home.set("KEYHATCH_PASSPHRASE_FILE", None);
    let said = home.say(&["credential", "list"], "");
    said.expect_error(3);
    assert!(said.stderr.to_lowercase().contains("passphrase"), "{said:?}");
    // systemd: LoadCredential=keyhatch-passphrase
    let directory = home.outside().join("credentials");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("keyhatch-passphrase"), PASSPHRASE).unwrap();
    home.set("CREDENTIALS_DIRECTORY", directory.to_str());
    assert_eq!(home.say(&["credential", "list"], "").code, 0, "systemd's credential comes before the variable");
}

#[test]
fn without_a_source_and_a_terminal_it_is_3_and_the_ways_are_named() {
    let mut home = Home::new("");
    home.set("KEYHATCH_PASSPHRASE", None);
    for args in [&["credential", "list"][..], &["serve"], &["run", "--", "true"], &["store", "verify"]] {
        // setsid: no controlling terminal, as under cron and in CI.
        let mut command = std::process::Command::new("setsid");
        command.arg("-w").arg(crate::support::binary()).args(args);
        home.dress(&mut command);
        let said = crate::support::home::said(command, b"this is no passphrase\n");
        said.expect_error(3);
        for way in ["--passphrase-file", "KEYHATCH_PASSPHRASE"] {
            assert!(said.stderr.contains(way), "{args:?}: {said:?}");
        }
    }
}

#[test]
fn a_wrong_passphrase_is_3_and_changes_nothing() {
    let mut home = Home::new("");
    home.add_key("one", &["example.net"], &fresh_key());
    let before = home.json(&["credential", "list"]);
    home.set("KEYHATCH_PASSPHRASE", Some("not this one"));
    for args in [&["credential", "list"][..], &["serve"], &["credential", "remove", "one"], &["store", "verify"], &["agent", "add", "x"]] {
        home.say(args, "").expect_error(3);
    }
    home.say(&["credential", "add", "two", "--allow", "example.org"], &fresh_key()).expect_error(3);
    home.set("KEYHATCH_PASSPHRASE", Some(PASSPHRASE));
    assert_eq!(home.json(&["credential", "list"]), before);
}

#[test]
fn a_source_that_does_not_fit_the_store_names_both() {
    let home = Home::with_key_file("");
    let file = home.outside().join("passphrase");
    std::fs::write(&file, PASSPHRASE).unwrap();
    let said = home.say(&["credential", "list", "--passphrase-file", file.to_str().unwrap()], "");
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("passphrase") && said.stderr.contains("key file"), "{said:?}");
}

#[test]
fn the_key_file_stays_outside_the_home() {
    let home = Home::bare("");
    let mut command = home.command(&["init", "--key-file"]);
    command.env_remove("KEYHATCH_PASSPHRASE");
    let said = crate::support::home::said(command, b"");
    assert_eq!(said.code, 0, "{said:?}");
    let mut command = home.command(&["credential", "list"]);
    command.env_remove("KEYHATCH_PASSPHRASE");
    let said = crate::support::home::said(command, b"");
    assert_eq!(said.code, 0, "the default place is found again: {said:?}");
    let inside = home.files().into_iter().map(|(p, _)| p.file_name().unwrap().to_string_lossy().into_owned()).collect::<Vec<_>>();
    assert!(!inside.iter().any(|n| n.contains("key") && n != "keyhatch.toml"), "{inside:?}");
}

#[test]
fn a_second_serve_exits_1_and_names_the_first() {
    let home = Home::new("");
    let serve = Serve::start(&home);
    let said = home.say(&["serve"], "");
    said.expect_error(1);
    assert!(said.stderr.contains(&serve.pid().to_string()), "{said:?}");
}

#[test]
fn serve_comes_up_again_after_kill_9() {
    let home = Home::new("");
    let mut serve = Serve::start(&home);
    serve.kill();
    let again = Serve::start(&home);
    assert_ne!(again.pid(), 0);
    assert_eq!(home.say(&["audit", "verify"], "").code, 0);
}

#[test]
fn a_home_of_another_user_is_refused_with_the_mend() {
    if !rustix::process::geteuid().is_root() {
        crate::support::skip("a_home_of_another_user", "not root");
        return;
    }
    let home = Home::new("");
    let _serve = Serve::start(&home);
    // The other way round from sudo: the files are nobody's, the command is root's.
    std::os::unix::fs::chown(home.path(), Some(65534), Some(65534)).unwrap();
    let said = home.say(&["credential", "list"], "");
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("nobody") || said.stderr.contains("65534"), "it names the owner: {said:?}");
}
