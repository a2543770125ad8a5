//! Fields and parameters that a message must lose: a naive reader finds none of them afterwards, and all the others.

use http::header::{ACCEPT_ENCODING, CONNECTION};
use http::{HeaderMap, HeaderName, HeaderValue};
use keyhatch::message::hop_by_hop::{drop_agent_auth, drop_overrides, drop_placeholders, strip_auth_query, strip_request, strip_response};
use keyhatch::message::scrub::{Decoding, narrow_request};

use super::input::percent_decoded;

const AUTH: [&str; 3] = ["authorization", "x-api-key", "api_key"];
const AUTH_QUERY: [&str; 3] = ["key", "api_key", "access-token"];

/// The input: the first line is a request target, the others are fields.
pub fn run(data: &[u8]) {
    let mut lines = data.split(|b| *b == b'\n');
    if let Ok(target) = std::str::from_utf8(lines.next().unwrap_or_default()) {
        query(target);
    }
    let mut all = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(value)) {
            all.append(name, value);
        }
    }
    request(&all);
    response(&all);
    codings(&all);
}

/// In any spelling: case aside, with `_` as `-`.
fn spelled(name: &[u8]) -> Vec<u8> {
    name.iter().map(|b| if *b == b'_' { b'-' } else { b.to_ascii_lowercase() }).collect()
}

fn named(fields: &HeaderMap) -> Vec<Vec<u8>> {
    fields.get_all(CONNECTION).iter().flat_map(|v| v.as_bytes().split(|b| *b == b',')).map(|m| m.trim_ascii().to_ascii_lowercase()).collect()
}

const OF_A_CONNECTION: [&str; 6] = ["connection", "keep-alive", "te", "transfer-encoding", "upgrade", "http2-settings"];
/// How the message is framed and read, which no `Connection` takes off.
const KEPT: [&str; 7] = ["host", "content-length", "content-type", "content-encoding", "content-range", "trailer", "expect"];

/// Whether a field goes with its connection.
fn is_hop(name: &HeaderName, named: &[Vec<u8>]) -> bool {
    let is_named = named.iter().any(|n| n == name.as_str().as_bytes()) && !KEPT.contains(&name.as_str());
    is_named || OF_A_CONNECTION.contains(&name.as_str())
}

fn request(all: &HeaderMap) {
    let (named, mut left) = (named(all), all.clone());
    strip_request(&mut left);
    let goes = |name: &HeaderName| is_hop(name, &named) || spelled(name.as_str().as_bytes()).starts_with(b"proxy-");
    expect(all, &left, |name, _| !goes(name));

    let (before, own) = (left.clone(), HeaderName::from_static("x-goog-api-key"));
    drop_agent_auth(&mut left, &AUTH, &own);
    let is_auth = |name: &HeaderName| AUTH.iter().chain(&[own.as_str()]).any(|auth| spelled(auth.as_bytes()) == spelled(name.as_str().as_bytes()));
    expect(&before, &left, |name, _| !is_auth(name));

    let before = left.clone();
    drop_placeholders(&mut left);
    expect(&before, &left, |_, value| !String::from_utf8_lossy(value).to_lowercase().contains("keyhatch-placeholder"));

    let before = left.clone();
    drop_overrides(&mut left);
    let is_override = |name: &HeaderName| {
        let name = String::from_utf8_lossy(&spelled(name.as_str().as_bytes())).into_owned();
        let rest = |front: &str| name.strip_prefix(front).unwrap_or_default().to_owned();
        ["x-http-method-override", "x-method-override", "x-http-method"].contains(&name.as_str())
            || ["method", "url", "uri", "path"].contains(&rest("x-original-").as_str())
            || ["url", "uri"].contains(&rest("x-rewrite-").as_str())
    };
    expect(&before, &left, |name, _| !is_override(name));
}

fn response(all: &HeaderMap) {
    let (named, mut left) = (named(all), all.clone());
    strip_response(&mut left);
    let goes = |name: &HeaderName, value: &[u8]| {
        let name_spelled = spelled(name.as_str().as_bytes());
        let ours = || {
            let text = String::from_utf8_lossy(value).to_lowercase().replace(['"', '\\'], "");
            let name = |member: &str| member.split(';').next().unwrap_or_default().split_ascii_whitespace().collect::<String>();
            text.split(',').any(|member| name(member) == "keyhatch")
        };
        is_hop(name, &named)
            || name_spelled == b"alt-svc"
            || (name_spelled.starts_with(b"proxy-") && name_spelled != b"proxy-status")
            || (name_spelled == b"proxy-status" && ours())
    };
    expect(all, &left, |name, value| !goes(name, value));
}

