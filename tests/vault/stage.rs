//! The usual stage: a Vault, an origin, a home whose credential `real` refers into that Vault, a `serve`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::origin::Origin;
use crate::support::raw::Conn;
use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Bao, Home, Serve};

/// The host that the credential is for.
pub const HOST: &str = "openrouter.ai";

/// Everything that runs.
pub struct Stage {
    /// The running proxy. First, so that it goes first.
    pub serve: Serve,
    /// The origin of all hosts: it takes any key.
    pub origin: Origin,
    /// The home.
    pub home: Home,
    /// Vault.
    pub bao: Bao,
}

impl Stage {
    /// `secret/openrouter` holds `first`, the credential is granted to `default`, the token is root's.
    #[track_caller]
    pub fn new(bao: Bao, first: &str, vault: &str) -> Self {
        let token = bao.root_token().to_owned();
        Self::with(bao, Origin::agreeable(&HOSTS), first, vault, &[("VAULT_TOKEN", &token)])
    }

    /// The same with an origin and a way to log in of the test's own.
    #[track_caller]
    pub fn with(bao: Bao, origin: Origin, first: &str, vault: &str, variables: &[(&str, &str)]) -> Self {
        bao.put("secret/openrouter", &[("api_key", first)]);
        let home = Home::with_key_file("");
        home.configure(&configuration(&home, &origin, &format!("[vault]\naddress = \"{}\"\n{vault}", bao.addr())));
        home.ok(&["credential", "add", "real", "--type", "bearer", "--allow", "*.openrouter.ai", "--vault", "secret/openrouter#api_key"]);
        let serve = Serve::start_with(&home, &[], variables);
        Self { serve, origin, home, bao }
    }

    /// Agent `default`.
    #[track_caller]
    pub fn agent(&self) -> Agent {
        Agent::new(&self.home, &self.serve)
    }

    /// A request on a tunnel of its own: the status, and what the origin got of `Authorization`, if it got the request.
    #[track_caller]
    pub fn ask(&self) -> (u16, Option<String>) {
        self.origin.forget();
        let reply = self.agent().get(HOST, "/api/v1/models");
        let got = self.origin.recorded().first().map(|r| r.values("authorization").concat());
        (reply.status, got)
    }

    /// A number of `/metrics`.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.admin("/metrics").1;
        let line = text.lines().find(|l| l.split_ascii_whitespace().next() == Some(name)).unwrap_or_else(|| panic!("{name} in\n{text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// What the admin listener says.
    #[track_caller]
    pub fn admin(&self, path: &str) -> (u16, String) {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(self.serve.admin()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.serve.admin()).unwrap();
        let reply = crate::support::raw::read_reply(&mut stream, None).unwrap();
        (reply.status, reply.text())
    }
}

/// A steady load over connections that are kept open.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicUsize,
    answers: Mutex<BTreeMap<u16, usize>>,
    /// When a status came that is none of these, and which.
    seen: Mutex<Vec<(Instant, u16)>>,
}

impl Load {
    /// So many requests a second, spread over `connections`.
    pub fn start(stage: &Stage, connections: u32, rate: u32) -> Self {
        let shared = Arc::<Shared>::default();
        let period = Duration::from_secs(1) * connections / rate;
        let threads = (0..connections).map(|i| {
            let (agent, shared) = (stage.agent(), Arc::clone(&shared));
            let begin = Instant::now() + period * i / connections;
            std::thread::spawn(move || run(&agent, &shared, begin, period))
        });
        let threads = threads.collect();
        Self { shared, threads }
    }

    /// How many answers there were so far.
    pub fn done(&self) -> usize {
        self.shared.done.load(Ordering::SeqCst)
    }

    /// The first moment at which each status came after the given one.
    pub fn first(&self, status: u16, after: Instant) -> Option<Instant> {
        self.shared.seen.lock().unwrap().iter().find(|(at, s)| *s == status && *at > after).map(|(at, _)| *at)
    }

    /// All answers between two moments, by status.
    pub fn between(&self, from: Instant, to: Instant) -> BTreeMap<u16, usize> {
        let mut out = BTreeMap::new();
        for (_, status) in self.shared.seen.lock().unwrap().iter().filter(|(at, _)| *at >= from && *at < to) {
            *out.entry(*status).or_default() += 1;
        }
        out
    }

    /// Ends it: all answers by status.
    pub fn stop(mut self) -> BTreeMap<u16, usize> {
        self.end();
        self.shared.answers.lock().unwrap().clone()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.threads.drain(..).for_each(|t| drop(t.join()));
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

/// One connection's requests, each at its time; a 503 closes the connection, and the next request opens another.
fn run(agent: &Agent, shared: &Shared, mut next: Instant, period: Duration) {
    let mut conn: Option<Conn> = None;
    while !shared.stop.load(Ordering::SeqCst) {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next += period;
        let open = conn.get_or_insert_with(|| agent.open(&format!("{HOST}:443")));
        let asked = open.try_send(format!("GET /api/v1/models HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).and_then(|()| open.try_reply());
        // 0 stands for no answer at all.
        let status = asked.as_ref().map_or(0, |reply| reply.status);
        if status != 200 {
            conn = None;
        }
        shared.seen.lock().unwrap().push((Instant::now(), status));
        *shared.answers.lock().unwrap().entry(status).or_default() += 1;
        shared.done.fetch_add(1, Ordering::SeqCst);
    }
}
