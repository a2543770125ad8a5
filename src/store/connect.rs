//! How a connection is opened, and what it is told never to believe.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::database::with_suffix;
use super::error::DatabaseError;

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the file to be read and written.
pub(super) fn connect(path: &Path) -> Result<Connection, DatabaseError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    set_up(path, || Connection::open_with_flags(path, flags))
}

/// Opens the file alone, without log or locks, and blind to later changes: for a disk on which there are none.
pub(super) fn connect_immutable(path: &Path) -> Result<Connection, DatabaseError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_');
    let escape = |b: &u8| if plain(*b) { char::from(*b).to_string() } else { format!("%{b:02X}") };
    let name: String = path.as_os_str().as_encoded_bytes().iter().map(escape).collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    set_up(path, || Connection::open_with_flags(format!("file:{name}?immutable=1"), flags))
}

/// Whether nobody can write where the file lies.
pub(super) fn on_read_only_disk(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|s| s.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Whether a log goes with the file.
pub(super) fn has_log(path: &Path) -> bool {
    fs::metadata(with_suffix(path, "-wal")).is_ok_and(|meta| meta.len() > 0)
}

fn set_up(path: &Path, open: impl FnOnce() -> rusqlite::Result<Connection>) -> Result<Connection, DatabaseError> {
    let settle = || -> rusqlite::Result<Connection> {
        let connection = open()?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        for (option, on) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        ] {
            connection.set_db_config(option, on)?;
        }
        // `secure_delete` and the rest are settings of the connection, not of the file.
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0")?;
        connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
        Ok(connection)
    };
    settle().map_err(|e| DatabaseError::sqlite(path, &e))
}
