//! What is wrong with a file, and where.

use std::fmt;
use std::path::PathBuf;

/// Why a configuration or provider file is refused: file, line, key, what is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1; `None` where the file as a whole is at fault.
    pub line: Option<usize>,
    /// The key with its tables, as in `egress.default`.
    pub key: Option<String>,
    /// What is wrong.
    pub why: String,
    /// The values (or keys) that are allowed there.
    pub allowed: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if let Some(key) = &self.key {
            write!(f, "key `{key}`: ")?;
        }
        f.write_str(&self.why)?;
        match &self.allowed {
            Some(allowed) => write!(f, "; allowed: {allowed}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}
