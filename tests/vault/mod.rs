//! Vault as the source, against a real server (OpenBao).

mod client;
mod deploy;
mod freshness;
mod outage;
mod agents;
mod authority;
mod deploy;
mod discover;
mod fleet;
mod policies;
mod replicas;
mod server;
mod stage;
mod transit;
