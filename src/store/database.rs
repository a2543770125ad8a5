//! The connection: opening, scanning, transactions, copies.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, TransactionBehavior, params_from_iter};

use super::connect::{connect, connect_immutable, has_log, on_read_only_disk};
use super::error::DatabaseError;
use super::record::{Field, Row, Table};
use super::replace::{rename_new, sync_directory};
use super::schema::{self, APPLICATION_ID, MIGRATIONS, Migration, SCHEMA};

/// The size of a page, in bytes; [`super::schema`] refuses a file with another.
const PAGE_SIZE: u64 = 4096;

/// An open store file.
pub struct Database {
    connection: Connection,
    path: PathBuf,
    inode: (u64, u64),
}

impl Database {
    /// Makes a new file with empty tables, mode 0600. It is made under another name beside `path` and gets its own
    /// by [`Database::publish`], so that a half-made store is never found.
    ///
    /// # Errors
    /// [`DatabaseError`], `Exists` among them.
    pub fn create(path: &Path) -> Result<Self, DatabaseError> {
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|e| DatabaseError::io(path, &e))?;
        let connection = connect(path)?;
        let make = || -> rusqlite::Result<()> {
            connection.execute_batch("PRAGMA page_size = 4096; PRAGMA encoding = 'UTF-8'; PRAGMA auto_vacuum = NONE")?;
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
            connection.pragma_update(None, "user_version", SCHEMA)?;
            connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
            schema::TABLES.iter().try_for_each(|(_, sql)| connection.execute_batch(sql))
        };
        make().map_err(|e| DatabaseError::sqlite(path, &e))?;
        Self::settled(connection, path)
    }

    /// Opens a file whose schema may be older: see [`Database::migrate`]. On a read-only disk
    /// the file is opened for reading only.
    ///
    /// # Errors
    /// [`DatabaseError`]: `Missing`, `Newer`, `Damaged` where its frame is not a store's, or what the system refused.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let length = match fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(DatabaseError::Missing(path.to_owned())),
            other => other.map_err(|e| DatabaseError::io(path, &e))?.len(),
        };
        if length == 0 {
            return Err(DatabaseError::damaged(path, "it is empty"));
        }
        // SQLite would fill a torn page with zeros. A crash in a checkpoint leaves such a page too, but then the log is there and has it whole.
        let cut_off = !length.is_multiple_of(PAGE_SIZE) && !has_log(path);
        match Self::open_with(path, connect) {
            // Nobody can write here; what is there can be read, if no log goes with it.
            Err(error @ (DatabaseError::ReadOnly(_) | DatabaseError::Io { .. })) if on_read_only_disk(path) && !has_log(path) => {
                Self::open_with(path, connect_immutable).map_err(|_| error)
            }
            Ok(_) if cut_off => Err(DatabaseError::damaged(path, "its end is cut off")),
            other => other,
        }
    }

    fn open_with(path: &Path, connect: impl FnOnce(&Path) -> Result<Connection, DatabaseError>) -> Result<Self, DatabaseError> {
        let db = Self::settled(connect(path)?, path)?;
        let schema = db.schema()?;
        if let Some(fault) = db.run(|c| schema::fault(c, schema))? {
            return Err(DatabaseError::damaged(path, fault));
        }
        match schema {
            ..1 => Err(DatabaseError::damaged(path, "its schema's number was changed")),
            found if found > SCHEMA => Err(DatabaseError::Newer { path: path.to_owned(), found }),
            _ => Ok(db),
        }
    }

    fn settled(connection: Connection, path: &Path) -> Result<Self, DatabaseError> {
        let meta = fs::metadata(path).map_err(|e| DatabaseError::io(path, &e))?;
        Ok(Self { connection, path: path.to_owned(), inode: (meta.dev(), meta.ino()) })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of the schema that the file has.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub fn schema(&self) -> Result<i64, DatabaseError> {
        self.run(|c| c.pragma_query_value(None, "user_version", |r| r.get(0)))
    }

    fn run<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, DatabaseError> {
        f(&self.connection).map_err(|e| DatabaseError::sqlite(&self.path, &e))
    }

    /// A number that changes with every commit by another connection, and with none of this one's. Cheap.
    ///
    /// # Errors
    /// [`DatabaseError`], also where another file has taken this one's place.
    pub fn data_version(&self) -> Result<i64, DatabaseError> {
        if !fs::metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.inode) {
            let why = "it was removed, or another file was put in its place, while this keyhatch had it open: start again".to_owned();
            return Err(DatabaseError::Io { path: self.path.clone(), why });
        }
        self.run(|c| c.pragma_query_value(None, "data_version", |r| r.get(0)))
    }

    /// Begins to read: all scans until the end see one state.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub fn read(&mut self) -> Result<Transaction<'_>, DatabaseError> {
        self.begin(TransactionBehavior::Deferred)
    }

    /// Begins to write: nobody else writes until the end. Dropped without [`Transaction::commit`], it has no effect.
    ///
    /// # Errors
    /// [`DatabaseError`], `Busy` where another writer takes over five seconds.
    pub fn write(&mut self) -> Result<Transaction<'_>, DatabaseError> {
        self.begin(TransactionBehavior::Immediate)
    }

    fn begin(&mut self, behavior: TransactionBehavior) -> Result<Transaction<'_>, DatabaseError> {
        let path = &self.path;
        let inner = rusqlite::Transaction::new(&mut self.connection, behavior).map_err(|e| DatabaseError::sqlite(path, &e))?;
        Ok(Transaction { inner, path })
    }

    /// Writes the log back into the file and cuts it to nothing; a reader that stays for over five seconds prevents
    /// that, and loses nothing: the next commit does it.
    ///
    /// # Errors
    /// [`DatabaseError`]; what was committed stays so.
    pub fn checkpoint(&self) -> Result<(), DatabaseError> {
        self.run(|c| c.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
    }

    /// Lets the file grow no further, as a full disk would, and says how many pages it has.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self) -> Result<i64, DatabaseError> {
        self.run(|c| {
            let pages: i64 = c.pragma_query_value(None, "page_count", |r| r.get(0))?;
            c.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |r| r.get(0))
        })
    }

    /// SQLite's own check of the whole file: one line a fault.
    ///
    /// # Errors
    /// [`DatabaseError`] where the check cannot be made.
    pub fn integrity(&self) -> Result<Vec<String>, DatabaseError> {
        let lines: Vec<String> =
            self.run(|c| c.prepare("PRAGMA integrity_check(20)")?.query_map([], |r| r.get::<_, String>(0))?.collect::<Result<_, _>>())?;
        Ok(lines.into_iter().flat_map(|l| l.lines().map(str::to_owned).collect::<Vec<_>>()).filter(|l| l != "ok").collect())
    }

    /// Copies the whole store into a new file, mode 0600, synced.
    ///
    /// # Errors
    /// [`DatabaseError`], `Exists` where `to` does. A copy that fails half-way is taken away.
    pub fn copy_to(&self, to: &Path) -> Result<(), DatabaseError> {
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(|e| DatabaseError::io(to, &e))?;
        let copy = || -> Result<(), DatabaseError> {
            let mut target = connect(to)?;
            let fail = |e: rusqlite::Error| DatabaseError::sqlite(to, &e);
            Backup::new(&self.connection, &mut target).map_err(fail)?.run_to_completion(256, Duration::from_millis(5), None).map_err(fail)?;
            target.close().map_err(|(_, e)| fail(e))?;
            file.sync_all().map_err(|e| DatabaseError::io(to, &e))?;
            sync_directory(to)
        };
        copy().inspect_err(|_| remove_with_log(to))
    }

    /// Closes the file and gives it its final name, which must be free; then opens it there.
    ///
    /// # Errors
    /// [`DatabaseError`], `Exists` where the name is taken.
    pub fn publish(self, path: &Path) -> Result<Self, DatabaseError> {
        let made = self.path.clone();
        self.close()?;
        rename_new(&made, path).inspect_err(|_| remove_with_log(&made))?;
        Self::open(path)
    }

    /// Writes everything back and closes the file, so that it stands alone without its log.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub fn close(self) -> Result<(), DatabaseError> {
        self.checkpoint()?;
        self.connection.close().map_err(|(_, e)| DatabaseError::sqlite(&self.path, &e))
    }

    /// Brings an older file to [`SCHEMA`], with a copy kept beside it (`store.db.v1.bak`). `seal` runs before the commit.
    ///
    /// # Errors
    /// [`DatabaseError`], `Busy` where another process (an older `serve`) has the file open; and what `seal` gives.
    pub fn migrate<E: From<DatabaseError>>(&mut self, seal: impl FnOnce(&Transaction<'_>) -> Result<(), E>) -> Result<(), E> {
        self.migrate_by(MIGRATIONS, SCHEMA, seal)
    }

    pub(crate) fn migrate_by<E: From<DatabaseError>>(
        &mut self,
        steps: &[Migration],
        goal: i64,
        seal: impl FnOnce(&Transaction<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let from = self.schema()?;
        self.alone()?;
        let kept = with_suffix(&self.path, &format!(".v{from}.bak"));
        match self.copy_to(&kept) {
            // The copy of an attempt that was broken off: as good, since nothing was changed since.
            Ok(()) | Err(DatabaseError::Exists(_)) => {}
            Err(e) => return Err(e.into()),
        }
        let tx = self.write()?;
        for schema in from..goal {
            let step = steps.iter().find(|m| m.from == schema).ok_or_else(|| DatabaseError::damaged(tx.path, "no way leads from its schema"))?;
            tx.run(|c| c.execute_batch(step.sql))?;
        }
        tx.run(|c| c.pragma_update(None, "user_version", goal))?;
        seal(&tx)?;
        tx.commit()?;
        self.checkpoint()?;
        Ok(self.shared()?)
    }

    /// Takes the file for this connection alone. Every open WAL connection holds a shared lock, so this fails
    /// where another process has the file open, and keeps others out until [`Database::shared`].
    fn alone(&self) -> Result<(), DatabaseError> {
        let path = self.path.clone();
        let take = |c: &Connection| {
            c.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
            c.query_row("PRAGMA journal_mode = DELETE", [], |r| r.get::<_, String>(0))
        };
        match self.run(take) {
            Ok(mode) if mode == "delete" => Ok(()),
            Ok(_) | Err(DatabaseError::Busy { .. }) => {
                self.shared()?;
                Err(DatabaseError::Busy { path, what: "stop `keyhatch serve`, then run this again" })
            }
            Err(e) => Err(e),
        }
    }

    fn shared(&self) -> Result<(), DatabaseError> {
        self.run(|c| {
            c.query_row("PRAGMA locking_mode = NORMAL", [], |_| Ok(()))?;
            c.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
            c.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        })
    }
}

/// A transaction on the store.
pub struct Transaction<'a> {
    inner: rusqlite::Transaction<'a>,
    path: &'a Path,
}

