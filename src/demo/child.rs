//! The demo's child: a plain HTTP client that knows its environment and nothing else.
//!
//! It is a process of its own, with no key in reach. It takes the proxy from `HTTPS_PROXY`, the trust anchors from
//! `SSL_CERT_FILE` and the placeholder from `OPENROUTER_API_KEY`, does the steps of [`super::steps`], and prints what it sent
//! and saw, one JSON object a line.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::{Deserialize, Serialize};

use super::steps::{STEPS, Step};
use crate::environment;

/// One line of the child's output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The names and values of its environment.
    Environment(Vec<(String, String)>),
    /// What came of a step.
    Done(Outcome),
}

/// What the child sent and saw in one step.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The header fields that it sent.
    pub sent: Vec<(String, String)>,
    /// The status; 0 where there was none.
    pub status: u16,
    /// The answer's head (names in lower case) and body, or what went wrong.
    pub answer: String,
}

/// Does the steps. `origins_ca` stands for the public authorities: a blind tunnel ends at an origin's own certificate.
///
/// # Errors
/// A line for a person, where the environment lacks something or standard output is gone.
pub fn run(origins_ca: &Path) -> Result<(), String> {
    let variables = environment::all().map(|(n, v)| (n.to_string_lossy().into_owned(), v.to_string_lossy().into_owned())).collect::<Vec<_>>();
    let client = Client::from_environment(origins_ca)?;
    let placeholder = environment::var("OPENROUTER_API_KEY").map(|v| v.to_string_lossy().into_owned());
    let mut lines = vec![Line::Environment(variables)];
    for step in STEPS {
        let sent = step.sent(placeholder.as_deref());
        let (status, answer) = client.ask(step, &sent).unwrap_or_else(|e| (0, e));
        lines.push(Line::Done(Outcome { sent, status, answer }));
    }
    let mut out = std::io::stdout().lock();
    for line in lines {
        let text = serde_json::to_string(&line).map_err(|e| e.to_string())?;
        writeln!(out, "{text}").map_err(|e| format!("standard output: {e}"))?;
    }
    Ok(())
}

/// Where to go and whom to trust.
struct Client {
    proxy: ProxyUrl,
    tls: Arc<ClientConfig>,
}

impl Client {
    fn from_environment(origins_ca: &Path) -> Result<Self, String> {
        let text = |name: &str| environment::var(name).map(|v| v.to_string_lossy().into_owned()).ok_or(format!("the child has no {name}"));
        let proxy = ProxyUrl::parse(&text("HTTPS_PROXY")?).ok_or("HTTPS_PROXY is no http:// URL with a host and a port")?;
        let mut roots = RootCertStore::empty();
        for file in [Path::new(&text("SSL_CERT_FILE")?), origins_ca] {
            let certificates = CertificateDer::pem_file_iter(file).map_err(|e| format!("{}: {e}", file.display()))?;
            roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        }
        Ok(Self { proxy, tls: client_config(roots) })
    }

    fn ask(&self, step: &Step, sent: &[(String, String)]) -> Result<(u16, String), String> {
        let stream = self.proxy.connect(step.host).map_err(|e| e.to_string())?;
        exchange(stream, &self.tls, step, sent)
    }
}

/// A client's TLS set-up with these anchors.
pub(super) fn client_config(roots: RootCertStore) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// One request over a stream that leads to the step's host, on a connection of its own.
pub(super) fn exchange(stream: TcpStream, tls: &Arc<ClientConfig>, step: &Step, sent: &[(String, String)]) -> Result<(u16, String), String> {
    let name = ServerName::try_from(step.host).map_err(|e| e.to_string())?;
    let session = ClientConnection::new(tls.clone(), name).map_err(|e| e.to_string())?;
    let mut stream = StreamOwned::new(session, stream);
    let mut head = format!("{} {} HTTP/1.1\r\n", step.method, step.target);
    for (name, value) in sent {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(step.body.as_bytes())).map_err(|e| format!("sending: {e}"))?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // A peer that closes without TLS's own farewell: the framing below says whether all came.
        Err(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Err(format!("reading: {e}")),
        _ => read_answer(&answer).ok_or_else(|| "the answer is no whole HTTP/1.1 response".to_owned()),
    }
}

/// The status, and the answer as text: field names in lower case, chunks joined.
fn read_answer(bytes: &[u8]) -> Option<(u16, String)> {
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut slots);
    let httparse::Status::Complete(at) = head.parse(bytes).ok()? else { return None };
    let (mut text, mut chunked, mut length) = (String::new(), false, None);
    for field in head.headers.iter() {
        let (name, value) = (field.name.to_ascii_lowercase(), String::from_utf8_lossy(field.value).into_owned());
        chunked |= name == "transfer-encoding" && value.eq_ignore_ascii_case("chunked");
        if name == "content-length" {
            length = value.parse::<usize>().ok();
        }
        text.push_str(&format!("{name}: {value}\n"));
    }
    let body = if chunked { unchunk(&bytes[at..])? } else { bytes[at..].to_vec() };
    if !chunked && length.is_some_and(|l| l != body.len()) {
        return None;
    }
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(&body));
    Some((head.code?, text))
}

fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((at, size))) = httparse::parse_chunk_size(bytes) else { return None };
        let size = usize::try_from(size).ok()?;
        if size == 0 {
            return Some(out);
        }
        out.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
        bytes = bytes.get(at + size + 2..)?;
    }
}

/// A proxy's URL: where it is, and how to prove oneself there.
struct ProxyUrl {
    address: String,
    authorization: Option<String>,
}

impl ProxyUrl {
    fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?.trim_end_matches('/');
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let authorization = user.map(|u| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(u)));
        address.contains(':').then(|| Self { address: address.to_owned(), authorization })
    }

    /// A tunnel to the host's port 443.
    fn connect(&self, host: &str) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        stream.set_write_timeout(Some(Duration::from_secs(15)))?;
        let mut head = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n");
        if let Some(value) = &self.authorization {
            head.push_str(&format!("Proxy-Authorization: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        // A byte at a time: what follows the head belongs to TLS.
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while !answer.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte)? == 0 || answer.len() > 16 << 10 {
                return Err(std::io::Error::other("the proxy closed the connection"));
            }
            answer.push(byte[0]);
        }
        let first = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        if first.split(' ').nth(1) == Some("200") { Ok(stream) } else { Err(std::io::Error::other(format!("CONNECT: {first}"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_url_is_read() {
        let url = ProxyUrl::parse("http://default:tok@127.0.0.1:8877").expect("a URL");
        assert_eq!((url.address.as_str(), url.authorization.as_deref()), ("127.0.0.1:8877", Some("Basic ZGVmYXVsdDp0b2s=")));
        assert!(ProxyUrl::parse("http://h").is_none() && ProxyUrl::parse("socks5://h:1").is_none());
    }

    #[test]
    fn an_answer_must_be_whole() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(read_answer(chunked), Some((200, "transfer-encoding: chunked\n\nabc".to_owned())));
        assert_eq!(read_answer(&chunked[..chunked.len() - 5]), None);
        assert_eq!(read_answer(b"HTTP/1.1 402 X\r\nContent-Length: 3\r\n\r\nab"), None);
        assert_eq!(read_answer(b"HTTP/1.1 402 X\r\nContent-Length: 2\r\n\r\nab"), Some((402, "content-length: 2\n\nab".to_owned())));
    }
}
