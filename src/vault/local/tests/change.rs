//! Changes, and what holds after each.

use super::*;
use crate::vault::local::{KEEP_PREVIOUS, StoreError, StoreErrorKind, UsageBatch};
use jiff::Timestamp;

fn info(store: &LocalStore, name: &str) -> crate::vault::local::CredentialInfo {
    store.load().expect("loads").credentials.into_iter().find(|c| c.entry.name.as_str() == name).expect("there")
}

#[test]
fn a_credential_s_life() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let alpha = credential("alpha");
    let first = info(&store, "alpha");
    assert_eq!((first.entry.version, first.has_previous, first.fingerprint.as_ref().map(String::len)), (2, true, Some(8)));
    assert_eq!(first.agents, [agent("ci"), agent("default")]);

    let before = first.fingerprint.clone();
    let back = store.rollback_credential(&alpha).expect("rolled back").fingerprint;
    assert_ne!(back, before);
    let (state, vault) = loaded(&store);
    assert_eq!(fetch(&vault, &state, "alpha").as_deref(), Ok(&*format!("Bearer {SECRET_B}")));
    assert_eq!(store.rollback_credential(&alpha).expect("and again").fingerprint, before, "the same secret has the same fingerprint");

    assert!(store.set_enabled(&alpha, false).expect("disabled") && !store.set_enabled(&alpha, false).expect("is so"));
    let (state, vault) = loaded(&store);
    assert_eq!(fetch(&vault, &state, "alpha").map_err(|e| e.reason), Err("disabled"));
    assert!(store.set_enabled(&alpha, true).expect("enabled"));
    assert_eq!(store.rollback_credential(&alpha).expect("the previous value was sealed anew with the terms").fingerprint, back);
    assert_eq!(info(&store, "alpha").entry.version, 7);

    store.remove_credential(&alpha).expect("removed");
    let state = store.load().expect("loads");
    assert!(state.faults.is_empty() && state.roster.credentials.len() == 2 && state.roster.grants.len() == 2);
    assert!(matches!(store.rollback_credential(&credential("beta")), Err(StoreError::NoPrevious(_))));
}

#[test]
fn what_does_not_exist_or_exists_already() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let content = bytes(&fixture.path());
    let (none, nobody) = (credential("none"), agent("nobody"));
    let (alpha, ci) = (credential("alpha"), agent("ci"));
    let add = |name: &CredentialName, to: &[AgentName]| store.add_credential(name, terms("a.example"), &stored(SECRET_A), to).map(drop);
    let results = [
        store.rotate_credential(&none, &stored(SECRET_A)).map(drop),
        store.rollback_credential(&none).map(drop),
        store.set_enabled(&none, false).map(drop),
        store.remove_credential(&none),
        store.rotate_agent(&nobody, &token(1)),
        store.remove_agent(&nobody),
        store.grant(&nobody, &alpha).map(drop),
        store.grant(&ci, &none).map(drop),
        store.revoke(&ci, &credential("beta")),
        store.add_agent(&nobody, &token(1), std::slice::from_ref(&none)),
        add(&none, std::slice::from_ref(&nobody)),
    ];
    for (i, result) in results.into_iter().enumerate() {
        let error = result.err().unwrap_or_else(|| panic!("{i} succeeded"));
        assert_eq!(error.kind(), StoreErrorKind::NotFound, "{i}: {error}");
    }
    for error in [add(&alpha, &[]), store.add_agent(&ci, &token(1), &[])] {
        assert!(matches!(error, Err(StoreError::Exists { .. })));
    }
    let basic = Terms { presentation: Presentation::Basic, ..terms("a.example") };
    let unfit = store.add_credential(&none, basic, &stored(SECRET_A), &[]).expect_err("no colon");
    assert_eq!(unfit.kind(), StoreErrorKind::Usage);
    assert_eq!(bytes(&fixture.path()), content, "a refused change leaves the file as it was");
}

#[test]
fn a_generation_and_an_id_never_come_back() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut generations = std::collections::HashSet::new();
    let mut ids = std::collections::HashSet::new();
    for round in 0..4 {
        let state = store.load().expect("loads");
        assert!(generations.insert(state.agents.iter().find(|a| a.name.as_str() == "ci").expect("there").generation));
        assert!(ids.insert(info(&store, "beta").entry.id));
        if round % 2 == 0 {
            store.rotate_agent(&agent("ci"), &token(5)).expect("rotated");
        } else {
            store.remove_agent(&agent("ci")).expect("removed");
            store.add_agent(&agent("ci"), &token(5), &[]).expect("added");
        }
        store.remove_credential(&credential("beta")).expect("removed");
        store.add_credential(&credential("beta"), terms("b.example"), &stored(SECRET_B), &[]).expect("added");
    }
}

#[test]
fn a_previous_value_is_wiped_after_a_day() {
    let fixture = Fixture::new();
    let mut store = fixture.open();
    assert_eq!(store.purge_previous().expect("nothing to do"), 0);
    store.now = || crate::clock::unix_seconds() + KEEP_PREVIOUS + 1;
    assert!(!info(&store, "alpha").has_previous);
    assert!(matches!(store.rollback_credential(&credential("alpha")), Err(StoreError::NoPrevious(_))));
    let version = info(&store, "alpha").entry.version;
    assert_eq!((store.purge_previous().expect("purged"), store.purge_previous().expect("done")), (2, 0));
    let (state, vault) = loaded(&store);
    assert_eq!(fetch(&vault, &state, "alpha").as_deref(), Ok(&*format!("Bearer {SECRET_A}")));
    assert_eq!((info(&store, "alpha").entry.version, state.faults.len()), (version, 0));
    let db = rusqlite::Connection::open(fixture.path()).expect("opens");
    let left: i64 = db.query_row("SELECT count(previous) FROM credentials", [], |r| r.get(0)).expect("counts");
    assert_eq!(left, 0);
}

