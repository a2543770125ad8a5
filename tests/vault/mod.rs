//! Vault as the source, against a real server (OpenBao).

mod commands;
mod deploy;
mod doctor;
mod homes;
mod policies;
mod server;
mod storeless;
