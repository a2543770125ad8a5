//! Fields that a message loses on its way: those of one connection (RFC 9110 7.6.1), those meant for a proxy, and on
//! injected requests those by which the agent could authenticate in the credential's stead.
//!
//! All of it comes before the credential goes on, so that no `Connection` field can take it off; and no `Connection`
//! field can take off what says how the message is to be read.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::credential::contains_marker;

/// The name that this proxy has in `Proxy-Status` (RFC 9209).
const OURS: &str = "keyhatch";

/// Fields that `Connection` cannot name, since framing, routing or the scrubber goes by them.
const KEPT: [HeaderName; 7] =
    [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_RANGE, header::TRAILER, header::EXPECT];

/// Fields that make some origins serve another method or path than the request line has.
const OVERRIDES: [&str; 9] = [
    "x-http-method-override",
    "x-method-override",
    "x-http-method",
    "x-original-method",
    "x-original-url",
    "x-original-uri",
    "x-original-path",
    "x-rewrite-url",
    "x-rewrite-uri",
];

/// So often an origin may decode a name.
const MOST_DECODINGS: usize = 3;

/// What the fields of one connection said before they were taken off.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hop {
    /// `TE` named `trailers`, so that it is to be made anew.
    pub te_trailers: bool,
    /// The value of `Upgrade` (RFC 9110 7.8), where `Connection` named it too.
    pub upgrade: Option<HeaderValue>,
    /// `Connection` said `close`.
    pub close: bool,
}

/// Takes the fields of one connection and all `Proxy-*` fields off a request, or off its trailers.
pub fn strip_request(fields: &mut HeaderMap) -> Hop {
    strip_connection(fields, is_proxy)
}

/// Takes the fields of one connection off a response or its trailers, also `Alt-Svc` (it would lead round the proxy),
/// `Proxy-*` fields but `Proxy-Status`, and a `Proxy-Status` that speaks in this proxy's name.
pub fn strip_response(fields: &mut HeaderMap) -> Hop {
    let is_status = |name: &HeaderName| same(name.as_str(), "proxy-status");
    let hop = strip_connection(fields, |name| same(name.as_str(), "alt-svc") || (is_proxy(name) && !is_status(name)));
    let status: Vec<HeaderName> = fields.keys().filter(|name| is_status(name)).cloned().collect();
    for name in status {
        retain_values(fields, &name, |value| !is_ours(value.as_bytes()));
    }
    hop
}

/// Takes off the fields of one connection, those that `Connection` names, and those that `also` is true for. One pass over
/// the names decides: of most messages nothing goes, and nothing more is done for them.
fn strip_connection(fields: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) -> Hop {
    let mut doomed: Vec<HeaderName> = fields.keys().filter(|name| is_of_connection(name) || also(name)).cloned().collect();
    if doomed.is_empty() {
        return Hop::default();
    }
    let names = |option: &str| members(fields, &header::CONNECTION).any(|member| member.eq_ignore_ascii_case(option.as_bytes()));
    let is_trailers = |member: &[u8]| coding(member).eq_ignore_ascii_case(b"trailers");
    let te_trailers = members(fields, &header::TE).any(is_trailers);
    let hop = Hop { te_trailers, upgrade: if names("upgrade") { upgrade(fields) } else { None }, close: names("close") };
    // A field that is in the list of `is_of_connection` needs no naming.
    let named = members(fields, &header::CONNECTION).filter(|member| !member.eq_ignore_ascii_case(b"keep-alive"));
    doomed.extend(named.filter_map(|member| HeaderName::from_bytes(member).ok()).filter(|name| !KEPT.contains(name)));
    for name in doomed {
        fields.remove(name);
    }
    hop
}

/// Whether a field is of one connection only. `Trailer` stays: it tells of fields that pass.
fn is_of_connection(name: &HeaderName) -> bool {
    matches!(name.as_str(), "connection" | "keep-alive" | "te" | "transfer-encoding" | "upgrade" | "http2-settings")
}

/// The value of `Upgrade`, all its lines as one.
fn upgrade(fields: &HeaderMap) -> Option<HeaderValue> {
    let value = fields.get_all(header::UPGRADE).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
    if value.is_empty() { None } else { HeaderValue::from_bytes(&value).ok() }
}

