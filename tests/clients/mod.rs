//! Real programs through the real proxy: each has only what `keyhatch env` prints, and goes to an origin that demands
//! the credential. What is asserted: the program succeeded, the origin got the real key and nothing of the agent's own,
//! and which protocol was spoken on either side (from the audit log).

mod autobahn;
mod fetches;
mod git;
mod grpc;
mod node;
mod origin;
mod packages;
mod relay;
mod stage;
mod ways_in;
mod websocket;

pub use origin::{BOTH, H1, Origin};
pub use stage::{Key, RealKey, Stage};

/// HTTP/2, as the tables of these tests call it.
const H2: u8 = 2;
