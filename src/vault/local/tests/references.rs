//! Credentials whose secret is in Vault: the store holds the place, sealed like a secret.

use super::*;
use crate::credential::Source;
use crate::store::{Field, Table};
use crate::vault::local::draft::Draft;
use crate::vault::local::manifest::{CredentialMeta, Manifest};
use crate::vault::local::seal::{MANIFEST, Slot, credential_row, digest};
use crate::vault::local::{CredentialInfo, InUse, StoreError, manifest_row, snapshot};

fn info(state: &StoreState, name: &str) -> CredentialInfo {
    state.credentials.iter().find(|c| c.entry.name.as_str() == name).cloned().expect("there")
}

fn value(fixture: &Fixture, column: &str, name: &str) -> Vec<u8> {
    let db = rusqlite::Connection::open(fixture.path()).expect("opens");
    db.query_row(&format!("SELECT CAST({column} AS BLOB) FROM credentials WHERE name = '{name}'"), [], |r| r.get(0)).expect("there")
}

/// Refused as a fault of its own, and kept from `serve` as a reference; the others work.
fn refused_alone(fixture: &Fixture, what: &str) -> StoreState {
    let (state, opened) = loaded(&fixture.open());
    assert_eq!(names(&state), ["credential vaulted"], "{what}");
    let vaulted = info(&state, "vaulted");
    assert!(vaulted.entry.broken.is_some() && vaulted.entry.terms == terms("v.example.com"), "{what}: {vaulted:?}");
    assert_eq!(vaulted.source, reference(PLACE).source(), "{what}: the record says where it is, never the row");
    let why = fetch(&opened, &state, "vaulted").expect_err("it has a cell, and that is closed");
    assert_eq!(why.reason, "does_not_open", "{what}");
    for text in [why.to_string(), state.faults[0].to_string()] {
        assert!(!text.contains("sk-or"), "{what}: {text}");
    }
    assert_eq!(fetch(&opened, &state, "alpha").as_deref(), Ok(&*format!("Bearer {SECRET_A}")), "{what}");
    state
}

#[test]
fn only_the_record_and_the_seal_know_the_place() {
    let fixture = Fixture::new();
    let (state, opened) = loaded(&fixture.open());
    assert!(state.faults.is_empty());
    let vaulted = info(&state, "vaulted");
    assert_eq!((&vaulted.source, vaulted.fingerprint, vaulted.entry.broken), (&reference(PLACE).source(), None, None));
    assert_eq!(value(&fixture, "source", "vaulted"), b"vault");
    assert_eq!(value(&fixture, "fingerprint", "vaulted"), b"");
    assert_eq!(fetch(&opened, &state, "vaulted").map_err(|e| e.reason), Err("removed"), "the store has no cell for it");
    assert_eq!(fixture.open().reveals(&[PLACE.as_bytes(), SECRET_B.as_bytes()]).expect("reads"), [false, true], "a place is no secret");
}

#[test]
fn a_value_goes_to_vault_and_comes_back_with_its_source() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let vaulted = credential("vaulted");
    let at = |place: &str| reference(place).source();
    let back = store.rollback_credential(&vaulted).expect("rolled back");
    assert_eq!((back.before, &back.source), (Some(at(PLACE)), &Source::Local));
    assert_eq!(back.fingerprint, info(&store.load().expect("loads"), "beta").fingerprint, "the same secret");
    let (state, opened) = loaded(&store);
    assert_eq!(fetch(&opened, &state, "vaulted").as_deref(), Ok(&*format!("Bearer {SECRET_B}")));
    let forth = store.rollback_credential(&vaulted).expect("and again");
    assert_eq!(forth, InUse { before: Some(Source::Local), source: at(PLACE), fingerprint: None });
    opened.replace(&store.load().expect("loads"));
    assert_eq!(fetch(&opened, &store.load().expect("loads"), "vaulted").map_err(|e| e.reason), Err("removed"));

    let pinned = "secret/team-x/openrouter#api_key?version=3";
    assert_eq!(store.rotate_credential(&vaulted, &reference(pinned)).expect("rotated").source, at(pinned));
    assert_eq!(store.rollback_credential(&vaulted).expect("rolled back").source, at(PLACE));
    assert!(store.set_enabled(&vaulted, false).expect("sealed anew") && store.set_enabled(&vaulted, true).expect("and again"));
    assert_eq!(store.rotate_credential(&vaulted, &stored(SECRET_A)).expect("moved").before, Some(at(PLACE)));
    let basic = Terms { presentation: Presentation::Basic, ..terms("b.example.com") };
    let added = store.add_credential(&credential("basic"), basic, &reference(PLACE), &[]).expect("what is there is not judged yet");
    assert_eq!(added, InUse { before: None, source: at(PLACE), fingerprint: None });
    assert!(matches!(store.rotate_credential(&credential("basic"), &stored(SECRET_A)), Err(StoreError::Unfit { .. })), "a secret is");
    assert_eq!(store.verify().expect("runs"), []);
}

