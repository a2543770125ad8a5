//! An agent that asks in one form over HTTP/1.1 or HTTP/2, through the proxy or directly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::raw::trusting;
use super::origin::{Socket, twice};
use super::{Ending, Fields, Head, Protocol, agent_h1, agent_h2, patiently};

/// A request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// There is none.
    None,
    /// Its length is said beforehand.
    Length(Vec<u8>),
    /// It comes in pieces, and nobody knows how many.
    Unknown(Vec<Vec<u8>>),
}

/// A request.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The method.
    pub method: String,
    /// Path and query, or `*`.
    pub target: String,
    /// The fields but those that the connection makes (`Host`, framing, `Connection`).
    pub fields: Fields,
    /// Cookies: crumbs over HTTP/2, one field over HTTP/1.1.
    pub cookies: Vec<String>,
    /// The body.
    pub content: Content,
    /// Trailers.
    pub trailers: Option<Fields>,
}

impl Ask {
    /// A request without anything.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            fields: Fields::new(),
            cookies: Vec::new(),
            content: Content::None,
            trailers: None,
        }
    }

    /// A `GET`.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A `POST` with a body of known length.
    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { content: Content::Length(body.into()), ..Self::new("POST", target) }
    }

    /// With one more field.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Whether it waits for 100 before the body (RFC 9110 10.1.1).
    pub fn expects(&self) -> bool {
        self.fields.iter().any(|(name, _)| name == "expect")
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Interim answers.
    pub interim: Vec<Head>,
    /// The status; 0 where no head came.
    pub status: u16,
    /// The reason phrase (HTTP/1.1).
    pub reason: String,
    /// The fields.
    pub fields: Fields,
    /// The body as far as it came.
    pub body: Vec<u8>,
    /// Trailers, where there were any.
    pub trailers: Option<Fields>,
    /// How the answer ended.
    pub ending: Ending,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails unless it is whole, with this status and body.
    #[track_caller]
    pub fn expect(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.text().as_str(), self.ending), (status, body, Ending::Whole), "{self:?}");
    }
}

/// An agent of the running proxy, or a client that goes straight to the origin.
#[derive(Clone)]
pub struct WireAgent {
    /// The proxy, or the origin where there is no `authorization`.
    pub to: SocketAddr,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<String>,
    /// The file with the proxy's CA.
    pub ca: std::path::PathBuf,
    /// The window of an HTTP/2 stream for answers, in bytes.
    pub window: u32,
}

impl WireAgent {
    /// A connection to port 443 of the host that speaks this protocol.
    pub async fn open(&self, host: &str, protocol: Protocol) -> Line {
        self.try_open(host, protocol).await.unwrap_or_else(|e| panic!("{host} by {protocol:?}: {e}"))
    }

    /// The same where it may fail.
    pub async fn try_open(&self, host: &str, protocol: Protocol) -> std::io::Result<Line> {
        let (stream, socket) = self.stream(host, &[protocol]).await?;
        let chosen = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(chosen.as_deref(), Some(protocol.alpn().as_bytes()), "the protocol chosen for {host}");
        let kind = match protocol {
            Protocol::H1 => Kind::H1(agent_h1::Connection::new(stream, socket.clone())),
            Protocol::H2 => Kind::H2(agent_h2::Connection::new(stream, self.window).await?),
        };
        Ok(Line { host: host.to_owned(), kind, socket })
    }

    /// The tunnel and the TLS in it, on which nothing has been said yet.
    pub async fn stream(&self, host: &str, alpn: &[Protocol]) -> std::io::Result<(tokio_rustls::client::TlsStream<TcpStream>, Socket)> {
        let mut stream = TcpStream::connect(self.to).await?;
        stream.set_nodelay(true)?;
        if let Some(authorization) = &self.authorization {
            let head = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\nProxy-Authorization: {authorization}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(stream.read_u8().await?);
            }
            if !answer.starts_with(b"HTTP/1.1 200") {
                return Err(std::io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
            }
        }
        let (stream, socket) = twice(stream)?;
        let alpn = alpn.iter().map(|p| p.alpn()).collect::<Vec<_>>();
        let tls: Arc<ClientConfig> = trusting(&self.ca, &alpn);
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        Ok((TlsConnector::from(tls).connect(name, stream).await?, socket))
    }
}

/// A connection that requests go over: over HTTP/2 as many at once as wanted, over HTTP/1.1 one after the other.
#[derive(Clone)]
pub struct Line {
    host: String,
    kind: Kind,
    socket: Socket,
}

#[derive(Clone)]
enum Kind {
    H1(agent_h1::Connection),
    H2(agent_h2::Connection),
}

impl Line {
    /// Sends the head of a request; the body is the caller's to send.
    pub async fn begin(&self, ask: &Ask) -> Result<(Up, Down), Ending> {
        match &self.kind {
            Kind::H1(conn) => conn.begin(&self.host, ask).await.map(|(up, down)| (Up::H1(up), Down::H1(down))),
            Kind::H2(conn) => conn.begin(&self.host, ask).await.map(|(up, down)| (Up::H2(up), Down::H2(down))),
        }
    }

