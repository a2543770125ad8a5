//! Vault as the source, against a real server (OpenBao).

mod server;
