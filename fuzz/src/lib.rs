//! The targets, for the binaries beside them.
#![allow(clippy::unwrap_used, missing_docs, reason = "test code fails by panicking")]

#[path = "../targets/mod.rs"]
pub mod targets;
