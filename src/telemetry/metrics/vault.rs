//! What HashiCorp Vault was asked, and how what comes from it stands.

use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The numbers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VaultNumbers {
    /// Reads of values, metadata and lists.
    pub reads: u64,
    /// Calls without a good answer: none at all, 429, or 5xx.
    pub errors: u64,
    /// Log-ins that worked.
    pub logins: u64,
    /// Log-ins that were refused, or got no answer.
    pub login_failures: u64,
    /// Renewals of the token.
    pub renewals: u64,
    /// Paths whose last value is used while Vault cannot be asked.
    pub stale: u64,
    /// Paths whose value cannot be had: requests that need one are refused.
    pub unavailable: u64,
}

type Read = Box<dyn Fn() -> VaultNumbers + Send + Sync>;

/// Reads the numbers at each scrape. Without a reader all are zero.
#[derive(Clone, Default)]
pub(super) struct VaultMetrics(Arc<OnceLock<Read>>);

impl VaultMetrics {
    pub(super) fn set(&self, read: Read) {
        // Only the first call counts.
        let _ = self.0.set(read);
    }
}

impl std::fmt::Debug for VaultMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VaultMetrics")
    }
}

impl Collector for VaultMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let now = self.0.get().map(|read| read()).unwrap_or_default();
        for (name, help, count) in [
            ("vault_reads", "Reads of values, metadata and lists asked of Vault", now.reads),
            ("vault_errors", "Calls that Vault did not answer, or answered that it cannot serve", now.errors),
            ("vault_logins", "Log-ins to Vault", now.logins),
            ("vault_login_failures", "Log-ins to Vault that failed", now.login_failures),
            ("vault_token_renewals", "Renewals of the token for Vault", now.renewals),
        ] {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        for (name, help, count) in [
            ("vault_paths_stale", "Paths whose last value is used while Vault cannot be asked", now.stale),
            ("vault_paths_unavailable", "Paths in Vault whose value cannot be had", now.unavailable),
        ] {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