impl Transaction<'_> {
    fn run<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, DatabaseError> {
        f(&self.inner).map_err(|e| DatabaseError::sqlite(self.path, &e))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.path
    }

    /// The number of the schema.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub fn schema(&self) -> Result<i64, DatabaseError> {
        self.run(|c| c.pragma_query_value(None, "user_version", |r| r.get(0)))
    }

    /// All rows of a table, as far as they can be read, and the error that ended the scan, if one did.
    #[must_use]
    pub fn scan(&self, table: Table) -> (Vec<Row>, Option<DatabaseError>) {
        let mut out = Vec::new();
        let columns = table.columns();
        let end = self.run(|c| {
            let mut statement = c.prepare_cached(&format!("SELECT {} FROM {} NOT INDEXED", columns.join(", "), table.name()))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                out.push((0..columns.len()).map(|i| row.get_ref(i).map(Field::read)).collect::<Result<Row, _>>()?);
            }
            Ok(())
        });
        (out, end.err())
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub fn insert(&self, table: Table, row: &[Field]) -> Result<(), DatabaseError> {
        debug_assert_eq!(row.len(), table.columns().len());
        let places = vec!["?"; row.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({places})", table.name(), table.columns().join(", "));
        self.run(|c| c.prepare_cached(&sql)?.execute(params_from_iter(row))).map(drop)
    }

    /// Deletes every row that has all of these values (all rows, without any), and says how many there were.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub fn delete(&self, table: Table, key: &[(&str, Field)]) -> Result<usize, DatabaseError> {
        let terms: String = key.iter().map(|(column, _)| format!(" AND {column} IS ?")).collect();
        let sql = format!("DELETE FROM {} NOT INDEXED WHERE true{terms}", table.name());
        self.run(|c| c.prepare_cached(&sql)?.execute(params_from_iter(key.iter().map(|(_, field)| field))))
    }

    /// Makes the changes durable. [`Database::checkpoint`] follows.
    ///
    /// # Errors
    /// [`DatabaseError`]: nothing is changed then.
    pub fn commit(self) -> Result<(), DatabaseError> {
        let path = self.path;
        self.inner.commit().map_err(|e| DatabaseError::sqlite(path, &e))
    }
}

