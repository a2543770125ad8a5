//! Rows as they lie in the file. Nothing is converted here: a row whose types were changed must still be read,
//! so that it can be told from the row that was sealed.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// `NULL`.
    Null,
    /// A number.
    Int(i64),
    /// Text; perhaps not UTF-8 in a damaged file.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Field {
    /// A string.
    #[must_use]
    pub fn text(value: &str) -> Self {
        Self::Text(value.as_bytes().to_vec())
    }

    /// Bytes.
    #[must_use]
    pub fn blob(value: &[u8]) -> Self {
        Self::Blob(value.to_vec())
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The bytes, if it is a blob.
    #[must_use]
    pub fn as_blob(&self) -> Option<&[u8]> {
        match self {
            Self::Blob(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn read(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(value) => Self::Int(value),
            // No column holds one; as text it equals nothing that was sealed.
            ValueRef::Real(value) => Self::Text(format!("real {value:?}").into_bytes()),
            ValueRef::Text(bytes) => Self::Text(bytes.to_vec()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }
}

impl ToSql for Field {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Int(value) => ToSqlOutput::Owned(Value::Integer(*value)),
            Self::Text(bytes) => ToSqlOutput::Borrowed(ValueRef::Text(bytes)),
            Self::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

/// One row, in the order of [`Table::columns`].
pub type Row = Vec<Field>;

/// The tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// The key record, the manifest, sealed items, the audit checkpoint.
    Meta,
    /// Credentials: terms in plain columns, secrets sealed.
    Credentials,
    /// Agents.
    Agents,
    /// Grants.
    Grants,
    /// When credentials and agents were last seen.
    Usage,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Meta, Self::Credentials, Self::Agents, Self::Grants, Self::Usage];

    /// Its name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Credentials => "credentials",
            Self::Agents => "agents",
            Self::Grants => "grants",
            Self::Usage => "usage",
        }
    }

    /// Its columns.
    #[must_use]
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Meta => &["name", "value"],
            Self::Credentials => &[
                "id",
                "name",
                "version",
                "type",
                "header",
                "prefix",
                "allowed_domains",
                "allow_paths",
                "deny_paths",
                "methods",
                "auth_headers",
                "auth_query",
                "provider",
                "scrub",
                "allow_plaintext",
                "enabled",
                "source",
                "fingerprint",
                "created_at",
                "rotated_at",
                "sealed",
                "previous",
            ],
            Self::Agents => &["name", "generation", "token", "created_at", "mac"],
            Self::Grants => &["agent", "credential", "granted_at", "mac"],
            Self::Usage => &["kind", "subject", "last_used_at", "last_status", "mac"],
        }
    }

    /// The place of a column in a [`Row`].
    ///
    /// # Panics
    /// Where the table has no such column.
    #[must_use]
    pub fn column(self, name: &str) -> usize {
        self.columns().iter().position(|c| *c == name).expect("the code names columns that exist")
    }
}
