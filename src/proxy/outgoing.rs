//! A request as it goes out: what is taken off, then what is put on.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, TE, UPGRADE};
use http::{HeaderMap, Method};

use super::forward::Injected;
use crate::credential::{DEFAULT_AUTH_HEADERS, explicit_name, placeholder_name};
use crate::message::h1::{Framing, RequestHead};
use crate::message::{hop_by_hop, scrub};
use crate::policy::{Candidates, Pick};

/// A request as it goes out.
pub(super) struct Outgoing {
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    /// It asks for a WebSocket.
    pub(super) upgrade: bool,
}

impl Outgoing {
    /// Takes off what is not to go on, then puts on what is: in this order, so that no `Connection` field of the
    /// agent's can take the credential off. `host` is the authority that is sent to, as a `Host` field has it.
    pub(super) fn prepare(head: &RequestHead, target: &str, host: &HeaderValue, injected: Option<&Injected>) -> Self {
        let mut headers = head.headers.clone();
        let stripped = hop_by_hop::strip_request(&mut headers);
        headers.remove(CONTENT_LENGTH);
        let mut target = target.to_owned();
        if let Some(Injected { rule, material, .. }) = injected {
            hop_by_hop::drop_agent_auth(&mut headers, &rule.auth_headers, material.name());
            if let Some(without) = hop_by_hop::strip_auth_query(&target, &rule.auth_query) {
                target = without;
            }
            if rule.has_rules() {
                hop_by_hop::drop_overrides(&mut headers);
            }
            if rule.scrub {
                scrub::narrow_request(&mut headers);
            }
        }
        hop_by_hop::drop_placeholders(&mut headers);
        headers.insert(HOST, host.clone());
        if stripped.te_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(CONNECTION, HeaderValue::from_static("TE"));
        }
        let upgrade = stripped.upgrade.filter(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket") && head.framing == Framing::None);
        let upgrading = upgrade.is_some() && head.method == Method::GET;
        if let Some(protocol) = upgrade.filter(|_| upgrading) {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, protocol);
        }
        if let Some(Injected { material, .. }) = injected {
            headers.insert(material.name().clone(), material.value().clone());
        }
        Self { target, headers, upgrade: upgrading }
    }
}

/// Whether a request looks as if it asked for a WebSocket. Its connection must be one that can become raw.
pub(super) fn asks_upgrade(head: &RequestHead) -> bool {
    head.method == Method::GET && head.framing == Framing::None && head.headers.contains_key(UPGRADE)
}

/// The credential that the agent names, in a field by which that origin is authenticated to. Where several name one, the
/// first by the order of [`DEFAULT_AUTH_HEADERS`], then of the rules' own, counts; an outright name before a placeholder.
pub(super) fn pick<'a>(headers: &'a HeaderMap, candidates: &Candidates) -> Option<Pick<'a>> {
    let own = || candidates.as_slice().iter().flat_map(|c| c.rule.auth_headers.iter().map(String::as_str));
    first_named(headers, |name| DEFAULT_AUTH_HEADERS.iter().copied().chain(own()).position(|listed| listed == name))
}

/// What the fields that have a rank name, the lowest rank first. One pass over them: they are few, and most have none.
fn first_named(headers: &HeaderMap, rank: impl Fn(&str) -> Option<usize>) -> Option<Pick<'_>> {
    let mut explicit: Option<(usize, &str)> = None;
    let mut placeholder: Option<(usize, &str)> = None;
    for (name, value) in headers {
        let Some(rank) = rank(name.as_str()) else { continue };
        let first = |best: Option<(usize, &str)>| best.is_none_or(|(before, _)| rank < before);
        if let Some(named) = explicit_name(value.as_bytes()).filter(|_| first(explicit)) {
            explicit = Some((rank, named));
        } else if let Some(named) = placeholder_name(value.as_bytes()).filter(|_| first(placeholder)) {
            placeholder = Some((rank, named));
        }
    }
    explicit.map(|(_, name)| Pick::Explicit(name)).or(placeholder.map(|(_, name)| Pick::Placeholder(name)))
}

/// The path of a request target, without the query.
pub(super) fn path_of(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_in_rank_that_names_a_credential_counts() {
        let named = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            lines.iter().for_each(|(name, value)| _ = headers.append(*name, HeaderValue::from_static(value)));
            let rank = |name: &str| ["authorization", "x-api-key"].iter().position(|listed| *listed == name);
            match first_named(&headers, rank) {
                Some(Pick::Explicit(name)) => format!("explicit {name}"),
                Some(Pick::Placeholder(name)) => format!("placeholder {name}"),
                None => "none".to_owned(),
            }
        };
        let (a, b) = ("Bearer sk-keyhatch-placeholder-a", "keyhatch-placeholder-b");
        assert_eq!(named(&[("accept", "keyhatch:x"), ("authorization", "Bearer own")]), "none");
        assert_eq!(named(&[("x-api-key", b), ("authorization", a)]), "placeholder a");
        assert_eq!(named(&[("x-api-key", b), ("authorization", "Bearer own")]), "placeholder b");
        assert_eq!(named(&[("authorization", a), ("x-api-key", "keyhatch:c")]), "explicit c");
        assert_eq!(named(&[("x-api-key", "keyhatch:c"), ("authorization", "Bearer keyhatch:d")]), "explicit d");
        assert_eq!(named(&[("authorization", a), ("authorization", "x keyhatch-placeholder-z")]), "placeholder a");
    }
}
