//! TLS on both sides: the own CA and its leaves towards agents, the trust anchors towards origins.
//!
//! Towards agents a host that gets a credential is played with a leaf of the own CA ([`CaState`], [`LeafCache`]), and
//! `tls_listen` with [`ListenerTls`]. Towards origins [`UpstreamTrust`] verifies against the system's anchors and the
//! operator's, never against the own CA. Neither side logs keys, whatever `SSLKEYLOGFILE` says, and neither takes early
//! data.

mod ahead;
mod ca;
mod describe;
mod leaf;
mod listener;
mod outside;
mod state;
mod tickets;
mod trust;

#[cfg(test)]
mod acceptance;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

pub use ahead::ReadAhead;
pub use ca::{CaError, CertificateAuthority};
pub use describe::{describe_agent_tls_error, describe_io_error, describe_tls_error, tls_error};
pub use leaf::{Leaf, LeafCache, LeafError};
pub use listener::{ListenerTls, ListenerTlsError};
pub use outside::{CertificateRequest, generate_pem};
pub use state::{CaState, OwnKeys, RotateError, StateError};
pub use trust::{ClientTls, SystemStore, TrustError, TrustFiles, UpstreamTrust};

/// What is offered and taken in ALPN (RFC 7301), on either side, best first; to origins where HTTP/2 is of no use, the last alone.
pub const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// TLS 1.3 and 1.2, nothing older.
pub const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The one implementation of cryptography under TLS.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// Names of protocols as rustls takes them.
fn protocols(names: &[&[u8]]) -> Vec<Vec<u8>> {
    names.iter().map(|p| p.to_vec()).collect()
}
