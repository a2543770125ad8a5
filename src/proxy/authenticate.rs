//! Who is there: `Proxy-Authorization` (RFC 9110 11.7.2), Basic or Bearer.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::PROXY_AUTHORIZATION;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::live::{Live, Proxy};
use crate::clock;
use crate::policy::AgentView;
use crate::session::{self, SessionKind};

/// Padding or not: clients differ.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// So often an open connection of a `run` is asked whether its command still runs.
const LOOK: Duration = Duration::from_millis(500);
/// Nobody sleeps for longer before looking at the clock again, which may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// An agent that has proved itself, and how long that holds. Whether the agent is still there is the snapshot's to say.
#[derive(Clone)]
pub(super) struct Proof {
    pub(super) agent: Arc<AgentView>,
    session: Option<Session>,
}

/// What of a session token outlives the moment at which it was shown.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Session {
    id: u64,
    expires: i64,
    kind: SessionKind,
}

impl Proof {
    /// Whether both hold for as long, and are of the same agent.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.agent.name == other.agent.name && self.agent.generation == other.agent.generation && self.session == other.session
    }

    /// Whether the session, if it was one, goes on.
    pub(super) fn holds(&self, proxy: &Proxy) -> bool {
        self.session.is_none_or(|s| clock::unix_seconds() < s.expires && (s.kind != SessionKind::Run || (proxy.held)(s.id)))
    }

    /// Completes when what was let pass is to end: after a change by which `still` says so, or with the session.
    pub(super) async fn revoked(&self, proxy: &Proxy, mut changes: watch::Receiver<u64>, still: impl Fn() -> bool) {
        let changed = async { while still() && changes.changed().await.is_ok() {} };
        tokio::select! {
            () = changed => {}
            () = self.ended(proxy) => {}
        }
    }

    /// Completes when the session ends: never, for an agent's own token.
    pub(super) async fn ended(&self, proxy: &Proxy) {
        let Some(session) = self.session else { return std::future::pending().await };
        while self.holds(proxy) {
            let left = u64::try_from(session.expires - clock::unix_seconds()).unwrap_or(0).max(1);
            let longest = if session.kind == SessionKind::Run { LOOK } else { LONGEST_SLEEP };
            tokio::time::sleep(Duration::from_secs(left).min(longest)).await;
        }
    }
}

/// The agent that a head's `Proxy-Authorization` proves, if it proves one. With `auth = "off"` a request
/// without one is agent `default`'s.
pub(super) fn authenticate(live: &Live, headers: &HeaderMap, proxy: &Proxy) -> Option<Proof> {
    let mut values = headers.get_all(PROXY_AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        let agent = if live.settings.auth_required { None } else { live.snapshot.agent("default").cloned() };
        return agent.map(|agent| Proof { agent, session: None });
    };
    if values.next().is_some() {
        return None;
    }
    let shown = shown(value.as_bytes())?;
    by_token(live, shown.name.as_deref(), &shown.token, proxy)
}

/// What a `Proxy-Authorization` value shows. Nothing of it is proved yet.
pub struct Shown {
    /// The name, of Basic.
    pub name: Option<String>,
    /// The token.
    pub token: Zeroizing<Vec<u8>>,
}

/// Reads a value of `Proxy-Authorization`; `None` where it is neither Basic nor Bearer, or malformed.
#[must_use]
pub fn shown(value: &[u8]) -> Option<Shown> {
    let (scheme, rest) = split(value)?;
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(Shown { name: None, token: Zeroizing::new(rest.to_vec()) });
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = Zeroizing::new(BASE64.decode(rest).ok()?);
    let colon = memchr::memchr(b':', &pair)?;
    let name = std::str::from_utf8(&pair[..colon]).ok()?.to_owned();
    Some(Shown { name: Some(name), token: Zeroizing::new(pair[colon + 1..].to_vec()) })
}

fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memchr(b' ', value)?;
    Some((&value[..space], value[space + 1..].trim_ascii()))
}

/// An agent's own token, or a session token that is in force. A name, where one is given, must be its.
fn by_token(live: &Live, name: Option<&str>, token: &[u8], proxy: &Proxy) -> Option<Proof> {
    let proof = match live.snapshot.agent_by_token(token) {
        Some(view) => Proof { agent: Arc::clone(view), session: None },
        None => by_session(live, token, proxy)?,
    };
    (name.is_none_or(|n| n == proof.agent.name.as_str())).then_some(proof)
}

fn by_session(live: &Live, token: &[u8], proxy: &Proxy) -> Option<Proof> {
    let token = std::str::from_utf8(token).ok()?;
    let claims = session::verify(&live.session_key, token, clock::unix_seconds()).ok()?;
    let view = live.snapshot.agent(claims.agent.as_str())?;
    let session = Session { id: claims.id, expires: claims.expires, kind: claims.kind };
    let proof = Proof { agent: Arc::clone(view), session: Some(session) };
    (view.generation == claims.generation && proof.holds(proxy)).then_some(proof)
}
