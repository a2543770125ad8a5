//! Vault as the source, against a real server (OpenBao).

mod deploy;
mod freshness;
mod leases;
mod outage;
mod policies;
mod server;
mod stage;
