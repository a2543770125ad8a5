//! What can go wrong with a request, by the party at fault.

use std::time::Duration;

use crate::message::h1::HeadError;
use crate::policy::{Denial, DenialCode};
use crate::upstream::{DialError, DialErrorKind};

/// A failure that the proxy answers by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProxyError {
    pub(super) code: Code,
    /// For the agent: opaque, no secret, no address of ours.
    pub(super) message: String,
    /// For the operator's log; empty where the message says it all.
    pub(super) detail: String,
    /// When it is worth asking again, where that is known.
    pub(super) retry_after: Option<Duration>,
}

/// The codes of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    ProxyAuthRequired,
    EgressDenied,
    PortDenied,
    PrivateAddress,
    PathDenied,
    CredentialUnavailable,
    AmbiguousCredential,
    Misdirected,
    DnsError,
    ConnectError,
    ConnectTimeout,
    TlsError,
    UpstreamClosed,
    UpstreamProtocol,
    UpstreamTimeout,
    BadRequest,
    RequestTimeout,
    UriTooLong,
    HeaderTooLarge,
    MethodDenied,
    Overloaded,
}

impl Code {
    /// The word, the status, and the error type of RFC 9209 2.3.
    pub(super) fn parts(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::ProxyAuthRequired => ("proxy_auth_required", 407, "http_request_denied"),
            Self::EgressDenied => ("egress_denied", 403, "http_request_denied"),
            Self::PortDenied => ("port_denied", 403, "http_request_denied"),
            Self::PrivateAddress => ("private_address", 403, "destination_ip_prohibited"),
            Self::PathDenied => ("path_denied", 403, "http_request_denied"),
            Self::CredentialUnavailable => ("credential_unavailable", 503, "proxy_internal_error"),
            Self::AmbiguousCredential => ("ambiguous_credential", 403, "http_request_denied"),
            Self::Misdirected => ("misdirected", 421, "http_request_error"),
            Self::DnsError => ("dns_error", 502, "dns_error"),
            Self::ConnectError => ("connect_error", 502, "destination_unavailable"),
            Self::ConnectTimeout => ("connect_timeout", 504, "connection_timeout"),
            Self::TlsError => ("tls_error", 502, "tls_certificate_error"),
            Self::UpstreamClosed => ("upstream_closed", 502, "connection_terminated"),
            Self::UpstreamProtocol => ("upstream_closed", 502, "http_protocol_error"),
            Self::UpstreamTimeout => ("upstream_timeout", 504, "connection_read_timeout"),
            Self::BadRequest => ("bad_request", 400, "http_request_error"),
            Self::RequestTimeout => ("request_timeout", 408, "http_request_error"),
            Self::UriTooLong => ("uri_too_long", 414, "http_request_error"),
            Self::HeaderTooLarge => ("header_too_large", 431, "http_request_error"),
            Self::MethodDenied => ("method_denied", 405, "http_request_denied"),
            Self::Overloaded => ("overloaded", 503, "connection_limit_reached"),
        }
    }

    pub(super) fn word(self) -> &'static str {
        self.parts().0
    }

    pub(super) fn status(self) -> u16 {
        self.parts().1
    }

    /// Whether a rule refused, rather than something failed.
    pub(super) fn is_denial(self) -> bool {
        matches!(self.status(), 403 | 405 | 407 | 421 | 400 | 408 | 414 | 431)
    }
}

impl ProxyError {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: String::new(), retry_after: None }
    }

    pub(super) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

impl From<HeadError> for ProxyError {
    fn from(error: HeadError) -> Self {
        let code = match error {
            HeadError::Bad(_) => Code::BadRequest,
            HeadError::TargetTooLong => Code::UriTooLong,
            HeadError::TooLarge => Code::HeaderTooLarge,
        };
        Self::new(code, format!("the request is refused: {error}"))
    }
}

impl From<Denial> for ProxyError {
    fn from(denial: Denial) -> Self {
        let code = match denial.code {
            DenialCode::Egress => Code::EgressDenied,
            DenialCode::Port => Code::PortDenied,
            DenialCode::Path => Code::PathDenied,
            DenialCode::Method => Code::MethodDenied,
            DenialCode::Ambiguous => Code::AmbiguousCredential,
            DenialCode::Unavailable => Code::CredentialUnavailable,
        };
        let message = match (&denial.credential, code) {
            (Some(name), Code::CredentialUnavailable) => {
                format!("the credential `{name}` for this host cannot be used now ({}); the request was not sent", denial.reason)
            }
            _ => denial.reason,
        };
        Self::new(code, message)
    }
}

impl From<DialError> for ProxyError {
    /// The agent learns the kind; addresses and the resolver's words are the operator's.
    fn from(error: DialError) -> Self {
        let (code, message) = match error.kind {
            DialErrorKind::Dns => (Code::DnsError, "the host's name could not be resolved"),
            DialErrorKind::PrivateAddress => (Code::PrivateAddress, "the host's address is not a public one, and [egress] does not allow it"),
            DialErrorKind::Connect => (Code::ConnectError, "the host did not accept a connection"),
            DialErrorKind::ConnectTimeout => (Code::ConnectTimeout, "the host did not answer in time"),
            DialErrorKind::Tls => (Code::TlsError, "the host's TLS certificate was not accepted, or TLS with it failed"),
            DialErrorKind::NoDescriptor => (Code::Overloaded, "the proxy has too many connections open; try again soon"),
            DialErrorKind::TlsTimeout => (Code::UpstreamTimeout, "the host's TLS handshake took too long"),
        };
        Self::new(code, message).with_detail(error.detail)
    }
}
