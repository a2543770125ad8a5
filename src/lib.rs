//! Keyhatch: a credential vault with a forward proxy in front of it.
//!
//! **The path of a request.** [`proxy`] reads the agent's head and turns it into values of [`host`] and
//! [`message`]; [`policy`] decides on those values alone and, where a credential is due, makes a
//! [`policy::Permit`]; [`vault`] gives the material for a permit and for nothing else; [`upstream`] connects to the
//! checked address; [`proxy`] passes the bytes and hands [`audit`] events to [`telemetry`].
//!
//! **The ring rule.** Imports go down only: values (ring 0: [`host`], [`agent`], [`credential`], [`message`], [`locked`]),
//! decisions and cryptography (ring 1: [`policy`], [`envelope`], [`session`], [`audit`]), edges (ring 2: [`config`], [`home`], [`tls`],
//! [`upstream`], [`store`], [`vault`], [`telemetry`]), servers (ring 3: [`proxy`], [`admin`]), and the command line on
//! top (ring 4: [`cli`], [`demo`]). `tests/architecture.rs` holds the rule.

pub mod admin;
pub mod agent;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod demo;
pub mod envelope;
pub mod environment;
pub mod home;
pub mod host;
pub mod locked;
pub mod message;
pub mod policy;
pub mod process;
pub mod proxy;
pub mod random;
pub mod server;
pub mod session;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod vault;
