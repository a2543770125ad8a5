//! The process's environment, read in one place.
#![expect(clippy::disallowed_methods, reason = "the one module that reads the environment")]

use std::ffi::OsString;

/// A variable's value; an empty one counts as unset.
#[must_use]
pub fn var(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|v| !v.is_empty())
}

/// All variables.
pub fn all() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}
