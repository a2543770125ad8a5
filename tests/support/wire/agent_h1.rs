//! The agent over HTTP/1.1.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_rustls::client::TlsStream;

use super::agent::{Ask, Content};
use super::h1::{Framing, Reading, framing, write_chunk, write_head, write_last};
use super::origin::Socket;
use super::{Ending, Fields, Head, values};

type Stream = TlsStream<TcpStream>;

/// A connection, whose requests wait for one another.
#[derive(Clone)]
pub struct Connection {
    write: Arc<Mutex<WriteHalf<Stream>>>,
    read: Arc<Mutex<Reading<ReadHalf<Stream>>>>,
    socket: Socket,
}

/// The way of a request's body.
pub struct Up {
    write: OwnedMutexGuard<WriteHalf<Stream>>,
    chunked: bool,
    socket: Socket,
}

/// The way of an answer.
pub struct Down {
    read: OwnedMutexGuard<Reading<ReadHalf<Stream>>>,
    method: String,
    framing: Framing,
}

impl Connection {
    pub(super) fn new(stream: Stream, socket: Socket) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { write: Arc::new(Mutex::new(write)), read: Arc::new(Mutex::new(Reading::new(read))), socket }
    }

    pub(super) async fn begin(&self, host: &str, ask: &Ask) -> Result<(Up, Down), Ending> {
        let mut write = self.write.clone().lock_owned().await;
        let read = self.read.clone().lock_owned().await;
        let mut fields = vec![("host".to_owned(), host.as_bytes().to_vec())];
        fields.extend(ask.fields.iter().cloned());
        if !ask.cookies.is_empty() {
            fields.push(("cookie".to_owned(), ask.cookies.join("; ").into_bytes()));
        }
        let chunked = matches!(ask.content, Content::Unknown(_)) || ask.trailers.is_some();
        if chunked {
            fields.push(("transfer-encoding".to_owned(), b"chunked".to_vec()));
        } else if let Content::Length(body) = &ask.content {
            fields.push(("content-length".to_owned(), body.len().to_string().into_bytes()));
        }
        if !values(&ask.fields, "te").is_empty() {
            fields.push(("connection".to_owned(), b"TE".to_vec()));
        }
        write.write_all(&write_head(&format!("{} {} HTTP/1.1", ask.method, ask.target), &fields)).await?;
        write.flush().await?;
        let up = Up { write, chunked, socket: self.socket.clone() };
        Ok((up, Down { read, method: ask.method.clone(), framing: Framing::Over(None) }))
    }
}

impl Up {
    pub(super) async fn data(&mut self, data: &[u8]) -> Result<(), Ending> {
        if self.chunked {
            self.write.write_all(&write_chunk(data)).await?;
        } else {
            self.write.write_all(data).await?;
        }
        Ok(self.write.flush().await?)
    }

    pub(super) async fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Ending> {
        if self.chunked {
            self.write.write_all(&write_last(trailers.unwrap_or(&Fields::new()))).await?;
        }
        Ok(self.write.flush().await?)
    }

    pub(super) fn cut(&self) {
        self.socket.cut();
    }
}

impl Down {
    pub(super) async fn head(&mut self) -> Result<Head, Ending> {
        let (line, fields) = self.read.head().await?.ok_or(Ending::Cut)?;
        let mut parts = line.splitn(3, ' ').skip(1);
        let status = parts.next().and_then(|s| s.parse().ok()).ok_or(Ending::Cut)?;
        let reason = parts.next().unwrap_or_default().to_owned();
        let bodiless = self.method == "HEAD" || status < 200 || matches!(status, 204 | 304);
        self.framing = if bodiless { Framing::Over(None) } else { framing(&fields).unwrap_or(Framing::UntilClose) };
        Ok(Head { status, reason, fields })
    }

    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Ending> {
        Ok(self.read.piece(&mut self.framing).await?)
    }

    pub(super) fn trailers(&mut self) -> Option<Fields> {
        match &mut self.framing {
            Framing::Over(trailers) => trailers.take().filter(|t| !t.is_empty()),
            _ => None,
        }
    }
}
