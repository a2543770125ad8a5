//! Connections to origins.

pub mod resolve;
