//! Real programs through the real proxy: each has only what `keyhatch env` prints, and goes to an origin that demands
//! the credential. What is asserted: the program succeeded, the origin got the real key and nothing of the agent's own,
//! and which protocol was spoken on either side (from the audit log).

mod fetches;
mod git;
mod node;
mod origin;
mod packages;
mod stage;

pub use origin::{BOTH, H1, Origin};
pub use stage::{Key, RealKey, Stage};

/// What HTTP/2 is called in the table of a test, where this build speaks it.
const H2: u8 = 1;
