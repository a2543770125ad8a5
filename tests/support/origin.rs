//! An origin that records what reaches it, byte for byte, and answers as the test says.
//!
//! One listener takes both TLS and plain HTTP (the first byte tells), one thread a connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::Duration;

use keyhatch::demo::OriginAuthority;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The authority of all origins of this process.
pub static AUTHORITY: LazyLock<OriginAuthority> = LazyLock::new(|| OriginAuthority::new().unwrap());

/// A request as it reached the origin.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The head's bytes, the blank line included.
    pub head: Vec<u8>,
    /// The method.
    pub method: String,
    /// The target as it stood on the wire.
    pub target: String,
    /// All fields, in order, names as they stood on the wire.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body, as far as the handler read it.
    pub body: Vec<u8>,
    /// Trailer fields of a chunked body.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// Whether it came over TLS, and with which SNI.
    pub tls: bool,
    /// The SNI.
    pub sni: Option<String>,
    /// The number of the connection, from 0.
    pub connection: usize,
}

impl Recorded {
    /// The values of a field, whatever its case.
    pub fn values(&self, name: &str) -> Vec<String> {
        let found = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, v)| String::from_utf8_lossy(v).into_owned()).collect()
    }

    /// The one value of a field.
    #[track_caller]
    pub fn value(&self, name: &str) -> String {
        let values = self.values(name);
        assert_eq!(values.len(), 1, "one {name} in {}", String::from_utf8_lossy(&self.head));
        values[0].clone()
    }
}

type Handler = dyn Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync;

/// A running origin.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    handler: Box<Handler>,
    tls: Arc<ServerConfig>,
    recorded: Mutex<Vec<Recorded>>,
    accepted: AtomicUsize,
    handshakes: AtomicUsize,
    stopped: OnceLock<()>,
}

impl Origin {
    /// An origin whose certificate holds for these names.
    pub fn start(names: &[&str], handler: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::start_with_tls(AUTHORITY.server(names, &["http/1.1"]).unwrap(), handler)
    }