/// Just those of `before` that are to stay are left, in order.
fn expect(before: &HeaderMap, left: &HeaderMap, stays: impl Fn(&HeaderName, &[u8]) -> bool) {
    for name in before.keys().chain(left.keys()) {
        let values = |map: &HeaderMap| map.get_all(name).iter().map(|v| v.as_bytes().to_vec()).collect::<Vec<_>>();
        let wanted = values(before).into_iter().filter(|value| stays(name, value)).collect::<Vec<_>>();
        assert_eq!(values(left), wanted, "{name} of {before:?}");
    }
}

/// Every parameter of a query, as origins split it, with its name as the most lenient of them reads it.
fn parameters(target: &str) -> Vec<(Vec<u8>, &str)> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let name = |parameter: &str| leniently(parameter.split('=').next().unwrap_or_default());
    query.split(['&', ';']).filter(|p| !p.is_empty()).map(|p| (name(p), p)).collect()
}

/// A name that was escaped up to three times over, maybe of an array, with white space round it and dots or spaces for `_` within.
fn leniently(name: &str) -> Vec<u8> {
    let spaced = name.replace('+', " ");
    let decoded = (0..3).fold(spaced.into_bytes(), |name, _| percent_decoded(&name));
    let mut name = decoded.trim_ascii().to_vec();
    let end = (1..name.len()).find(|at| name[*at] == b'[' || name[*at] == 0);
    name.truncate(end.unwrap_or(name.len()));
    let name = name.trim_ascii_end().iter().map(|b| if b". ".contains(b) { b'_' } else { *b });
    spelled(&name.collect::<Vec<_>>())
}

fn query(target: &str) {
    let stripped = strip_auth_query(target, &AUTH_QUERY);
    let listed = |name: &[u8]| AUTH_QUERY.iter().any(|a| spelled(a.as_bytes()) == name);
    let wanted = parameters(target).into_iter().filter(|(name, _)| !listed(name)).collect::<Vec<_>>();
    let left = stripped.as_deref().unwrap_or(target);
    assert_eq!(parameters(left), wanted, "{target:?} became {left:?}");
    assert_eq!(left.split('?').next(), target.split('?').next(), "the path stays");
    assert_eq!(stripped.is_some(), parameters(target).len() != wanted.len());
    assert_eq!(strip_auth_query(left, &AUTH_QUERY), None, "{left:?} holds one still");
}

/// An injected request asks for codings that the scrubber reads, and what it reads it takes for one.
fn codings(all: &HeaderMap) {
    let known = ["identity", "gzip", "x-gzip", "deflate", "br", "zstd"];
    let mut left = all.clone();
    narrow_request(&mut left);
    assert_eq!(left.get_all(ACCEPT_ENCODING).iter().count(), all.get_all(ACCEPT_ENCODING).iter().count());
    for member in left.get_all(ACCEPT_ENCODING).iter().flat_map(|v| v.as_bytes().split(|b| *b == b',')) {
        let member = String::from_utf8_lossy(member).to_lowercase();
        let (coding, parameters) = member.split_once(';').unwrap_or((&member, ""));
        let refused = || parameters.split(';').any(|p| p.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0)));
        let coding = coding.trim();
        assert!(coding.is_empty() || known.contains(&coding) || (coding == "*" && refused()), "{member:?} may be sent");
    }
    assert!(!left.contains_key("available-dictionary") && !left.contains_key("a-im"));
    for value in all.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()) {
        let names: Vec<String> =
            value.split(',').map(|n| n.trim_matches([' ', '\t']).to_lowercase()).filter(|n| !n.is_empty() && n != "identity").collect();
        let readable = names.iter().all(|n| known.contains(&n.as_str())) && names.len() <= 3;
        assert_eq!(Decoding::for_content_encoding(value).map(|d| d.is_some()).ok(), readable.then_some(!names.is_empty()), "{value:?}");
    }
}
