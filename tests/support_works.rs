//! The tests' own tools, tried on each other without the proxy.

use std::net::TcpStream;

use crate::support::origin::AUTHORITY;
use crate::support::raw::{PATIENCE, read_reply, trusting};
use crate::support::{Origin, fresh_key};

fn conn(origin: &Origin) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), AUTHORITY.pem()).unwrap();
    let stream = TcpStream::connect(origin.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = rustls::pki_types::ServerName::try_from("openrouter.ai").unwrap();
    rustls::StreamOwned::new(rustls::ClientConnection::new(trusting(ca.path(), &["http/1.1"]), name).unwrap(), stream)
}

#[test]
fn the_origin_demands_its_key_and_records_what_came() {
    use std::io::Write as _;
    let key = fresh_key();
    let origin = Origin::demanding(&["openrouter.ai"], &key);
    let mut conn = conn(&origin);
    conn.write_all(
        b"POST /a?b HTTP/1.1\r\nHost: openrouter.ai\r\nX-One: 1\r\nx-one: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 9\r\n\r\n",
    )
    .unwrap();
    assert_eq!(read_reply(&mut conn, None).unwrap().status, 401);
    let got = origin.last();
    assert_eq!((got.target.as_str(), got.body.as_slice(), got.values("X-ONE")), ("/a?b", &b"abc"[..], vec!["1".to_owned(), "2".to_owned()]));
    assert_eq!(got.trailers, [("X-T".to_owned(), b"9".to_vec())]);
    assert_eq!(got.sni.as_deref(), Some("openrouter.ai"));
    conn.write_all(format!("GET / HTTP/1.1\r\nHost: openrouter.ai\r\nAuthorization: Bearer {key}\r\n\r\n").as_bytes()).unwrap();
    let reply = read_reply(&mut conn, None).unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "{\"ok\":true}"));
    assert_eq!((origin.accepted(), origin.handshakes(), origin.last().connection), (1, 1, 0));
}

#[test]
fn the_origin_speaks_plaintext_on_the_same_port() {
    use std::io::Write as _;
    let origin = Origin::agreeable(&["openrouter.ai"]);
    let mut stream = TcpStream::connect(origin.address()).unwrap();
    stream.write_all(b"GET http://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n").unwrap();
    assert_eq!(read_reply(&mut stream, None).unwrap().status, 200);
    assert!(!origin.last().tls);
}

#[test]
fn a_peer_that_goes_away_is_seen() {
    use std::io::Write as _;
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let origin = Origin::start(&["openrouter.ai"], move |exchange| {
        let ended = exchange.wait_for_end(PATIENCE);
        tell.lock().unwrap().send(ended.is_ok()).unwrap();
        ended
    });
    let mut conn = conn(&origin);
    conn.write_all(b"GET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n").unwrap();
    crate::support::within(PATIENCE, "the request came", || (!origin.recorded().is_empty()).then_some(()));
    drop(conn);
    assert!(told.recv_timeout(PATIENCE).unwrap());
}

#[test]
fn the_demos_origin_answers_as_openrouter_does() {
    use keyhatch::demo::origin::{Origin, Role};
    use std::io::Write as _;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tls = AUTHORITY.server(&["openrouter.ai"], &["http/1.1"]).unwrap();
    let origin = runtime.block_on(Origin::start(tls, Role::OpenRouter { authorization: "Bearer right".into() })).unwrap();
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), AUTHORITY.pem()).unwrap();
    let stream = TcpStream::connect(origin.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = rustls::pki_types::ServerName::try_from("openrouter.ai").unwrap();
    let mut conn = rustls::StreamOwned::new(rustls::ClientConnection::new(trusting(ca.path(), &[]), name).unwrap(), stream);
    let mut ask = |method: &str, target: &str, key: &str, body: &str| {
        let length = body.len();
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: openrouter.ai\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n{body}");
        conn.write_all(request.as_bytes()).unwrap();
        read_reply(&mut conn, None).unwrap()
    };
    for target in ["/api/v1/auth/key", "/api/v1/key"] {
        assert_eq!(ask("GET", target, "wrong", "").status, 401);
        assert!(ask("GET", target, "right", "").text().contains("limit_remaining"));
    }
    assert_eq!(ask("GET", "/api/v1/models", "wrong", "").status, 200, "the models are public");
    let chat = "/api/v1/chat/completions";
    assert_eq!(ask("POST", chat, "right", "{").status, 400);
    assert_eq!(ask("POST", chat, "right", r#"{"model":"demo/payment-required"}"#).status, 402);
    assert_eq!(ask("POST", chat, "right", r#"{"model":"demo/rate-limited"}"#).values("retry-after"), ["7"]);
    assert!(ask("POST", chat, "right", r#"{"model":"demo/hello"}"#).text().contains("Hello there."));
    let stream = ask("POST", chat, "right", r#"{"model":"demo/hello","stream":true}"#);
    let text = stream.text();
    assert!(text.starts_with(": OPENROUTER PROCESSING\n\n") && text.ends_with("data: [DONE]\n\n") && text.contains("\"choices\":[]"), "{text}");
    assert_eq!(origin.received().len(), 10);
}