    /// An origin with a TLS set-up of the test's own.
    pub fn start_with_tls(tls: Arc<ServerConfig>, handler: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            tls,
            recorded: Mutex::default(),
            accepted: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            stopped: OnceLock::new(),
        });
        let own = shared.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if own.stopped.get().is_some() {
                    return;
                }
                let (shared, number) = (own.clone(), own.accepted.fetch_add(1, Ordering::SeqCst));
                // A peer that goes away mid-way is what many tests are about.
                std::thread::spawn(move || drop(serve(stream, &shared, number)));
            }
        });
        Self { address, shared }
    }

    /// An origin as OpenRouter: 401 without the key, else 200 with a little JSON.
    pub fn demanding(names: &[&str], key: &str) -> Self {
        let wanted = format!("Bearer {key}");
        Self::start(names, move |exchange| {
            exchange.read_body()?;
            if exchange.request.values("authorization") == [wanted.as_str()] {
                exchange.json(200, "{\"ok\":true}")
            } else {
                exchange.json(401, "{\"error\":{\"code\":401,\"message\":\"No auth credentials found\"}}")
            }
        })
    }

    /// An origin that answers 200 to everything.
    pub fn agreeable(names: &[&str]) -> Self {
        Self::start(names, |exchange| {
            exchange.read_body()?;
            exchange.json(200, "{\"ok\":true}")
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.shared.recorded.lock().unwrap().clone()
    }

    /// The last request so far.
    #[track_caller]
    pub fn last(&self) -> Recorded {
        self.recorded().pop().expect("a request reached the origin")
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared.recorded.lock().unwrap().clear();
    }

    /// TCP connections so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// TLS handshakes done so far.
    pub fn handshakes(&self) -> usize {
        self.shared.handshakes.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.shared.stopped.set(());
        let _ = TcpStream::connect(self.address);
    }
}

trait Wire: Read + Write + Send {
    /// What the layer under HTTP says at the end of this side's bytes.
    fn farewell(&mut self);
}

impl Wire for TcpStream {
    fn farewell(&mut self) {}
}

impl Wire for StreamOwned<ServerConnection, TcpStream> {
    fn farewell(&mut self) {
        self.conn.send_close_notify();
    }
}

fn serve(stream: TcpStream, shared: &Shared, connection: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut first = [0];
    if stream.peek(&mut first)? == 0 {
        return Ok(());
    }
    let socket = stream.try_clone()?;
    let (mut wire, tls, sni): (Box<dyn Wire>, bool, Option<String>) = if first[0] == 0x16 {
        let mut stream = StreamOwned::new(ServerConnection::new(shared.tls.clone()).map_err(io::Error::other)?, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        shared.handshakes.fetch_add(1, Ordering::SeqCst);
        let sni = stream.conn.server_name().map(str::to_owned);
        (Box::new(stream), true, sni)
    } else {
        (Box::new(stream), false, None)
    };
    loop {
        let Some(mut request) = read_head(&mut wire)? else { return Ok(()) };
        (request.tls, request.sni, request.connection) = (tls, sni.clone(), connection);
        let index = {
            let mut all = shared.recorded.lock().unwrap();
            all.push(request.clone());
            all.len() - 1
        };
        let mut exchange = Exchange { request, wire: &mut *wire, socket: &socket, body_read: false, close: false, shared, index };
        (shared.handler)(&mut exchange)?;
        if exchange.close {
            wire.flush()?;
            return socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// One request and the way to answer it.
pub struct Exchange<'a> {
    /// What came.
    pub request: Recorded,
    wire: &'a mut dyn Wire,
    socket: &'a TcpStream,
    body_read: bool,
    close: bool,
    shared: &'a Shared,
    index: usize,
}

impl Exchange<'_> {
    /// Reads the body to its end and records it.
    pub fn read_body(&mut self) -> io::Result<&[u8]> {
        let mut body = Vec::new();
        self.each_part(|part| body.extend_from_slice(part))?;
        self.request.body = body;
        self.record();
        Ok(&self.request.body)
    }

    /// Reads the body part by part without keeping it: its length.
    pub fn each_part(&mut self, mut part: impl FnMut(&[u8])) -> io::Result<u64> {
        if std::mem::replace(&mut self.body_read, true) {
            return Ok(0);
        }
        // RFC 9110 10.1.1: whoever reads the body answers the expectation first.
        if self.request.values("expect").iter().any(|v| v.eq_ignore_ascii_case("100-continue")) {
            self.write("HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut total = 0;
        let chunked = self.request.values("transfer-encoding").iter().any(|v| v.eq_ignore_ascii_case("chunked"));
        if !chunked {
            let length = self.request.values("content-length").first().map_or(0, |v| v.parse().unwrap());
            return copy(&mut self.wire, length, &mut part).map(|()| length);
        }
        loop {
            let line = read_line(&mut self.wire)?;
            let digits = line.split(';').next().unwrap_or_default().trim().to_owned();
            let size = u64::from_str_radix(&digits, 16).map_err(|e| io::Error::other(format!("chunk size {line:?}: {e}")))?;
            if size == 0 {
                break;
            }
            copy(&mut self.wire, size, &mut part)?;
            total += size;
            read_line(&mut self.wire)?;
        }
        loop {
            let line = read_line(&mut self.wire)?;
            let Some((name, value)) = line.split_once(':') else { break };
            self.request.trailers.push((name.to_owned(), value.trim().as_bytes().to_vec()));
        }
        self.record();
        Ok(total)
    }

    fn record(&self) {
        // The test may have forgotten the request meanwhile.
        if let Some(slot) = self.shared.recorded.lock().unwrap().get_mut(self.index) {
            *slot = self.request.clone();
        }
    }

    /// Bytes as they are.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.write_all(bytes.as_ref())?;
        self.wire.flush()
    }

    /// Bytes from the peer as they are (after an upgrade, or within a body).
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wire.read(buffer)
    }

    /// A whole answer.
    pub fn answer(&mut self, status: u16, fields: &str, body: &[u8]) -> io::Result<()> {
        let head = format!("HTTP/1.1 {status} Said\r\n{fields}content-length: {}\r\n\r\n", body.len());
        self.wire.write_all(head.as_bytes())?;
        self.write(body)
    }

    /// A whole answer in JSON.
    pub fn json(&mut self, status: u16, body: &str) -> io::Result<()> {
        self.answer(status, "content-type: application/json\r\n", body.as_bytes())
    }

    /// Says TLS's farewell, or closes this half of a plain connection: nothing more is written, and what comes is still read.
    pub fn close_half(&mut self) -> io::Result<()> {
        self.wire.farewell();
        self.wire.flush()?;
        self.socket.shutdown(std::net::Shutdown::Write)
    }

    /// The connection ends after this answer, without TLS's farewell.
    pub fn close(&mut self) {
        self.close = true;
    }

    /// Waits until the peer has gone away; fails after the limit.
    pub fn wait_for_end(&mut self, limit: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(limit))?;
        match self.wire.read(&mut [0; 1024]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(io::Error::other("the peer sent more")),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Err(e),
            Err(_) => Ok(()),
        }
    }
}

fn copy(wire: &mut impl Read, mut left: u64, part: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    while left > 0 {
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let got = wire.read(&mut buffer[..want])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        part(&buffer[..got]);
        left -= got as u64;
    }
    Ok(())
}

/// A line without its CRLF.
pub fn read_line(wire: &mut impl Read) -> io::Result<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") {
        wire.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    line.truncate(line.len() - 2);
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// A head up to its blank line; `None` at the end of the stream.
fn read_head(wire: &mut impl Read) -> io::Result<Option<Recorded>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match wire.read(&mut byte) {
            Ok(0) => return Ok(None),
            Err(e) if head.is_empty() && e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
            Ok(_) => head.push(byte[0]),
        }
    }
    let mut slots = [httparse::EMPTY_HEADER; 256];
    let mut parsed = httparse::Request::new(&mut slots);
    parsed.parse(&head).map_err(io::Error::other)?;
    Ok(Some(Recorded {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        fields: parsed.headers.iter().map(|f| (f.name.to_owned(), f.value.to_vec())).collect(),
        body: Vec::new(),
        trailers: Vec::new(),
        tls: false,
        sni: None,
        connection: 0,
        head,
    }))
}
