//! Metrics, for `/metrics`: `keyhatch_...`, in the OpenMetrics text format.
//!
//! No label holds anything that an agent chose, so none grows with what agents send. What a request touches was looked up when [`Metrics`]
//! was made: counting is an atomic addition. Credential and agent names are labels only where the operator set a token for the admin listener.

mod histogram;
mod names;
mod vault;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::audit::Verdict;
use histogram::Histogram;
use names::Names;
use vault::VaultMetrics;

pub use vault::VaultNumbers;

/// The media type of what [`Metrics::render`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const VERDICTS: [Verdict; 5] = [Verdict::Injected, Verdict::Tunnelled, Verdict::Forwarded, Verdict::Denied, Verdict::Failed];
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// All that is counted.
pub struct Metrics {
    registry: Registry,
    requests: [[Counter; CLASSES.len()]; VERDICTS.len()],
    tunnels: Gauge,
    connections: Gauge,
    handshake: Histogram,
    ttfb: Histogram,
    /// Misses and hits.
    leaf_cache: [Counter; 2],
    /// Opened and reused.
    upstream: [Counter; 2],
    credential_failures: Family<Labels<1>, Counter>,
    names: Option<Arc<Names>>,
    scrubbed: Counter,
    suspended: Counter,
    audit_lost: AuditLost,
    vault: VaultMetrics,
}

