//! Keeps the books on one request: the audit record and the metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::Method;
use smol_str::SmolStr;

use super::error::ProxyError;
use super::live::Proxy;
use super::outcome::Progress;
use super::side::HTTP1;
use crate::audit::{AuditEvent, RequestId, RequestRecord, Verdict};
use crate::clock;
use crate::credential::CredentialName;
use crate::host::Authority;

/// The longest string of the agent's that is recorded.
const MAX_STRING: usize = 1024;

/// What is recorded of a request once it has ended.
pub(super) struct Record {
    proxy: Arc<Proxy>,
    record: RequestRecord,
    /// The answer carried the secret.
    scrubbed: bool,
    pub(super) started: Instant,
}

impl Record {
    /// Begins the record of a request.
    pub(super) fn new(proxy: &Arc<Proxy>, method: &Method, host: &str, port: u16, path: &str) -> Self {
        let record = RequestRecord {
            at: clock::now(),
            id: RequestId(crate::random::id()),
            agent: None,
            method: cut(method.as_str()),
            host: cut(host),
            port,
            path: cut(path),
            status: 0,
            verdict: Verdict::Failed,
            credential: None,
            reason: SmolStr::default(),
            upstream_addr: None,
            bytes_up: 0,
            bytes_down: 0,
            ttfb: None,
            duration: std::time::Duration::ZERO,
            client_protocol: HTTP1,
            upstream_protocol: "",
        };
        Self { proxy: Arc::clone(proxy), record, scrubbed: false, started: Instant::now() }
    }

    /// Begins the record of a request to a known authority.
    pub(super) fn to(proxy: &Arc<Proxy>, method: &Method, authority: &Authority, path: &str) -> Self {
        Self::new(proxy, method, &bare_host(authority), authority.port, path)
    }

    pub(super) fn id(&self) -> RequestId {
        self.record.id
    }

    pub(super) fn agent(&mut self, name: &str) -> &mut Self {
        self.record.agent = Some(SmolStr::new(name));
        self
    }

    pub(super) fn credential(&mut self, name: &CredentialName) -> &mut Self {
        self.record.credential = Some(SmolStr::new(name.as_str()));
        self
    }

    pub(super) fn upstream(&mut self, address: SocketAddr, protocol: &'static str) -> &mut Self {
        self.record.upstream_addr = Some(address);
        self.record.upstream_protocol = protocol;
        self
    }

    pub(super) fn protocol(&mut self, client: &'static str) -> &mut Self {
        self.record.client_protocol = client;
        self
    }

    /// The answer carried the secret: that is the reason recorded, however the request ends.
    pub(super) fn scrubbed(&mut self) {
        self.scrubbed = true;
    }

    /// A record at the opening of a tunnel or a long request.
    pub(super) fn opened(&self, verdict: Verdict, progress: &Progress) {
        let mut record = self.record.clone();
        fill(&mut record, progress);
        record.verdict = verdict;
        record.reason = SmolStr::new_static("opened");
        record.duration = self.started.elapsed();
        record.at = clock::now();
        self.proxy.audit.record(AuditEvent::Request(Box::new(record)));
    }

    /// The end of a request that went on.
    pub(super) fn done(mut self, verdict: Verdict, reason: &str, progress: &Progress) {
        fill(&mut self.record, progress);
        self.finish(verdict, SmolStr::new(reason));
    }

    /// The end of a request that was refused or failed; what had passed is in `progress`.
    pub(super) fn failed(self, error: &ProxyError, progress: &Progress) {
        self.failed_by(error, error.code.word(), progress);
    }

    /// The same with a reason that says more than the code.
    pub(super) fn failed_by(mut self, error: &ProxyError, reason: &'static str, progress: &Progress) {
        fill(&mut self.record, progress);
        if self.record.status == 0 {
            self.record.status = error.code.status();
        }
        let verdict = if error.code.is_denial() { Verdict::Denied } else { Verdict::Failed };
        let agent = self.record.agent.as_deref().unwrap_or("-");
        if self.proxy.refusals.is_told() {
            tracing::info!(id = %self.record.id, agent, host = self.record.host.as_str(), port = self.record.port, code = error.code.word(), "{}",
                if error.detail.is_empty() { &error.message } else { &error.detail });
        }
        self.finish(verdict, SmolStr::new_static(reason));
    }

    fn finish(self, verdict: Verdict, reason: SmolStr) {
        let Self { proxy, mut record, scrubbed, started } = self;
        record.verdict = verdict;
        record.reason = if scrubbed { SmolStr::new_static("scrubbed") } else { reason };
        record.duration = started.elapsed();
        record.at = clock::now();
        proxy.metrics.request(verdict, record.status);
        if let Some(agent) = &record.agent {
            proxy.metrics.request_of(agent, record.credential.as_deref());
        }
        if let Some(ttfb) = record.ttfb {
            proxy.metrics.ttfb(ttfb);
        }
        proxy.audit.record(AuditEvent::Request(Box::new(record)));
    }
}

fn fill(record: &mut RequestRecord, progress: &Progress) {
    record.status = progress.status;
    record.bytes_up = progress.bytes_up;
    record.bytes_down = progress.bytes_down;
    record.ttfb = progress.ttfb;
}

/// The host without brackets, as the log has it.
fn bare_host(authority: &Authority) -> SmolStr {
    match authority.host.ip() {
        Some(ip) => smol_str::format_smolstr!("{ip}"),
        None => SmolStr::new(authority.host.dns().unwrap_or_default()),
    }
}

fn cut(text: &str) -> SmolStr {
    SmolStr::new(&text[..text.floor_char_boundary(MAX_STRING)])
}
