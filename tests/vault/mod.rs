//! Vault as the source, against a real server (OpenBao).

mod deploy;
mod policies;
mod server;
mod transit;
