//! The configuration file.

mod model;

pub use model::{
    AdminConfig, AgentLimits, AuditConfig, Config, EgressConfig, Limits, ListenAddr, ProxyConfig, StoreConfig, Timeouts, UnlockMethod, UpstreamConfig,
};
