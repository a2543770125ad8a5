//! The local store: SQLite rows whose every byte is held against a sealed manifest.
//!
//! Whoever can write the file but not unlock it can break single rows, which are then reported by name, and can put
//! back the whole file. They can neither swap two rows, nor point a secret at another host, nor give a grant back.

mod agents;
mod backup;
mod credentials;
mod draft;
mod error;
mod items;
mod manifest;
mod rekey;
mod seal;
mod search;
mod snapshot;
mod source;
mod state;
mod stored;
mod terms;
#[cfg(test)]
mod tests;

pub use backup::Restored;
pub use error::{StoreError, StoreErrorKind};
pub use items::UsageBatch;
#[doc(hidden)]
pub use manifest::recoded;
pub use snapshot::Fault;
pub use source::LocalVault;
pub use state::{AgentInfo, CredentialInfo, KEEP_PREVIOUS, StoreState};
pub use stored::{InUse, Stored};
pub use terms::digest as terms_digest;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::credential::Secret;
use crate::envelope::{Header, Key, SealedBy, UnlockKey, unlock};
use crate::store::{Database, DatabaseError, Field, SCHEMA, Table};
use draft::Draft;
use manifest::Manifest;
use seal::{CHECKPOINT, KEY_RECORD, Keys, MANIFEST};
use snapshot::Snapshot;

/// An unlocked store. All methods block, on the disk and for at most five seconds on another writer.
pub struct LocalStore {
    path: PathBuf,
    keys: Arc<Keys>,
    inner: Mutex<Inner>,
    /// Seconds since the epoch; replaced in tests.
    now: fn() -> i64,
}

struct Inner {
    db: Database,
    /// The highest counter seen: a lower one means that an older store was put in this one's place.
    highest: u64,
    /// The last answer of [`LocalStore::change_marker`], and the data version it was computed at.
    marker: Option<(i64, u64)>,
}

impl LocalStore {
    /// Makes a new store at a free path.
    ///
    /// # Errors
    /// [`StoreError`]; a half-made store is never left at `path`.
    pub fn create(path: &Path, key: &UnlockKey) -> Result<Self, StoreError> {
        if path.symlink_metadata().is_ok() {
            return Err(DatabaseError::Exists(path.to_owned()).into());
        }
        let keys = new_keys(path, crate::random::bytes(), key)?;
        let suffix = format!(".new-{}", u64::from_be_bytes(crate::random::bytes()));
        let made = crate::store::with_suffix(path, &suffix);
        let make = || -> Result<Database, StoreError> {
            let mut db = Database::create(&made)?;
            fill(&mut db, &keys)?;
            Ok(db.publish(path)?)
        };
        let db = make().inspect_err(|_| crate::store::remove_with_log(&made)).map_err(|e| e.at(path))?;
        Self::unlocked(db, keys)
    }

    /// Unlocks a store. One with an older schema is brought up to date, with a copy kept beside it.
    ///
    /// # Errors
    /// [`StoreError`]: `Unlock` for a wrong key, `Damaged`, or what the file or system refused.
    pub fn open(path: &Path, key: &UnlockKey) -> Result<Self, StoreError> {
        let mut db = Database::open(path)?;
        let header = read_header(&mut db)?;
        let dek = unlock(&header, key).map_err(|why| StoreError::Unlock { path: path.to_owned(), sealed: header.sealed_by(), why })?;
        Self::unlocked(db, Keys::new(header, dek))
    }

