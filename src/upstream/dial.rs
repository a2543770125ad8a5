//! Dialling: a name is resolved once, every address it has is checked, and the checked address is the one connected to.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::guard::Guard;
use super::resolve::Resolver;
use super::stream::UpstreamStream;
use crate::host::{Authority, Host};
use crate::tls::{ClientTls, ReadAhead, describe_io_error};

/// The second address is tried when the first has not answered for so long (RFC 8305 5).
const STAGGER: Duration = Duration::from_millis(250);

/// What dialling depends on; made anew at every reload.
pub struct DialerSettings {
    /// `[resolve]`
    pub overrides: HashMap<Authority, Authority>,
    /// What addresses are judged by.
    pub guard: Guard,
    /// `[timeouts] connect`
    pub connect_timeout: Duration,
    /// `[timeouts] tls`
    pub tls_timeout: Duration,
    /// Whether a descriptor is one of the last, which are kept for other things.
    pub is_spare: fn(RawFd) -> bool,
    /// How origins are verified, and what they are offered.
    pub tls: ClientTls,
}

/// Opens connections to origins.
pub struct Dialer {
    settings: DialerSettings,
    resolver: Arc<Resolver>,
}

/// Why there is no connection. The detail is for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct DialError {
    /// Which kind.
    pub kind: DialErrorKind,
    /// What happened.
    pub detail: String,
    /// The address tried last, if it came to that.
    pub address: Option<SocketAddr>,
}

/// The kinds of [`DialError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialErrorKind {
    /// The name has no address, or the look-up failed.
    Dns,
    /// An address is off limits.
    PrivateAddress,
    /// Nobody accepted.
    Connect,
    /// Nobody answered in time.
    ConnectTimeout,
    /// TLS failed, or the certificate was refused.
    Tls,
    /// The TLS handshake took too long.
    TlsTimeout,
    /// This process has no descriptor for it.
    NoDescriptor,
}

impl DialError {
    pub(super) fn new(kind: DialErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), address: None }
    }

    pub(super) fn at(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }
}

impl Dialer {
    /// A dialer with these settings.
    #[must_use]
    pub fn new(settings: DialerSettings, resolver: Arc<Resolver>) -> Self {
        Self { settings, resolver }
    }

    /// Connects to an origin without TLS. `who` it is for: each agent's look-ups are its own.
    ///
    /// # Errors
    /// [`DialError`]: the look-up, the address check or the connection failed.
    pub async fn tcp(&self, authority: &Authority, who: &str) -> Result<(TcpStream, SocketAddr), DialError> {
        let addresses = self.addresses(authority, who).await?;
        let connecting = tokio::time::timeout(self.settings.connect_timeout, connect_any(&addresses, self.settings.is_spare));
        let (stream, peer) = match connecting.await {
            Ok(Ok(connected)) => connected,
            Ok(Err((error, address))) if is_exhausted(&error) => return Err(no_descriptor(authority).at(address)),
            Ok(Err((error, address))) => {
                return Err(DialError::new(DialErrorKind::Connect, format!("cannot connect to {authority}: {error}")).at(address));
            }
            Err(_) => {
                let detail = format!("{authority} did not answer within {:?}", self.settings.connect_timeout);
                return Err(DialError::new(DialErrorKind::ConnectTimeout, detail).at(addresses[0]));
            }
        };
        self.settings.guard.check_connected(peer, stream.local_addr().ok())?;
        prepare(&stream);
        Ok((stream, peer))
    }

    /// Connects to an origin for HTTP/1.1, over TLS with its certificate verified for the authority's host, or in plaintext.
    ///
    /// # Errors
    /// [`DialError`], also where the certificate is refused.
    pub async fn connect(&self, authority: &Authority, tls: bool, who: &str) -> Result<UpstreamStream, DialError> {
        if tls {
            return self.tls(authority, &self.settings.tls.http1, who).await;
        }
        let (stream, peer) = self.tcp(authority, who).await?;
        Ok(UpstreamStream::plain(stream, peer))
    }

    /// Connects to an origin over TLS, for HTTP/2 where it has that ([`UpstreamStream::is_h2`]).
    pub(super) async fn negotiate(&self, authority: &Authority, who: &str) -> Result<UpstreamStream, DialError> {
        self.tls(authority, &self.settings.tls.any, who).await
    }

    async fn tls(&self, authority: &Authority, client: &Arc<rustls::ClientConfig>, who: &str) -> Result<UpstreamStream, DialError> {
        let (stream, peer) = self.tcp(authority, who).await?;
        let name = match &authority.host {
            Host::Dns(name) => ServerName::try_from(name.to_string())
                .map_err(|_| DialError::new(DialErrorKind::Tls, format!("{name} cannot be a certificate's name")).at(peer))?,
            Host::Ip(ip) => ServerName::from(*ip),
        };
        let handshake = TlsConnector::from(Arc::clone(client)).connect(name, ReadAhead::new(Vec::new(), stream));
        match tokio::time::timeout(self.settings.tls_timeout, handshake).await {
            Ok(Ok(stream)) => Ok(UpstreamStream::tls(stream, peer)),
            Ok(Err(error)) => Err(DialError::new(DialErrorKind::Tls, format!("TLS with {authority} failed: {}", describe_io_error(&error))).at(peer)),
            Err(_) => {
                let detail = format!("the TLS handshake with {authority} took longer than {:?}", self.settings.tls_timeout);
                Err(DialError::new(DialErrorKind::TlsTimeout, detail).at(peer))
            }
        }
    }

