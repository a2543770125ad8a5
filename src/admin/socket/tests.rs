use super::*;
use crate::admin::client::{AdminClient, ClientError, HeldSession};
use crate::admin::{Info, Minted, Token};
use crate::session::{Claims, SessionKey, mint, verify};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::time::Instant;
use tokio::sync::oneshot;

/// A `serve` of which only the socket is real.
struct Fake {
    key: SessionKey,
    next: AtomicU64,
    released: Mutex<mpsc::Sender<u64>>,
}

impl Fake {
    fn known(agent: &AgentName) -> Result<(), OpError> {
        if agent.as_str() == "default" { Ok(()) } else { Err(OpError::new(ErrorCode::NoSuchAgent, format!("there is no agent `{agent}`"))) }
    }
}

impl AdminOps for Fake {
    fn info(&self, agent: Option<&AgentName>) -> Result<Info, OpError> {
        agent.map(Self::known).transpose()?;
        Ok(Info {
            listen: "http://127.0.0.1:8877".into(),
            tls_listen: None,
            advertise: None,
            ca_pem: "-----BEGIN CERTIFICATE-----\n".into(),
            home: "/home".into(),
            pid: 7,
            variables: agent.map(|_| ("OPENROUTER_API_KEY".to_owned(), "placeholder".to_owned())).into_iter().collect(),
        })
    }

    fn mint(&self, agent: &AgentName, ttl: Duration, kind: SessionKind) -> Result<Minted, OpError> {
        Self::known(agent)?;
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let expires = i64::try_from(ttl.as_secs()).expect("in range");
        let claims = Claims { agent: agent.clone(), generation: 1, expires, id, kind };
        Ok(Minted { token: Token::new(mint(&self.key, &claims)), expires, id })
    }

    fn claims(&self, token: &str) -> Result<Claims, OpError> {
        verify(&self.key, token, 0).map_err(|e| OpError::new(ErrorCode::BadToken, e.to_string()))
    }

    fn reload(&self) -> Result<(), OpError> {
        Err(OpError::new(ErrorCode::Failed, "keyhatch.toml:3: unknown key"))
    }

    fn release(&self, session: u64) {
        self.released.lock().expect("no test panics with it").send(session).expect("the test listens");
    }
}

