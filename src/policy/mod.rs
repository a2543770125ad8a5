//! Decisions, on values alone: no IO, no clock, no randomness.
//!
//! [`Snapshot::route`] decides on a connection by its host, [`Candidates::decide`] on each request inside it.
//! Only the latter makes a [`Permit`], and without one no secret is opened.

mod decision;
mod egress;
mod roster;
mod rule;
mod snapshot;

pub use decision::{Candidates, Decision, Denial, DenialCode, Explanation, Facts, Permit, Pick, Route, Scheme, still_tunnelled};
pub use egress::{Egress, EgressRefusal};
pub use roster::{AgentEntry, CredentialEntry, Roster};
pub use rule::{GlobError, Rule, RuleRefusal, check_glob};
pub use snapshot::{AgentView, Candidate, Snapshot};
