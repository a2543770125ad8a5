//! What becomes of requests, seen from both sides of the real proxy.

mod absolute;
mod answers;
mod changes;
mod clients;
mod connect_forms;
mod drain;
mod injection;
mod limits;
mod listener_h2;
mod listener_h2_limits;
pub(crate) mod listeners;
mod matching;
mod memory;
mod plaintext;
mod scrub;
mod sockets;
mod streaming;
mod time_limits;
mod tunnels;