#[test]
fn any_change_wipes_previous_values_that_are_too_old() {
    let fixture = Fixture::new();
    let mut store = fixture.open();
    store.put_item("x", &secret("y")).expect("kept");
    assert!(info(&store, "alpha").has_previous);
    store.now = || crate::clock::unix_seconds() + KEEP_PREVIOUS + 1;
    store.put_item("x", &secret("z")).expect("kept");
    assert_eq!(store.purge_previous().expect("nothing is left to do"), 0);
}

#[test]
fn usage_is_kept_and_never_goes_back() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let marker = store.change_marker().expect("marker");
    let id = info(&store, "alpha").entry.id;
    let at = |s: i64| Timestamp::from_second(s).expect("a time");
    let gone = crate::credential::CredentialId([9; 16]);
    let batch = UsageBatch {
        credentials: vec![(id, at(2000), Some(429)), (id, at(1000), Some(200)), (gone, at(1), None)],
        agents: vec![(agent("ci"), at(3000)), (agent("nobody"), at(1))],
    };
    store.record_usage(&batch).expect("kept");
    store.record_usage(&UsageBatch { credentials: vec![(id, at(1500), Some(200))], agents: Vec::new() }).expect("kept");
    store.save_audit_checkpoint(8, [8; 32]).expect("kept");
    let state = fixture.open().load().expect("loads");
    let alpha = state.credentials.iter().find(|c| c.entry.id == id).expect("there");
    assert_eq!((alpha.last_used_at, alpha.last_origin_status), (Some(at(2000)), Some(429)));
    assert_eq!(state.agents.iter().find(|a| a.name.as_str() == "ci").expect("there").last_seen_at, Some(at(3000)));
    assert!(state.faults.is_empty());
    assert_eq!(store.change_marker().expect("marker"), marker, "usage is no change");
    fixture.open().record_usage(&batch).expect("kept");
    assert_eq!(store.change_marker().expect("marker"), marker, "nor is another process's");
    fixture.sql("UPDATE agents SET created_at = 1");
    assert_ne!(store.change_marker().expect("marker"), marker, "tampering is seen");
}

#[test]
fn every_change_is_seen_by_others() {
    let fixture = Fixture::new();
    let (reader, writer) = (fixture.open(), fixture.open());
    let mut last = reader.change_marker().expect("marker");
    let mut changed = |what: &str| {
        let now = reader.change_marker().expect("marker");
        assert_ne!(now, last, "{what}");
        assert_eq!(writer.change_marker().expect("marker"), now, "{what}: both say the same");
        last = now;
    };
    writer.rotate_credential(&credential("beta"), &stored(SECRET_A)).expect("rotated");
    changed("rotate");
    writer.revoke(&agent("ci"), &credential("alpha")).expect("revoked");
    changed("revoke");
    writer.rotate_agent(&agent("ci"), &token(4)).expect("rotated");
    changed("rotate agent");
    writer.put_item("ca", &secret("new")).expect("kept");
    changed("item");
}

#[test]
fn items_come_back_and_keys_are_their_own() {
    let fixture = Fixture::new();
    let store = fixture.open();
    assert_eq!(store.item("ca").expect("opens").expect("there").expose(), b"a certificate authority");
    assert!(store.item("none").expect("reads").is_none());
    assert_eq!(store.audit_checkpoint().expect("reads"), Some((7, [7; 32])));
    let other = Fixture::new().open();
    assert_ne!(store.audit_key().expect("opens").bytes(), other.audit_key().expect("opens").bytes());
    assert_ne!(store.session_key().bytes(), other.session_key().bytes());
    assert_eq!(store.session_key().bytes(), fixture.open().session_key().bytes());
}

#[test]
fn a_vault_keeps_what_stays_and_drops_what_goes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (old, vault) = loaded(&store);
    assert!(fetch(&vault, &old, "alpha").is_ok() && fetch(&vault, &old, "beta").is_ok());
    let material = |state: &StoreState, name: &str| {
        let entry = state.roster.credentials.iter().find(|c| c.name.as_str() == name).expect("there");
        let Fetched::Now(Ok(material)) = vault.fetch(&Permit::undecided(entry.id, entry.version)) else { panic!("known") };
        material
    };
    let kept = material(&old, "beta");
    let gone = std::sync::Arc::downgrade(&material(&old, "alpha"));
    store.rotate_credential(&credential("alpha"), &stored(SECRET_B)).expect("rotated");
    let new = store.load().expect("loads");
    vault.replace(&new);
    assert!(gone.upgrade().is_none(), "the old value is wiped");
    assert!(std::sync::Arc::ptr_eq(&kept, &material(&new, "beta")), "what stays is not opened again");
    assert_eq!(fetch(&vault, &old, "alpha").map_err(|e| e.reason), Err("superseded"));
    assert_eq!(fetch(&vault, &new, "alpha").as_deref(), Ok(&*format!("Bearer {SECRET_B}")));
    store.remove_credential(&credential("alpha")).expect("removed");
    vault.replace(&store.load().expect("loads"));
    assert_eq!(fetch(&vault, &new, "alpha").map_err(|e| e.reason), Err("removed"));
}

#[test]
fn writers_take_turns() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = fixture.open();
            scope.spawn(move || {
                for i in 0..5 {
                    let name = credential(&format!("w{writer}-{i}"));
                    store.add_credential(&name, terms("w.example"), &stored(SECRET_A), &[agent("ci")]).expect("added");
                }
            });
        }
    });
    let state = fixture.open().load().expect("loads");
    assert_eq!((state.credentials.len(), state.roster.grants.len(), state.faults.len()), (23, 24, 0));
}