    /// How long setting up may take beyond the connection.
    pub(super) fn tls_timeout(&self) -> Duration {
        self.settings.tls_timeout
    }

    /// No dial takes longer: the look-ups of the name and of Vault's, the connection, the handshake, what begins HTTP/2.
    pub(super) fn patience(&self) -> Duration {
        3 * self.settings.connect_timeout + 2 * self.settings.tls_timeout
    }

    /// The addresses to connect to, every one of them checked. An operator's override is exempt from what is public and what not.
    async fn addresses(&self, authority: &Authority, who: &str) -> Result<Vec<SocketAddr>, DialError> {
        let guard = &self.settings.guard;
        guard.check_name(authority)?;
        let overridden = self.settings.overrides.get(authority);
        let target = overridden.unwrap_or(authority);
        guard.check_name(target)?;
        let addresses: Vec<SocketAddr> = self.lookup(&target.host, who).await?.into_iter().map(|ip| SocketAddr::new(ip, target.port)).collect();
        guard.check_reserved(&addresses, &self.resolver, self.settings.connect_timeout).await?;
        if overridden.is_none() {
            addresses.iter().try_for_each(|address| guard.check_public(*address))?;
        }
        Ok(interleave(addresses))
    }

    async fn lookup(&self, host: &Host, who: &str) -> Result<Vec<IpAddr>, DialError> {
        if let Some(ip) = host.ip() {
            return Ok(vec![ip]);
        }
        let looking = tokio::time::timeout(self.settings.connect_timeout, self.resolver.resolve(host, who));
        match looking.await {
            Ok(Ok(ips)) if !ips.is_empty() => Ok(ips),
            Ok(Ok(_)) => Err(DialError::new(DialErrorKind::Dns, format!("{host} has no address"))),
            Ok(Err(error)) => Err(DialError::new(DialErrorKind::Dns, error.to_string())),
            Err(_) => Err(DialError::new(DialErrorKind::Dns, format!("the look-up of {host} took too long"))),
        }
    }
}

/// EMFILE or ENFILE: this process, or the machine, has no descriptor left.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(rustix::io::Errno::from_io_error(error), Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

fn no_descriptor(authority: &Authority) -> DialError {
    let detail = format!("no descriptor is left for a connection to {authority}: raise the limit (ulimit -n), or lower [limits]");
    DialError::new(DialErrorKind::NoDescriptor, detail)
}

/// Tries the addresses in turn, the next one when the last has failed or has not answered for a while; the first to answer wins.
async fn connect_any(addresses: &[SocketAddr], is_spare: fn(RawFd) -> bool) -> Result<(TcpStream, SocketAddr), (io::Error, SocketAddr)> {
    if let [only] = addresses {
        return connect_one(*only, is_spare).await.map(|s| (s, *only)).map_err(|e| (e, *only));
    }
    let mut attempts = JoinSet::new();
    let mut queue = addresses.iter().copied();
    let mut last = None;
    loop {
        if let Some(address) = queue.next() {
            attempts.spawn(async move { connect_one(address, is_spare).await.map(|s| (s, address)).map_err(|e| (e, address)) });
        }
        let more = queue.len() > 0;
        let joined = if more { tokio::time::timeout(STAGGER, attempts.join_next()).await } else { Ok(attempts.join_next().await) };
        match joined {
            Ok(Some(Ok(Ok(connected)))) => return Ok(connected),
            Ok(Some(Ok(Err(failed)))) => last = Some(failed),
            Ok(Some(Err(_))) | Err(_) => {}
            Ok(None) if !more => {
                let unspecified = addresses.first().copied().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
                return Err(last.unwrap_or_else(|| (io::Error::from(io::ErrorKind::AddrNotAvailable), unspecified)));
            }
            Ok(None) => {}
        }
    }
}

/// Connects, unless that takes one of the last descriptors: it would take it for as long as nobody answers.
async fn connect_one(address: SocketAddr, is_spare: fn(RawFd) -> bool) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if is_spare(socket.as_raw_fd()) {
        return Err(rustix::io::Errno::MFILE.into());
    }
    socket.connect(address).await
}

/// Families by turns, in the resolver's order (RFC 8305 4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let leading_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let mut out = Vec::with_capacity(addresses.len());
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses.into_iter().partition(|address| address.is_ipv6() == leading_v6);
    let mut second = second.into_iter();
    for address in first {
        out.push(address);
        out.extend(second.next());
    }
    out.extend(second);
    out
}

/// No Nagle, and probes so that a vanished peer is noticed.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}
