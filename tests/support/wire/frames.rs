//! HTTP/2 frame by frame, for peers that break its rules (RFC 9113 4.1, 6).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::super::origin::AUTHORITY;
use super::origin::{Socket, twice};

/// `DATA`.
pub const DATA: u8 = 0;
/// `HEADERS`.
pub const HEADERS: u8 = 1;
/// `RST_STREAM`.
pub const RST_STREAM: u8 = 3;
/// `SETTINGS`.
pub const SETTINGS: u8 = 4;
/// `PUSH_PROMISE`.
pub const PUSH_PROMISE: u8 = 5;
/// `PING`.
pub const PING: u8 = 6;
/// `GOAWAY`.
pub const GOAWAY: u8 = 7;
/// `WINDOW_UPDATE`.
pub const WINDOW_UPDATE: u8 = 8;
/// `CONTINUATION`.
pub const CONTINUATION: u8 = 9;

/// `END_STREAM`, and `ACK`.
pub const END_STREAM: u8 = 1;
/// `END_HEADERS`.
pub const END_HEADERS: u8 = 4;

/// What an agent sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `:status: 200` in HPACK, from the static table.
pub const STATUS_200: &[u8] = &[0x88];

/// One frame.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream, 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GOAWAY` with the last stream and a code.
pub fn go_away(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// `RST_STREAM` with a code.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// A field in HPACK, without the tables and without Huffman's code (RFC 7541 6.2.2).
pub fn field(name: &str, value: &str) -> Vec<u8> {
    [vec![0], text(name), text(value)].concat()
}

/// A string in HPACK (RFC 7541 5.1, 5.2).
pub fn text(text: &str) -> Vec<u8> {
    let mut out = vec![u8::try_from(text.len()).map_or(127, |n| n.min(127))];
    if let Some(mut rest) = text.len().checked_sub(127) {
        while rest >= 128 {
            out.push(0x80 | (rest % 128) as u8);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text.as_bytes());
    out
}

/// A whole answer: 200 with this body.
pub fn answer(stream: u32, body: &str) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, STATUS_200), frame(DATA, END_STREAM, stream, body.as_bytes())].concat()
}

/// Reads one frame.
pub async fn read_frame(io: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Frame> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    io.read_exact(&mut payload).await?;
    Ok(Frame { kind: head[3], flags: head[4], stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]), payload })
}

/// One end of a connection, the preface and the settings exchanged.
pub struct RawPeer<S> {
    /// The connection.
    pub io: S,
    /// The TCP connection under it.
    pub socket: Socket,
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawPeer<S> {
    /// Bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// The next frame that is no housekeeping; settings and pings are acknowledged.
    pub async fn next(&mut self) -> std::io::Result<Frame> {
        loop {
            let found = read_frame(&mut self.io).await?;
            match (found.kind, found.flags & 1) {
                (SETTINGS, 0) => self.send(&frame(SETTINGS, 1, 0, &[])).await?,
                (PING, 0) => self.send(&frame(PING, 1, 0, &found.payload)).await?,
                (SETTINGS | PING | WINDOW_UPDATE | 2, _) => {}
                _ => return Ok(found),
            }
        }
    }
}

/// An origin's end.
pub type RawServer = RawPeer<TlsStream<TcpStream>>;

/// An origin whose connections a function has for itself, after the settings are sent. It ends with the runtime.
pub struct RawOrigin {
    /// Where it listens.
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl RawOrigin {
    /// An origin whose certificate holds for these names.
    pub async fn start<F, A>(names: &[&str], serve: F) -> Self
    where
        F: Fn(RawServer) -> A + Send + Sync + 'static,
        A: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let tls = TlsAcceptor::from(AUTHORITY.server(names, &["h2"]).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (serve, accepted) = (Arc::new(serve), Arc::new(AtomicUsize::new(0)));
        let count = accepted.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (serve, tls) = (serve.clone(), tls.clone());
                tokio::spawn(async move {
                    let (stream, socket) = twice(stream)?;
                    let mut peer = RawPeer { io: tls.accept(stream).await?, socket };
                    let mut preface = vec![0; PREFACE.len()];
                    peer.io.read_exact(&mut preface).await?;
                    peer.send(&frame(SETTINGS, 0, 0, &[])).await?;
                    serve(peer).await
                });
            }
        });
        Self { address, accepted }
    }

    /// TCP connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}
