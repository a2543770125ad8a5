//! A connection to an origin, over TLS or not.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::tls::ReadAhead;

/// A connection to an origin, and the address it goes to.
pub struct UpstreamStream {
    inner: Inner,
    peer: SocketAddr,
}

enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<ReadAhead<TcpStream>>>),
}

impl UpstreamStream {
    pub(super) fn plain(stream: TcpStream, peer: SocketAddr) -> Self {
        Self { inner: Inner::Plain(stream), peer }
    }

    pub(super) fn tls(stream: TlsStream<ReadAhead<TcpStream>>, peer: SocketAddr) -> Self {
        Self { inner: Inner::Tls(Box::new(stream)), peer }
    }

    /// The address connected to.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the origin chose HTTP/2 by ALPN (RFC 9113 3.2).
    pub(super) fn is_h2(&self) -> bool {
        matches!(&self.inner, Inner::Tls(s) if s.get_ref().1.alpn_protocol() == Some(b"h2"))
    }

    /// Whether an idle connection is still of use: the origin has neither closed it nor sent anything.
    pub fn is_quiet(&mut self) -> bool {
        let mut byte = [0_u8; 1];
        let mut buf = ReadBuf::new(&mut byte);
        // The waker is replaced by the next real poll; here only the state counts, not what the task has used of its time.
        let looking = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *self).poll_read(cx, &mut buf).is_pending()));
        let looked = std::pin::pin!(tokio::task::unconstrained(looking)).poll(&mut Context::from_waker(Waker::noop()));
        matches!(looked, Poll::Ready(true))
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Inner::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Inner::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    /// A frame's head and its content go out in one TLS record, and one call.
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Inner::Tls(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.inner {
            Inner::Plain(s) => s.is_write_vectored(),
            Inner::Tls(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(s) => Pin::new(s).poll_flush(cx),
            Inner::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Inner::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
