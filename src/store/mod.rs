//! The store's file: SQLite, records in, records out. It knows no cryptography, and believes no index, trigger
//! or view of the file: rows are read by full scans, and whoever calls compares them with what was sealed.
//!
//! WAL, `synchronous = FULL`, `secure_delete`; after each commit the log is written back and cut to nothing, so that
//! no committed frame lies in a file whose damage SQLite would take for the end of the log.

mod connect;
mod database;
mod error;
mod record;
mod replace;
mod schema;

pub use database::{Database, Transaction};
pub(crate) use database::{remove_with_log, with_suffix};
pub use error::DatabaseError;
pub use record::{Field, Row, Table};
pub(crate) use replace::{copy_new, replace};
pub use schema::{Migration, SCHEMA};
