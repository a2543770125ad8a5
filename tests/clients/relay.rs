//! Relays that let a WebSocket program which knows neither TLS nor HTTP/2 take part: one between an agent's program and
//! the proxy, one between the proxy and an origin's program. They read the opening handshake; after it they copy bytes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode};
use rustls::pki_types::ServerName;
use sha1::Digest as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::stage::HOSTS;
use super::{RealKey, Stage};
use crate::support::origin::AUTHORITY;
use crate::support::raw::{authorization, trusting};

/// The host that is spoken to.
pub const HOST: &str = "api.example.com";

/// A running relay; it stops when the value is dropped.
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    _runtime: Runtime,
}

impl Relay {
    /// Takes plain WebSockets from an agent's program and opens each through the proxy, in a tunnel of its own.
    pub fn of_agent(stage: &Stage, version: u8) -> Self {
        let protocol: &[&str] = if version == 2 { &["h2"] } else { &["http/1.1"] };
        let tls = TlsConnector::from(trusting(&stage.home.path().join("ca.pem"), protocol));
        let (proxy, proof) = (stage.serve.proxy(), authorization(&stage.env()["HTTPS_PROXY"]));
        Self::start(move |stream| {
            let (tls, proof) = (tls.clone(), proof.clone());
            async move { ask(stream, proxy, &proof, tls, version).await }
        })
    }

    /// Takes WebSockets by TLS, demands the key, and hands them on to a plain server.
    pub fn of_origin(server: SocketAddr, key: &RealKey, version: u8) -> Self {
        let protocol: &[&str] = if version == 2 { super::BOTH } else { super::H1 };
        let tls = TlsAcceptor::from(AUTHORITY.server(&HOSTS, protocol).unwrap());
        let wanted: Arc<str> = key.shown().into();
        Self::start(move |stream| {
            let (tls, wanted) = (tls.clone(), wanted.clone());
            async move {
                let stream = tls.accept(stream).await?;
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                if h2 { take_streams(stream, server, wanted).await } else { take(stream, server, &wanted).await }
            }
        })
    }

    fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A peer that goes away in the midst of it is what many cases are about.
                tokio::spawn(serve(stream));
            }
        });
        Self { address, _runtime: runtime }
    }
}

/// The head of a message of HTTP/1.1: its first line's words, and its fields.
struct Head {
    words: Vec<String>,
    fields: Vec<(String, String)>,
}

impl Head {
    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(stream.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut lines = text.lines();
        let words = lines.next().unwrap_or_default().splitn(3, ' ').map(str::to_owned).collect();
        let fields = lines.filter_map(|line| line.split_once(':')).map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned())).collect();
        Ok(Self { words, fields })
    }

    fn value(&self, name: &str) -> &str {
        self.fields.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// The fields that an extended CONNECT or its answer carries too.
    fn lasting(&self) -> impl Iterator<Item = (&str, &str)> {
        let gone = ["host", "connection", "upgrade", "sec-websocket-key", "sec-websocket-accept", "authorization"];
        self.fields.iter().filter(move |(n, _)| !gone.contains(&n.as_str())).map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// As a request for that host, with this key; without `Authorization`.
    fn request(&self, host: &str, key: &str) -> String {
        let mut text =
            format!("GET {} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {key}\r\n", self.words[1]);
        self.lasting().for_each(|(n, v)| text.push_str(&format!("{n}: {v}\r\n")));
        text + "\r\n"
    }
}

/// `Sec-WebSocket-Accept` (RFC 6455 4.2.2).
pub fn accept_of(key: &str) -> String {
    let digest = sha1::Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// One WebSocket of an agent's program, through the proxy.
async fn ask(mut program: TcpStream, proxy: SocketAddr, proof: &str, tls: TlsConnector, version: u8) -> io::Result<()> {
    program.set_nodelay(true)?;
    let head = Head::read(&mut program).await?;
    let mut tunnel = TcpStream::connect(proxy).await?;
    tunnel.set_nodelay(true)?;
    tunnel.write_all(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nProxy-Authorization: {proof}\r\n\r\n").as_bytes()).await?;
    if Head::read(&mut tunnel).await?.words[1] != "200" {
        return Err(io::Error::other("CONNECT was refused"));
    }
    let mut secure = tls.connect(ServerName::try_from(HOST).unwrap(), tunnel).await?;
    if version == 1 {
        secure.write_all(head.request(HOST, head.value("sec-websocket-key")).as_bytes()).await?;
        return tokio::io::copy_bidirectional(&mut program, &mut secure).await.map(|_| ());
    }
    let (mut send, connection) = h2::client::handshake(secure).await.map_err(io::Error::other)?;
    let driver = tokio::spawn(connection);
    // The proxy's SETTINGS say whether it takes this; they come with its first bytes.
    let settled = async {
        while !send.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), settled).await?;
    let mut request =
        Request::builder().method(Method::CONNECT).uri(format!("https://{HOST}{}", head.words[1])).extension(Protocol::from_static("websocket"));
    for (name, value) in head.lasting() {
        request = request.header(name, value);
    }
    let (answer, up) = send.send_request(request.body(()).unwrap(), false).map_err(io::Error::other)?;
    let (parts, down) = answer.await.map_err(io::Error::other)?.into_parts();
    if parts.status != StatusCode::OK {
        program.write_all(format!("HTTP/1.1 {} Refused\r\nContent-Length: 0\r\n\r\n", parts.status.as_u16()).as_bytes()).await?;
        return Ok(());
    }
    let accept = accept_of(head.value("sec-websocket-key"));
    let mut text = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n");
    parts.headers.iter().for_each(|(n, v)| text.push_str(&format!("{n}: {}\r\n", v.to_str().unwrap_or_default())));
    program.write_all((text + "\r\n").as_bytes()).await?;
    let result = join(program, up, down).await;
    drop(send);
    driver.await?.map_err(io::Error::other)?;
    result
}

/// One connection of HTTP/1.1 from the proxy.
async fn take<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, server: SocketAddr, wanted: &str) -> io::Result<()> {
    let head = Head::read(&mut stream).await?;
    if head.value("authorization") != wanted {
        stream.write_all(b"HTTP/1.1 401 No Key\r\nContent-Length: 0\r\n\r\n").await?;
        return Ok(());
    }
    let mut program = TcpStream::connect(server).await?;
    program.set_nodelay(true)?;
    program.write_all(head.request(&server.to_string(), head.value("sec-websocket-key")).as_bytes()).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut program).await?;
    Ok(())
}

