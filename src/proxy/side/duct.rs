//! Raw bytes over one HTTP/2 stream: a WebSocket by extended CONNECT (RFC 8441), or a tunnel by CONNECT (RFC 9113 8.5).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::wire::Wire;

/// How much is sent at once.
const PIECE: usize = 64 * 1024;

/// A stream as a connection. Reading gives room back to the peer as bytes are taken; dropped before its end it resets the stream.
pub(crate) struct Duct {
    receiving: RecvStream,
    sending: SendStream<Bytes>,
    /// What came and was not yet taken.
    came: Bytes,
    closed: bool,
    /// What the stream keeps alive: a place on its connection.
    _kept: Option<Box<dyn Send + Sync>>,
}

impl Duct {
    pub(in crate::proxy) fn new(receiving: RecvStream, sending: SendStream<Bytes>) -> Self {
        Self { receiving, sending, came: Bytes::new(), closed: false, _kept: None }
    }

    /// The same, keeping something until the stream is over.
    pub(in crate::proxy) fn keeping(self, kept: Box<dyn Send + Sync>) -> Self {
        Self { _kept: Some(kept), ..self }
    }

    /// Breaks the stream off, as a connection is reset.
    pub(in crate::proxy) fn reset(&mut self, reason: Reason) {
        self.sending.send_reset(reason);
    }
}

/// A stream's end as a connection's: a reset is one too, and asks for no more than `NO_ERROR` or `CANCEL` say.
fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
    } else {
        io::Error::new(io::ErrorKind::ConnectionReset, error)
    }
}

impl AsyncRead for Duct {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.came.is_empty() {
            match ready!(self.receiving.poll_data(cx)) {
                Some(came) => self.came = came.map_err(broken)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = self.came.len().min(buf.remaining());
        buf.put_slice(&self.came[..taken]);
        self.came.advance(taken);
        self.receiving.flow_control().release_capacity(taken).map_err(broken)?;
        Poll::Ready(Ok(()))
    }
}

impl Wire for Duct {}

impl AsyncWrite for Duct {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wanted = bytes.len().min(PIECE);
        self.sending.reserve_capacity(wanted);
        let mut room = self.sending.capacity();
        while room == 0 {
            room = match ready!(self.sending.poll_capacity(cx)) {
                Some(room) => room.map_err(broken)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let sent = room.min(wanted);
        self.sending.send_data(Bytes::copy_from_slice(&bytes[..sent]), false).map_err(broken)?;
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own task sends what it was given.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            self.closed = true;
            self.sending.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}
