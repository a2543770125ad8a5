//! The commands: what they take, print, refuse, and the code they exit with (CONTRACT 2 and 3).

mod contract;
mod credentials;
mod doctor;
mod homes;
mod lifecycle;
mod operate;
mod run_env;
mod vault_reference;
