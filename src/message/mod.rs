//! HTTP messages as values: reading heads and bodies strictly, writing them anew, and what is dropped or masked on the way.

pub mod h1;
pub mod h2;
pub mod hop_by_hop;
pub mod scrub;
