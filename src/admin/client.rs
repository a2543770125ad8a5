//! A command's end of `admin.sock`. Blocking: commands have no runtime.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use zeroize::Zeroizing;

use super::protocol::{ErrorCode, Info, LINE_MAX, OpError, Reply, Request, Token, line};
use crate::session::SessionKind;

/// How long a command waits for an answer. A `reload` may have to ask Vault.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a `run` looks for a `serve` that was restarted: well within [`super::runs::GRACE`].
const AGAIN: Duration = Duration::from_millis(200);

/// Why `serve` could not be asked, or what it answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket, or nobody listens on it.
    #[error("no `keyhatch serve` runs for this home (nobody answers on `{}`); start one with `keyhatch serve`", .0.display())]
    NotRunning(PathBuf),
    /// It belongs to another user.
    #[error("`{}` belongs to another user's `keyhatch serve`; run the command as that user", .0.display())]
    NotAllowed(PathBuf),
    /// It was asked and said no.
    #[error(transparent)]
    Refused(#[from] OpError),
    /// The conversation broke off.
    #[error("`keyhatch serve` did not answer on `{}`: {source}; see its log", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The answer is none of this version's.
    #[error("`keyhatch serve` gave an answer that this command does not know; restart it, so that both have the same version")]
    Protocol,
}

/// A connection to a running `serve`.
pub struct AdminClient {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl AdminClient {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] and [`ClientError::NotAllowed`] tell the two usual cases apart.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => ClientError::NotRunning(path.to_owned()),
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed(path.to_owned()),
            _ => ClientError::Io { path: path.to_owned(), source },
        })?;
        let failed = |source| ClientError::Io { path: path.to_owned(), source };
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Self { stream: BufReader::new(stream), path: path.to_owned() })
    }

    /// A session token and when it expires, in seconds since 1970-01-01T00:00:00Z. That of a `run` is good while this
    /// connection is open: see [`HeldSession`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn session(&mut self, agent: &str, ttl: Duration, kind: SessionKind) -> Result<(Token, i64), ClientError> {
        match self.ask(&Request::Session { agent: agent.to_owned(), ttl_seconds: ttl.as_secs(), kind })? {
            Reply::Session { token, expires } => Ok((token, expires)),
            _ => Err(ClientError::Protocol),
        }
    }

    /// The addresses, the CA and, for an agent, its placeholders.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn info(&mut self, agent: Option<&str>) -> Result<Info, ClientError> {
        match self.ask(&Request::Info { agent: agent.map(str::to_owned) })? {
            Reply::Info(info) => Ok(*info),
            _ => Err(ClientError::Protocol),
        }
    }

    /// Has `serve` read the store and the configuration again; returns when they are in force.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] says why all is as it was.
    pub fn reload(&mut self) -> Result<(), ClientError> {
        self.done(&Request::Reload)
    }

    /// Holds a `run`'s session by this connection.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] where the session is over.
    pub fn hold(&mut self, token: &Token) -> Result<(), ClientError> {
        self.done(&Request::Hold { token: Token::new(Zeroizing::new(token.expose().to_owned())) })
    }

    fn done(&mut self, request: &Request) -> Result<(), ClientError> {
        match self.ask(request)? {
            Reply::Done {} => Ok(()),
            _ => Err(ClientError::Protocol),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let mut bytes = Zeroizing::new(Vec::new());
        let sent = self.stream.get_mut().write_all(&line(request));
        // One who is refused may find the connection closed, and the reason in it.
        let read = self.stream.by_ref().take(LINE_MAX as u64).read_until(b'\n', &mut bytes);
        let failed = |source| ClientError::Io { path: self.path.clone(), source };
        if bytes.is_empty() {
            sent.map_err(failed)?;
        }
        if read.map_err(failed)? == 0 {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_slice(&bytes).map_err(|_| ClientError::Protocol)? {
            Reply::Error(e) if e.code == ErrorCode::NotAllowed => Err(ClientError::NotAllowed(self.path.clone())),
            Reply::Error(e) => Err(ClientError::Refused(e)),
            reply => Ok(reply),
        }
    }

    /// Waits until `serve` closes the connection.
    fn wait_for_end(&mut self) {
        let _ = self.stream.get_ref().set_read_timeout(None);
        let mut sink = [0; 64];
        // Nothing was asked, so nothing is to be read but the end.
        while matches!(self.stream.read(&mut sink), Ok(1..)) {}
    }
}

/// A `run`'s session, held while this lives, also through restarts of `serve`. The session ends when it is dropped or the process ends.
pub struct HeldSession {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// A second handle of the connection that holds the session, to wake whoever waits on it.
    connection: Mutex<Option<UnixStream>>,
}

impl HeldSession {
    /// Takes the connection that minted `token` and keeps the session held by a thread of its own.
    ///
    /// # Errors
    /// Where there can be no thread, or no second handle of the connection.
    pub fn keep(client: AdminClient, token: Token) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        shared.watch(&client)?;
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("session".to_owned()).spawn(move || theirs.hold(client, &token))?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for HeldSession {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(connection) = &*self.shared.connection.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of that thread has been printed; the session ends either way.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn watch(&self, client: &AdminClient) -> io::Result<()> {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.stream.get_ref().try_clone()?);
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn hold(&self, mut client: AdminClient, token: &Token) {
        loop {
            // Whoever stops looks for a connection to close after it said so; we look whether it said so after we named ours.
            if !self.stopped() {
                client.wait_for_end();
            }
            let path = client.path.clone();
            drop(client);
            match self.again(&path, token) {
                Some(next) => client = next,
                None => return,
            }
        }
    }

    /// Connects and holds the session anew, as soon as there is a `serve`. `None` where that is over.
    fn again(&self, path: &Path, token: &Token) -> Option<AdminClient> {
        while !self.stopped() {
            if let Ok(mut client) = AdminClient::connect(path) {
                self.watch(&client).ok()?;
                match client.hold(token) {
                    Ok(()) => return Some(client),
                    Err(ClientError::Refused(_) | ClientError::NotAllowed(_)) => return None,
                    Err(_) => {}
                }
            }
            std::thread::park_timeout(AGAIN);
        }
        None
    }
}
