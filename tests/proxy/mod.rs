//! What becomes of requests, seen from both sides of the real proxy.

mod answers;
mod changes;
mod clients;
mod drain;
mod injection;
mod limits;
mod matching;
mod memory;
mod streaming;
mod tunnels;
