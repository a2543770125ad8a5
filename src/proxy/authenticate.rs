//! Who is there: `Proxy-Authorization` (RFC 9110 11.7.2), Basic or Bearer.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::PROXY_AUTHORIZATION;
use zeroize::Zeroizing;

use super::live::Live;
use crate::clock;
use crate::policy::AgentView;
use crate::session::{self, SessionKind};

/// Padding or not: clients differ.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// The agent that a head's `Proxy-Authorization` proves, if it proves one. With `auth = "off"` a request
/// without one is agent `default`'s.
pub(super) fn authenticate(live: &Live, headers: &HeaderMap, held: &dyn Fn(u64) -> bool) -> Option<Arc<AgentView>> {
    let mut values = headers.get_all(PROXY_AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return if live.settings.auth_required { None } else { live.snapshot.agent("default").cloned() };
    };
    if values.next().is_some() {
        return None;
    }
    let (scheme, rest) = split(value.as_bytes())?;
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return by_token(live, None, rest, held);
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = Zeroizing::new(BASE64.decode(rest).ok()?);
    let colon = memchr::memchr(b':', &pair)?;
    let name = std::str::from_utf8(&pair[..colon]).ok()?;
    by_token(live, Some(name), &pair[colon + 1..], held)
}

fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memchr(b' ', value)?;
    Some((&value[..space], value[space + 1..].trim_ascii()))
}

/// An agent's own token, or a session token that is in force. A name, where one is given, must be its.
fn by_token(live: &Live, name: Option<&str>, token: &[u8], held: &dyn Fn(u64) -> bool) -> Option<Arc<AgentView>> {
    let view = match live.snapshot.agent_by_token(token) {
        Some(view) => Arc::clone(view),
        None => by_session(live, token, held)?,
    };
    (name.is_none_or(|n| n == view.name.as_str())).then_some(view)
}

fn by_session(live: &Live, token: &[u8], held: &dyn Fn(u64) -> bool) -> Option<Arc<AgentView>> {
    let token = std::str::from_utf8(token).ok()?;
    let claims = session::verify(&live.session_key, token, clock::unix_seconds()).ok()?;
    let view = live.snapshot.agent(claims.agent.as_str())?;
    let alive = view.generation == claims.generation && (claims.kind != SessionKind::Run || held(claims.id));
    alive.then(|| Arc::clone(view))
}