/// The members of a comma-separated field.
fn members<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    fields.get_all(name).iter().flat_map(|value| value.as_bytes().split(|&b| b == b',')).map(<[u8]>::trim_ascii)
}

/// A member of `TE` without its parameters.
fn coding(member: &[u8]) -> &[u8] {
    member.split(|&b| b == b';').next().unwrap_or_default().trim_ascii()
}

/// Whether any member of a `Proxy-Status` value has this proxy's name, as a token or a string, in any case. Every
/// member is looked at, since the first one of a later line is not the first one of the field.
fn is_ours(value: &[u8]) -> bool {
    let name = |member: &[u8]| {
        let name = member.split(|&b| b == b';').next().unwrap_or_default();
        let plain: Vec<u8> = name.iter().copied().filter(|b| !b.is_ascii_whitespace() && !matches!(b, b'"' | b'\\')).collect();
        plain.eq_ignore_ascii_case(OURS.as_bytes())
    };
    value.split(|&b| b == b',').any(name)
}

/// Drops the agent's own values of every field by which the origin can be authenticated to: `auth_headers`, and the
/// `field` that the credential goes into. Names are compared in any spelling, also with `_` for `-`. For trailers, too.
pub fn drop_agent_auth(fields: &mut HeaderMap, auth_headers: &[impl AsRef<str>], field: &HeaderName) {
    remove(fields, |name| {
        let name = name.as_str();
        same(name, field.as_str()) || auth_headers.iter().any(|auth| same(name, auth.as_ref()))
    });
}

/// Drops values that hold a placeholder; other values of the same field stay, in order. For trailers, too.
pub fn drop_placeholders(fields: &mut HeaderMap) {
    let held = |value: &HeaderValue| contains_marker(value.as_bytes());
    let names: Vec<HeaderName> = fields.iter().filter(|(_, value)| held(value)).map(|(name, _)| name.clone()).collect();
    for name in names {
        retain_values(fields, &name, |value| !held(value));
    }
}

/// Drops the fields that frame or route a message, which no trailer may be (RFC 9110 6.5.1).
pub fn drop_framing(trailers: &mut HeaderMap) {
    for name in [header::HOST, header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_TYPE, header::CONTENT_RANGE, header::TRAILER] {
        trailers.remove(name);
    }
}

/// Drops the fields that would make an origin serve another method or path than the rules were asked about.
/// Called for credentials with rules.
pub fn drop_overrides(fields: &mut HeaderMap) {
    remove(fields, |name| OVERRIDES.iter().any(|listed| same(name.as_str(), listed)));
}

/// Takes query parameters off a request target whose name, as origins read names, is in `names`, with one separator each; all other
/// bytes stay. `None` where there is none. `;` separates as well as `&`, as some origins have it.
#[must_use]
pub fn strip_auth_query(target: &str, names: &[impl AsRef<str>]) -> Option<String> {
    let (path, query) = target.split_once('?')?;
    let listed = |parameter: &str| {
        let name = parameter_name(parameter.split('=').next().unwrap_or_default());
        names.iter().any(|listed| same(&name, listed.as_ref()))
    };
    let mut kept = String::with_capacity(query.len());
    let mut dropped = false;
    let mut first = true;
    for piece in query.split_inclusive(['&', ';']) {
        // Each piece but the last ends with its separator; the separator kept is the one before a parameter.
        let parameter = piece.trim_end_matches(['&', ';']);
        if listed(parameter) {
            dropped = true;
            if !piece.ends_with(['&', ';']) && !first {
                kept.pop();
            }
        } else {
            kept.push_str(piece);
            first = false;
        }
    }
    let mark = if kept.is_empty() { "" } else { "?" };
    dropped.then(|| format!("{path}{mark}{kept}"))
}

/// A query parameter's name as the most lenient origin reads it: decoded (RFC 3986 2.1), also twice; white space round it does not count,
/// nor what follows a NUL or the bracket of an array, and a dot or a space within is a `_` (PHP).
fn parameter_name(text: &str) -> Vec<u8> {
    let mut name = text.replace('+', " ").into_bytes();
    for _ in 0..MOST_DECODINGS {
        if !name.contains(&b'%') {
            break;
        }
        name = percent_decoded(&name);
    }
    let name = name.trim_ascii();
    // A bracket at the beginning belongs to the name.
    let end = name.iter().skip(1).position(|&b| matches!(b, b'[' | 0)).map_or(name.len(), |at| at + 1);
    name[..end].trim_ascii_end().iter().map(|&b| if matches!(b, b'.' | b' ') { b'_' } else { b }).collect()
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|&b| char::from(b).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// Whether two names are the same in any spelling: case aside, with `_` as `-`.
fn same(one: impl AsRef<[u8]>, other: impl AsRef<[u8]>) -> bool {
    let spelled = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    let (one, other) = (one.as_ref(), other.as_ref());
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| spelled(*a) == spelled(*b))
}

