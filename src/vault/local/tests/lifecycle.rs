//! Creation, unlocking, rekeying, backup and restore.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::envelope::SealedBy;
use crate::store::{Database, DatabaseError, Migration};
use crate::vault::local::{StoreError, StoreErrorKind};

fn passphrase(text: &str) -> UnlockKey {
    UnlockKey::Passphrase(secret(text))
}

fn listing(fixture: &Fixture) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(fixture.dir.path()).expect("lists").map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_store_with_a_passphrase() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("store.db");
    drop(LocalStore::create(&path, &passphrase("correct horse")).expect("created"));
    let content = bytes(&path);
    assert_eq!(LocalStore::sealed_by(&path).expect("reads"), SealedBy::Passphrase);
    let wrong = LocalStore::open(&path, &passphrase("wrong")).err().expect("refused");
    assert!(wrong.kind() == StoreErrorKind::Locked && wrong.to_string().starts_with("wrong passphrase"), "{wrong}");
    let other = LocalStore::open(&path, &key(1)).err().expect("refused");
    assert!(other.kind() == StoreErrorKind::Locked && other.to_string().contains("sealed with a passphrase"), "{other}");
    assert_eq!(bytes(&path), content, "a wrong passphrase leaves the file as it was");
    assert!(LocalStore::open(&path, &passphrase("correct horse")).is_ok());
}

#[test]
fn a_store_that_vault_opens() {
    let fixture = Fixture::new();
    let before = seen(&fixture.open()).0;
    LocalStore::rekey(&fixture.path(), &key(1), &transit_key(2)).expect("rekeyed");
    assert_eq!(LocalStore::sealed_by(&fixture.path()).expect("reads"), transit_key(2).kind());
    for wrong in [transit_key(3), key(1), passphrase("x")] {
        let error = LocalStore::open(&fixture.path(), &wrong).err().expect("refused");
        assert_eq!(error.kind(), StoreErrorKind::Locked);
        assert!(error.to_string().contains("transit/keyhatch"), "{error}");
    }
    let store = LocalStore::open(&fixture.path(), &transit_key(2)).expect("opens");
    assert_eq!(seen(&store).0, before);
    drop(store);
    let content = bytes(&fixture.path());
    assert!(!content.windows(32).any(|w| w == [2; 32]), "the bytes that Vault unwraps are not in the file");
    LocalStore::rekey(&fixture.path(), &transit_key(2), &key(1)).expect("rekeyed");
    assert!(!bytes(&fixture.path()).windows(9).any(|w| w == b"vault:v1:"), "nothing is left of the old header");
}

#[test]
fn a_store_is_made_once_and_privately() {
    let fixture = Fixture::new();
    assert_eq!(listing(&fixture), ["store.db"], "a closed store stands alone, without a log");
    assert_eq!(std::fs::metadata(fixture.path()).expect("there").permissions().mode() & 0o777, 0o600);
    let content = bytes(&fixture.path());
    assert!(matches!(LocalStore::create(&fixture.path(), &key(2)), Err(StoreError::Database(DatabaseError::Exists(_)))));
    assert_eq!(bytes(&fixture.path()), content);
    let store = fixture.open();
    store.load().expect("loads");
    for name in listing(&fixture) {
        let mode = std::fs::metadata(fixture.file(&name)).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    assert!(matches!(LocalStore::open(&fixture.file("none"), &key(1)), Err(StoreError::Database(DatabaseError::Missing(_)))));
    std::fs::write(fixture.file("text"), "no database, but long enough to be looked at".repeat(200)).expect("written");
    let text = LocalStore::open(&fixture.file("text"), &key(1)).err().expect("refused").to_string();
    assert!(text.contains("no SQLite file"), "{text}");
}

#[test]
fn no_plaintext_lies_in_any_file() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.rotate_credential(&credential("beta"), &stored("sk-or-v1-test-third-third-third")).expect("rotated");
    for name in listing(&fixture) {
        let content = bytes(&fixture.file(&name));
        for plain in [SECRET_A, SECRET_B, "third-third", "certificate authority", "team-x", "api_key"] {
            assert!(!content.windows(plain.len()).any(|w| w == plain.as_bytes()), "{plain} in {name}");
        }
    }
    let log = fixture.file("store.db-wal");
    assert!(!log.exists() || bytes(&log).is_empty(), "each change is written back at once");
}

