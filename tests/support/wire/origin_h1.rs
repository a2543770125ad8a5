//! The origin's turn over HTTP/1.1.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_rustls::server::TlsStream;

use super::h1::{Framing, Reading, framing, write_chunk, write_head, write_last};
use super::origin::{Seen, Shared, Side as Sides, Socket, Turn};
use super::{Ending, Fields, Head, Protocol, values};

type Stream = TlsStream<TcpStream>;

struct Conn {
    read: Reading<ReadHalf<Stream>>,
    write: WriteHalf<Stream>,
    usable: bool,
}

/// One request of a connection, which it has for itself until its end.
pub struct Side {
    conn: OwnedMutexGuard<Conn>,
    request: Framing,
    chunked: bool,
    close: bool,
    over: bool,
}

pub(super) async fn serve(stream: Stream, socket: Socket, shared: Arc<Shared>, connection: usize) -> Result<(), Ending> {
    let (read, write) = tokio::io::split(stream);
    let conn = Arc::new(Mutex::new(Conn { read: Reading::new(read), write, usable: true }));
    loop {
        let mut own = conn.clone().lock_owned().await;
        if !own.usable {
            let _ = own.write.shutdown().await;
            socket.cut();
            return Ok(());
        }
        let Some((line, fields)) = own.read.head().await? else { return Ok(()) };
        own.usable = false;
        let mut parts = line.split(' ');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let host = values(&fields, "host").first().map(|v| String::from_utf8_lossy(v).into_owned());
        let seen = Seen {
            protocol: Protocol::H1,
            connection,
            method: part(),
            scheme: "https".to_owned(),
            authority: host.unwrap_or_default(),
            target: part(),
            fields: fields.iter().filter(|(name, _)| name != "host").cloned().collect(),
            body: Vec::new(),
            trailers: None,
            ending: Ending::Open,
        };
        let request = framing(&fields).unwrap_or(Framing::Over(None));
        let side = Side { conn: own, request, chunked: false, close: false, over: false };
        // Where it fails the connection is not used again: `usable` says so.
        let _ = (shared.handler)(Turn::new(seen, Sides::H1(side), shared.clone(), socket.clone())).await;
    }
}

impl Side {
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, Ending> {
        let piece = self.conn.read.piece(&mut self.request).await?;
        self.settle();
        Ok(piece)
    }

    pub(super) fn trailers(&mut self) -> Option<Fields> {
        match &mut self.request {
            Framing::Over(trailers) => trailers.take().filter(|t| !t.is_empty()),
            _ => None,
        }
    }

    /// The connection can be used again once both messages are whole.
    fn settle(&mut self) {
        self.conn.usable = self.over && !self.close && matches!(self.request, Framing::Length(0) | Framing::Over(_));
    }

    pub(super) fn close_after(&mut self) {
        self.close = true;
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        self.conn.write.write_all(bytes).await?;
        Ok(self.conn.write.flush().await?)
    }

    pub(super) async fn interim(&mut self, status: u16, fields: &Fields) -> Result<(), Ending> {
        self.write(&write_head(&format!("HTTP/1.1 {status} Interim"), fields)).await
    }

    pub(super) async fn head(&mut self, head: &Head, end: bool, bodiless: bool) -> Result<(), Ending> {
        let mut fields = head.fields.clone();
        self.close |= values(&fields, "connection").iter().any(|v| v.eq_ignore_ascii_case(b"close"));
        if framing(&fields).is_none() && !self.close && !bodiless {
            self.chunked = !end;
            let (name, value) = if end { ("content-length", "0") } else { ("transfer-encoding", "chunked") };
            fields.push((name.to_owned(), value.as_bytes().to_vec()));
        }
        self.write(&write_head(&format!("HTTP/1.1 {} {}", head.status, head.reason), &fields)).await?;
        self.over = end;
        self.settle();
        Ok(())
    }

    pub(super) async fn data(&mut self, data: Bytes, taken: &AtomicUsize) -> Result<(), Ending> {
        // Piece by piece, so that the count is near the truth.
        for piece in data.chunks(16 << 10) {
            if self.chunked {
                self.write(&write_chunk(piece)).await?;
            } else {
                self.write(piece).await?;
            }
            taken.fetch_add(piece.len(), Ordering::SeqCst);
        }
        Ok(())
    }

    pub(super) async fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Ending> {
        if self.chunked {
            self.write(&write_last(trailers.unwrap_or(&Fields::new()))).await?;
        }
        self.over = true;
        self.settle();
        Ok(())
    }

    pub(super) async fn gone(&mut self) -> Ending {
        self.conn.read.drain().await;
        Ending::Cut
    }
}
