//! What Keyhatch tells the operator of itself: the audit log, metrics, and the log on stderr.

pub mod audit_log;
pub mod escape;
pub mod log;
pub mod metrics;