#[test]
fn what_was_deleted_is_gone_from_the_file() {
    let fixture = Fixture::new();
    let db = rusqlite::Connection::open(fixture.path()).expect("opens");
    let sealed: Vec<u8> = db.query_row("SELECT sealed FROM credentials WHERE name = 'beta'", [], |r| r.get(0)).expect("there");
    drop(db);
    let found = || bytes(&fixture.path()).windows(sealed.len()).any(|w| w == sealed);
    assert!(found());
    fixture.open().remove_credential(&credential("beta")).expect("removed");
    assert!(!found(), "secure_delete overwrites it");
}

#[test]
fn rekey_changes_every_key_but_the_audit_s() {
    let fixture = Fixture::new();
    let old = fixture.open();
    let (before, _) = seen(&old);
    let (audit, session) = (*old.audit_key().expect("opens").bytes(), *old.session_key().bytes());
    assert_eq!(LocalStore::rekey(&fixture.path(), &key(9), &key(2)).expect_err("wrong key").kind(), StoreErrorKind::Locked);
    LocalStore::rekey(&fixture.path(), &key(1), &key(2)).expect("rekeyed");
    assert!(matches!(old.load(), Err(StoreError::Resealed(_))) && matches!(old.put_item("x", &secret("y")), Err(StoreError::Resealed(_))));
    drop(old);
    assert_eq!(LocalStore::open(&fixture.path(), &key(1)).err().expect("the old key is dead").kind(), StoreErrorKind::Locked);
    let new = LocalStore::open(&fixture.path(), &key(2)).expect("opens");
    assert_eq!(seen(&new).0, before, "secrets, tokens, generations, items and the checkpoint are the same");
    assert_eq!(new.audit_key().expect("opens").bytes(), &audit);
    assert_ne!(new.session_key().bytes(), &session);
    assert_eq!(new.verify().expect("runs"), []);
    assert!(new.rollback_credential(&credential("alpha")).is_ok());
    assert_eq!(new.rollback_credential(&credential("vaulted")).expect("back").source, crate::credential::Source::Local);
}

#[test]
fn rekey_refuses_what_it_could_not_seal_anew() {
    let fixture = Fixture::new();
    fixture.sql("UPDATE credentials SET sealed = zeroblob(50) WHERE name = 'beta'");
    let content = bytes(&fixture.path());
    let text = LocalStore::rekey(&fixture.path(), &key(1), &key(2)).expect_err("refused").to_string();
    assert!(text.contains("credential `beta`"), "{text}");
    assert_eq!(bytes(&fixture.path()), content);
}

#[test]
fn backup_and_restore() {
    let fixture = Fixture::new();
    let backup = fixture.file("backup.db");
    let store = fixture.open();
    let before = seen(&store).0;
    store.backup(&backup).expect("copied");
    assert!(matches!(store.backup(&backup), Err(StoreError::Database(DatabaseError::Exists(_)))));
    assert_eq!(std::fs::metadata(&backup).expect("there").permissions().mode() & 0o777, 0o600);
    store.remove_credential(&credential("alpha")).expect("removed");
    store.add_agent(&agent("late"), &token(3), &[]).expect("added");
    drop(store);
    assert_eq!(LocalStore::restore(&fixture.path(), &backup, &key(9)).expect_err("wrong key").kind(), StoreErrorKind::Locked);
    assert_eq!(listing(&fixture), ["backup.db", "store.db"], "a refused restore leaves nothing behind");
    let restored = LocalStore::restore(&fixture.path(), &backup, &key(1)).expect("restored");
    assert_eq!(
        (restored.credentials, restored.agents),
        (vec!["alpha".to_owned(), "beta".into(), "vaulted".into()], vec!["ci".to_owned(), "default".into()])
    );
    assert_eq!(restored.gone, ["agent late"]);
    assert_eq!(seen(&fixture.open()).0, before);
    let replaced = restored.replaced.expect("kept");
    assert!(replaced.file_name().expect("a name").to_string_lossy().starts_with("store.db.replaced-"));
    assert_eq!(LocalStore::open(&replaced, &key(1)).expect("opens").load().expect("loads").agents.len(), 3);
}

