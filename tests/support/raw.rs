//! A client with control over every byte: CONNECT, TLS inside it, HTTP/1.1 inside that.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::origin::{AUTHORITY, read_line};
use super::{Home, Serve};

/// How long an answer may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An HTTP/1.1 answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// All fields, in order, as they stood on the wire.
    pub fields: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
}

impl Reply {
    /// The values of a field, whatever its case.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails unless this is the proxy's own answer of that code: status, `Proxy-Status`, JSON body, id.
    #[track_caller]
    pub fn expect_own(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let marks = self.values("proxy-status");
        assert!(marks.iter().any(|v| v.starts_with("keyhatch; error=")), "{self:?}");
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        let error = &body["error"];
        assert_eq!((error["type"].as_str(), error["code"].as_str()), (Some("keyhatch"), Some(code)), "{self:?}");
        assert!(error["message"].as_str().is_some_and(|m| m.len() > 10), "{self:?}");
        assert!(error["id"].as_str().is_some_and(|id| !id.is_empty()), "{self:?}");
    }
}

/// An agent: where its proxy is, how it proves itself, whom it trusts.
#[derive(Clone)]
pub struct Agent {
    /// The proxy.
    pub proxy: SocketAddr,
    /// The value of `Proxy-Authorization`.
    pub authorization: String,
    tls: Arc<ClientConfig>,
}

impl Agent {
    /// Agent `default` of a running `serve`.
    #[track_caller]
    pub fn new(home: &Home, serve: &Serve) -> Self {
        Self::from_url(home, serve, &serve.env["HTTPS_PROXY"])
    }

    /// Another agent.
    #[track_caller]
    pub fn named(home: &Home, serve: &Serve, name: &str) -> Self {
        Self::from_url(home, serve, &serve.env_for(home, name)["HTTPS_PROXY"])
    }

    /// The agent of a proxy URL.
    #[track_caller]
    pub fn from_url(home: &Home, serve: &Serve, url: &str) -> Self {
        Self { proxy: serve.proxy(), authorization: authorization(url), tls: trusting(&home.path().join("ca.pem"), &["http/1.1"]) }
    }

    /// A connection to the proxy.
    pub fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(self.proxy).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A CONNECT: the answer's head, and the stream after it.
    pub fn connect(&self, target: &str) -> (Reply, TcpStream) {
        self.try_connect(target).unwrap_or_else(|e| panic!("CONNECT {target}: {e}"))
    }

    /// The same where it may fail.
    pub fn try_connect(&self, target: &str) -> io::Result<(Reply, TcpStream)> {
        let mut stream = TcpStream::connect(self.proxy)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {}\r\n\r\n", self.authorization);
        stream.write_all(head.as_bytes())?;
        let reply = read_reply(&mut stream, Some("CONNECT"))?;
        Ok((reply, stream))
    }

    /// A CONNECT that must succeed, and the handshake inside.
    #[track_caller]
    pub fn open(&self, target: &str) -> Conn {
        self.try_open(target).unwrap_or_else(|e| panic!("{target}: {e}"))
    }

    /// The same where it may fail.
    pub fn try_open(&self, target: &str) -> io::Result<Conn> {
        let (reply, stream) = self.try_connect(target)?;
        if reply.status != 200 {
            return Err(io::Error::other(format!("CONNECT: {} {}", reply.status, reply.reason)));
        }
        let host = target.rsplit_once(':').unwrap().0.trim_matches(['[', ']']);
        self.handshake(stream, host.strip_suffix('.').unwrap_or(host), true)
    }

    /// A handshake for the name on a stream.
    pub fn handshake(&self, stream: TcpStream, name: &str, sni: bool) -> io::Result<Conn> {
        let mut tls = (*self.tls).clone();
        tls.enable_sni = sni;
        handshake(stream, name, Arc::new(tls))
    }

    /// One `GET` on a tunnel of its own.
    #[track_caller]
    pub fn get(&self, host: &str, target: &str) -> Reply {
        self.open(&format!("{host}:443")).get(host, target)
    }

    /// One request in absolute form to the proxy itself.
    pub fn absolute(&self, head: &str) -> Reply {
        let mut stream = self.dial();
        stream.write_all(head.replace("{auth}", &self.authorization).as_bytes()).unwrap();
        read_reply(&mut stream, None).unwrap()
    }
}

/// What `Proxy-Authorization` says for a proxy URL.
#[track_caller]
pub fn authorization(url: &str) -> String {
    let user = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).unwrap_or_else(|| panic!("a user in {url}")).0;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(user))
}

