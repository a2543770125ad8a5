//! The ways in: a client's connection over TCP, a Unix socket, or TLS, or one HTTP/2 stream of one.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::side::Duct;
use super::splice::Socket;
use super::wire::Wire;
use crate::host::{Authority, Host};
use crate::tls::ReadAhead;

/// A client's connection to one of the proxy's listeners.
pub(crate) enum ClientStream {
    /// `listen = "IP:PORT"`.
    Tcp(TcpStream),
    /// `listen = "unix:/path"`.
    Unix(UnixStream),
    /// `tls_listen`.
    Tls(Box<TlsStream<TcpStream>>),
    /// A CONNECT over HTTP/2 on one of these.
    Stream(Box<Duct>),
}

/// What a client takes this proxy for: the address that it connected to, and the name that it asked for in TLS.
pub(crate) struct Reached {
    address: Option<SocketAddr>,
    name: Option<Host>,
}

impl Reached {
    /// Whether an authority means this proxy.
    pub(crate) fn is(&self, authority: &Authority) -> bool {
        let Some(address) = self.address.filter(|address| address.port() == authority.port) else { return false };
        let ip = address.ip().to_canonical();
        match &authority.host {
            Host::Ip(named) => named.to_canonical() == ip,
            host @ Host::Dns(name) => self.name.as_ref() == Some(host) || (ip.is_loopback() && **name == *"localhost"),
        }
    }
}

impl ClientStream {
    /// What the client takes this proxy for.
    pub(crate) fn reached(&self) -> Reached {
        let (tcp, name) = match self {
            Self::Tcp(tcp) => (Some(tcp), None),
            Self::Tls(tls) => (Some(tls.get_ref().0), tls.get_ref().1.server_name()),
            Self::Unix(_) | Self::Stream(_) => (None, None),
        };
        Reached { address: tcp.and_then(|tcp| tcp.local_addr().ok()), name: name.and_then(|name| Host::parse(name).ok()) }
    }

    /// The socket, where the connection is nothing else.
    pub(super) fn socket(&self) -> Option<Socket<'_>> {
        match self {
            Self::Tcp(tcp) => Some(Socket::Tcp(tcp)),
            Self::Unix(unix) => Some(Socket::Unix(unix)),
            Self::Tls(_) | Self::Stream(_) => None,
        }
    }

    /// Says, where that can be said, that the other end of a tunnel failed (RFC 9113 8.5).
    pub(crate) fn fail(&mut self) {
        if let Self::Stream(duct) = self {
            duct.reset(h2::Reason::CONNECT_ERROR);
        }
    }
}

macro_rules! each {
    ($self:expr, $s:ident => $call:expr) => {
        match $self.get_mut() {
            ClientStream::Tcp($s) => $call,
            ClientStream::Unix($s) => $call,
            ClientStream::Tls($s) => $call,
            ClientStream::Stream($s) => $call,
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
            Self::Stream(s) => s.is_hung_up(),
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
