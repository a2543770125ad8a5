//! The proxy: agents' connections come in, and what policy lets pass goes on.
//!
//! `connection` reads what a client says to a listener, `gate` decides on it; `tunnel` passes bytes unread; `intercept` ends the TLS
//! of a host that a credential covers; `forward` carries one request out; `exchange` moves its bytes.

mod authenticate;
mod blind;
mod connection;
mod entry;
mod error;
mod exchange;
mod filter;
mod forward;
mod gate;
mod intercept;
mod limits;
mod listener_h2;
mod live;
mod outcome;
mod outgoing;
mod record;
mod refusals;
mod respond;
mod side;
mod splice;
mod stream;
mod streams;
mod suspension;
mod taken;
mod ticker;
mod tunnel;
mod turns;
mod watched;
mod wire;

pub(crate) use connection::{serve, turn_away};
pub(crate) use entry::Entry;
pub use limits::{Ceilings, Counts};
pub use live::{Live, Proxy, ProxyParts, Seen, Settings, Transport};
pub(crate) use stream::ClientStream;

/// What the fuzz targets, which are no part of the crate, look at: the parsers of what an agent sends before it is known.
#[doc(hidden)]
pub mod fuzzed {
    pub use super::authenticate::{Shown, shown};
    pub use super::intercept::{Speech, speech};
}
