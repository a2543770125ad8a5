//! Vault as the source, against a real server (OpenBao).

mod deploy;
mod discover;
mod fleet;
mod policies;
mod server;
