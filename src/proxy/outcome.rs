//! How far an exchange came, and how it ended.

use std::time::Duration;

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
    /// Both messages are whole.
    Whole { upstream_again: bool, agent_again: bool },
    /// The origin switched protocols: what follows is raw.
    Upgraded,
}

/// How an exchange failed.
#[derive(Debug)]
pub(super) enum Fail {
    /// The agent closed its connection, or sent a body that cannot be followed.
    Agent(&'static str),
    /// The origin closed before any of its answer came.
    UpstreamClosed(String),
    /// The origin's answer breaks HTTP, or was cut short.
    Upstream(String),
    /// Nothing came for too long.
    Idle,
    /// The response was ended by the scrubber.
    Scrubbed(&'static str),
}
