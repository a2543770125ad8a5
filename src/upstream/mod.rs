//! Connections to origins: resolve, check, dial the checked address, verify, pool and share.

mod dial;
mod guard;
mod multiplex;
mod pool;
pub mod resolve;
mod slot;
mod stream;
mod vaults;

#[cfg(test)]
mod tests;

pub use dial::{DialError, DialErrorKind, Dialer, DialerSettings};
pub use guard::{Guard, OffLimits};
pub use multiplex::{Lane, told, was_not_processed};
pub use pool::{Pool, PoolKey};
pub use slot::{Connected, Protocols, Route, Slot, Want};
pub use stream::UpstreamStream;
pub use vaults::Vaults;
