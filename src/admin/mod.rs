//! What the operator's side of a running `serve` offers: `/healthz`, `/readyz` and `/metrics` over HTTP ([`http`]), and
//! `admin.sock` for commands of the same user ([`socket`], [`client`]).

pub mod client;
pub mod http;
pub mod protocol;
pub mod runs;
pub mod socket;

use std::time::Duration;

use crate::agent::AgentName;
use crate::session::{Claims, SessionKind};
pub use protocol::{ErrorCode, Info, OpError, Token};
pub use runs::RunSessions;

/// What `serve` does for commands that ask over `admin.sock`. The calls may block: they are made off the reactor, but for [`AdminOps::release`].
pub trait AdminOps: Send + Sync + 'static {
    /// The addresses, the CA and, for an agent, its placeholders.
    ///
    /// # Errors
    /// [`ErrorCode::NoSuchAgent`] where there is no agent of this name.
    fn info(&self, agent: Option<&AgentName>) -> Result<Info, OpError>;

    /// Makes a session token for an agent that lasts at most `ttl`.
    ///
    /// # Errors
    /// [`ErrorCode::NoSuchAgent`] where there is no agent of this name, [`ErrorCode::BadRequest`] where `ttl` is too long.
    fn mint(&self, agent: &AgentName, ttl: Duration, kind: SessionKind) -> Result<Minted, OpError>;

    /// What a token says, if it is good now: its MAC, its expiry, its agent's generation.
    ///
    /// # Errors
    /// [`ErrorCode::BadToken`] where it is not.
    fn claims(&self, token: &str) -> Result<Claims, OpError>;

    /// Reads the store and the configuration again; returns when they are in force.
    ///
    /// # Errors
    /// [`ErrorCode::Failed`] with the reason; all is then as it was.
    fn reload(&self) -> Result<(), OpError>;

    /// The command that held this session has ended: its tunnels are to be closed. Must not block.
    fn release(&self, session: u64);
}

/// A session token that was made.
pub struct Minted {
    /// The token.
    pub token: Token,
    /// [`Claims::expires`].
    pub expires: i64,
    /// [`Claims::id`].
    pub id: u64,
}