#[test]
fn a_damaged_backup_is_refused_and_a_damaged_store_is_replaced() {
    let fixture = Fixture::new();
    let backup = fixture.file("backup.db");
    fixture.open().backup(&backup).expect("copied");
    let bad = fixture.file("bad.db");
    std::fs::write(&bad, &bytes(&backup)[..9000]).expect("written");
    let content = bytes(&fixture.path());
    let text = LocalStore::restore(&fixture.path(), &bad, &key(1)).expect_err("refused").to_string();
    assert!(text.contains("bad.db is damaged"), "{text}");
    assert_eq!(bytes(&fixture.path()), content);
    std::fs::write(fixture.path(), &content[..5000]).expect("cut");
    let restored = LocalStore::restore(&fixture.path(), &backup, &key(1)).expect("restored");
    assert_eq!(fixture.open().verify().expect("runs"), []);
    assert_eq!(bytes(&restored.replaced.expect("kept")), &content[..5000]);
}

#[test]
fn verify_opens_everything() {
    let fixture = Fixture::new();
    assert_eq!(fixture.open().verify().expect("runs"), []);
    fixture.sql("DELETE FROM usage WHERE kind = 'agent'; UPDATE credentials SET prefix = 'x' WHERE name = 'beta'");
    let faults = fixture.open().verify().expect("runs");
    assert_eq!(faults.iter().map(|f| f.what).collect::<Vec<_>>(), ["credential", "usage", "usage"]);
}

#[test]
fn a_newer_schema_is_refused() {
    let fixture = Fixture::new();
    fixture.sql("PRAGMA user_version = 2");
    let text = LocalStore::open(&fixture.path(), &key(1)).err().expect("refused").to_string();
    assert!(text.contains("schema 2") && text.contains("newer keyhatch"), "{text}");
}

const STEP: [Migration; 1] = [Migration { from: 1, sql: "ALTER TABLE agents ADD COLUMN note TEXT" }];

#[test]
fn a_migration_keeps_a_copy_and_wants_the_file_alone() {
    let fixture = Fixture::new();
    let content = bytes(&fixture.path());
    let store = fixture.open();
    let mut db = Database::open(&fixture.path()).expect("opens");
    let seal = |tx: &crate::store::Transaction<'_>| crate::vault::local::draft::seal_migrated(tx, &store.keys, 2);
    let busy = db.migrate_by(&STEP, 2, seal).expect_err("another has it open");
    assert!(busy.to_string().contains("stop `keyhatch serve`"), "{busy}");
    assert_eq!(db.schema().expect("reads"), 1);
    let LocalStore { keys, inner, .. } = store;
    drop(inner);
    db.migrate_by(&STEP, 2, |tx| crate::vault::local::draft::seal_migrated(tx, &keys, 2)).expect("migrated");
    assert_eq!(db.schema().expect("reads"), 2);
    let after = crate::vault::local::snapshot::read(&db.read().expect("reads"), &keys).expect("its seal fits");
    assert!(after.faults.is_empty() && after.manifest.schema == 2);
    drop(db);
    assert_eq!(bytes(&fixture.file("store.db.v1.bak")).len(), content.len());
    let kept = LocalStore::open(&fixture.file("store.db.v1.bak"), &key(1)).expect("the copy is the old store");
    assert_eq!(kept.load().expect("loads").faults, []);
}

#[test]
fn another_file_in_its_place_is_seen() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.change_marker().expect("marker");
    std::fs::copy(fixture.path(), fixture.file("copy")).expect("copied");
    std::fs::rename(fixture.file("copy"), fixture.path()).expect("renamed");
    assert!(store.change_marker().expect_err("another file").to_string().contains("put in its place"));
}

#[test]
fn a_full_disk_and_a_read_only_file_are_told_plainly() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let pages: i64 = {
        let inner = store.lock();
        inner.db.limit_pages().expect("limits")
    };
    assert!(pages > 0);
    let big = "a".repeat(40_000);
    let full = store.put_item("big", &secret(&big)).expect_err("no room");
    assert!(full.to_string().contains("store.db") && full.to_string().contains("full"), "{full}");
    assert_eq!(store.verify().expect("runs"), [], "nothing was changed");
}
