//! Every byte of the file changed, one at a time, and the file cut at every length: what is read is the original, or
//! a fault or an error names it.

use super::*;
use crate::vault::local::StoreError;

/// Opens a damaged copy and holds what it gives against the original.
fn check(path: &Path, original: &BTreeMap<String, String>, what: &str) -> bool {
    let store = match LocalStore::open(path, &key(1)) {
        Ok(store) => store,
        Err(e) => {
            assert!(!matches!(e, StoreError::Unlock { .. }), "{what}: damage was taken for a wrong key");
            assert!(e.to_string().contains("store.db"), "{what}: {e}");
            return false;
        }
    };
    let (now, state) = seen(&store);
    let named = |entry: &str| {
        let (kind, name) = entry.split_once(' ').unwrap_or((entry, ""));
        state.faults.iter().any(|f| f.name == name && (f.what == kind || f.what == "usage"))
    };
    for (entry, value) in original {
        assert!(now.get(entry) == Some(value) || named(entry), "{what}: {entry} is {:?} and no fault names it: {:?}", now.get(entry), state.faults);
    }
    assert_eq!(now.len(), original.len(), "{what}");
    // Whatever was broken, every credential keeps its terms, so that its hosts stay intercepted.
    for (name, domain) in [("alpha", "*.openrouter.ai"), ("beta", "api.example.com"), ("vaulted", "v.example.com")] {
        let entry = state.roster.credentials.iter().find(|c| c.name.as_str() == name).unwrap_or_else(|| panic!("{what}: {name} is lost"));
        assert_eq!(entry.terms, terms(domain), "{what}");
    }
    state.faults.is_empty()
}

fn scratch(fixture: &Fixture) -> PathBuf {
    let path = fixture.file("damaged/store.db");
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    path
}

#[test]
fn no_flipped_byte_changes_what_is_read() {
    let fixture = Fixture::new();
    let original = seen(&fixture.open()).0;
    let content = bytes(&fixture.path());
    let path = scratch(&fixture);
    let (mut intact, mut noticed) = (0, 0);
    // In a debug build some bytes only, and all of the header.
    for (mask, step) in [(0xff, 7), (0x01, 29), (0x80, 31)] {
        let step = if cfg!(debug_assertions) { step } else { 1 };
        for at in (0..100).chain((100..content.len()).step_by(step)) {
            let mut damaged = content.clone();
            damaged[at] ^= mask;
            std::fs::write(&path, &damaged).expect("written");
            if check(&path, &original, &format!("byte {at} ^ {mask:#x}")) { intact += 1 } else { noticed += 1 }
        }
    }
    assert!(intact > 0 && noticed > 100, "{intact} flips altered nothing, {noticed} were noticed");
}

#[test]
fn no_cut_changes_what_is_read() {
    let fixture = Fixture::new();
    let original = seen(&fixture.open()).0;
    let content = bytes(&fixture.path());
    let path = scratch(&fixture);
    for end in (0..content.len()).step_by(509).chain((0..content.len()).step_by(4096)) {
        std::fs::write(&path, &content[..end]).expect("written");
        check(&path, &original, &format!("cut at {end}"));
        assert_eq!(bytes(&path), &content[..end], "opening a cut file leaves it as it was");
    }
}

#[test]
fn a_change_to_a_damaged_file_is_right_or_refused() {
    let fixture = Fixture::new();
    let content = bytes(&fixture.path());
    let path = scratch(&fixture);
    for at in (0..100).chain((100..content.len()).step_by(if cfg!(debug_assertions) { 61 } else { 11 })) {
        let mut damaged = content.clone();
        damaged[at] ^= 0xff;
        std::fs::write(&path, &damaged).expect("written");
        let Ok(store) = LocalStore::open(&path, &key(1)) else { continue };
        let before = seen(&store).0;
        let done = store.add_credential(&credential("gamma"), terms("gamma.example"), &stored(SECRET_A), &[agent("ci")]);
        drop(store);
        let (after, state) = seen(&LocalStore::open(&path, &key(1)).unwrap_or_else(|e| panic!("byte {at}: {e}")));
        let added = state.credentials.iter().find(|c| c.entry.name.as_str() == "gamma");
        match done {
            Ok(_) => assert!(added.is_some_and(|c| c.entry.broken.is_none()), "byte {at}: what was said to be done is there"),
            Err(_) => assert!(added.is_none(), "byte {at}: what was refused is not there"),
        }
        for (entry, value) in before.iter().filter(|(entry, _)| *entry != "grants" && *entry != "agent ci") {
            assert_eq!(after.get(entry), Some(value), "byte {at}: {entry}");
        }
    }
}