/// Something counted as open until this is dropped.
#[must_use = "it is counted as open only until this is dropped"]
pub struct Open(Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Makes the metrics, all zero. `with_names` adds requests by agent and credential: only where `/metrics` asks for a token.
    #[must_use]
    pub fn new(with_names: bool) -> Self {
        let mut registry = Registry::with_prefix("keyhatch");
        let requests = Family::<Labels<2>, Counter>::default();
        registry.register("requests", "Requests and tunnels, by decision and class of the status that the agent saw", requests.clone());
        let tunnels = Gauge::default();
        registry.register("tunnels_open", "Tunnels open now", tunnels.clone());
        let connections = Gauge::default();
        registry.register("client_connections_open", "Client connections open now", connections.clone());
        let handshake = Histogram::new(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        registry.register("handshake_seconds", "TLS handshakes with agents", handshake.clone());
        let ttfb = Histogram::new(&[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0]);
        registry.register("ttfb_seconds", "From a request's head to its answer's head", ttfb.clone());
        let leaf_cache = Family::<Labels<1>, Counter>::default();
        registry.register("leaf_cache", "Look-ups of leaf certificates, by result", leaf_cache.clone());
        let upstream = Family::<Labels<1>, Counter>::default();
        registry.register("upstream_connections", "Upstream connections that requests went over, by whether they were open before", upstream.clone());
        let credential_failures = Family::<Labels<1>, Counter>::default();
        registry.register("credential_failures", "Requests whose credential could not be had, by reason", credential_failures.clone());
        let scrubbed = Counter::default();
        registry.register("scrubbed_responses", "Answers that carried the secret, which was masked", scrubbed.clone());
        let suspended = Counter::default();
        registry.register("grant_suspensions", "Grants suspended because too many answers carried the secret", suspended.clone());
        let audit_lost = AuditLost::default();
        registry.register_collector(Box::new(audit_lost.clone()));
        let vault = VaultMetrics::default();
        registry.register_collector(Box::new(vault.clone()));
        let names = with_names.then(Arc::<Names>::default);
        if let Some(names) = &names {
            registry.register_collector(Box::new(Arc::clone(names)));
        }
        let of = |family: &Family<Labels<1>, Counter>, name, value| family.get_or_create(&[(name, value)]).clone();
        Self {
            requests: VERDICTS.map(|v| CLASSES.map(|class| requests.get_or_create(&[("decision", v.as_str()), ("status", class)]).clone())),
            leaf_cache: [of(&leaf_cache, "result", "miss"), of(&leaf_cache, "result", "hit")],
            upstream: [of(&upstream, "kind", "opened"), of(&upstream, "kind", "reused")],
            registry,
            tunnels,
            connections,
            handshake,
            ttfb,
            credential_failures,
            names,
            scrubbed,
            suspended,
            audit_lost,
            vault,
        }
    }

    /// A request is over; `status` is what the agent saw, 0 where it saw none.
    pub fn request(&self, verdict: Verdict, status: u16) {
        let class = usize::from(status / 100);
        let row = match verdict {
            Verdict::Injected => 0,
            Verdict::Tunnelled => 1,
            Verdict::Forwarded => 2,
            Verdict::Denied => 3,
            Verdict::Failed => 4,
        };
        self.requests[row][if class < CLASSES.len() { class } else { 0 }].inc();
    }

    /// The same request, by agent and the credential that went on it. Does nothing where names are no labels; a name that
    /// [`Metrics::set_names`] did not give counts under an empty one.
    pub fn request_of(&self, agent: &str, credential: Option<&str>) {
        if let Some(names) = &self.names {
            names.count(agent, credential.unwrap_or_default());
        }
    }

    /// Says which agents there are and which credentials each was granted. Counts of those that stay are kept.
    pub fn set_names<'a>(&self, agents: impl Iterator<Item = &'a str>, grants: impl Iterator<Item = (&'a str, &'a str)>) {
        if let Some(names) = &self.names {
            names.set(agents, grants);
        }
    }

    /// A tunnel is open until the guard is dropped.
    pub fn tunnel_opened(&self) -> Open {
        Open::new(&self.tunnels)
    }

    /// A client's connection is open until the guard is dropped.
    pub fn connection_opened(&self) -> Open {
        Open::new(&self.connections)
    }

    /// A TLS handshake with an agent took this long.
    pub fn handshake(&self, took: Duration) {
        self.handshake.observe(took);
    }

    /// An answer's head came this long after its request's.
    pub fn ttfb(&self, took: Duration) {
        self.ttfb.observe(took);
    }

    /// A leaf certificate was looked for; `hit` where it was there.
    pub fn leaf_cache(&self, hit: bool) {
        self.leaf_cache[usize::from(hit)].inc();
    }

    /// A request went over an upstream connection; `reused` where it was open before.
    pub fn upstream_connection(&self, reused: bool) {
        self.upstream[usize::from(reused)].inc();
    }

    /// A credential could not be had. `reason` is a word of this program, as in [`crate::vault::Unavailable`].
    pub fn credential_failure(&self, reason: &'static str) {
        self.credential_failures.get_or_create(&[("reason", reason)]).inc();
    }

    /// An answer carried the secret, and was scrubbed or ended.
    pub fn scrubbed(&self) {
        self.scrubbed.inc();
    }

    /// A grant was suspended, since too many answers carried the secret.
    pub fn grant_suspended(&self) {
        self.suspended.inc();
    }

    /// Says where the number of lost audit records is to be read. Only the first call counts.
    pub fn set_audit_lost(&self, read: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.audit_lost.0.set(Box::new(read));
    }

    /// Says where the numbers about Vault are to be read. Only the first call counts.
    pub fn set_vault(&self, read: impl Fn() -> VaultNumbers + Send + Sync + 'static) {
        self.vault.set(Box::new(read));
    }

    /// All metrics as text, of the type [`CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(8 * 1024);
        prometheus_client::encoding::text::encode(&mut out, &self.registry).expect("writing to a string cannot fail");
        out
    }
}

type Read = Box<dyn Fn() -> u64 + Send + Sync>;

/// Reads the audit log's own count at each scrape.
#[derive(Clone, Default)]
struct AuditLost(Arc<OnceLock<Read>>);

impl std::fmt::Debug for AuditLost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditLost")
    }
}