/// A server on a thread of its own, as commands meet it.
struct Running {
    runs: Arc<RunSessions>,
    released: mpsc::Receiver<u64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(path: &Path) -> Self {
        let (sender, released) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        // Long ago: no grace.
        let runs = Arc::new(RunSessions::new(Instant::now().checked_sub(Duration::from_secs(60)).unwrap_or_else(Instant::now)));
        let (path, theirs) = (path.to_owned(), Arc::clone(&runs));
        let ops = Arc::new(Fake { key: SessionKey::new(Zeroizing::new([1; 32])), next: AtomicU64::new(1), released: Mutex::new(sender) });
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let socket = AdminSocket::bind(&path).expect("bound");
                ready.send(()).expect("the test waits");
                socket.serve(ops, theirs, async { _ = stopped.await }).await;
            });
        });
        is_ready.recv().expect("started");
        Self { runs, released, stop: Some(stop), thread: Some(thread) }
    }

    fn is_live(&self, id: u64) -> bool {
        self.runs.is_live(id, Instant::now())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

fn home() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("admin.sock");
    (home, path)
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn commands_ask() {
    let (_home, path) = home();
    let server = Running::start(&path);
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let mut client = AdminClient::connect(&path).expect("connected");
    let (token, expires) = client.session("default", HOUR, SessionKind::Env).expect("minted");
    assert!(token.expose().starts_with("khs_"));
    assert_eq!(expires, 3600);
    assert!(!server.is_live(1), "an `env` session is none of the held ones");
    assert_eq!(client.info(None).expect("told").variables, []);
    assert_eq!(client.info(Some("default")).expect("told").variables.len(), 1);
    assert!(matches!(client.info(Some("x")), Err(ClientError::Refused(OpError { code: ErrorCode::NoSuchAgent, .. }))));
    assert!(matches!(client.session("a b", HOUR, SessionKind::Env), Err(ClientError::Refused(OpError { code: ErrorCode::BadRequest, .. }))));
    assert!(matches!(client.session("default", Duration::ZERO, SessionKind::Env), Err(ClientError::Refused(_))));
    let error = client.reload().expect_err("refused");
    assert_eq!(error.to_string(), "keyhatch.toml:3: unknown key");
    assert!(client.hold(&token).is_err(), "an `env` session is not held");
    drop(server);
    assert!(!path.exists(), "the file goes with the server");
}

#[test]
fn a_run_session_ends_with_its_connection() {
    let (_home, path) = home();
    let server = Running::start(&path);
    let mut client = AdminClient::connect(&path).expect("connected");
    let (token, _) = client.session("default", HOUR, SessionKind::Run).expect("minted");
    assert!(server.is_live(1));
    drop(client);
    assert_eq!(server.released.recv().expect("released"), 1);
    assert!(!server.is_live(1));
    assert!(AdminClient::connect(&path).expect("connected").hold(&token).is_err(), "it is over");
}

#[test]
fn a_run_session_outlives_a_restart_of_serve() {
    let (_home, path) = home();
    let first = Running::start(&path);
    let mut client = AdminClient::connect(&path).expect("connected");
    let (token, _) = client.session("default", HOUR, SessionKind::Run).expect("minted");
    let held = HeldSession::keep(client, token).expect("kept");
    drop(first);
    let second = Running::start(&path);
    let give_up = Instant::now() + Duration::from_secs(20);
    while !second.is_live(1) {
        assert!(Instant::now() < give_up, "not held again");
        std::thread::yield_now();
    }
    drop(held);
    assert_eq!(second.released.recv().expect("released"), 1);
    assert!(!second.is_live(1));
}

#[test]
fn a_kept_session_can_be_let_go_while_no_serve_runs() {
    let (_home, path) = home();
    let server = Running::start(&path);
    let mut client = AdminClient::connect(&path).expect("connected");
    let (token, _) = client.session("default", HOUR, SessionKind::Run).expect("minted");
    let held = HeldSession::keep(client, token).expect("kept");
    drop(server);
    drop(held);
}

#[test]
fn no_serve_is_told_apart() {
    let (_home, path) = home();
    let error = AdminClient::connect(&path).err().expect("none there");
    assert!(matches!(error, ClientError::NotRunning(_)) && error.to_string().contains("keyhatch serve"), "{error}");
    // A socket file that nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    assert!(path.exists());
    assert!(matches!(AdminClient::connect(&path), Err(ClientError::NotRunning(_))));
    // And a new server takes its place.
    let server = Running::start(&path);
    assert!(AdminClient::connect(&path).expect("connected").info(None).is_ok());
    drop(server);
}

#[tokio::test]
async fn a_second_serve_is_refused_and_a_strangers_file_stays() {
    let (_home, path) = home();
    let first = AdminSocket::bind(&path).expect("bound");
    assert!(matches!(AdminSocket::bind(&path), Err(BindError::InUse(_))));
    fs::remove_file(&path).expect("removed");
    fs::write(&path, "another's").expect("written");
    drop(first);
    assert!(path.exists());
    let long = path.with_file_name("x".repeat(120));
    assert!(matches!(AdminSocket::bind(&long), Err(BindError::TooLong(_))));
    assert!(matches!(AdminSocket::bind(&path.with_file_name("none").join("s")), Err(BindError::Io { .. })));
}

#[test]
fn what_is_no_request_is_refused_and_the_connection_closed() {
    use std::io::{Read as _, Write as _};
    let (_home, path) = home();
    let _server = Running::start(&path);
    let long = "x".repeat(LINE_MAX + 10);
    for bad in ["\n", "{}\n", "{\"op\":\"shutdown\"}\n", "\u{0}\n", &long] {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("connected");
        // The server may close before it has read all of a line that is too long.
        let _ = stream.write_all(bad.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"{\"error\":{\"code\":\"bad_request\""), "{}: {}", bad.len(), String::from_utf8_lossy(&answer));
    }
}

#[test]
fn only_the_owner_and_root() {
    assert!(may_ask(1000, 1000) && may_ask(0, 1000) && may_ask(0, 0));
    assert!(!may_ask(1001, 1000) && !may_ask(1000, 0));
}
