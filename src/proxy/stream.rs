//! The ways in: a client's connection over TCP, a Unix socket, or TLS.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::wire::Wire;
use crate::tls::ReadAhead;

/// A client's connection to one of the proxy's listeners.
pub(crate) enum ClientStream {
    /// `listen = "IP:PORT"`.
    Tcp(TcpStream),
    /// `listen = "unix:/path"`.
    Unix(UnixStream),
    /// `tls_listen`.
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! each {
    ($self:expr, $s:ident => $call:expr) => {
        match $self.get_mut() {
            ClientStream::Tcp($s) => $call,
            ClientStream::Unix($s) => $call,
            ClientStream::Tls($s) => $call,
        }
    };
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_shutdown(cx))
    }
}

impl Wire for ClientStream {
    fn is_hung_up(&self) -> bool {
        match self {
            Self::Tcp(s) => is_closed_by_peer(s),
            Self::Unix(s) => is_closed_by_peer(s),
            Self::Tls(s) => is_closed_by_peer(s.get_ref().0),
        }
    }
}

/// TLS inside a tunnel.
impl Wire for TlsStream<ReadAhead<ClientStream>> {
    fn is_hung_up(&self) -> bool {
        self.get_ref().0.get_ref().is_hung_up()
    }
}

impl Wire for ReadAhead<ClientStream> {
    fn is_hung_up(&self) -> bool {
        self.get_ref().is_hung_up()
    }
}

fn is_closed_by_peer(socket: &impl AsFd) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&at_once)).is_ok() && asked[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
}