/// One connection of HTTP/2 from the proxy, with any number of WebSockets on it.
async fn take_streams<S: AsyncRead + AsyncWrite + Unpin>(stream: S, server: SocketAddr, wanted: Arc<str>) -> io::Result<()> {
    let mut connection = h2::server::Builder::new().enable_connect_protocol().handshake::<_, Bytes>(stream).await.map_err(io::Error::other)?;
    while let Some(next) = connection.accept().await {
        let (request, mut respond) = next.map_err(io::Error::other)?;
        let wanted = wanted.clone();
        tokio::spawn(async move {
            let right = request.extensions().get::<Protocol>().is_some_and(|p| p.as_str() == "websocket");
            let shown = request.headers().get("authorization").is_some_and(|v| v.as_bytes() == wanted.as_bytes());
            if right && shown {
                return take_stream(request, respond, server).await;
            }
            let refusal = Response::builder().status(if right { 401 } else { 400 }).body(()).unwrap();
            respond.send_response(refusal, true).map(|_| ()).map_err(io::Error::other)
        });
    }
    Ok(())
}

async fn take_stream(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, server: SocketAddr) -> io::Result<()> {
    let (parts, down) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", |t| t.as_str()).to_owned();
    let fields = parts.headers.iter().map(|(n, v)| (n.as_str().to_owned(), v.to_str().unwrap_or_default().to_owned())).collect();
    let head = Head { words: vec![String::new(), target], fields };
    let mut program = TcpStream::connect(server).await?;
    program.set_nodelay(true)?;
    program.write_all(head.request(&server.to_string(), "dGhlIHNhbXBsZSBub25jZQ==").as_bytes()).await?;
    let answer = Head::read(&mut program).await?;
    if answer.words[1] != "101" {
        let refusal = Response::builder().status(answer.words[1].as_str()).body(()).unwrap();
        return respond.send_response(refusal, true).map(|_| ()).map_err(io::Error::other);
    }
    let mut opened = Response::builder().status(200);
    for (name, value) in answer.lasting() {
        opened = opened.header(name, value);
    }
    let up = respond.send_response(opened.body(()).unwrap(), false).map_err(io::Error::other)?;
    join(program, up, down).await
}

/// Copies both ways between a program and a stream of HTTP/2, each way to its own end.
async fn join(program: TcpStream, mut up: SendStream<Bytes>, mut down: RecvStream) -> io::Result<()> {
    let (mut from, mut to) = program.into_split();
    let sending = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let got = from.read(&mut buffer).await?;
            // A relay need not wait for room: h2 keeps what the window does not take yet.
            up.send_data(Bytes::copy_from_slice(&buffer[..got]), got == 0).map_err(io::Error::other)?;
            if got == 0 {
                return Ok::<(), io::Error>(());
            }
        }
    };
    let receiving = async {
        while let Some(data) = down.data().await {
            let data = data.map_err(io::Error::other)?;
            to.write_all(&data).await?;
            let _ = down.flow_control().release_capacity(data.len());
        }
        to.shutdown().await
    };
    tokio::try_join!(sending, receiving).map(|_| ())
}
