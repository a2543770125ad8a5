//! Vault as the source, against a real server (OpenBao).

mod deploy;
mod freshness;
mod keeping;
mod leases;
mod outage;
mod policies;
mod server;
mod stage;
mod token_life;
