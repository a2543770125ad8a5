//! The server's end of `admin.sock`.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::protocol::{LINE_MAX, Reply, Request, line};
use super::{AdminOps, ErrorCode, OpError, RunSessions};
use crate::agent::AgentName;
use crate::session::SessionKind;

/// How long a connection that holds no session may say nothing.
const IDLE: Duration = Duration::from_secs(30);
/// How many connections there may be at once: each `run` has one.
const CONNECTIONS: usize = 4096;
/// What a socket's path may be long, in bytes (`sun_path`, and its final zero).
const PATH_MAX: usize = 107;

/// Why the socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process answers on it.
    #[error("`{}` is in use: another `keyhatch serve` runs for this home; stop it first", .0.display())]
    InUse(PathBuf),
    /// The operating system takes no such path.
    #[error("`{}` is too long for a socket, which may have 106 bytes; choose a shorter --home", .0.display())]
    TooLong(PathBuf),
    /// Something else.
    #[error("`{}` cannot be made: {source}; see to the directory's owner and mode", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

/// `admin.sock`, bound. Its file is removed on drop.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode, so that no other process's socket is removed.
    identity: (u64, u64),
}

impl AdminSocket {
    /// Binds the socket, readable and writable by its owner only. The file of a `serve` that is gone is replaced. Call it within a runtime.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        if path.as_os_str().len() >= PATH_MAX {
            return Err(BindError::TooLong(path.to_owned()));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(BindError::InUse(path.to_owned()));
        }
        Self::replace(path).map_err(|source| BindError::Io { path: path.to_owned(), source })
    }

    /// Binds under another name and moves the socket into place, so that it is never there with a wider mode.
    fn replace(path: &Path) -> io::Result<Self> {
        let mut fresh = path.as_os_str().to_owned();
        fresh.push("~");
        let fresh = PathBuf::from(fresh);
        match fs::remove_file(&fresh) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        fs::rename(&fresh, path)?;
        let meta = fs::symlink_metadata(path)?;
        Ok(Self { listener, path: path.to_owned(), identity: (meta.dev(), meta.ino()) })
    }

    /// Answers until `shutdown` is ready. Sessions that are held then stay as they are: the next `serve` takes them over.
    pub async fn serve(self, ops: Arc<dyn AdminOps>, runs: Arc<RunSessions>, shutdown: impl Future<Output = ()>) {
        let context = Arc::new(Context { ops, runs, closing: AtomicBool::new(false) });
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match (accepted, Arc::clone(&places).try_acquire_owned()) {
                (Ok((stream, _)), Ok(place)) => {
                    let context = Arc::clone(&context);
                    connections.spawn(async move {
                        context.connection(stream).await;
                        drop(place);
                    });
                }
                (Ok(_), Err(_)) => tracing::warn!("admin.sock: more than {CONNECTIONS} connections; one was closed"),
                (Err(e), _) => {
                    tracing::warn!("admin.sock: a connection was not accepted: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        context.closing.store(true, Ordering::Release);
        connections.shutdown().await;
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

struct Context {
    ops: Arc<dyn AdminOps>,
    runs: Arc<RunSessions>,
    closing: AtomicBool,
}

/// The sessions that a connection holds; let go of on drop, so also where the connection's task panics.
struct Held<'a> {
    context: &'a Context,
    ids: Vec<u64>,
}

impl Held<'_> {
    fn add(&mut self, id: u64) -> bool {
        let held = self.ids.contains(&id) || self.context.runs.hold(id);
        if held && !self.ids.contains(&id) {
            self.ids.push(id);
        }
        held
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.context.closing.load(Ordering::Acquire) {
            return;
        }
        for id in self.ids.drain(..) {
            if self.context.runs.release(id) {
                self.context.ops.release(id);
            }
        }
    }
}

impl Context {
    async fn connection(&self, stream: UnixStream) {
        let allowed = stream.peer_cred().is_ok_and(|peer| may_ask(peer.uid(), rustix::process::geteuid().as_raw()));
        let (reader, mut writer) = stream.into_split();
        if !allowed {
            let error = OpError::new(ErrorCode::NotAllowed, "admin.sock serves only its owner and root");
            let _ = writer.write_all(&line(&Reply::Error(error))).await;
            return;
        }
        let mut held = Held { context: self, ids: Vec::new() };
        let mut reader = BufReader::new(reader);
        while let Some(request) = self.receive(&mut reader, &mut writer, !held.ids.is_empty()).await {
            let reply = self.answer(request, &mut held).await.unwrap_or_else(Reply::Error);
            if writer.write_all(&line(&reply)).await.is_err() {
                return;
            }
        }
    }

    /// The next request; `None` at the end, after silence, or after something that is none.
    async fn receive(&self, reader: &mut BufReader<OwnedReadHalf>, writer: &mut OwnedWriteHalf, patient: bool) -> Option<Request> {
        let mut bytes = Zeroizing::new(Vec::new());
        let mut limited = reader.take(LINE_MAX as u64);
        let read = limited.read_until(b'\n', &mut bytes);
        let read = if patient { read.await } else { tokio::time::timeout(IDLE, read).await.ok()? };
        if read.ok()? == 0 {
            return None;
        }
        match Request::parse(&bytes).filter(|_| bytes.ends_with(b"\n")) {
            Some(request) => Some(request),
            None => {
                let error = OpError::new(ErrorCode::BadRequest, "admin.sock does not know this request; are the two of the same version?");
                let _ = writer.write_all(&line(&Reply::Error(error))).await;
                None
            }
        }
    }

    async fn answer(&self, request: Request, held: &mut Held<'_>) -> Result<Reply, OpError> {
        match request {
            Request::Session { agent, ttl_seconds, kind } => {
                let agent = name(&agent)?;
                if ttl_seconds == 0 {
                    return Err(OpError::new(ErrorCode::BadRequest, "a session must last at least a second"));
                }
                let minted = self.off_reactor(move |ops| ops.mint(&agent, Duration::from_secs(ttl_seconds), kind)).await?;
                // Before anybody has the token.
                if kind == SessionKind::Run && !held.add(minted.id) {
                    return Err(OpError::new(ErrorCode::Failed, "the session's number was used before; try again"));
                }
                Ok(Reply::Session { token: minted.token, expires: minted.expires })
            }
            Request::Info { agent } => {
                let agent = agent.as_deref().map(name).transpose()?;
                self.off_reactor(move |ops| ops.info(agent.as_ref())).await.map(|info| Reply::Info(Box::new(info)))
            }
            Request::Reload => self.off_reactor(|ops| ops.reload()).await.map(|()| Reply::Done {}),
            Request::Hold { token } => {
                let claims = self.off_reactor(move |ops| ops.claims(token.expose())).await?;
                let good = claims.kind == SessionKind::Run && held.add(claims.id);
                if good { Ok(Reply::Done {}) } else { Err(OpError::new(ErrorCode::BadToken, "the session is over, or is none of a `run`")) }
            }
        }
    }

    async fn off_reactor<T: Send + 'static>(&self, work: impl FnOnce(&dyn AdminOps) -> Result<T, OpError> + Send + 'static) -> Result<T, OpError> {
        let ops = Arc::clone(&self.ops);
        let failed = |_| OpError::new(ErrorCode::Failed, "`keyhatch serve` failed at this request; see its log");
        tokio::task::spawn_blocking(move || work(&*ops)).await.map_err(failed)?
    }
}

fn name(text: &str) -> Result<AgentName, OpError> {
    AgentName::parse(text).map_err(|e| OpError::new(ErrorCode::BadRequest, e.to_string()))
}

/// The same user, or root.
fn may_ask(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

#[cfg(test)]
mod tests;
