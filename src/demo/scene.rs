//! The demo's stage: the throw-away home, the origins, `serve`, and the commands of this same binary.

use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::net::TcpStream;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustls::RootCertStore;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::DemoError;
use super::certificate::OriginAuthority;
use super::child;
use super::origin::{Origin, Received, Role};
use super::steps::{HOME_HOST, LOOK_ALIKE, OTHER_HOST, STEPS};
use crate::{environment, random};

/// How long one command may take before the demo gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Scene {
    home: ThrowAway,
    binary: PathBuf,
    key: Zeroizing<String>,
    passphrase: Zeroizing<String>,
    authority: OriginAuthority,
    origins: Vec<(&'static str, Origin)>,
    serve: Option<Child>,
    talk: String,
}

impl Scene {
    /// Makes the home, stores a key and starts the origins and `serve`.
    pub(super) async fn set() -> Result<Self, DemoError> {
        let home = ThrowAway::new().map_err(io("making a throw-away home"))?;
        let authority = OriginAuthority::new().map_err(|e| DemoError::Step { doing: "making the origins' certificates", why: e.to_string() })?;
        let key = Zeroizing::new(format!("sk-or-v1-{}", &*hex(&random::bytes::<32>())));
        let mut scene = Self {
            home,
            binary: std::env::current_exe().map_err(io("finding this program's own file"))?,
            passphrase: hex(&random::bytes::<16>()),
            authority,
            origins: Vec::new(),
            serve: None,
            talk: String::new(),
            key,
        };
        scene.start_origins().await?;
        scene.write_configuration().map_err(io("writing the configuration"))?;
        scene.command("init", &["init"], None).await?;
        let key = scene.key();
        scene.command("credential add openrouter", &["credential", "add", "openrouter"], Some(&key)).await?;
        scene.start_serve().await?;
        Ok(scene)
    }

    /// The real key. It goes to `credential add` by standard input and to the origin that demands it.
    pub(super) fn key(&self) -> Zeroizing<String> {
        self.key.clone()
    }

