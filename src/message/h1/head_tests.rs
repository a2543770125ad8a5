use super::*;

fn request(text: &str) -> Result<RequestHead, HeadError> {
    let mut scanned = 0;
    let end = head_end(text.as_bytes(), &mut scanned, 65_536)?.expect("a whole head");
    parse_request(Bytes::copy_from_slice(&text.as_bytes()[..end]))
}

#[test]
fn a_plain_request() {
    let head = request("POST /a/%2e//b;c?x=%20&y HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nX: a\r\nx: b\r\n\r\nabc").expect("valid");
    assert_eq!(head.framing, Framing::Length(3));
    assert!(matches!(head.target, Target::Origin(ref u) if *u == "/a/%2e//b;c?x=%20&y"));
    assert_eq!(head.headers.get_all("x").iter().map(|v| v.to_str().expect("ascii")).collect::<Vec<_>>(), ["a", "b"]);
    assert!(head.keep_alive);
}

#[test]
fn targets() {
    let target = |line: &str| request(&format!("{line}\r\nHost: h\r\n\r\n")).map(|h| h.target);
    assert!(matches!(target("CONNECT h:443 HTTP/1.1"), Ok(Target::Authority(a)) if a == "h:443"));
    assert!(matches!(target("OPTIONS * HTTP/1.1"), Ok(Target::Asterisk)));
    assert!(matches!(target("GET http://h HTTP/1.1"), Ok(Target::Absolute(_))));
    assert!(matches!(target("GET http://h/a?b HTTP/1.1"), Ok(Target::Absolute(_))));
    for (absolute, sent) in [("http://h", "/"), ("http://h?b", "/?b"), ("http://h/", "/"), ("http://h//a?b", "//a?b")] {
        assert_eq!(Target::path_and_query(&absolute.parse().expect("a URI")), sent);
    }
    for line in [
        "GET * HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET h HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET /a b HTTP/1.1",
        "GET / HTTP/1.1 ",
    ] {
        assert!(target(line).is_err(), "{line}");
    }
}

#[test]
fn what_could_be_framed_in_two_ways_is_refused() {
    for (name, fields) in [
        ("te with cl", "Host: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3"),
        ("two lengths", "Host: h\r\nContent-Length: 3\r\nContent-Length: 3"),
        ("list length", "Host: h\r\nContent-Length: 3, 3"),
        ("signed length", "Host: h\r\nContent-Length: +3"),
        ("huge length", "Host: h\r\nContent-Length: 9999999999999999999"),
        ("empty length", "Host: h\r\nContent-Length:"),
        ("gzip, chunked", "Host: h\r\nTransfer-Encoding: gzip, chunked"),
        ("xchunked", "Host: h\r\nTransfer-Encoding: xchunked"),
        ("two te", "Host: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ("space before colon", "Host: h\r\nContent-Length : 3"),
        ("fold", "Host: h\r\nX: a\r\n b"),
        ("tab fold", "Host: h\r\nX: a\r\n\tb"),
        ("nul", "Host: h\r\nX: a\0b"),
        ("bare cr", "Host: h\r\nX: a\rb"),
        ("no host", "X: a"),
        ("two hosts", "Host: h\r\nHost: h"),
        ("control", "Host: h\r\nX: \u{1b}[0m"),
        ("first line a space", " X: a\r\nHost: h"),
    ] {
        assert!(request(&format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n")).is_err(), "{name}");
    }
    assert_eq!(request("GET / HTTP/1.1\nHost: h\n\n").expect_err("bare LF"), HeadError::Bad("a line ends in a bare LF"));
    assert!(request("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
}

#[test]
fn limits() {
    let mut scanned = 0;
    assert_eq!(head_end(b"GET /aaaaaaaaaaaaaaaa", &mut scanned, 10), Err(HeadError::TargetTooLong));
    assert_eq!(head_end(b"GET /\r\nX: aaaaaaaaaaaaaa", &mut 0, 10), Err(HeadError::TooLarge));
    let many = "X: a\r\n".repeat(MAX_FIELDS + 1);
    assert_eq!(request(&format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n")).expect_err("many"), HeadError::TooLarge);
}

#[test]
fn responses() {
    let response = |text: &str, method: &Method| parse_response(Bytes::copy_from_slice(text.as_bytes()), method);
    let r = response("HTTP/1.1 402 Payment Required\r\nContent-Length: 2\r\n\r\n", &Method::GET).expect("valid");
    assert_eq!((r.status.as_u16(), &r.reason[..], r.framing), (402, &b"Payment Required"[..], Framing::Length(2)));
    let r = response("HTTP/1.1 200\r\n\r\n", &Method::GET).expect("valid");
    assert_eq!((r.framing, r.keep_alive, r.reason.len()), (Framing::UntilClose, false, 0));
    for (text, method) in [
        ("HTTP/1.1 204 N\r\n\r\n", Method::GET),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", Method::HEAD),
        ("HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n", Method::GET),
    ] {
        assert_eq!(response(text, &method).expect("valid").framing, Framing::None);
    }
    for text in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    ] {
        assert!(response(text, &Method::GET).is_err(), "{text:?}");
    }
}
