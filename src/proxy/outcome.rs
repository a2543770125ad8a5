//! How far an exchange came, and how it ended.

use std::time::Duration;

use crate::message::scrub::ScrubError;

/// What is known of an exchange at any moment.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Progress {
    /// The status that was passed on; 0 before.
    pub(super) status: u16,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
    pub(super) ttfb: Option<Duration>,
}

/// How an exchange ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The answer is whole.
    Answered {
        /// So is the request.
        whole: bool,
    },
    /// The origin switched protocols: what follows is raw.
    Upgraded,
}

/// How an exchange failed.
#[derive(Debug)]
pub(super) enum Fail {
    /// The agent closed its connection, or reset its stream.
    Agent,
    /// The agent's content cannot be followed.
    Malformed,
    /// The origin closed before any of its answer came.
    UpstreamClosed(String),
    /// The origin says that it has not looked at the request (RFC 9113 8.7).
    NotProcessed(String),
    /// The origin wants the request over HTTP/1.1 (RFC 9113 7, HTTP_1_1_REQUIRED).
    Http1Required(String),
    /// The origin's answer breaks HTTP, or was cut short.
    Upstream {
        /// What happened, for the operator.
        why: String,
        /// The code that the origin reset its stream with.
        reset: Option<h2::Reason>,
    },
    /// Nothing came for too long.
    Idle,
    /// The response was ended by the scrubber.
    Scrubbed(ScrubError),
}

impl Fail {
    /// The origin is at fault.
    pub(super) fn upstream(why: impl Into<String>) -> Self {
        Self::Upstream { why: why.into(), reset: None }
    }
}

impl From<ScrubError> for Fail {
    fn from(error: ScrubError) -> Self {
        Self::Scrubbed(error)
    }
}
