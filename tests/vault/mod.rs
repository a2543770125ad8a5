//! Vault as the source, against a real server (OpenBao).

mod agents;
mod authority;
mod deploy;
mod discover;
mod fleet;
mod policies;
mod replicas;
mod server;