    /// How a store is sealed, without unlocking it.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn sealed_by(path: &Path) -> Result<SealedBy, StoreError> {
        Ok(read_header(&mut Database::open(path)?)?.sealed_by())
    }

    fn unlocked(mut db: Database, keys: Keys) -> Result<Self, StoreError> {
        if db.schema()? < SCHEMA {
            db.migrate(|tx| draft::seal_migrated(tx, &keys, SCHEMA))?;
        }
        let inner = Mutex::new(Inner { db, highest: 0, marker: None });
        let path = inner.lock().unwrap_or_else(PoisonError::into_inner).db.path().to_owned();
        let store = Self { path, keys: Arc::new(keys), inner, now: crate::clock::unix_seconds };
        store.lock().read(&store.keys)?;
        Ok(store)
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is sealed.
    #[must_use]
    pub fn unlocked_by(&self) -> SealedBy {
        self.keys.header.sealed_by()
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// [`StoreError`] where nothing can be trusted; single bad rows are in [`StoreState::faults`].
    pub fn load(&self) -> Result<StoreState, StoreError> {
        Ok(StoreState::of(self.lock().read(&self.keys)?, (self.now)()))
    }

    /// A number that changes when [`LocalStore::load`] would give something else, usage apart, and when a row was
    /// tampered with. Cheap enough to be asked for several times a second.
    ///
    /// # Errors
    /// [`StoreError`], also where another file was put in the store's place.
    pub fn change_marker(&self) -> Result<u64, StoreError> {
        self.lock().marker()
    }

    /// The key that signs session tokens. It ends with `rekey`.
    #[must_use]
    pub fn session_key(&self) -> Key {
        self.keys.session_key()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic leaves no half-done change behind: its transaction was rolled back.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one change: read and check all, apply, read and check all again, commit. The change is durable on return.
    fn change<T>(&self, apply: impl FnOnce(&mut Draft<'_, '_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut inner = self.lock();
        let before_highest = inner.highest;
        inner.marker = None;
        let tx = inner.db.write()?;
        let before = checked(&tx, &self.keys, before_highest)?;
        snapshot::refuse_unreadable(&tx, &before)?;
        let known = before.faults.clone();
        let mut draft = Draft::over(&tx, &self.keys, before, (self.now)());
        let out = apply(&mut draft)?;
        draft.drop_expired()?;
        draft.sweep()?;
        let meant = draft.finish()?;
        let after = snapshot::read(&tx, &self.keys)?;
        self.compare(&after, &meant, &known)?;
        tx.commit()?;
        inner.highest = meant.counter;
        // The change is durable; a log that could not be cut now is cut by the next commit.
        let _ = inner.db.checkpoint();
        Ok(out)
    }

    /// What was written must read back as it was meant, and break nothing that was sound.
    fn compare(&self, after: &Snapshot, meant: &Manifest, known: &[Fault]) -> Result<(), StoreError> {
        if after.manifest == *meant && after.faults.iter().all(|f| known.contains(f)) {
            return Ok(());
        }
        Err(StoreError::damaged(&self.path, "a change did not read back as written; nothing was changed"))
    }
}

impl Inner {
    fn read(&mut self, keys: &Keys) -> Result<Snapshot, StoreError> {
        let highest = self.highest;
        let tx = self.db.read()?;
        let snapshot = checked(&tx, keys, highest)?;
        drop(tx);
        self.highest = snapshot.manifest.counter;
        Ok(snapshot)
    }

    fn marker(&mut self) -> Result<u64, StoreError> {
        let version = self.db.data_version()?;
        if let Some((at, marker)) = self.marker
            && at == version
        {
            return Ok(marker);
        }
        let tx = self.db.read()?;
        let mut hash = Sha256::new();
        for table in [Table::Meta, Table::Credentials, Table::Agents, Table::Grants] {
            let (rows, error) = tx.scan(table);
            for row in rows.iter().filter(|row| table != Table::Meta || row[0] != Field::text(CHECKPOINT)) {
                hash.update(seal::digest(table, row));
            }
            hash.update([u8::from(error.is_some())]);
        }
        drop(tx);
        let marker = u64::from_be_bytes(*hash.finalize().first_chunk().expect("SHA-256 gives 32 bytes"));
        self.marker = Some((version, marker));
        Ok(marker)
    }
}

fn checked(tx: &crate::store::Transaction<'_>, keys: &Keys, highest: u64) -> Result<Snapshot, StoreError> {
    let snapshot = snapshot::read(tx, keys)?;
    let counter = snapshot.manifest.counter;
    if counter < highest {
        return Err(StoreError::damaged(tx.path(), format!("it went back from change {highest} to {counter}: an older store was put in its place")));
    }
    Ok(snapshot)
}

fn read_header(db: &mut Database) -> Result<Header, StoreError> {
    let tx = db.read()?;
    let record = snapshot::key_record(&tx)?;
    Header::decode(&record).map_err(|e| StoreError::damaged(tx.path(), e.to_string()))
}

/// A new data-encryption key, wrapped.
fn new_keys(path: &Path, store_id: [u8; 16], key: &UnlockKey) -> Result<Keys, StoreError> {
    let dek = Key::from_bytes(crate::random::bytes());
    let header = Header::wrap(store_id, &dek, key, crate::random::bytes(), crate::random::bytes()).map_err(|why| StoreError::Unlock {
        path: path.to_owned(),
        sealed: key.kind(),
        why,
    })?;
    Ok(Keys::new(header, dek))
}

/// What every store holds from the beginning.
fn fill(db: &mut Database, keys: &Keys) -> Result<(), StoreError> {
    let tx = db.write()?;
    let mut draft = Draft::new(&tx, keys, Manifest::empty(SCHEMA), 0);
    tx.insert(Table::Meta, &[Field::text(KEY_RECORD), Field::blob(&keys.record)])?;
    tx.insert(Table::Meta, &[Field::text(CHECKPOINT), Field::Blob(keys.checkpoint_value(0, &[0; 32]))])?;
    for name in [items::AUDIT_KEY, items::FINGERPRINT_KEY] {
        let random = Zeroizing::new(crate::random::bytes::<32>());
        draft.put_item(name, &Secret::from_opened(random.as_slice()))?;
    }
    draft.finish()?;
    Ok(tx.commit()?)
}

/// The row of the manifest in `meta`.
fn manifest_row(keys: &Keys, manifest: &Manifest) -> Vec<Field> {
    vec![Field::text(MANIFEST), Field::Blob(keys.seal_manifest(manifest))]
}
