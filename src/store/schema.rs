//! The schema, and the way from an older one.

use rusqlite::Connection;

/// The schema that this keyhatch writes, kept in `user_version`.
pub const SCHEMA: i64 = 1;

/// `application_id` of a store: "kyht".
pub(super) const APPLICATION_ID: i64 = 0x6b79_6874;

/// One step from a schema to the next, as SQL. What it adds must have defaults that no sealed digest covers.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The schema it begins at.
    pub from: i64,
    /// The statements.
    pub sql: &'static str,
}

/// The steps; schema 1 is the first, so there are none yet.
pub(super) const MIGRATIONS: &[Migration] = &[];

/// Tables have no key and no index: SQLite would believe an index, and rows are told apart by what was sealed.
pub(super) const TABLES: [(&str, &str); 5] = [
    ("meta", "CREATE TABLE meta (name TEXT NOT NULL, value BLOB NOT NULL)"),
    (
        "credentials",
        "CREATE TABLE credentials (id BLOB NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, type TEXT NOT NULL, header TEXT NOT NULL, \
         prefix TEXT NOT NULL, allowed_domains TEXT NOT NULL, allow_paths TEXT NOT NULL, deny_paths TEXT NOT NULL, methods TEXT NOT NULL, \
         auth_headers TEXT NOT NULL, auth_query TEXT NOT NULL, provider TEXT, scrub INTEGER NOT NULL, allow_plaintext INTEGER NOT NULL, \
         enabled INTEGER NOT NULL, source TEXT NOT NULL, fingerprint TEXT NOT NULL, created_at INTEGER NOT NULL, rotated_at INTEGER, \
         sealed BLOB NOT NULL, previous BLOB)",
    ),
    (
        "agents",
        "CREATE TABLE agents (name TEXT NOT NULL, generation INTEGER NOT NULL, token BLOB NOT NULL, created_at INTEGER NOT NULL, mac BLOB NOT NULL)",
    ),
    ("grants", "CREATE TABLE grants (agent TEXT NOT NULL, credential BLOB NOT NULL, granted_at INTEGER NOT NULL, mac BLOB NOT NULL)"),
    ("usage", "CREATE TABLE usage (kind TEXT NOT NULL, subject BLOB NOT NULL, last_used_at INTEGER, last_status INTEGER, mac BLOB NOT NULL)"),
];

/// What is wrong with the file's frame: pragmas that a flipped header byte changes without SQLite's notice, and the
/// schema's text. `None` where all is as it was made.
pub(super) fn fault(db: &Connection, schema: i64) -> rusqlite::Result<Option<String>> {
    let number = |name: &str| db.pragma_query_value(None, name, |r| r.get::<_, i64>(0));
    if number("application_id")? != APPLICATION_ID {
        return Ok(Some("it is no keyhatch store, or an empty file".to_owned()));
    }
    let encoding: String = db.pragma_query_value(None, "encoding", |r| r.get(0))?;
    if encoding != "UTF-8" || number("auto_vacuum")? != 0 || number("page_size")? != 4096 {
        return Ok(Some("its header was changed".to_owned()));
    }
    if schema != SCHEMA {
        return Ok(None);
    }
    let mut statement = db.prepare("SELECT type, tbl_name, sql FROM sqlite_schema")?;
    let mut rows = statement.query([])?;
    let mut found = 0;
    while let Some(row) = rows.next()? {
        let (kind, table, sql) = (row.get_ref(0)?.as_str(), row.get_ref(1)?.as_str(), row.get_ref(2)?.as_str());
        match (kind, TABLES.iter().find(|(name, _)| table == Ok(name))) {
            (Ok("table"), Some((_, expected))) if sql == Ok(expected) => found += 1,
            (Ok("table"), None) => {}
            _ => return Ok(Some("its schema was changed".to_owned())),
        }
    }
    Ok((found != TABLES.len()).then(|| "its schema was changed".to_owned()))
}