    /// All hosts that have an origin here.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &'static str> {
        self.origins.iter().map(|(host, _)| *host)
    }

    /// What a host's origin has received so far.
    pub(super) fn received(&self, host: &str) -> Vec<Received> {
        self.origins.iter().find(|(h, _)| *h == host).map(|(_, o)| o.received()).unwrap_or_default()
    }

    /// What `serve` and the commands said on standard error and output.
    pub(super) fn talk(&self) -> String {
        let log = std::fs::read(self.home.0.join("serve.log")).unwrap_or_default();
        format!("{}{}", self.talk, String::from_utf8_lossy(&log))
    }

    async fn start_origins(&mut self) -> Result<(), DemoError> {
        for host in [HOME_HOST, OTHER_HOST, LOOK_ALIKE] {
            let role = if host == HOME_HOST { Role::OpenRouter { authorization: format!("Bearer {}", &*self.key).into() } } else { Role::Plain };
            let names = [host];
            let tls = self
                .authority
                .server(&names, &["http/1.1"])
                .map_err(|e| DemoError::Step { doing: "making an origin's certificate", why: e.to_string() })?;
            self.origins.push((host, Origin::start(tls, role).await.map_err(io("starting an origin"))?));
        }
        Ok(())
    }

    fn write_configuration(&self) -> std::io::Result<()> {
        let authority = self.home.0.join("origins-ca.pem");
        std::fs::write(&authority, self.authority.pem())?;
        let mut text = format!(
            "[proxy]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[upstream]\nextra_ca_files = [{}]\n[resolve]\n",
            toml::Value::from(authority.to_string_lossy().into_owned())
        );
        for (host, origin) in &self.origins {
            writeln!(text, "\"{host}:443\" = \"{}\"", origin.address()).expect("a string takes all");
        }
        std::fs::write(self.home.0.join("keyhatch.toml"), text)
    }

    /// A command of this binary with nothing in its environment but what it needs.
    fn keyhatch(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).env_clear().env("HOME", &self.home.0).env("KEYHATCH_HOME", &self.home.0).kill_on_drop(true);
        if let Some(path) = environment::var("PATH") {
            command.env("PATH", path);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end and keeps what it said.
    async fn output(&mut self, doing: &'static str, mut command: Command, input: Option<&str>) -> Result<Output, DemoError> {
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut process = command.spawn().map_err(io(doing))?;
        if let (Some(text), Some(mut pipe)) = (input, process.stdin.take()) {
            pipe.write_all(text.as_bytes()).await.map_err(io(doing))?;
        }
        let output = timeout(PATIENCE, process.wait_with_output())
            .await
            .map_err(|_| DemoError::Step { doing, why: format!("it did not end within {} s", PATIENCE.as_secs()) })?
            .map_err(io(doing))?;
        self.talk.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok(output)
    }

    /// Runs a command that must succeed.
    async fn command(&mut self, doing: &'static str, args: &[&str], input: Option<&str>) -> Result<(), DemoError> {
        let mut command = self.keyhatch(args);
        command.env("KEYHATCH_PASSPHRASE", &*self.passphrase);
        let output = self.output(doing, command, input).await?;
        self.talk.push_str(&String::from_utf8_lossy(&output.stdout));
        self.succeeded(doing, &output)
    }

    fn succeeded(&self, doing: &'static str, output: &Output) -> Result<(), DemoError> {
        if output.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&output.stderr).trim().replace(&*self.key, "(the key)");
        Err(DemoError::Step { doing, why: format!("{} ({})", why, output.status) })
    }

    /// Starts `serve` and waits until it answers `env`.
    async fn start_serve(&mut self) -> Result<(), DemoError> {
        let doing = "starting serve";
        let log = std::fs::File::create(self.home.0.join("serve.log")).map_err(io(doing))?;
        let mut command = self.keyhatch(&["serve"]);
        command.env("KEYHATCH_PASSPHRASE", &*self.passphrase);
        command.stdout(log.try_clone().map_err(io(doing))?).stderr(log);
        let mut serve = command.spawn().map_err(io(doing))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ready = self.keyhatch(&["env"]).stdout(Stdio::null()).stderr(Stdio::null()).status().await.map_err(io(doing))?;
            if ready.success() {
                self.serve = Some(serve);
                return Ok(());
            }
            let ended = serve.try_wait().map_err(io(doing))?;
            if ended.is_some() || Instant::now() > deadline {
                return Err(DemoError::Step { doing, why: self.talk().replace(&*self.key, "(the key)") });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks the origin itself, without a key: the status.
    pub(super) async fn ask_straight(&mut self) -> Result<u16, DemoError> {
        let doing = "asking the origin directly";
        let address = self.origins.iter().find(|(host, _)| *host == HOME_HOST).map(|(_, o)| o.address()).expect("its origin was started first");
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).map_err(|e| DemoError::Step { doing, why: e.to_string() })?;
        let step = STEPS.iter().find(|s| s.target == "/api/v1/auth/key").expect("the table has the key's own page");
        let asked = tokio::task::spawn_blocking(move || {
            let stream = TcpStream::connect(address).map_err(|e| e.to_string())?;
            let sent = step.sent(None).into_iter().filter(|(n, _)| n != "authorization").collect::<Vec<_>>();
            child::exchange(stream, &child::client_config(roots), step, &sent)
        });
        let answer = timeout(PATIENCE, asked).await.map_err(|_| DemoError::Step { doing, why: "no answer".to_owned() })?;
        let (status, _) = answer.map_err(|e| DemoError::Step { doing, why: e.to_string() })?.map_err(|why| DemoError::Step { doing, why })?;
        Ok(status)
    }

    /// Runs the child under `keyhatch run`, which asks the running `serve` and so needs no passphrase. What it printed.
    pub(super) async fn run_child(&mut self) -> Result<String, DemoError> {
        let doing = "running the child";
        let (binary, authority) = (self.binary.clone(), self.home.0.join("origins-ca.pem"));
        let mut command = self.keyhatch(&["run", "--"]);
        command.arg(binary).arg("demo-child").arg(authority);
        let output = self.output(doing, command, None).await?;
        self.succeeded(doing, &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Stops `serve` as a service manager would.
    pub(super) async fn stop(&mut self) -> Result<(), DemoError> {
        let doing = "stopping serve";
        let Some(mut serve) = self.serve.take() else { return Ok(()) };
        if let Some(pid) = serve.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|e| io(doing)(e.into()))?;
        }
        let status =
            timeout(PATIENCE, serve.wait()).await.map_err(|_| DemoError::Step { doing, why: "it went on".to_owned() })?.map_err(io(doing))?;
        if status.success() { Ok(()) } else { Err(DemoError::Step { doing, why: status.to_string() }) }
    }

    /// Whether `audit verify` is content.
    pub(super) async fn audit_verifies(&mut self) -> Result<bool, DemoError> {
        match self.command("audit verify", &["audit", "verify"], None).await {
            Ok(()) => Ok(true),
            Err(DemoError::Step { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

fn io(doing: &'static str) -> impl Fn(std::io::Error) -> DemoError {
    move |source| DemoError::Io { doing, source }
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    bytes.iter().for_each(|b| write!(out, "{b:02x}").expect("a string takes all"));
    out
}

/// The SHA-256 of the bytes, in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A directory of our own that goes when the value goes.
struct ThrowAway(PathBuf);

impl ThrowAway {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("keyhatch-demo-{}", &*hex(&random::bytes::<8>())));
        DirBuilder::new().mode(0o700).create(&path)?;
        // A link in the way (as /tmp on some systems) would make the paths in messages differ.
        Ok(Self(Path::canonicalize(&path).unwrap_or(path)))
    }
}

impl Drop for ThrowAway {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
