//! Vault as the source, against a real server (OpenBao).

mod agents;
mod authority;
mod client;
mod commands;
mod deploy;
mod discover;
mod discover_guard;
mod doctor;
mod fleet;
mod freshness;
mod homes;
mod keeping;
mod leases;
mod outage;
mod policies;
mod replicas;
mod server;
mod stage;
mod storeless;
mod token_life;
mod transit;
mod wrapped;