impl Collector for AuditLost {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let counter = ConstCounter::new(self.0.get().map_or(0, |read| read()));
        let help = "Audit records that could not be written";
        counter.encode(encoder.encode_descriptor("audit_records_lost", help, None, counter.metric_type())?)
    }
}

/// Adds one, from any thread.
fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(metrics: &Metrics, line: &str) {
        let text = metrics.render();
        assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
    }

    #[test]
    fn requests_are_counted_by_decision_and_class() {
        let m = Metrics::new(false);
        has(&m, r#"keyhatch_requests_total{decision="injected",status="2xx"} 0"#);
        m.request(Verdict::Injected, 200);
        m.request(Verdict::Injected, 299);
        m.request(Verdict::Denied, 403);
        m.request(Verdict::Failed, 0);
        m.request(Verdict::Failed, 999);
        m.request_of("default", Some("openrouter"));
        has(&m, r#"keyhatch_requests_total{decision="injected",status="2xx"} 2"#);
        has(&m, r#"keyhatch_requests_total{decision="denied",status="4xx"} 1"#);
        has(&m, r#"keyhatch_requests_total{decision="failed",status="none"} 2"#);
        assert!(!m.render().contains("openrouter"), "no names without a token");
        assert!(m.render().ends_with("# EOF\n"));
    }

    #[test]
    fn guards_count_what_is_open() {
        let m = Metrics::new(false);
        let first = m.tunnel_opened();
        let second = m.tunnel_opened();
        let connection = m.connection_opened();
        has(&m, "keyhatch_tunnels_open 2");
        drop(first);
        has(&m, "keyhatch_tunnels_open 1");
        has(&m, "keyhatch_client_connections_open 1");
        drop((second, connection));
        has(&m, "keyhatch_tunnels_open 0");
    }

    #[test]
    fn the_rest() {
        let m = Metrics::new(false);
        m.leaf_cache(true);
        m.leaf_cache(false);
        m.upstream_connection(false);
        m.upstream_connection(true);
        m.upstream_connection(true);
        m.credential_failure("removed");
        m.handshake(Duration::from_millis(3));
        m.ttfb(Duration::from_secs(2));
        has(&m, "keyhatch_audit_records_lost_total 0");
        m.set_audit_lost(|| 7);
        has(&m, r#"keyhatch_leaf_cache_total{result="hit"} 1"#);
        has(&m, r#"keyhatch_upstream_connections_total{kind="reused"} 2"#);
        has(&m, r#"keyhatch_credential_failures_total{reason="removed"} 1"#);
        has(&m, r#"keyhatch_handshake_seconds_bucket{le="0.0025"} 0"#);
        has(&m, r#"keyhatch_handshake_seconds_bucket{le="0.005"} 1"#);
        has(&m, r#"keyhatch_ttfb_seconds_bucket{le="+Inf"} 1"#);
        has(&m, "keyhatch_ttfb_seconds_sum 2.0");
        has(&m, "keyhatch_audit_records_lost_total 7");
    }

    #[test]
    fn names_are_bounded_by_those_configured() {
        let m = Metrics::new(true);
        m.set_names(["default", "ci"].into_iter(), [("default", "openrouter")].into_iter());
        m.request_of("default", Some("openrouter"));
        m.request_of("default", None);
        m.request_of("ci", Some("openrouter"));
        (0..100).for_each(|i| m.request_of(&format!("stranger{i}"), None));
        has(&m, r#"keyhatch_agent_requests_total{agent="default",credential="openrouter"} 1"#);
        has(&m, r#"keyhatch_agent_requests_total{agent="default",credential=""} 1"#);
        has(&m, r#"keyhatch_agent_requests_total{agent="",credential=""} 101"#);
        assert!(!m.render().contains("stranger"));
        m.set_names(["default"].into_iter(), [("default", "openrouter")].into_iter());
        has(&m, r#"keyhatch_agent_requests_total{agent="default",credential="openrouter"} 1"#);
        assert!(!m.render().contains("\"ci\""));
    }
}
