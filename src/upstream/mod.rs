//! Connections to origins: resolve, check, dial the checked address, verify, pool.

mod dial;
mod pool;
pub mod resolve;
mod stream;

pub use dial::{DialError, DialErrorKind, Dialer, DialerSettings};
pub use pool::{Pool, PoolKey, Slot};
pub use stream::UpstreamStream;
