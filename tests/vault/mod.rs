//! Vault as the source, against a real server (OpenBao).

mod client;
mod deploy;
mod freshness;
mod outage;
mod policies;
mod server;
mod stage;
mod transit;