/// A TLS set-up that trusts the CA in the file, and the tests' origins (which stand for the public ones).
pub fn trusting(ca: &Path, alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(AUTHORITY.der().clone()).unwrap();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn handshake(stream: TcpStream, name: &str, tls: Arc<ClientConfig>) -> io::Result<Conn> {
    let name = ServerName::try_from(name.to_ascii_lowercase()).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(ClientConnection::new(tls, name).map_err(io::Error::other)?, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Conn { stream })
}

/// A connection inside a tunnel.
pub struct Conn {
    /// The stream itself.
    pub stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Conn {
    /// Whether the other end is the proxy (a minted leaf) and not the origin itself.
    pub fn intercepted(&self) -> bool {
        let leaf = &self.stream.conn.peer_certificates().unwrap()[0];
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf).unwrap();
        let (_, origins) = x509_parser::parse_x509_certificate(AUTHORITY.der()).unwrap();
        leaf.issuer() != origins.subject()
    }

    /// Bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// The same where it may fail.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// The next answer.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        self.try_reply().unwrap_or_else(|e| panic!("no answer: {e}"))
    }

    /// The same where it may fail.
    pub fn try_reply(&mut self) -> io::Result<Reply> {
        read_reply(&mut self.stream, None)
    }

    /// A request as it stands, and its answer.
    #[track_caller]
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Reply {
        self.send(request);
        self.reply()
    }

    /// A plain `GET`.
    #[track_caller]
    pub fn get(&mut self, host: &str, target: &str) -> Reply {
        self.ask(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    /// Whether the other end closes within the limit without another word.
    pub fn closes_within(&mut self, limit: Duration) -> bool {
        self.stream.sock.set_read_timeout(Some(limit)).unwrap();
        match self.stream.read(&mut [0; 64]) {
            Ok(got) => got == 0,
            Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    /// What still comes until the end, however it ends.
    pub fn read_rest(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Reads until the text has come: a stream's events.
    #[track_caller]
    pub fn read_until(&mut self, text: &str) -> String {
        let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
        while !super::holds(&seen, text) {
            let got =
                self.stream.read(&mut buffer).unwrap_or_else(|e| panic!("waiting for {text:?} after {:?}: {e}", String::from_utf8_lossy(&seen)));
            assert!(got > 0, "the stream ended before {text:?}: {:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..got]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }
}

/// Reads one final answer (1xx are passed over). The answer to a CONNECT that succeeds has no body.
pub fn read_reply(wire: &mut impl Read, method: Option<&str>) -> io::Result<Reply> {
    loop {
        let reply = read_one(wire, method)?;
        if reply.status >= 200 || reply.status == 101 {
            return Ok(reply);
        }
    }
}

/// Reads the head of an answer only.
pub fn read_reply_head(wire: &mut impl Read) -> io::Result<Reply> {
    let first = read_line(wire)?;
    let mut parts = first.splitn(3, ' ');
    let status = parts.nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| io::Error::other(format!("no status line: {first:?}")))?;
    let reason = parts.next().unwrap_or_default().to_owned();
    Ok(Reply { status, reason, fields: read_fields(wire)?, body: Vec::new(), trailers: Vec::new() })
}

fn read_one(wire: &mut impl Read, method: Option<&str>) -> io::Result<Reply> {
    let mut reply = read_reply_head(wire)?;
    let bodiless =
        reply.status < 200 || matches!(reply.status, 204 | 304) || (method == Some("CONNECT") && reply.status == 200) || method == Some("HEAD");
    if bodiless {
        return Ok(reply);
    }
    if reply.values("transfer-encoding").iter().any(|v| v.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = read_line(wire)?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).map_err(io::Error::other)?;
            if size == 0 {
                break;
            }
            let start = reply.body.len();
            reply.body.resize(start + size, 0);
            wire.read_exact(&mut reply.body[start..])?;
            read_line(wire)?;
        }
        reply.trailers = read_fields(wire)?;
    } else if let Some(length) = reply.values("content-length").first().map(|v| v.parse::<usize>()) {
        reply.body = vec![0; length.map_err(io::Error::other)?];
        wire.read_exact(&mut reply.body)?;
    } else {
        match wire.read_to_end(&mut reply.body) {
            Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => return Err(e),
            _ => {}
        }
    }
    Ok(reply)
}

fn read_fields(wire: &mut impl Read) -> io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = read_line(wire)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(format!("no field: {line:?}")))?;
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}
