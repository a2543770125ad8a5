//! What is recorded of a request or a command: a value, never a secret.

use std::net::SocketAddr;
use std::time::Duration;

use smol_str::SmolStr;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It went on with a credential.
    Injected,
    /// Its bytes were passed unread.
    Tunnelled,
    /// It went on without a credential.
    Forwarded,
    /// It was refused by a rule.
    Denied,
    /// It could not be carried out.
    Failed,
}

impl Verdict {
    /// The word in the log and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Tunnelled => "tunnelled",
            Self::Forwarded => "forwarded",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// One record of the audit log, as the proxy or a command hands it over. The log adds `seq` and `mac`.
#[derive(Debug, Clone)]
pub enum AuditEvent {
    /// A request, a tunnel, or the opening of a long one.
    Request(Box<RequestRecord>),
    /// A change by a command or by `serve` itself.
    Change(Box<ChangeRecord>),
}

/// What is recorded of one request.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    /// When the record was made.
    pub at: jiff::Timestamp,
    /// The request's id, as the agent saw it in an error.
    pub id: RequestId,
    /// The agent, if it proved itself.
    pub agent: Option<SmolStr>,
    /// The method; `CONNECT` for a tunnel.
    pub method: SmolStr,
    /// The host, in normal form where it has one.
    pub host: SmolStr,
    /// The port; 0 where none was given.
    pub port: u16,
    /// The path, without the query; empty for a tunnel.
    pub path: SmolStr,
    /// The status that the agent saw; 0 where it saw none.
    pub status: u16,
    /// What became of it.
    pub verdict: Verdict,
    /// The credential's name, where one matched.
    pub credential: Option<SmolStr>,
    /// A code of the contract's list, `opened`, `ok`, or another short word.
    pub reason: SmolStr,
    /// The address connected to.
    pub upstream_addr: Option<SocketAddr>,
    /// Body bytes (tunnel: bytes) from the agent.
    pub bytes_up: u64,
    /// Body bytes (tunnel: bytes) to the agent.
    pub bytes_down: u64,
    /// From the request's head to the answer's head.
    pub ttfb: Option<Duration>,
    /// From the request's head to the end.
    pub duration: Duration,
    /// `HTTP/1.1`, `HTTP/2`, or empty.
    pub client_protocol: &'static str,
    /// Likewise towards the origin.
    pub upstream_protocol: &'static str,
}

/// What is recorded of a change.
#[derive(Debug, Clone)]
pub struct ChangeRecord {
    /// When it was made.
    pub at: jiff::Timestamp,
    /// `credential.add`, `agent.rotate`, `serve.start`, ...
    pub event: &'static str,
    /// The agent concerned.
    pub agent: Option<String>,
    /// The credential concerned.
    pub credential: Option<String>,
    /// More, in a few words; never a secret.
    pub detail: String,
}

/// The id of one request: 64 random bits, shown as 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