    /// A whole exchange, body and answer at once.
    pub async fn ask(&self, ask: &Ask) -> Answer {
        let nothing = Answer {
            interim: Vec::new(),
            status: 0,
            reason: String::new(),
            fields: Fields::new(),
            body: Vec::new(),
            trailers: None,
            ending: Ending::Open,
        };
        let (up, mut down) = match self.begin(ask).await {
            Ok(both) => both,
            Err(ending) => return Answer { ending, ..nothing },
        };
        let mut answer = nothing;
        patiently(&format!("{} {}", ask.method, ask.target), exchange(ask, up, &mut down, &mut answer)).await;
        answer
    }

    /// Goes away without a word: the TCP connection ends.
    pub fn vanish(&self) {
        self.socket.cut();
    }
}

async fn exchange(ask: &Ask, mut up: Up, down: &mut Down, answer: &mut Answer) {
    if ask.expects() && !matches!(ask.content, Content::None) {
        while answer.status == 0 && !answer.interim.iter().any(|head| head.status == 100) {
            match down.head().await {
                Ok(head) => keep(head, answer),
                Err(ending) => return answer.ending = ending,
            }
        }
        if answer.status != 0 {
            // Refused: the body is not sent.
            body(down, answer).await;
            return up.give_up().await;
        }
    }
    let send = async {
        // Whoever has answered early may have stopped reading.
        let _ = up.send(ask).await;
    };
    tokio::join!(send, rest(down, answer));
}

async fn rest(down: &mut Down, answer: &mut Answer) {
    while answer.status == 0 {
        match down.head().await {
            Ok(head) => keep(head, answer),
            Err(ending) => return answer.ending = ending,
        }
    }
    body(down, answer).await;
}

fn keep(head: Head, answer: &mut Answer) {
    if head.status < 200 {
        answer.interim.push(head);
    } else {
        (answer.status, answer.reason, answer.fields) = (head.status, head.reason, head.fields);
    }
}

async fn body(down: &mut Down, answer: &mut Answer) {
    loop {
        match down.piece().await {
            Ok(Some(piece)) => answer.body.extend_from_slice(&piece),
            Ok(None) => {
                answer.trailers = down.trailers();
                answer.ending = Ending::Whole;
                return;
            }
            Err(ending) => return answer.ending = ending,
        }
    }
}

/// The way of a request's body.
pub enum Up {
    /// Over HTTP/1.1.
    H1(agent_h1::Up),
    /// Over HTTP/2.
    H2(agent_h2::Up),
}

impl Up {
    /// A piece of the body: it returns once the peer's windows have taken all of it.
    pub async fn data(&mut self, data: impl Into<Bytes>) -> Result<(), Ending> {
        self.data_counted(data, &AtomicUsize::new(0)).await
    }

    /// The same; what has been taken so far is added to the counter as it is taken.
    pub async fn data_counted(&mut self, data: impl Into<Bytes>, taken: &AtomicUsize) -> Result<(), Ending> {
        let mut data = data.into();
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(16 << 10));
            let size = piece.len();
            match self {
                Self::H1(up) => up.data(&piece).await?,
                Self::H2(up) => up.data(piece).await?,
            }
            taken.fetch_add(size, Ordering::SeqCst);
        }
        Ok(())
    }

    /// The end of the body, with trailers where there are any.
    pub async fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Ending> {
        match self {
            Self::H1(up) => up.finish(trailers).await,
            Self::H2(up) => up.finish(trailers),
        }
    }

    /// Gives the request up: `RST_STREAM` with the code; over HTTP/1.1 the connection ends.
    pub async fn reset(&mut self, code: u32) {
        match self {
            Self::H1(up) => up.cut(),
            Self::H2(up) => up.reset(code),
        }
    }

    async fn send(&mut self, ask: &Ask) -> Result<(), Ending> {
        match &ask.content {
            Content::None => {}
            Content::Length(body) => self.data(body.clone()).await?,
            Content::Unknown(pieces) => {
                for piece in pieces {
                    self.data(piece.clone()).await?;
                }
            }
        }
        self.finish(ask.trailers.as_ref()).await
    }

    /// A body that is not to be sent after all: `CANCEL` over HTTP/2; over HTTP/1.1 the connection is of no use after the answer.
    async fn give_up(&mut self) {
        if let Self::H2(_) = self {
            self.reset(8).await;
        }
    }
}

/// The way of an answer.
pub enum Down {
    /// Over HTTP/1.1.
    H1(agent_h1::Down),
    /// Over HTTP/2.
    H2(agent_h2::Down),
}

impl Down {
    /// The next head, interim or final.
    pub async fn head(&mut self) -> Result<Head, Ending> {
        match self {
            Self::H1(down) => down.head().await,
            Self::H2(down) => down.head().await,
        }
    }

    /// The next piece of the body, whose room in the window is given back at once; `None` at the end.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Ending> {
        match self {
            Self::H1(down) => down.piece().await,
            Self::H2(down) => down.piece().await,
        }
    }

    /// The trailers, after the end.
    pub fn trailers(&mut self) -> Option<Fields> {
        match self {
            Self::H1(down) => down.trailers(),
            Self::H2(down) => down.trailers.take(),
        }
    }
}
