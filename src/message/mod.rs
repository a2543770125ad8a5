//! The facts of a message: fields to drop, and the scrubber of responses.

pub mod hop_by_hop;
pub mod scrub;
