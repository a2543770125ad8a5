//! Request and response heads.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};

/// Header fields a head may have, whatever it came over.
pub const MAX_FIELDS: usize = 192;

/// How a message's body is delimited (RFC 9112 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// All until the connection closes; responses only.
    UntilClose,
}

/// The four forms of a request target (RFC 9112 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `/path?query`
    Origin(Uri),
    /// `http://host/path`
    Absolute(Uri),
    /// `host:port`, of CONNECT, as sent.
    Authority(String),
    /// `*`, of OPTIONS.
    Asterisk,
}

impl Target {
    /// Path and query as an origin gets them: they begin with `/`, also where an absolute target has no path
    /// (RFC 9112 3.2.1).
    #[must_use]
    pub fn path_and_query(uri: &Uri) -> String {
        match uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str) {
            text if text.starts_with('/') => text.to_owned(),
            text => format!("/{text}"),
        }
    }
}

/// A request's head, read strictly.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The target.
    pub target: Target,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields, as received.
    pub headers: HeaderMap,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the client lets the connection go on.
    pub keep_alive: bool,
}

/// A response's head, read strictly.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The reason phrase, as received.
    pub reason: Bytes,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields, as received.
    pub headers: HeaderMap,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the origin lets the connection go on.
    pub keep_alive: bool,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It breaks the grammar, or could be framed in two ways.
    #[error("{0}")]
    Bad(&'static str),
    /// The request line alone is over the limit.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The head is over the limit in bytes or fields.
    #[error("the head is too large")]
    TooLarge,
}

/// Where the head ends in `buffer` (the length with its empty line), or `None` if more is to come.
/// `scanned` is where an earlier call left off.
///
/// # Errors
/// A bare LF or CR is refused at once; a head over `limit` bytes is too large.
pub fn head_end(buffer: &[u8], scanned: &mut usize, limit: usize) -> Result<Option<usize>, HeadError> {
    let mut from = *scanned;
    while let Some(found) = memchr::memchr(b'\n', &buffer[from..]) {
        let at = from + found;
        if at == 0 || buffer[at - 1] != b'\r' {
            return Err(HeadError::Bad("a line ends in a bare LF"));
        }
        if at + 1 > limit {
            return Err(too_large(buffer, limit));
        }
        if at >= 3 && buffer[at - 2] == b'\n' {
            return Ok(Some(at + 1));
        }
        from = at + 1;
    }
    *scanned = from;
    if buffer.len() > limit { Err(too_large(buffer, limit)) } else { Ok(None) }
}

fn too_large(buffer: &[u8], limit: usize) -> HeadError {
    match memchr::memchr(b'\n', &buffer[..limit.min(buffer.len())]) {
        Some(_) => HeadError::TooLarge,
        None => HeadError::TargetTooLong,
    }
}

/// Reads a request's head, which ends with its empty line.
///
/// # Errors
/// [`HeadError::Bad`] names the rule that it breaks.
pub fn parse_request(head: Bytes) -> Result<RequestHead, HeadError> {
    check_octets(&head)?;
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, &head, &mut fields).map_err(head_error).and_then(complete)?;
    let method = parsed.method.and_then(|m| m.parse::<Method>().ok()).ok_or(HeadError::Bad("the method is no token"))?;
    let target = parse_target(&method, parsed.path.unwrap_or_default())?;
    let version = version(parsed.version)?;
    let headers = collect(&head, parsed.headers)?;
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version == Version::HTTP_11 && method != Method::CONNECT) {
        return Err(HeadError::Bad("an HTTP/1.1 request has exactly one Host field"));
    }
    let framing = match declared_framing(&headers, version)? {
        None => Framing::None,
        Some(_) if method == Method::CONNECT => return Err(HeadError::Bad("a CONNECT has no body")),
        Some(framing) => framing,
    };
    let keep_alive = keep_alive(&headers, version);
    Ok(RequestHead { method, target, version, headers, framing, keep_alive })
}

/// Reads the head of a response to a request with `method`.
///
/// # Errors
/// [`HeadError::Bad`] names the rule that it breaks.
pub fn parse_response(head: Bytes, method: &Method) -> Result<ResponseHead, HeadError> {
    check_octets(&head)?;
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, &head, &mut fields).map_err(head_error).and_then(complete)?;
    let status = parsed.code.and_then(|c| StatusCode::from_u16(c).ok()).ok_or(HeadError::Bad("the status is no number from 100 to 999"))?;
    let reason = head.slice_ref(reason_bytes(&head));
    let version = version(parsed.version)?;
    let headers = collect(&head, parsed.headers)?;
    let declared = declared_framing(&headers, version)?;
    let bodiless = method == Method::HEAD || status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let framing = if bodiless { Framing::None } else { declared.unwrap_or(Framing::UntilClose) };
    let keep_alive = keep_alive(&headers, version) && framing != Framing::UntilClose;
    Ok(ResponseHead { status, reason, version, headers, framing, keep_alive })
}

/// httparse drops a reason phrase with obs-text; this is the phrase as it stands.
fn reason_bytes(head: &[u8]) -> &[u8] {
    let line = &head[..memchr::memchr(b'\r', head).unwrap_or(head.len())];
    line.get(13..).unwrap_or_default()
}

