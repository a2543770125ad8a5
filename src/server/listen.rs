//! The listeners: where agents come in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::error::ReloadError;
use super::state::State;
use super::stopped;
use crate::config::{Config, ListenAddr};
use crate::process;
use crate::proxy::{ClientStream, Entry, serve, turn_away};
use crate::tls::ListenerTls;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// A silent connection is asked whether its other end still lives.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);
/// After a failed `accept` (no descriptors left, say) the next try waits so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}; is another keyhatch running? Change `{key}` in keyhatch.toml")]
    Bind {
        /// The address.
        address: String,
        /// The key of the configuration.
        key: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// `admin.sock`.
    #[error("{0}")]
    Admin(String),
}

/// The open listeners.
pub struct Listening {
    plain: Plain,
    tls: Option<TcpListener>,
    pub(super) admin: Option<TcpListener>,
    addresses: Addresses,
}

/// The addresses that were taken.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// `[proxy] listen`.
    pub proxy: Bound,
    /// `[proxy] tls_listen`.
    pub tls: Option<SocketAddr>,
    /// `[admin] listen`.
    pub admin: Option<SocketAddr>,
}

/// Where the plain listener is.
#[derive(Debug, Clone)]
pub enum Bound {
    /// An address and port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

enum Plain {
    Tcp(TcpListener),
    Unix(UnixListener),
    /// Handed to its accept loop.
    Taken,
}

impl Listening {
    /// Opens the listeners of a configuration; that of `[admin]` only for a `serve`.
    ///
    /// # Errors
    /// [`ListenError::Bind`] with the key to change.
    pub async fn bind(config: &Config, is_serve: bool) -> Result<Self, ListenError> {
        let (plain, proxy) = match &config.proxy.listen {
            ListenAddr::Tcp(address) => {
                let (listener, bound) = bind_tcp(*address, "listen")?;
                (Plain::Tcp(listener), Bound::Tcp(bound))
            }
            ListenAddr::Unix(path) => (Plain::Unix(bind_unix(path).await?), Bound::Unix(path.clone())),
        };
        let tls = config.proxy.tls_listen.map(|a| bind_tcp(a, "tls_listen")).transpose()?;
        let admin = config.admin.listen.filter(|_| is_serve).map(|a| bind_tcp(a, "[admin] listen")).transpose()?;
        let addresses = Addresses { proxy, tls: tls.as_ref().map(|t| t.1), admin: admin.as_ref().map(|a| a.1) };
        Ok(Self { plain, tls: tls.map(|t| t.0), admin: admin.map(|a| a.0), addresses })
    }

    /// The addresses taken.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The addresses that must never be dialled.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<SocketAddr> {
        let Addresses { proxy, tls, admin } = &self.addresses;
        let plain = if let Bound::Tcp(address) = proxy { Some(*address) } else { None };
        let mut own: Vec<SocketAddr> = plain.into_iter().chain(*tls).chain(*admin).collect();
        // A listener on every address is on loopback too.
        let unspecified: Vec<SocketAddr> = own.iter().copied().filter(|a| a.ip().is_unspecified()).collect();
        for address in unspecified {
            own.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()));
            own.push(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), address.port()));
        }
        own
    }

    /// Begins to accept.
    pub(super) fn accept(&mut self, state: &Arc<State>, tasks: &mut JoinSet<()>, stop: &watch::Sender<bool>) -> Result<(), ReloadError> {
        match std::mem::replace(&mut self.plain, Plain::Taken) {
            Plain::Tcp(listener) => drop(tasks.spawn(accept_tcp(listener, Arc::clone(state), None, stop.subscribe()))),
            Plain::Unix(listener) => drop(tasks.spawn(accept_unix(listener, Arc::clone(state), stop.subscribe()))),
            Plain::Taken => {}
        }
        if let Some(listener) = self.tls.take() {
            let tls = Arc::new(state.listener_tls()?);
            tasks.spawn(accept_tcp(listener, Arc::clone(state), Some(tls), stop.subscribe()));
        }
        Ok(())
    }

    /// What is listened on, a line each.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let Addresses { proxy, tls, admin } = &self.addresses;
        let plain = match proxy {
            Bound::Tcp(address) => format!("proxy listening on {address}"),
            Bound::Unix(path) => format!("proxy listening on unix:{}", path.display()),
        };
        let tls = tls.map(|a| format!("proxy over TLS listening on {a}"));
        let admin = admin.map(|a| format!("admin listening on {a}"));
        std::iter::once(plain).chain(tls).chain(admin).collect()
    }

    /// Removes the Unix socket of the plain listener.
    pub(super) fn remove_socket(&self) {
        if let Bound::Unix(path) = &self.addresses.proxy {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn bind_tcp(address: SocketAddr, key: &'static str) -> Result<(TcpListener, SocketAddr), ListenError> {
    let open = || -> io::Result<(TcpListener, SocketAddr)> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // What is accepted inherits this: a client that vanished without a word is noticed.
        socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY))?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    open().map_err(|source| ListenError::Bind { address: address.to_string(), key, source })
}

/// A socket file that nobody listens on is left over from a crash, and is replaced.
async fn bind_unix(path: &Path) -> Result<UnixListener, ListenError> {
    let fail = |source| ListenError::Bind { address: format!("unix:{}", path.display()), key: "listen", source };
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if is_socket && UnixStream::connect(path).await.is_err() {
        std::fs::remove_file(path).map_err(fail)?;
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(fail)?;
    Ok(listener)
}

async fn accept_tcp(listener: TcpListener, state: Arc<State>, tls: Option<Arc<ListenerTls>>, mut stop: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let proxy = Arc::clone(state.proxy());
        if process::is_spare(stream.as_raw_fd()) {
            // Over TLS there is no way to say so at once.
            if tls.is_none() {
                turn_away(&proxy, ClientStream::Tcp(stream)).await;
            }
            // Those that had to go close meanwhile.
            tokio::task::yield_now().await;
            continue;
        }
        let entry = Entry::take(&proxy);
        match &tls {
            None => drop(tokio::spawn(serve(proxy, ClientStream::Tcp(stream), entry))),
            // There is no room for a handshake either.
            Some(_) if !entry.is_free() => {}
            Some(tls) => {
                let (tls, limit) = (Arc::clone(tls), proxy.live().settings.tls);
                tokio::spawn(async move {
                    let shaking = async {
                        let config = tls.config().await.ok()?;
                        TlsAcceptor::from(config).accept(stream).await.ok()
                    };
                    let shaken = tokio::select! {
                        biased;
                        shaken = entry.in_turn(Box::pin(tokio::time::timeout(limit, shaking))) => shaken,
                        () = entry.has_to_go() => return,
                    };
                    if let Ok(Some(stream)) = shaken {
                        serve(proxy, ClientStream::Tls(Box::new(stream)), entry).await;
                    }
                });
            }
        }
    }
}

async fn accept_unix(listener: UnixListener, state: Arc<State>, mut stop: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let proxy = Arc::clone(state.proxy());
                if process::is_spare(stream.as_raw_fd()) {
                    turn_away(&proxy, ClientStream::Unix(stream)).await;
                    tokio::task::yield_now().await;
                    continue;
                }
                let entry = Entry::take(&proxy);
                tokio::spawn(serve(proxy, ClientStream::Unix(stream), entry));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
