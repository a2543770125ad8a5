//! HTTP messages as values: reading heads and bodies strictly, writing them anew.

pub mod hop_by_hop;
pub mod scrub;
