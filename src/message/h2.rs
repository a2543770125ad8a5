//! HTTP/2 heads as the same values as HTTP/1's (RFC 9113 8.3), without IO: so that one code decides on both.
//!
//! A WebSocket by extended CONNECT (RFC 8441) is taken as what it stands for, a `GET` with `Upgrade: websocket`, and
//! the answer that accepts one as a 101; the sides that speak HTTP/2 turn both into its own form.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};

use super::h1::{Framing, HeadError, MAX_FIELDS, RequestHead, ResponseHead, Target, content_length};

mod frames;

pub use frames::{Frames, Refused};

/// The window of a connection, on either side: as much as the protocol allows (RFC 9113 6.9.1), so that each stream is held back by
/// its own window and never by its neighbours'.
pub const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// How many bytes of one message are handed over before the other side has made room for them.
pub const SEND_BUFFER: usize = 256 * 1024;
/// Streams that were broken off, for which frames may still come, and how long they may. h2 counts frames of a stream that it has
/// forgotten as faults, and ends the connection after many.
pub const BROKEN_OFF: (usize, Duration) = (256, Duration::from_secs(10));

/// Streams of a connection that may be reset because the peer broke the rules, provoked resets among them (CVE-2025-8671), or was
/// refused for want of room; more end the connection.
pub const FAULTS: usize = 256;
/// Streams that a peer may have opened and reset before they were looked at (CVE-2023-44487); more at once end the connection.
pub const RESET_UNSEEN: usize = 32;

/// The one `:protocol` that is passed on (RFC 8441 5).
pub const WEBSOCKET: &str = "websocket";

/// Reads a request's head. `protocol` is its `:protocol`, `ended` says that no content follows.
///
/// A missing `Host` is made of `:authority`; where both are there the caller compares them.
///
/// # Errors
/// [`HeadError::Bad`] names the rule that it breaks; too many fields are too large, as over HTTP/1.1.
pub fn request_head(parts: Parts, protocol: Option<&str>, ended: bool) -> Result<RequestHead, HeadError> {
    let Parts { mut method, uri, mut headers, .. } = parts;
    let mut framing = match (content_length(&headers)?, ended) {
        // That there is no content may be said, too, and an origin may ask for it.
        (Some(n), false) => Framing::Length(n),
        (Some(0), true) => Framing::Length(0),
        (_, true) => Framing::None,
        (None, false) => Framing::Chunked,
    };
    if headers.len() > MAX_FIELDS {
        return Err(HeadError::TooLarge);
    }
    if headers.get_all(HOST).iter().count() > 1 {
        return Err(HeadError::Bad("a request has one Host field at most"));
    }
    if !headers.contains_key(HOST) {
        let authority = uri.authority().ok_or(HeadError::Bad("a request has an :authority or a Host field"))?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| HeadError::Bad("the :authority is malformed"))?;
        headers.insert(HOST, host);
    }
    let target = match uri.path_and_query().map(PathAndQuery::as_str) {
        Some("*") if method == Method::OPTIONS => Target::Asterisk,
        Some(text) if text.starts_with('/') => Target::Origin(Uri::from(uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")))),
        // Without `:protocol` a CONNECT has no path (RFC 9113 8.5).
        _ if method == Method::CONNECT => Target::Authority(uri.authority().map_or_else(String::new, ToString::to_string)),
        _ => return Err(HeadError::Bad("the :path is neither a path nor `*`")),
    };
    if method == Method::CONNECT && protocol == Some(WEBSOCKET) {
        method = Method::GET;
        framing = Framing::None;
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    }
    Ok(RequestHead { method, target, version: Version::HTTP_2, headers, framing, keep_alive: true })
}

/// Reads a response's head, an interim one too. `ended` says that no content follows.
///
/// # Errors
/// [`HeadError::Bad`] where the length is malformed, [`HeadError::TooLarge`] where there are too many fields.
pub fn response_head(response: Response<()>, method: &Method, ended: bool) -> Result<ResponseHead, HeadError> {
    let (parts, ()) = response.into_parts();
    if parts.headers.len() > MAX_FIELDS {
        return Err(HeadError::TooLarge);
    }
    let status = parts.status;
    let bodiless = *method == Method::HEAD || status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let framing = match (bodiless, ended) {
        (true, _) => Framing::None,
        // Towards HTTP/1.1 an end must be told.
        (false, true) => Framing::Length(0),
        // Trailers may follow no content at all.
        (false, false) => content_length(&parts.headers)?.filter(|n| *n > 0).map_or(Framing::Chunked, Framing::Length),
    };
    let reason = Bytes::from_static(status.canonical_reason().unwrap_or_default().as_bytes());
    Ok(ResponseHead { status, reason, version: Version::HTTP_2, headers: parts.headers, framing, keep_alive: true })
}

/// A request as HTTP/2 has it. `fields` are those of HTTP/1.1 that `Outgoing` made: what belongs to a connection goes.
///
/// # Errors
/// [`HeadError::Bad`] where the target cannot stand in a `:path`.
pub fn request(method: &Method, secure: bool, target: &str, mut fields: HeaderMap, framing: Framing) -> Result<Request<()>, HeadError> {
    let bad = |_| HeadError::Bad("the request target cannot be sent over HTTP/2");
    let host = fields.remove(HOST).unwrap_or(HeaderValue::from_static(""));
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(host.as_bytes().try_into().map_err(|_| HeadError::Bad("the host cannot be an :authority"))?);
    parts.path_and_query = Some(target.try_into().map_err(bad)?);
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| HeadError::Bad("the request target cannot be sent over HTTP/2"))?;
    drop_connection(&mut fields);
    if let Framing::Length(n) = framing {
        fields.insert(CONTENT_LENGTH, HeaderValue::from(n));
    }
    *request.headers_mut() = fields;
    Ok(request)
}

/// A response as HTTP/2 has it.
#[must_use]
pub fn response(status: StatusCode, mut headers: HeaderMap) -> Response<()> {
    drop_connection(&mut headers);
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = headers;
    response
}

/// Joins the crumbs of a cookie, which HTTP/1.1 wants in one field (RFC 9113 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(mut joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        joined.set_sensitive(true);
        headers.insert(COOKIE, joined);
    }
}

/// Fields that HTTP/2 forbids (RFC 9113 8.2.2); `TE: trailers` may stay.
fn drop_connection(headers: &mut HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        headers.remove(HeaderName::from_static(name));
    }
}
