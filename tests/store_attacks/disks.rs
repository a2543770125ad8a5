//! Crashes, read-only disks and full ones.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use crate::support::home::set_mode;
use crate::support::{Home, Said, fresh_key};

/// What the test knows of a credential: the key of the last command that exited 0, and those of commands killed since.
#[derive(Default)]
struct Known {
    certain: Option<String>,
    possible: Vec<String>,
}

/// Kill -9 at random moments: what exited 0 is there afterwards, and the store is sound.
#[test]
fn kill_9_during_200_changes_loses_nothing_that_was_done() {
    let home = Home::with_key_file("");
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let print = |name: &str| home.json(&["credential", "show", name])["fingerprint"].as_str().map(str::to_owned).unwrap();
    // How long a whole command takes here, so that the kills fall on all of it.
    let start = std::time::Instant::now();
    home.add_key("measure", &["example.net"], &fresh_key());
    let whole = start.elapsed();
    let (mut done, mut killed) = (0, 0);
    for n in 0..200_u32 {
        let (name, key) = (format!("c{}", n % 40), fresh_key());
        let there = home.json(&["credential", "list"]).as_array().unwrap().iter().any(|c| c["name"] == name.as_str());
        let entry = known.entry(name.clone()).or_default();
        assert!(there || entry.certain.is_none(), "{name} was stored by a command that exited 0");
        let args: &[&str] = if there { &["credential", "rotate", &name] } else { &["credential", "add", &name, "--allow", "example.net"] };
        let mut command = home.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), key.as_bytes());
        if n % 3 != 0 {
            // The moment is the point, not a wait for something.
            let random = u32::from_le_bytes(keyhatch::random::bytes::<4>());
            std::thread::sleep(whole.mul_f64(f64::from(random % 1000) / 1000.0 * 1.2));
            let _ = child.kill();
        }
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            Some(0) => {
                done += 1;
                *entry = Known { certain: Some(key), possible: Vec::new() };
            }
            // It may have been done or not, but nothing else.
            None => {
                killed += 1;
                entry.possible.push(key);
            }
            Some(code) => panic!("{args:?} after a kill: {code}: {}", String::from_utf8_lossy(&output.stderr)),
        }
        if n % 20 == 19 {
            home.ok(&["store", "verify"]);
        }
    }
    assert!(done > 66 && killed > 20, "{done} done, {killed} killed");
    home.ok(&["store", "verify"]);
    // The fingerprint is keyed by the store: that of a key is learnt by storing it again.
    for (name, known) in &known {
        if home.say(&["credential", "show", name, "--json"], "").code == 4 {
            assert!(known.certain.is_none(), "{name} was stored by a command that exited 0");
            continue;
        }
        let current = print(name);
        let found = known.certain.iter().chain(&known.possible).any(|key| {
            home.ok_with(&["credential", "rotate", "measure"], key);
            print("measure") == current
        });
        assert!(found, "{name} holds a key that nobody gave it last");
    }
}

#[test]
fn a_read_only_home_is_a_clear_error_and_reading_goes_on_where_it_can() {
    if rustix::process::geteuid().is_root() {
        // Root writes in spite of modes: a read-only mount is tried where one can be had.
        return on_a_mount("ro", |home| {
            let said = home.say(&["credential", "rotate", "one"], &fresh_key());
            said.expect_error(1);
            assert!(said.stderr.to_lowercase().contains("read-only") || said.stderr.to_lowercase().contains("written"), "{said:?}");
        });
    }
    let home = Home::new("");
    home.add_key("one", &["example.net"], &fresh_key());
    set_mode(&home.store(), 0o400);
    set_mode(&home.path(), 0o500);
    let said = home.say(&["credential", "rotate", "one"], &fresh_key());
    set_mode(&home.path(), 0o700);
    said.expect_error(1);
}

#[test]
fn a_full_disk_is_a_clear_error_and_what_was_stored_stays() {
    if !rustix::process::geteuid().is_root() {
        crate::support::skip("a_full_disk", "not root: no small file system can be mounted");
        return;
    }
    on_a_mount("full", |home| {
        let filler = home.path().join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        // An open file would keep its room when it is removed.
        drop(file);
        let before = home.say(&["credential", "list", "--json"], "");
        let mut refused = 0;
        for n in 0..20 {
            let said = home.say(&["credential", "add", &format!("more-{n}"), "--allow", "example.net"], &"k".repeat(60_000));
            said.expect_no_panic();
            if said.code != 0 {
                said.expect_error(1);
                refused += 1;
            }
        }
        assert!(refused > 0, "the disk was full");
        std::fs::remove_file(&filler).unwrap();
        home.ok(&["store", "verify"]);
        let after = home.say(&["credential", "list", "--json"], "");
        if before.code == 0 {
            let names = |said: &Said| said.json().as_array().unwrap().iter().map(|c| c["name"].clone()).collect::<Vec<_>>();
            assert!(names(&before).iter().all(|n| names(&after).contains(n)));
        }
    });
}

/// Runs the test with a home on a small file system of its own: in a mount namespace nobody else would see it, so the
/// mount is made here and taken away in any case.
fn on_a_mount(kind: &str, test: impl FnOnce(&Home) + std::panic::UnwindSafe) {
    let home = Home::bare("");
    let place: PathBuf = home.path();
    let mount =
        |options: &str| std::process::Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&place).stderr(Stdio::null()).status();
    if !mount("size=2m,mode=700").is_ok_and(|s| s.success()) {
        crate::support::skip("a home on a file system of its own", "this machine lets nobody mount one");
        return;
    }
    let unmount = Unmount(place.clone());
    home.configure("");
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        home.ok(&["init"]);
        home.add_key("one", &["example.net"], &fresh_key());
        if kind == "ro" {
            let status = std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(&place).status().unwrap();
            assert!(status.success());
        }
        test(&home);
    }));
    drop(unmount);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
