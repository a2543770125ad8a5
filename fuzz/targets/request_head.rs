//! Heads and bodies of HTTP/1: what is accepted can be read in one way only, and reads the same once we have written it anew.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Version};
use keyhatch::message::h1::{
    BodyReader, Framing, HeadError, Piece, RequestHead, Target, head_end, parse_request, parse_response, parse_trailers, write_chunk_head,
    write_last_chunk, write_request, write_response,
};

use super::input::{Input, pieces};

/// No head of these tests is longer.
const LIMIT: usize = 64 * 1024;

/// The input: what it is, how it comes in pieces, then the bytes.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, seed) = (input.byte(), input.byte());
    let data = input.rest();
    match kind % 5 {
        0 | 1 => head(data, seed, request),
        2 => head(data, seed, |head| response(head, &Method::GET)),
        3 => head(data, seed, |head| response(head, [&Method::HEAD, &Method::CONNECT][usize::from(seed & 1)])),
        _ => chunked(data, seed),
    }
}

/// Where the head ends, in whatever pieces it comes, and what it says.
fn head(data: &[u8], seed: u8, read: impl Fn(&[u8])) {
    let whole = head_end(data, &mut 0, LIMIT);
    let (mut came, mut scanned, mut found) = (Vec::new(), 0, Ok(None));
    for piece in pieces(data, seed) {
        came.extend_from_slice(piece);
        found = head_end(&came, &mut scanned, LIMIT);
        if !matches!(found, Ok(None)) {
            break;
        }
    }
    assert_eq!(found, whole, "in pieces");
    let blank = data.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
    let bare = (0..data.len()).find(|&at| data[at] == b'\n' && (at == 0 || data[at - 1] != b'\r'));
    let expected = match (blank, bare) {
        (Some(end), bare) if bare.is_none_or(|at| at >= end) => Ok(Some(end)),
        (_, Some(_)) => Err(()),
        (_, None) => Ok(None),
    };
    assert_eq!(whole.map_err(|_| ()), expected);
    if let Ok(Some(end)) = whole {
        read(&data[..end]);
    }
    // Nor may what is no whole head do harm.
    let _ = parse_request(Bytes::copy_from_slice(data));
    let _ = parse_trailers(data);
}

/// The lines of an accepted head after the first, as a naive reader has them: name in lower case, value trimmed.
fn lines(head: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let text = head.strip_suffix(b"\r\n\r\n").expect("a head ends with an empty line");
    assert!(!text.contains(&0), "a NUL was accepted");
    assert!(!text.iter().any(|b| (*b < 0x20 && !b"\r\n\t".contains(b)) || *b == 0x7f), "a control character was accepted");
    let text = String::from_utf8_lossy(text).into_owned();
    // Whoever ends lines at either byte sees the same lines.
    assert_eq!(text.split(['\r', '\n']).filter(|l| !l.is_empty()).count(), text.split("\r\n").filter(|l| !l.is_empty()).count(), "a bare CR or LF");
    head[..head.len() - 4]
        .split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty())
        .skip(1)
        .map(|line| {
            let colon = line.iter().position(|b| *b == b':').expect("a field has a colon");
            assert!(colon > 0 && line[..colon].iter().all(|b| b.is_ascii_graphic()), "a field name with a space, or folded");
            (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii().to_vec())
        })
        .collect()
}

/// The framing that the lines of an accepted head declare.
fn declared(lines: &[(Vec<u8>, Vec<u8>)]) -> Option<Framing> {
    let of = |name: &[u8]| lines.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_slice()).collect::<Vec<_>>();
    match (&of(b"content-length")[..], &of(b"transfer-encoding")[..]) {
        ([], []) => None,
        ([length], []) => {
            let text = std::str::from_utf8(length).expect("digits");
            assert!(text.bytes().all(|b| b.is_ascii_digit()), "{text}");
            Some(Framing::Length(text.parse().expect("a number that fits")))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Some(Framing::Chunked),
        (lengths, codings) => panic!("accepted with {lengths:?} and {codings:?}"),
    }
}

fn request(head: &[u8]) {
    let Ok(read) = parse_request(Bytes::copy_from_slice(head)) else { return };
    let lines = lines(head);
    assert_eq!(read.framing, declared(&lines).unwrap_or(Framing::None));
    let hosts = lines.iter().filter(|(name, _)| name == b"host").count();
    assert!(hosts <= 1 && (hosts == 1 || read.version == Version::HTTP_10 || read.method == Method::CONNECT), "{hosts} Host fields");
    assert_eq!(read.headers.len(), lines.len());
    for (name, value) in &lines {
        let name = std::str::from_utf8(name).expect("a token");
        assert!(read.headers.get_all(name).iter().any(|v| v.as_bytes() == value), "{name} is lost");
    }
    let target = match &read.target {
        Target::Origin(uri) | Target::Absolute(uri) => Target::path_and_query(uri),
        Target::Authority(text) => text.clone(),
        Target::Asterisk => "*".to_owned(),
    };
    if let Target::Origin(_) = read.target {
        assert_eq!(head.split(|b| *b == b' ').nth(1), Some(target.as_bytes()), "the target byte for byte");
    }
    let mut fields = unframed(&read.headers);
    fields.entry(HOST).or_insert(HeaderValue::from_static("h"));
    let mut out = Vec::new();
    write_request(&mut out, &read.method, &target, &fields, read.framing);
    assert_eq!(head_end(&out, &mut 0, 2 * LIMIT), Ok(Some(out.len())), "what is written is one head");
    // A limit of the reader may be passed by the field that is added.
    let again = match parse_request(Bytes::from(out)) {
        Err(HeadError::TooLarge) => return,
        again => again.expect("what was accepted is accepted as it is written"),
    };
    same(&read, &again, &fields);
    if !matches!(read.target, Target::Absolute(_)) {
        assert_eq!(again.target, read.target);
    }
}

