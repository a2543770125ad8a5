//! Vault as the source, against a real server (OpenBao).

mod commands;
mod deploy;
mod doctor;
mod policies;
mod server;
mod stage;
mod storeless;
