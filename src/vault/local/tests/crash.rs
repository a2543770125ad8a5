//! Killed in the middle: what was said to be done is there.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;

const STORE: &str = "KEYHATCH_TEST_CRASHING_STORE";

/// Not a test of its own: the process that is killed. Says what it did after each change.
#[test]
#[ignore = "run by the test below"]
fn child() {
    let Some(path) = crate::environment::var(STORE) else { return };
    let store = LocalStore::open(Path::new(&path), &key(1)).expect("opens");
    let mut out = std::io::stdout();
    for i in 0.. {
        let name = credential(&format!("c{i}"));
        store.add_credential(&name, terms("c.example"), &stored(SECRET_A), &[agent("ci")]).expect("added");
        writeln!(out, "done add {name}").expect("written");
        let now = store.rotate_credential(&name, &stored(&format!("{SECRET_B}-{i}"))).expect("rotated");
        writeln!(out, "done rotate {name} {}", now.fingerprint.expect("of a secret")).expect("written");
    }
}

/// Runs one of the children until it has said `count` things, kills it at once, so in the middle of its next change,
/// and gives back all that it said.
fn run_and_kill(fixture: &Fixture, name: &str, count: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", &format!("vault::local::tests::crash::{name}"), "--ignored", "--nocapture"])
        .env(STORE, fixture.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let mut lines = lines.filter_map(|line| line.find("done ").map(|at| line[at + 5..].to_owned()));
    let mut done: Vec<String> = lines.by_ref().take(count).collect();
    child.kill().expect("killed");
    done.extend(lines);
    child.wait().expect("ended");
    assert!(done.len() >= count, "{done:?}");
    done
}

#[test]
fn what_was_said_to_be_done_survives_a_kill() {
    for (round, changes) in [1, 2, 7, 20, 33].into_iter().enumerate() {
        let fixture = Fixture::new();
        let done = run_and_kill(&fixture, "child", changes);
        let store = fixture.open();
        let (_, state) = seen(&store);
        assert!(state.faults.is_empty(), "round {round}: {:?}", state.faults);
        assert_eq!(store.verify().expect("runs"), [], "round {round}");
        for line in &done {
            let words: Vec<&str> = line.split(' ').collect();
            let found = state.credentials.iter().find(|c| c.entry.name.as_str() == words[1]);
            let found = found.unwrap_or_else(|| panic!("round {round}: {line}, and it is lost"));
            assert!(words.len() < 3 || found.fingerprint.as_deref() == Some(words[2]), "round {round}: {line}, and it is {:?}", found.fingerprint);
        }
    }
}

/// The two keys that the store is sealed with in turn, of two kinds.
fn by_turns(number: u8) -> UnlockKey {
    if number == 1 { key(1) } else { transit_key(2) }
}

/// Not a test of its own: rekeys to and fro until it is killed.
#[test]
#[ignore = "run by the test below"]
fn rekeying_child() {
    let Some(path) = crate::environment::var(STORE) else { return };
    let path = Path::new(&path);
    let mut out = std::io::stdout();
    for i in 0.. {
        let (old, new) = if i % 2 == 0 { (1, 2) } else { (2, 1) };
        LocalStore::rekey(path, &by_turns(old), &by_turns(new)).expect("rekeyed");
        writeln!(out, "done rekey {new}").expect("written");
    }
}

#[test]
fn a_rekey_that_is_killed_leaves_the_old_or_the_new() {
    for times in [1, 4, 9] {
        let fixture = Fixture::new();
        let before = seen(&fixture.open()).0;
        let done = run_and_kill(&fixture, "rekeying_child", times);
        let last: u8 = done.last().and_then(|l| l.rsplit(' ').next()?.parse().ok()).expect("a line");
        // The last that was said to be done, or the one that was under way.
        let store = LocalStore::open(&fixture.path(), &by_turns(last)).or_else(|_| LocalStore::open(&fixture.path(), &by_turns(3 - last)));
        assert_eq!(seen(&store.expect("one of the two opens")).0, before);
    }
}