#[test]
fn a_previous_reference_ends_after_a_day() {
    let fixture = Fixture::new();
    let mut store = fixture.open();
    store.rotate_credential(&credential("vaulted"), &stored(SECRET_A)).expect("moved");
    assert!(info(&store.load().expect("loads"), "vaulted").has_previous);
    store.now = || crate::clock::unix_seconds() + crate::vault::local::KEEP_PREVIOUS + 1;
    store.purge_previous().expect("purged");
    assert!(matches!(store.rollback_credential(&credential("vaulted")), Err(StoreError::NoPrevious(_))));
    assert_eq!(store.verify().expect("runs"), []);
}

#[test]
fn a_row_whose_source_or_blob_is_changed_is_refused() {
    let other = "(SELECT sealed FROM credentials WHERE name = 'alpha')";
    for (what, set) in [
        ("relabelled as a secret of the store", "source = 'store'".to_owned()),
        ("and with a fingerprint", "source = 'store', fingerprint = (SELECT fingerprint FROM credentials WHERE name = 'alpha')".to_owned()),
        ("a place in the clear", format!("source = 'vault:{PLACE}'")),
        ("another place in the clear", "source = 'vault:secret/evil#f'".to_owned()),
        ("a sealed secret of another row", format!("sealed = {other}")),
        ("its own former secret", "sealed = previous".to_owned()),
        ("that, as a secret", "sealed = previous, source = 'store'".to_owned()),
        ("a plain reference", "sealed = CAST('secret/evil#f' AS BLOB)".to_owned()),
        ("no blob", "sealed = x''".to_owned()),
    ] {
        let fixture = Fixture::new();
        fixture.sql(&format!("UPDATE credentials SET {set} WHERE name = 'vaulted'"));
        let state = refused_alone(&fixture, what);
        assert!(state.faults[0].why.contains("keyhatch credential rotate vaulted --vault MOUNT/PATH#FIELD"), "{:?}", state.faults);
    }
}

#[test]
fn a_secret_that_is_relabelled_as_a_reference_goes_nowhere() {
    for set in [
        "source = 'vault'",
        "source = 'vault', fingerprint = ''",
        "source = 'vault', sealed = (SELECT sealed FROM credentials WHERE name = 'vaulted')",
        "sealed = (SELECT sealed FROM credentials WHERE name = 'vaulted')",
    ] {
        let fixture = Fixture::new();
        fixture.sql(&format!("UPDATE credentials SET {set} WHERE name = 'alpha'"));
        let (state, opened) = loaded(&fixture.open());
        assert_eq!(names(&state), ["credential alpha"], "{set}");
        let alpha = info(&state, "alpha");
        assert_eq!(alpha.source, Source::Local, "{set}: nobody is told to ask Vault for it");
        assert_eq!(fetch(&opened, &state, "alpha").map_err(|e| e.reason), Err("does_not_open"), "{set}");
        assert!(info(&state, "vaulted").entry.broken.is_none(), "{set}");
    }
}

/// Writes what no command would: the record says a thing of a row that the row was not sealed as. That takes the keys.
fn forge(fixture: &Fixture, change: impl Fn(&mut CredentialMeta), sealed: impl Fn(&CredentialMeta, &LocalStore) -> Vec<u8>) {
    let store = fixture.open();
    let mut inner = store.lock();
    let tx = inner.db.write().expect("begins");
    let mut draft = Draft::over(&tx, &store.keys, snapshot::read(&tx, &store.keys).expect("reads"), 0);
    let mut meta = draft.credential(&credential("vaulted")).expect("there");
    meta.previous = None;
    change(&mut meta);
    let row = credential_row(&meta, &sealed(&meta, &store), None);
    meta.digest = digest(Table::Credentials, &row);
    draft.delete_credential_rows(meta.id, &meta.name).expect("deleted");
    tx.insert(Table::Credentials, &row).expect("written");
    draft.manifest.credentials.retain(|c| c.id != meta.id);
    draft.manifest.credentials.push(meta);
    draft.finish().expect("sealed");
    tx.commit().expect("done");
}

