//! Which addresses are off limits.

use std::net::IpAddr;

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The registry's name of the block, such as `Loopback`.
    pub block: &'static str,
}

/// Whether and why an address is refused unless allowed.
#[must_use]
pub fn refusal(_ip: IpAddr) -> Option<Refusal> {
    None
}
