//! Tests that drive the real binary: each against what CONTRACT and README promise to people and programs.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "test code fails by panicking"
)]

mod support;

mod architecture;
mod audit_log;
mod cli;
mod clients;
mod fuzz;
mod hostile;
mod leak;
mod policy_vectors;
mod proxy;
mod security_paper;
mod shipped_files;
mod store_attacks;
mod support_works;
mod transcripts;
mod vault;
mod wire;
