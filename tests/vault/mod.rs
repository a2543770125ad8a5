//! Vault as the source, against a real server (OpenBao).

mod client;
mod deploy;
mod policies;
mod server;
mod transit;
