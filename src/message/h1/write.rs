//! Writing heads and chunks. What is written is made of parsed values, so it cannot be framed in two ways.

use http::{HeaderMap, Method, StatusCode};

use super::head::Framing;

/// Room made for a head at once: most fit, and a buffer that grows by doubling is copied over and over.
const HEAD: usize = 1024;
/// The longest framing field with its line end, and the blank line.
const FRAMING: usize = "content-length: 18446744073709551615\r\n\r\n".len();

/// Writes a request's head: the framing field is made here, the others are taken as they are. Room for all of it is made first,
/// so that no buffer is outgrown and left behind with a credential in it.
pub fn write_request(out: &mut Vec<u8>, method: &Method, target: &str, headers: &HeaderMap, framing: Framing) {
    let line = method.as_str().len() + " ".len() + target.len() + " HTTP/1.1\r\n".len();
    out.reserve(HEAD.max(line + fields_len(headers) + FRAMING));
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_fields(out, headers);
    write_framing(out, framing);
    out.extend_from_slice(b"\r\n");
}

/// Writes a response's head: `HTTP/1.1`, also to a client of HTTP/1.0 (RFC 9110 2.5).
pub fn write_response(out: &mut Vec<u8>, status: StatusCode, reason: &[u8], headers: &HeaderMap, framing: Framing) {
    out.reserve(HEAD);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
    write_fields(out, headers);
    write_framing(out, framing);
    out.extend_from_slice(b"\r\n");
}

/// How many bytes fields take, with their line ends.
#[must_use]
pub fn fields_len(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + ": ".len() + value.len() + "\r\n".len()).sum()
}

fn write_fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn write_framing(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(n) => {
            out.extend_from_slice(b"content-length: ");
            write_number(out, n, 10);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Writes the line before a chunk of `len` bytes; the data and CR LF follow.
pub fn write_chunk_head(out: &mut Vec<u8>, len: usize) {
    write_number(out, len as u64, 16);
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk and the trailers.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        write_fields(out, trailers);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_number(out: &mut Vec<u8>, mut n: u64, base: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[usize::try_from(n % base).unwrap_or(0)];
        n /= base;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requests_head_outgrows_no_buffer() {
        let mut headers = HeaderMap::new();
        for _ in 0..50 {
            headers.append("x-long", "v".repeat(100).parse().expect("value"));
        }
        let mut out = Vec::with_capacity(1);
        write_request(&mut out, &Method::POST, &"/a".repeat(2000), &headers, Framing::Length(u64::MAX));
        // A buffer that had grown by doubling would have more room than was asked for.
        assert_eq!(out.len(), out.capacity());
    }

    #[test]
    fn a_request_and_a_response() {
        let mut headers = HeaderMap::new();
        headers.append("host", "h".parse().expect("value"));
        let mut out = Vec::new();
        write_request(&mut out, &Method::POST, "/a?b", &headers, Framing::Length(1_234_567_890));
        assert_eq!(out, b"POST /a?b HTTP/1.1\r\nhost: h\r\ncontent-length: 1234567890\r\n\r\n");
        out.clear();
        write_response(&mut out, StatusCode::OK, b"Fine", &HeaderMap::new(), Framing::Chunked);
        write_chunk_head(&mut out, 255);
        write_last_chunk(&mut out, Some(&headers));
        assert_eq!(out, b"HTTP/1.1 200 Fine\r\ntransfer-encoding: chunked\r\n\r\nff\r\n0\r\nhost: h\r\n\r\n");
    }
}
