//! What becomes of requests, seen from both sides of the real proxy.

mod answers;
mod changes;
mod clients;
mod drain;
mod injection;
mod limits;
pub(crate) mod listeners;
mod matching;
mod memory;
mod plaintext;
mod scrub;
mod streaming;
mod tunnels;