/// The digests in the record stand before the seals. Should they ever let a row through, the seal holds by itself.
#[test]
fn the_seal_is_held_against_the_record_by_itself() {
    let fixture = Fixture::new();
    let as_secret = |meta: &CredentialMeta, store: &LocalStore| {
        let local = CredentialMeta { source: Source::Local, ..meta.clone() };
        store.keys.seal_value(&local, Slot::Current, &stored(PLACE))
    };
    forge(&fixture, |_| (), as_secret);
    refused_alone(&fixture, "a secret, though its text is the place");
    let other = |meta: &CredentialMeta, store: &LocalStore| store.keys.seal_value(meta, Slot::Current, &stored("sk-or-v1-test/x#f"));
    forge(&fixture, |_| (), other);
    let state = refused_alone(&fixture, "another text");
    assert!(state.faults[0].why.contains("not the reference"), "{:?}", state.faults);
    let store = fixture.open();
    assert!(matches!(store.set_enabled(&credential("vaulted"), false), Err(StoreError::Broken { .. })));
    store.rotate_credential(&credential("vaulted"), &reference(PLACE)).expect("mended");
    assert_eq!(store.verify().expect("runs"), []);

    // The other way round: a record that says `store` of a sealed reference.
    let as_reference = |meta: &CredentialMeta, store: &LocalStore| {
        let placed = CredentialMeta { source: reference(PLACE).source(), ..meta.clone() };
        store.keys.seal_value(&placed, Slot::Current, &reference(PLACE))
    };
    let relabelled = |meta: &mut CredentialMeta| (meta.source, meta.fingerprint) = (Source::Local, Some("00000000".to_owned()));
    forge(&fixture, relabelled, as_reference);
    let (state, opened) = loaded(&fixture.open());
    assert_eq!(fetch(&opened, &state, "vaulted").map_err(|e| e.reason), Err("does_not_open"), "the place is not sent as the key");
    let faults = fixture.open().verify().expect("runs");
    assert!(faults.iter().any(|f| f.name == "vaulted"), "{faults:?}");
}

#[test]
fn a_record_of_another_form_is_none() {
    let fixture = Fixture::new();
    let manifest = fixture.open().lock().read(&fixture.open().keys).expect("reads").manifest;
    let changed = |change: &dyn Fn(&mut CredentialMeta)| {
        let mut other = manifest.clone();
        change(other.credentials.iter_mut().find(|c| c.name.as_str() == "vaulted").expect("there"));
        Manifest::decode(&other.encode()).is_ok()
    };
    assert!(changed(&|_| ()));
    assert!(!changed(&|meta| meta.fingerprint = Some("00000000".to_owned())), "a reference with a fingerprint");
    assert!(!changed(&|meta| meta.source = Source::Local), "a secret without one");
    assert!(!changed(&|meta| meta.previous.as_mut().expect("kept").fingerprint = None), "nor as the previous value");
    let bytes = manifest.encode();
    let text = format!("vault:{PLACE}");
    let at = bytes.windows(text.len()).position(|w| w == text.as_bytes()).expect("it stands there");
    let mut other = bytes.clone();
    other[at + 6] = b'/';
    assert!(Manifest::decode(&other).is_err(), "a second way to write the same place");
    for end in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..end]).is_err(), "{end}");
    }
    // And a store with such a record does not open at all.
    let store = fixture.open();
    let mut wrong = manifest;
    wrong.counter += 1;
    wrong.credentials.iter_mut().for_each(|c| c.fingerprint = None);
    let mut inner = store.lock();
    let tx = inner.db.write().expect("begins");
    tx.delete(Table::Meta, &[("name", Field::text(MANIFEST))]).expect("deleted");
    tx.insert(Table::Meta, &manifest_row(&store.keys, &wrong)).expect("written");
    tx.commit().expect("done");
    drop(inner);
    assert!(store.load().err().expect("refused").to_string().contains("manifest"));
}