/// The path with something at its end: `store.db` and `.v1.bak` make `store.db.v1.bak`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Takes away a file of ours that is no longer wanted, as far as it can be.
pub(crate) fn remove_with_log(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(with_suffix(path, suffix));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_read_only_disk_the_file_is_still_read() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a %?#b.db");
        Database::create(&path).expect("made").close().expect("closed");
        let mut db = Database::open_with(&path, connect_immutable).expect("opens");
        assert_eq!(db.schema().expect("reads"), SCHEMA);
        let (rows, error) = db.read().expect("reads").scan(Table::Agents);
        assert!(rows.is_empty() && error.is_none());
        let text = db.write().err().or_else(|| db.write().ok()?.insert(Table::Meta, &[Field::text("a"), Field::blob(b"b")]).err());
        let text = text.expect("refused").to_string();
        assert!(text.contains("read-only") && text.contains("b.db"), "{text}");
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1, "nothing was put beside it");
    }

    #[test]
    fn the_connection_has_its_settings() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("store.db");
        Database::create(&path).expect("made").close().expect("closed");
        let db = Database::open(&path).expect("opens");
        let number = |name: &str| db.run(|c| c.pragma_query_value(None, name, |r| r.get::<_, i64>(0))).expect("reads");
        assert_eq!((number("synchronous"), number("secure_delete"), number("cell_size_check"), number("busy_timeout")), (2, 1, 1, 5000));
        let mode: String = db.run(|c| c.pragma_query_value(None, "journal_mode", |r| r.get(0))).expect("reads");
        assert_eq!(mode, "wal");
    }
}
