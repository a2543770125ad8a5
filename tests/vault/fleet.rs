//! A Vault, an origin of all hosts, and replicas that find in that Vault what they serve.

use std::time::{Duration, Instant};

use crate::support::raw::{PATIENCE, read_reply};
use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Bao, Home, Origin, Serve, package_dir, within};

/// The refresh time of all replicas here.
pub const REFRESH: &str = "refresh = \"1s\"\n";
/// What a change may take: the refresh time, and a request or two.
pub const SOON: Duration = Duration::from_secs(2);
/// `[vault]` of a replica that has everything there.
pub const ALL: &str = "discover = \"secret/keyhatch\"\ndiscover_agents = \"secret/keyhatch-agents\"\n\
    ca = \"secret/keyhatch-ca\"\nsigning_key = \"secret/keyhatch-keys\"\n";
/// A host that `*.openrouter.ai` covers.
pub const OPENROUTER: &str = "openrouter.ai";
/// A host that no provider has.
pub const INTERNAL: &str = "api.example.com";

/// One `serve` and its home.
pub struct Replica {
    /// The process. First, so that it goes first.
    pub serve: Serve,
    /// Its home.
    pub home: Home,
}

/// Everything that runs.
pub struct Fleet {
    /// The replicas.
    pub replicas: Vec<Replica>,
    /// The origin of all hosts: it takes any key.
    pub origin: Origin,
    /// What `serve` logs in with: it has the shipped policy for discovery, and no other right.
    pub token: String,
    /// Where replicas ask Vault, if not at its own address.
    pub by_way_of: Option<String>,
    /// The `[vault]` of all replicas.
    vault: String,
    /// Vault.
    pub bao: Bao,
}

impl Fleet {
    /// No replica yet.
    #[track_caller]
    pub fn new(bao: Bao, vault: &str) -> Self {
        let policy = std::fs::read_to_string(package_dir().join("deploy/vault/keyhatch-discover-policy.hcl")).unwrap();
        bao.policy("keyhatch", &policy.replace("\n#path ", "\npath "));
        let token = bao.token(&["keyhatch"], "1h", None);
        Self { replicas: Vec::new(), origin: Origin::agreeable(&HOSTS), token, by_way_of: None, vault: format!("{REFRESH}{vault}"), bao }
    }

    /// One replica, with that policy.
    #[track_caller]
    pub fn one(bao: Bao, vault: &str) -> Self {
        let mut fleet = Self::new(bao, vault);
        fleet.start(1);
        fleet
    }

    /// One replica that may do anything.
    #[track_caller]
    pub fn as_root(bao: Bao, vault: &str) -> Self {
        let mut fleet = Self::new(bao, vault);
        fleet.token = fleet.bao.root_token().to_owned();
        fleet.start(1);
        fleet
    }

    /// A home for a replica.
    #[track_caller]
    pub fn home(&self) -> Home {
        let mut home = Home::with_key_file("");
        let address = self.by_way_of.clone().unwrap_or_else(|| self.bao.addr());
        let vault = format!("[vault]\naddress = \"{address}\"\n{}", self.vault);
        home.configure(&configuration(&home, &self.origin, &vault));
        home.set("VAULT_TOKEN", Some(&self.token));
        home
    }

    /// So many more replicas, all started at once.
    #[track_caller]
    pub fn start(&mut self, count: usize) {
        let homes = (0..count).map(|_| self.home()).collect::<Vec<_>>();
        let started = std::thread::scope(|scope| {
            let threads = homes.into_iter().map(|home| scope.spawn(move || Replica { serve: Serve::start(&home), home })).collect::<Vec<_>>();
            threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
        });
        self.replicas.extend(started);
    }

    /// Agent `default` of the first replica's store.
    #[track_caller]
    pub fn agent(&self) -> Agent {
        self.replicas[0].agent()
    }

    /// `GET` by agent `default` at the first replica: the status, and what the origin got of `Authorization`, if it got the request.
    #[track_caller]
    pub fn ask(&self, host: &str, target: &str) -> (u16, Option<String>) {
        self.ask_as(&self.agent(), host, target)
    }

    /// The same by another agent. Status 0 is no answer: a blind tunnel whose decision is another by now is closed.
    #[track_caller]
    pub fn ask_as(&self, agent: &Agent, host: &str, target: &str) -> (u16, Option<String>) {
        self.origin.forget();
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let reply = agent.try_open(&format!("{host}:443")).and_then(|mut conn| conn.try_send(request).and_then(|()| conn.try_reply()));
        let status = reply.map_or(0, |reply| reply.status);
        (status, self.origin.recorded().first().map(|r| r.values("authorization").concat()))
    }

    /// Waits until a request to the host's `/api/v1/models` carries the key.
    #[track_caller]
    pub fn carries(&self, host: &str, key: &str) {
        self.answers(host, &(200, Some(format!("Bearer {key}"))));
    }

    /// Waits until a request to the host is answered so.
    #[track_caller]
    pub fn answers(&self, host: &str, wanted: &(u16, Option<String>)) {
        let (start, mut last, mut times) = (Instant::now(), (0, None), 0);
        // Twice: a connection that the change met on its way is answered with 503 whatever the change is.
        while times < 2 {
            assert!(start.elapsed() < SOON, "{host}: not {wanted:?} within {SOON:?}, but {last:?}");
            last = self.ask(host, "/api/v1/models");
            times = if last == *wanted { times + 1 } else { 0 };
        }
    }

    /// Waits until the first replica's log and `/readyz` say all of these words in one line.
    #[track_caller]
    pub fn reports(&self, words: &[&str]) {
        let told = |text: &str, end: &str| text.split(end).any(|line| words.iter().all(|w| line.contains(w)));
        let replica = &self.replicas[0];
        within(PATIENCE, &format!("the log says {words:?}"), || told(&replica.serve.log(), "\n").then_some(()));
        let readyz = replica.readyz();
        assert!(told(&readyz.1, "\",\""), "{words:?} in {readyz:?}");
        assert_eq!(readyz.0, 200, "what is found in Vault makes no replica unready: {readyz:?}");
    }
}

impl Replica {
    /// Agent `default` of its store.
    #[track_caller]
    pub fn agent(&self) -> Agent {
        Agent::new(&self.home, &self.serve)
    }

    /// An agent that has this token.
    #[track_caller]
    pub fn agent_with(&self, name: &str, token: &str) -> Agent {
        Agent::from_url(&self.home, &self.serve, &format!("http://{name}:{token}@127.0.0.1"))
    }

    /// The certificates that its agents trust.
    #[track_caller]
    pub fn ca(&self) -> String {
        std::fs::read_to_string(self.home.path().join("ca.pem")).unwrap()
    }

    /// Its audit log.
    #[track_caller]
    pub fn audit(&self) -> String {
        std::fs::read_to_string(self.home.path().join("audit.jsonl")).unwrap()
    }

    /// What `/readyz` says.
    #[track_caller]
    pub fn readyz(&self) -> (u16, String) {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(self.serve.admin()).unwrap();
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.serve.admin()).unwrap();
        let reply = read_reply(&mut stream, None).unwrap();
        (reply.status, reply.text())
    }
}

/// Nothing is sent along: the host is nobody's.
pub fn bare() -> (u16, Option<String>) {
    (200, Some(String::new()))
}

/// Refused by the proxy; the origin saw nothing.
pub fn refused(status: u16) -> (u16, Option<String>) {
    (status, None)
}