fn same(read: &RequestHead, again: &RequestHead, fields: &HeaderMap) {
    assert_eq!((&again.method, again.framing), (&read.method, read.framing));
    assert_eq!(&unframed(&again.headers), fields);
}

fn unframed(headers: &HeaderMap) -> HeaderMap {
    let mut out = headers.clone();
    out.remove(CONTENT_LENGTH);
    out.remove(TRANSFER_ENCODING);
    out
}

fn response(head: &[u8], method: &Method) {
    let Ok(read) = parse_response(Bytes::copy_from_slice(head), method) else { return };
    let declared = declared(&lines(head));
    let bodiless = *method == Method::HEAD || read.status.is_informational() || matches!(read.status.as_u16(), 204 | 304);
    assert_eq!(read.framing, if bodiless { Framing::None } else { declared.unwrap_or(Framing::UntilClose) });
    let fields = unframed(&read.headers);
    let mut out = Vec::new();
    write_response(&mut out, read.status, &read.reason, &fields, read.framing);
    assert_eq!(head_end(&out, &mut 0, 2 * LIMIT), Ok(Some(out.len())), "what is written is one head");
    let again = parse_response(Bytes::from(out), method).expect("what was accepted is accepted as it is written");
    assert_eq!((again.status, &again.reason, again.framing), (read.status, &read.reason, read.framing));
    assert_eq!(unframed(&again.headers), fields);
}

/// How reading a body ended.
#[derive(Debug, PartialEq)]
enum End {
    Whole { rest: Vec<u8>, trailers: Option<HeaderMap> },
    Broken,
    Short,
}

fn chunked(data: &[u8], seed: u8) {
    let whole = decoded(data, 0);
    assert_eq!(decoded(data, seed), whole, "in pieces");
    assert_eq!(decoded(data, 1), whole, "byte by byte");
    let (content, end) = naive(data);
    assert_eq!(whole.0, content);
    let (whole, trailers) = match (whole.1, end) {
        (End::Whole { rest, trailers }, Some(Some(at))) => {
            assert_eq!(rest, &data[at..]);
            (whole.0, trailers)
        }
        // What the trailers are, their own reader says.
        (End::Broken, None | Some(Some(_))) | (End::Short, Some(None)) => return,
        (got, wanted) => panic!("{got:?} where {wanted:?} was due"),
    };
    let mut out = Vec::new();
    for piece in pieces(&whole, seed) {
        write_chunk_head(&mut out, piece.len());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    write_last_chunk(&mut out, trailers.as_ref());
    assert_eq!(decoded(&out, seed), (whole, End::Whole { rest: Vec::new(), trailers }), "written anew");
}

fn decoded(data: &[u8], seed: u8) -> (Vec<u8>, End) {
    let mut reader = BodyReader::new(Framing::Chunked);
    let mut coming = pieces(data, seed).into_iter();
    let (mut buffer, mut content) = (Vec::new(), Vec::new());
    loop {
        match reader.next(&buffer) {
            Ok(Piece::Data { skip, len }) => {
                content.extend_from_slice(&buffer[skip..skip + len]);
                buffer.drain(..skip + len);
            }
            Ok(Piece::End { skip, trailers }) => {
                buffer.drain(..skip);
                buffer.extend(coming.flatten());
                return (content, End::Whole { rest: buffer, trailers });
            }
            Ok(Piece::More) => match coming.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => return (content, if reader.closed().is_ok() { End::Broken } else { End::Short }),
            },
            Err(_) => return (content, End::Broken),
        }
    }
}

/// RFC 9112 7.1 on a whole body: its content, and where it ends (`None` broken, `Some(None)` cut short).
fn naive(data: &[u8]) -> (Vec<u8>, Option<Option<usize>>) {
    let (mut content, mut at) = (Vec::new(), 0);
    loop {
        let rest = &data[at..];
        let Some(lf) = rest.iter().take(1024).position(|b| *b == b'\n') else {
            return (content, if rest.len() >= 1024 { None } else { Some(None) });
        };
        let Some(line) = rest[..lf].strip_suffix(b"\r") else { return (content, None) };
        let size = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let extension = line[size..].trim_ascii_start();
        let clean = line.iter().all(|b| *b == b'\t' || !b.is_ascii_control());
        if !(1..=15).contains(&size) || !clean || (!extension.is_empty() && extension[0] != b';') {
            return (content, None);
        }
        let size = u64::from_str_radix(std::str::from_utf8(&line[..size]).expect("hex"), 16).expect("15 digits fit");
        at += lf + 1;
        if size == 0 {
            return (content, trailers_end(&data[at..]).map(|end| end.map(|end| at + end)));
        }
        let there = data.len() - at;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        content.extend_from_slice(&data[at..at + size.min(there)]);
        if size > there {
            return (content, Some(None));
        }
        at += size;
        match &data[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return (content, Some(None)),
            _ => return (content, None),
        }
    }
}

/// Where the trailers end: at an empty line, which may be the first.
fn trailers_end(data: &[u8]) -> Option<Option<usize>> {
    if data.starts_with(b"\r\n") {
        return Some(Some(2));
    }
    let end = data.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
    let bare = (0..data.len()).find(|&at| data[at] == b'\n' && (at == 0 || data[at - 1] != b'\r'));
    match (end, bare) {
        (_, Some(at)) if end.is_none_or(|end| at < end) => None,
        (Some(end), _) => Some(Some(end).filter(|end| *end <= 16 * 1024)),
        (None, _) => {
            if data.len() > 16 * 1024 {
                None
            } else {
                Some(None)
            }
        }
    }
}
