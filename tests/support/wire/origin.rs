//! An origin whose handlers do not know which version of HTTP they speak, and which records what reaches it in one form.

use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::super::origin::AUTHORITY;
use super::{Ending, Fields, Head, Protocol, origin_h1, origin_h2, values};

/// A request as it reached the origin.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The version that it came by.
    pub protocol: Protocol,
    /// The number of its connection, from 0.
    pub connection: usize,
    /// The method.
    pub method: String,
    /// `:scheme`; `https` over HTTP/1.1, which does not say.
    pub scheme: String,
    /// `:authority`, or `Host`.
    pub authority: String,
    /// Path and query, or `*`.
    pub target: String,
    /// The fields but `Host`.
    pub fields: Fields,
    /// The body as far as the handler read it.
    pub body: Vec<u8>,
    /// Trailers, where there were any.
    pub trailers: Option<Fields>,
    /// How the request ended.
    pub ending: Ending,
}

impl Seen {
    /// The one value of a field, as text.
    pub fn value(&self, name: &str) -> Option<String> {
        values(&self.fields, name).first().map(|v| String::from_utf8_lossy(v).into_owned())
    }
}

/// What an origin offers.
#[derive(Debug, Clone)]
pub struct Offer {
    /// By ALPN, the first the dearest.
    pub alpn: Vec<Protocol>,
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`.
    pub streams: Option<u32>,
    /// The window of each HTTP/2 stream for requests' bodies, in bytes.
    pub window: u32,
    /// Whether it has extended CONNECT (RFC 8441).
    pub connect_protocol: bool,
}

impl Offer {
    /// One protocol, the settings of everyday.
    pub fn of(protocol: Protocol) -> Self {
        Self { alpn: vec![protocol], streams: None, window: 256 << 10, connect_protocol: false }
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<(), Ending>> + Send>>;
pub(super) type Handler = dyn Fn(Turn) -> Answering + Send + Sync;

pub(super) struct Shared {
    pub handler: Box<Handler>,
    pub offer: Offer,
    pub seen: Mutex<Vec<Seen>>,
    accepted: AtomicUsize,
    open: Arc<AtomicUsize>,
}

/// A running origin; it ends with the runtime.
pub struct WireOrigin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl WireOrigin {
    /// An origin whose certificate holds for these names.
    pub async fn start<F, A>(names: &[&str], offer: Offer, handler: F) -> Self
    where
        F: Fn(Turn) -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), Ending>> + Send + 'static,
    {
        let alpn = offer.alpn.iter().map(|p| p.alpn()).collect::<Vec<_>>();
        let tls = TlsAcceptor::from(AUTHORITY.server(names, &alpn).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler: Box<Handler> = Box::new(move |turn| Box::pin(handler(turn)));
        let shared = Arc::new(Shared { handler, offer, seen: Mutex::default(), accepted: AtomicUsize::new(0), open: Arc::default() });
        let own = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls, number) = (own.clone(), tls.clone(), own.accepted.fetch_add(1, Ordering::SeqCst));
                shared.open.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let open = Open(shared.open.clone());
                    // A peer that goes away is what many tests are about.
                    let _ = serve(stream, tls, shared, number).await;
                    drop(open);
                });
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The requests so far whose field has this value.
    pub fn seen_with(&self, name: &str, value: &str) -> Vec<Seen> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().filter(|s| values(&s.fields, name) == [value.as_bytes()]).cloned().collect()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
    }

    /// TCP connections so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// TCP connections that are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>, connection: usize) -> Result<(), Ending> {
    stream.set_nodelay(true)?;
    let (stream, socket) = twice(stream)?;
    let stream = tls.accept(stream).await?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        origin_h2::serve(stream, socket, shared, connection).await
    } else {
        origin_h1::serve(stream, socket, shared, connection).await
    }
}

/// The stream, and a handle by which its connection can be cut under it.
pub(super) fn twice(stream: TcpStream) -> std::io::Result<(TcpStream, Socket)> {
    let stream = stream.into_std()?;
    let socket = Socket(Arc::new(stream.try_clone()?));
    Ok((TcpStream::from_std(stream)?, socket))
}

/// The TCP connection under everything.
#[derive(Clone)]
pub struct Socket(Arc<std::net::TcpStream>);

impl Socket {
    /// Ends the connection both ways at once, without a word of TLS or HTTP.
    pub fn cut(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// One request and the way to answer it.
pub struct Turn {
    /// The request's head, and of its body what was read.
    pub request: Seen,
    /// Whether the body's bytes are kept in the record.
    pub keep: bool,
    /// How many bytes of the body were read.
    pub received: usize,
    pub(super) side: Side,
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
    pub(super) socket: Socket,
}

pub(super) enum Side {
    H1(origin_h1::Side),
    H2(origin_h2::Side),
}

impl Turn {
    pub(super) fn new(request: Seen, side: Side, shared: Arc<Shared>, socket: Socket) -> Self {
        let mut seen = shared.seen.lock().unwrap();
        seen.push(request.clone());
        let index = seen.len() - 1;
        drop(seen);
        Self { request, keep: true, received: 0, side, shared, index, socket }
    }

    /// The next piece of the body, whose room in the window is given back at once; `None` at the end.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Ending> {
        let piece = match &mut self.side {
            Side::H1(side) => side.read().await,
            Side::H2(side) => side.read().await,
        };
        match &piece {
            Ok(Some(piece)) => {
                self.received += piece.len();
                if self.keep {
                    self.request.body.extend_from_slice(piece);
                }
            }
            Ok(None) => {
                self.request.ending = Ending::Whole;
                self.request.trailers = match &mut self.side {
                    Side::H1(side) => side.trailers(),
                    Side::H2(side) => side.trailers.take(),
                };
                self.record();
            }
            Err(ending) => {
                self.request.ending = *ending;
                self.record();
            }
        }
        piece
    }

    /// Reads the body to its end.
    pub async fn read_all(&mut self) -> Result<(), Ending> {
        while self.read().await?.is_some() {}
        Ok(())
    }

    fn record(&self) {
        // The test may have forgotten the request meanwhile.
        let mut seen = self.shared.seen.lock().unwrap();
        if let Some(slot) = seen.get_mut(self.index).filter(|s| s.fields == self.request.fields) {
            *slot = self.request.clone();
        }
    }

    /// An interim answer.
    pub async fn interim(&mut self, status: u16, fields: &Fields) -> Result<(), Ending> {
        match &mut self.side {
            Side::H1(side) => side.interim(status, fields).await,
            Side::H2(side) => side.interim(status, fields),
        }
    }

    /// The head of the answer; `end` where nothing follows. HTTP/1.1 frames by `Content-Length` where it is there, until the end of the
    /// connection where `Connection: close` is, by chunks otherwise.
    pub async fn head(&mut self, head: &Head, end: bool) -> Result<(), Ending> {
        let bodiless = self.request.method == "HEAD" || matches!(head.status, 204 | 304);
        match &mut self.side {
            Side::H1(side) => side.head(head, end, bodiless).await,
            Side::H2(side) => side.head(head, end),
        }
    }

    /// A piece of the answer's body: it returns once the peer's windows have taken all of it.
    pub async fn data(&mut self, data: impl Into<Bytes>) -> Result<(), Ending> {
        self.data_counted(data, &AtomicUsize::new(0)).await
    }

    /// The same; what has been taken so far is added to the counter as it is taken.
    pub async fn data_counted(&mut self, data: impl Into<Bytes>, taken: &AtomicUsize) -> Result<(), Ending> {
        match &mut self.side {
            Side::H1(side) => side.data(data.into(), taken).await,
            Side::H2(side) => side.data(data.into(), taken).await,
        }
    }

    /// The end of the answer, with trailers where there are any.
    pub async fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Ending> {
        match &mut self.side {
            Side::H1(side) => side.finish(trailers).await,
            Side::H2(side) => side.finish(trailers),
        }
    }

    /// A whole answer of known length.
    pub async fn answer(&mut self, status: u16, body: &str) -> Result<(), Ending> {
        let fields = super::fields(&[("content-length", body.len().to_string().as_str())]);
        self.head(&Head { status, reason: "Said".to_owned(), fields }, false).await?;
        self.data(body.to_owned()).await?;
        self.finish(None).await
    }

    /// Ends the exchange amiss: `RST_STREAM` with the code; over HTTP/1.1 the connection ends.
    pub async fn reset(&mut self, code: u32) {
        match &mut self.side {
            Side::H1(_) => self.socket.cut(),
            Side::H2(side) => side.reset(code),
        }
    }

    /// Cuts the connection.
    pub fn cut(&self) {
        self.socket.cut();
    }

    /// Says that the connection takes no more requests: GOAWAY with what is under way left to end; over HTTP/1.1 it closes after the answer.
    pub fn go_away(&mut self) {
        match &mut self.side {
            Side::H1(side) => side.close_after(),
            Side::H2(side) => side.go_away(None),
        }
    }

    /// GOAWAY with this code, and the end of the connection; over HTTP/1.1 the end alone.
    pub fn go_away_at_once(&mut self, code: u32) {
        match &mut self.side {
            Side::H1(_) => self.socket.cut(),
            Side::H2(side) => side.go_away(Some(code)),
        }
    }

    /// Waits until the peer has reset the request or closed the connection.
    pub async fn gone(&mut self) -> Ending {
        match &mut self.side {
            Side::H1(side) => side.gone().await,
            Side::H2(side) => side.gone().await,
        }
    }
}