fn is_proxy(name: &HeaderName) -> bool {
    // A `HeaderName` is in lower case.
    let name = name.as_str().as_bytes();
    name.starts_with(b"proxy") && matches!(name.get(5), Some(b'-' | b'_'))
}

fn remove(fields: &mut HeaderMap, which: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = fields.keys().filter(|name| which(name)).cloned().collect();
    for name in names {
        fields.remove(name);
    }
}

fn retain_values(fields: &mut HeaderMap, name: &HeaderName, keep: impl Fn(&HeaderValue) -> bool) {
    let kept: Vec<HeaderValue> = fields.get_all(name).iter().filter(|value| keep(value)).cloned().collect();
    fields.remove(name);
    for value in kept {
        fields.append(name.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Name: value` lines as a map, and back.
    fn fields(lines: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a field");
            map.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        map
    }

    fn lines(map: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> = map.iter().map(|(n, v)| format!("{n}: {}", String::from_utf8_lossy(v.as_bytes()))).collect();
        lines.sort_by(|a, b| a.split(':').next().cmp(&b.split(':').next()));
        lines
    }

    #[test]
    fn requests_lose_the_fields_of_one_connection() {
        let table: [(&[&str], &[&str]); 9] = [
            (&["Connection: close, X-Foo", "x-foo: 1", "X-Bar: 2"], &["x-bar: 2"]),
            (&["Connection: a", "Connection:  B ,c", "a: 1", "b: 2", "c: 3", "d: 4"], &["d: 4"]),
            (&["Keep-Alive: timeout=5", "TE: gzip", "Transfer-Encoding: chunked", "Upgrade: h2c", "HTTP2-Settings: AA"], &[]),
            (&["Proxy-Connection: keep-alive", "Proxy-Authorization: Basic x", "Proxy_Authorization: x", "Proxy-Status: x", "proxy-x: y"], &[]),
            (&["Proxy: http://x", "Proximity: 1"], &["proximity: 1", "proxy: http://x"]),
            (&["Connection: authorization, cookie", "Authorization: Bearer own", "Cookie: a=b"], &[]),
            (
                &["Connection: host, content-length, Content-Type, content-encoding, trailer", "Host: a", "Content-Length: 3", "Content-Type: x"],
                &["content-length: 3", "content-type: x", "host: a"],
            ),
            (&["Connection: b\u{e4}d, , \"x\"", "x: 1"], &["x: 1"]),
            (&["Trailer: X-Sum", "TE: trailers"], &["trailer: X-Sum"]),
        ];
        for (given, expected) in table {
            let mut map = fields(given);
            strip_request(&mut map);
            assert_eq!(lines(&map), expected, "{given:?}");
        }
    }

    #[test]
    fn what_the_connection_said_is_reported() {
        let hop = |given: &[&str]| strip_request(&mut fields(given));
        let upgrade = |value: &'static str| Some(HeaderValue::from_static(value));
        assert_eq!(hop(&["TE: gzip;q=0.5, Trailers ;q=1"]), Hop { te_trailers: true, ..Hop::default() });
        assert_eq!(hop(&["TE: gzip", "TE: x-trailers"]), Hop::default());
        assert_eq!(hop(&["Connection: Upgrade", "Upgrade: websocket"]), Hop { upgrade: upgrade("websocket"), ..Hop::default() });
        let both = hop(&["Connection: close, upgrade", "Upgrade: a", "Upgrade: b"]);
        assert_eq!(both, Hop { upgrade: upgrade("a, b"), close: true, te_trailers: false });
        assert_eq!(hop(&["Upgrade: websocket"]), Hop::default());
    }

    #[test]
    fn responses_lose_also_what_leads_round_the_proxy_or_speaks_for_it() {
        let table: [(&[&str], &[&str]); 7] = [
            (&["Alt-Svc: h3=\":443\"", "alt_svc: x", "Connection: x", "X: 1", "Set-Cookie: a"], &["set-cookie: a"]),
            (&["Proxy-Authenticate: Basic", "Proxy-Connection: x", "Proxy-Authentication-Info: x"], &[]),
            (&["Proxy-Status: keyhatch; error=dns_error"], &[]),
            (&["Proxy-Status:  \"KeyHatch\" ;error=x", "Proxy_Status: KEYHATCH", "Proxy-Status: keyhatch"], &[]),
            (&["Proxy-Status: cdn; error=x", "Proxy-Status: cdn, keyhatch"], &["proxy-status: cdn; error=x"]),
            (&["Proxy-Status: keyhatched; x=keyhatch"], &["proxy-status: keyhatched; x=keyhatch"]),
            (&["Connection: content-encoding, content-length, vary", "Content-Encoding: gzip", "Vary: x"], &["content-encoding: gzip"]),
        ];
        for (given, expected) in table {
            let mut map = fields(given);
            strip_response(&mut map);
            assert_eq!(lines(&map), expected, "{given:?}");
        }
    }

    #[test]
    fn the_agents_own_authentication_goes_in_any_spelling() {
        let mut map =
            fields(&["AUTHORIZATION: a", "Authorization: b", "X_Api-Key: c", "x-api-key: d", "x_key: e", "X-Key: f", "x-api-keys: g", "cookie: h"]);
        drop_agent_auth(&mut map, &["Authorization", "X-Api_Key"], &HeaderName::from_static("x-key"));
        assert_eq!(lines(&map), ["cookie: h", "x-api-keys: g"]);
    }

    #[test]
    fn placeholders_go_and_their_neighbours_stay() {
        let mut map = fields(&["x: 1", "x: sk-KEYHATCH-placeholder-a", "x: 2", "cookie: k=keyhatch-placeholder", "y: keyhatch"]);
        drop_placeholders(&mut map);
        assert_eq!(lines(&map), ["x: 1", "x: 2", "y: keyhatch"]);
    }

    #[test]
    fn overrides_go_in_any_spelling() {
        let mut map = fields(&[
            "X-HTTP-Method-Override: DELETE",
            "x_method_override: a",
            "X-HTTP_Method: a",
            "X-Original-URL: /",
            "X-Rewrite-Url: /",
            "X-Original-Url-2: /",
            "X-Forwarded-For: a",
        ]);
        drop_overrides(&mut map);
        assert_eq!(lines(&map), ["x-forwarded-for: a", "x-original-url-2: /"]);
    }

    #[test]
    fn query_parameters() {
        let names = ["key", "api_key"];
        let table = [
            ("/p", None),
            ("/p?", None),
            ("/p?a=1&b=%6bey", None),
            ("/p?keys=1&xkey=2&a=key", None),
            ("/p?key=1", Some("/p")),
            ("/p?key", Some("/p")),
            ("/p?key=1&a=2", Some("/p?a=2")),
            ("/p?a=2&key=1", Some("/p?a=2")),
            ("/p?a=%2f&KEY=1&b=+&&c", Some("/p?a=%2f&b=+&&c")),
            ("/p?%6b%45y=1&a", Some("/p?a")),
            ("/p?api-key=1&API_KEY=2&api%5Fkey=3&a", Some("/p?a")),
            ("/p?a=1;key=2", Some("/p?a=1")),
            ("/p?key=2;a=1?key=3", Some("/p?a=1?key=3")),
            ("/p?&key=1", Some("/p")),
            ("/p?key[]=1&key%5B0%5D=2&key%00x=3&+key+=4&%256bey=5&a", Some("/p?a")),
            ("/p?api.key=1&api%20key=2&api+key=3&b", Some("/p?b")),
            ("/p?[key]=1&monkey=2&key-x=3&a[key]=4", None),
            ("/p?a&key=1&key=2", Some("/p?a")),
            ("https://h/p?key=1#f", Some("https://h/p")),
            ("/p%zz?ke%79=%zz&%zz", Some("/p%zz?%zz")),
        ];
        for (target, expected) in table {
            assert_eq!(strip_auth_query(target, &names).as_deref(), expected, "{target}");
        }
    }
}