/// Reads the trailer section of a chunked body, with its last empty line.
///
/// # Errors
/// As for a head.
pub fn parse_trailers(section: &[u8]) -> Result<HeaderMap, HeadError> {
    check_octets(section)?;
    let section = Bytes::copy_from_slice(section);
    let mut fields = [httparse::EMPTY_HEADER; 64];
    match httparse::parse_headers(&section, &mut fields).map_err(head_error)? {
        httparse::Status::Complete((_, found)) => collect(&section, found),
        httparse::Status::Partial => Err(HeadError::Bad("the trailers are cut short")),
    }
}

/// What httparse lets through: a CR that no LF follows, control octets, a folded line, a `#`.
fn check_octets(head: &[u8]) -> Result<(), HeadError> {
    let mut rest = head;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest);
        let (line, after) = end.map_or((rest, &[][..]), |at| (&rest[..at], &rest[at + 1..]));
        match line.first() {
            Some(b'\t') => return Err(HeadError::Bad("a line is folded")),
            Some(b' ') => return Err(HeadError::Bad("a line begins with a space")),
            _ => {}
        }
        let content = if end.is_some() { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
        let is_control = |b: u8| (b < 0x20 && b != b'\t') || b == 0x7f;
        // Without a branch in between, this looks at many bytes at once.
        if content.iter().fold(false, |found, &b| found | is_control(b)) {
            let first = content.iter().find(|b| is_control(**b));
            return Err(HeadError::Bad(if first == Some(&b'\r') { "a bare CR" } else { "a control character" }));
        }
        if end.is_some() && content.len() == line.len() {
            return Err(HeadError::Bad("a line ends in a bare LF"));
        }
        rest = after;
    }
    Ok(())
}

fn head_error(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooLarge,
        httparse::Error::HeaderName => HeadError::Bad("a field name is no token"),
        httparse::Error::HeaderValue => HeadError::Bad("a field value holds a byte that is not allowed"),
        httparse::Error::Version => HeadError::Bad("the version is neither HTTP/1.1 nor HTTP/1.0"),
        _ => HeadError::Bad("the first line is malformed"),
    }
}

fn complete(status: httparse::Status<usize>) -> Result<(), HeadError> {
    match status {
        httparse::Status::Complete(_) => Ok(()),
        httparse::Status::Partial => Err(HeadError::Bad("the head is cut short")),
    }
}

fn version(minor: Option<u8>) -> Result<Version, HeadError> {
    match minor {
        Some(1) => Ok(Version::HTTP_11),
        Some(0) => Ok(Version::HTTP_10),
        _ => Err(HeadError::Bad("the version is neither HTTP/1.1 nor HTTP/1.0")),
    }
}

/// Values stay slices of the head: no copy a field.
fn collect(head: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, HeadError> {
    let mut map = HeaderMap::with_capacity(fields.len() + 2);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadError::Bad("a field name is no token"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value)).map_err(|_| HeadError::Bad("a field value is not allowed"))?;
        map.try_append(name, value).map_err(|_| HeadError::TooLarge)?;
    }
    Ok(map)
}

fn parse_target(method: &Method, text: &str) -> Result<Target, HeadError> {
    if *method == Method::CONNECT {
        return Ok(Target::Authority(text.to_owned()));
    }
    if text == "*" {
        return if *method == Method::OPTIONS { Ok(Target::Asterisk) } else { Err(HeadError::Bad("only OPTIONS takes `*`")) };
    }
    if text.contains('#') {
        return Err(HeadError::Bad("the request target holds a fragment"));
    }
    let uri: Uri = text.parse().map_err(|_| HeadError::Bad("the request target is no URI"))?;
    let faithful = |uri: &Uri| uri.path_and_query().is_some_and(|p| text.ends_with(p.as_str()) || (p.as_str() == "/" && uri.authority().is_some()));
    match (text.starts_with('/'), uri.scheme().is_some() && uri.authority().is_some()) {
        (true, false) if uri.path_and_query().is_some_and(|p| p.as_str() == text) => Ok(Target::Origin(uri)),
        (false, true) if faithful(&uri) => Ok(Target::Absolute(uri)),
        _ => Err(HeadError::Bad("the request target is no URI")),
    }
}

/// The framing that the fields declare; anything doubtful is refused (RFC 9112 6.1 to 6.3, 11.2).
fn declared_framing(headers: &HeaderMap, version: Version) -> Result<Option<Framing>, HeadError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), headers.get(CONTENT_LENGTH)) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(HeadError::Bad("both Transfer-Encoding and Content-Length")),
        (Some(coding), None) => {
            if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(HeadError::Bad("a Transfer-Encoding other than `chunked`"));
            }
            if version == Version::HTTP_10 {
                return Err(HeadError::Bad("a Transfer-Encoding in HTTP/1.0"));
            }
            Ok(Some(Framing::Chunked))
        }
        (None, Some(_)) => Ok(content_length(headers)?.map(Framing::Length)),
    }
}

/// The one `Content-Length`, if there is one (RFC 9110 8.6).
///
/// # Errors
/// [`HeadError::Bad`] where there are more, or it is no number.
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, HeadError> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err(HeadError::Bad("more than one Content-Length"));
    }
    let digits = length.as_bytes();
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Bad("the Content-Length is no number"));
    }
    Ok(Some(digits.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0'))))
}

fn keep_alive(headers: &HeaderMap, version: Version) -> bool {
    let has = |option: &str| {
        let values = headers.get_all(CONNECTION).iter().filter_map(|v| v.to_str().ok());
        values.flat_map(|v| v.split(',')).any(|o| o.trim().eq_ignore_ascii_case(option))
    };
    if version == Version::HTTP_11 { !has("close") } else { has("keep-alive") && !has("close") }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
