//! What `keyhatch.toml` says, parsed: every string from the file is already the value it stands for.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::vault::VaultConfig;
use crate::host::{Authority, HostPattern};

/// The whole configuration. `Config::default()` is what an absent file means.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `[proxy]`
    pub proxy: ProxyConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[egress]`
    pub egress: EgressConfig,
    /// `[resolve]`: what to connect to in a host's stead.
    pub resolve: Vec<(Authority, Authority)>,
    /// `[upstream]`
    pub upstream: UpstreamConfig,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[limits]`
    pub limits: Limits,
    /// `[store]`
    pub store: StoreConfig,
    /// `[audit]`
    pub audit: AuditConfig,
    /// `[vault]`
    pub vault: VaultConfig,
}

/// Where a listener binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    /// An IP address and port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// `unix:/path`.
    Unix(PathBuf),
}

/// `[proxy]`
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyConfig {
    /// `listen`; default `127.0.0.1:8877`.
    pub listen: ListenAddr,
    /// `tls_listen`: the proxy over TLS.
    pub tls_listen: Option<SocketAddr>,
    /// `tls_cert` and `tls_key`.
    pub tls_cert: Option<(PathBuf, PathBuf)>,
    /// `tls_names`: names and addresses of the own CA's leaf for `tls_listen`.
    pub tls_names: Vec<String>,
    /// `advertise`: the proxy URL that `env` prints.
    pub advertise: Option<String>,
    /// `auth = "required"`.
    pub auth_required: bool,
    /// `allow_cleartext`: permits `listen` off loopback.
    pub allow_cleartext: bool,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq)]
pub struct AdminConfig {
    /// `listen`; default `127.0.0.1:8879`. `""` turns it off.
    pub listen: Option<SocketAddr>,
    /// `token_file`
    pub token_file: Option<PathBuf>,
}

/// `[egress]`
#[derive(Debug, Clone, PartialEq)]
pub struct EgressConfig {
    /// `default = "allow"`.
    pub allow_by_default: bool,
    /// `allow_hosts`
    pub allow_hosts: Vec<HostPattern>,
    /// `deny_hosts`
    pub deny_hosts: Vec<HostPattern>,
    /// `ports`
    pub ports: Vec<u16>,
    /// `private_addresses = "allow"`.
    pub allow_private: bool,
    /// `allow_cidrs`
    pub allow_cidrs: Vec<IpNet>,
}

/// `[upstream]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamConfig {
    /// `extra_ca_files`
    pub extra_ca_files: Vec<PathBuf>,
    /// `crl_files`
    pub crl_files: Vec<PathBuf>,
}

/// `[timeouts]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// `connect`; 10 s.
    pub connect: Duration,
    /// `tls`; 10 s.
    pub tls: Duration,
    /// `request_head`; 30 s.
    pub request_head: Duration,
    /// `idle`; 10 min.
    pub idle: Duration,
    /// `drain`; 30 s.
    pub drain: Duration,
}

/// `[limits]` and, in `per_agent`, `[limits.per_agent]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Client connections open at once.
    pub connections: usize,
    /// Requests in flight at once.
    pub requests: usize,
    /// Tunnels (blind, WebSocket) open at once.
    pub tunnels: usize,
    /// The longest request head, in bytes; default 64 KiB.
    pub head_bytes: usize,
    /// The same for one agent: connections, requests, tunnels.
    pub per_agent: AgentLimits,
}

/// `[limits.per_agent]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentLimits {
    /// Client connections open at once.
    pub connections: usize,
    /// Requests in flight at once.
    pub requests: usize,
    /// Tunnels open at once.
    pub tunnels: usize,
    /// The longest request head, in bytes.
    pub head_bytes: usize,
}

impl AgentLimits {
    /// What one agent has where nothing is said of it: a quarter of what there is, so that no agent takes all of it, and the
    /// whole length of a head.
    pub(super) fn share_of(connections: usize, requests: usize, tunnels: usize, head_bytes: usize) -> Self {
        let quarter = |all: usize| all.div_ceil(4);
        Self { connections: quarter(connections), requests: quarter(requests), tunnels: quarter(tunnels), head_bytes }
    }
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreConfig {
    /// `unlock`: `None` takes what the store says of itself.
    pub unlock: Option<UnlockMethod>,
    /// `key_file`
    pub key_file: Option<PathBuf>,
    /// `transit_key`: mount and name of the transit key that wraps the key-encryption key.
    pub transit_key: Option<String>,
}

/// `[store] unlock`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlockMethod {
    /// `"passphrase"`
    Passphrase,
    /// `"key-file"`
    KeyFile,
    /// `"vault-transit"`
    VaultTransit,
}

impl UnlockMethod {
    /// The word for it in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::KeyFile => "key-file",
            Self::VaultTransit => "vault-transit",
        }
    }
}

/// `[audit]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// `max_size`, in bytes; default 64 MiB. The file is rotated when it would grow past it.
    pub max_size: u64,
    /// `keep`: how many rotated files stay; default 10.
    pub keep: u32,
    /// `on_failure = "deny"`: injected requests stop while records cannot be written.
    pub deny_on_failure: bool,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            listen: ListenAddr::Tcp(SocketAddr::from(([127, 0, 0, 1], 8877))),
            tls_listen: None,
            tls_cert: None,
            tls_names: Vec::new(),
            advertise: None,
            auth_required: true,
            allow_cleartext: false,
        }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 8879))), token_file: None }
    }
}

impl Default for EgressConfig {
    fn default() -> Self {
        Self {
            allow_by_default: true,
            allow_hosts: Vec::new(),
            deny_hosts: Vec::new(),
            ports: vec![80, 443],
            allow_private: false,
            allow_cidrs: Vec::new(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { connect: s(10), tls: s(10), request_head: s(30), idle: s(600), drain: s(30) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let (connections, requests, tunnels, head_bytes) = (20_000, 10_000, 20_000, 64 * 1024);
        Self { connections, requests, tunnels, head_bytes, per_agent: AgentLimits::share_of(connections, requests, tunnels, head_bytes) }
    }
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { max_size: 64 << 20, keep: 10, deny_on_failure: false }
    }
}
