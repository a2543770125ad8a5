//! The targets: what is asked of each parser of bytes from outside, as a plain function of bytes that panics where the answer is
//! wrong. `fuzz/` drives them with libFuzzer, `tests/fuzz` in the ordinary test run, from the same corpus.
//!
//! A property is held against a reference written from the contract or the RFC, naively; it shares no code with what it judges.

mod input;
mod secret;

pub mod admin;
pub mod audit_log;
pub mod authority;
pub mod compressed;
pub mod configuration;
pub mod connect_preface;
pub mod database;
pub mod envelope;
pub mod fields;
pub mod path_rules;
pub mod pattern;
pub mod proxy_authorization;
pub mod record;
pub mod request_head;
pub mod scrub;
pub mod sse;
pub mod vault_answer;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by its name, which its corpus and its binary have too.
pub const TARGETS: [(&str, Target); 17] = [
    ("admin", admin::run),
    ("audit_log", audit_log::run),
    ("authority", authority::run),
    ("compressed", compressed::run),
    ("configuration", configuration::run),
    ("connect_preface", connect_preface::run),
    ("database", database::run),
    ("envelope", envelope::run),
    ("fields", fields::run),
    ("path_rules", path_rules::run),
    ("pattern", pattern::run),
    ("proxy_authorization", proxy_authorization::run),
    ("record", record::run),
    ("request_head", request_head::run),
    ("scrub", scrub::run),
    ("sse", sse::run),
    ("vault_answer", vault_answer::run),
];
