//! A home whose hosts lead to one origin, a credential for them, and a `serve`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;

use crate::support::clients::Client;
use crate::support::home::said;
use crate::support::origin::AUTHORITY;
use crate::support::{Home, Said, Serve, fresh_key, skip, within};

/// The hosts of these tests; all match the credential, but for the last, which no credential matches.
pub const HOSTS: [&str; 3] = ["api.example.com", "git.example.com", "elsewhere.example.net"];

/// How the real key is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// `Authorization: Bearer`.
    Bearer,
    /// `Authorization: Basic`, of `builder` and the key.
    Basic,
}

/// A key, and what the origin must see of it in `Authorization`.
#[derive(Debug, Clone)]
pub struct RealKey {
    kind: Key,
    secret: String,
}

impl RealKey {
    /// A new one.
    pub fn new(kind: Key) -> Self {
        let secret = if kind == Key::Basic { format!("builder:{}", fresh_key()) } else { fresh_key() };
        Self { kind, secret }
    }

    /// The value of `Authorization` at the origin.
    pub fn shown(&self) -> String {
        match self.kind {
            Key::Bearer => format!("Bearer {}", self.secret),
            Key::Basic => format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(&self.secret)),
        }
    }
}

/// Everything that runs but the origin.
pub struct Stage {
    /// The running proxy. First, so that it goes first.
    pub serve: Serve,
    /// The home.
    pub home: Home,
}

impl Stage {
    /// All hosts lead to the address, at 443, and the key is for `*.example.com`.
    #[track_caller]
    pub fn new(origin: SocketAddr, key: &RealKey) -> Self {
        Self::with(origin, key, &[])
    }

    /// The same, with more arguments for `credential add`.
    #[track_caller]
    pub fn with(origin: SocketAddr, key: &RealKey, more: &[&str]) -> Self {
        Self::configured(origin, key, more, "")
    }

    /// The same, with more configuration.
    #[track_caller]
    pub fn configured(origin: SocketAddr, key: &RealKey, more: &[&str], configuration: &str) -> Self {
        let home = Home::bare("");
        let authority = home.outside().join("origins-ca.pem");
        std::fs::write(&authority, AUTHORITY.pem()).unwrap();
        let mut text = format!("{configuration}[upstream]\nextra_ca_files = [\"{}\"]\n[resolve]\n", authority.display());
        for host in HOSTS {
            text.push_str(&format!("\"{host}:443\" = \"{origin}\"\n"));
        }
        home.configure(&text);
        home.ok(&["init"]);
        let kind = if key.kind == Key::Basic { "basic" } else { "bearer" };
        home.ok_with(&[&["credential", "add", "real", "--type", kind, "--allow", "*.example.com"], more].concat(), &key.secret);
        let serve = Serve::start(&home);
        Self { serve, home }
    }

    /// What `env` printed for the agent.
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.serve.env
    }

    /// Runs a program in a directory of the test's own, which is its `HOME` too, with `PATH`, what `env` printed, and nothing else.
    pub fn run_in(&self, dir: &Path, program: &Path, args: &[&str], more: &[(&str, &str)]) -> Said {
        let mut command = Command::new(program);
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", dir).current_dir(dir);
        command.envs(self.env()).envs(more.iter().copied());
        said(command, b"")
    }

    /// What was spoken with the agent and with the origin, of the requests to this path that had the credential put on;
    /// waits until there is such a record.
    #[track_caller]
    pub fn spoken(&self, path: &str) -> Vec<(String, String)> {
        within(Duration::from_secs(5), &format!("a record of {path} as injected"), || {
            let log = std::fs::read_to_string(self.home.path().join("audit.jsonl")).unwrap_or_default();
            let word = |record: &serde_json::Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
            let records = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let ours = records.filter(|r| r["path"] == path && r["decision"] == "injected");
            let all = ours.map(|r| (word(&r, "client_protocol"), word(&r, "upstream_protocol"))).collect::<Vec<_>>();
            (!all.is_empty()).then_some(all)
        })
    }

    /// Fails unless every injected request to the path spoke these: `1` or `2` with the agent, and with the origin.
    #[track_caller]
    pub fn expect_spoken(&self, path: &str, agent: u8, origin: u8) {
        let name = |version| if version == 2 { "HTTP/2" } else { "HTTP/1.1" }.to_owned();
        for spoken in self.spoken(path) {
            assert_eq!(spoken, (name(agent), name(origin)), "{path}");
        }
    }
}

/// A server in another language that tells its port in its first line; killed when the value is dropped.
pub struct Peer {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// Runs a script with the Python of `tests/run`; it prints `port N` once it listens. `None`, and a line that says so,
    /// where there is no such Python with these modules.
    #[track_caller]
    pub fn python(test: &str, modules: &str, script: &str, args: &[&str]) -> Option<Self> {
        let python = Client::Python.path().filter(|p| Command::new(p).args(["-c", &format!("import {modules}")]).output().unwrap().status.success());
        let Some(python) = python else {
            skip(test, &format!("no Python with {modules} on this machine"));
            return None;
        };
        let mut command = Command::new(python);
        command.args(["-c", script]).args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        Some(Self::start(command))
    }

    /// Any program that does so.
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        use std::io::BufRead as _;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("port ").and_then(|p| p.parse::<u16>().ok());
        let Some(port) = port else {
            let _ = child.kill();
            panic!("the server tells its port: {line:?}");
        };
        let lines = Arc::new(Mutex::new(Vec::new()));
        let own = lines.clone();
        std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(|line| own.lock().unwrap().push(line)));
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)), lines }
    }

    /// The JSON objects that it has printed so far, a line each.
    pub fn told(&self) -> Vec<serde_json::Value> {
        self.lines.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a certificate for [`HOSTS`] and its key into the directory; their paths.
pub fn write_leaf(dir: &Path) -> (String, String) {
    let (leaf, key) = AUTHORITY.leaf(&HOSTS).unwrap();
    let (certificate, secret) = (dir.join("leaf.pem"), dir.join("leaf.key"));
    std::fs::write(&certificate, leaf.pem()).unwrap();
    std::fs::write(&secret, key.serialize_pem()).unwrap();
    (certificate.display().to_string(), secret.display().to_string())
}
