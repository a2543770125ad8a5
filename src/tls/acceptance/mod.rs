//! What real clients say to the leaves: each that is installed must take them, and must refuse another CA's.

pub(super) mod in_memory;
pub(super) mod outside;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

use super::{CaState, LeafCache, VERSIONS};
use crate::agent::AgentName;
use crate::host::Host;
use crate::{clock, environment};

/// A leaf's server, as a client is told of it.
struct Server {
    host: Host,
    addr: SocketAddr,
}

impl Server {
    /// The name as clients take it for verification: an IPv6 address without brackets.
    fn name(&self) -> String {
        match &self.host {
            Host::Ip(ip) => ip.to_string(),
            Host::Dns(name) => name.to_string(),
        }
    }
}

/// One server for each kind of host and of CA (the own one, and another's intermediate), two PEM files: the right CAs and a stranger.
struct Scene {
    dir: tempfile::TempDir,
    servers: Vec<Server>,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("made");
        let (state, stranger) = (CaState::generate(clock::now()).expect("made"), CaState::generate(clock::now()).expect("made"));
        let (below, _) = outside::intermediate();
        let trusted = state.anchors_pem(clock::now()) + &below.anchors_pem(clock::now());
        std::fs::write(dir.path().join("ca.pem"), trusted).expect("written");
        std::fs::write(dir.path().join("stranger.pem"), stranger.anchors_pem(clock::now())).expect("written");
        let mut servers = Vec::new();
        for ca in [state, below] {
            let cache = LeafCache::new(Arc::new(ca)).expect("made");
            for host in hosts() {
                let config = cache.get(&AgentName::parse("one").expect("a name"), &host).await.expect("minted").config;
                servers.push(Server { host, addr: serve(TlsAcceptor::from(config)).await });
            }
        }
        Self { dir, servers }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    /// Runs a client against every server, as `make` builds it, first with the right CA and then with a stranger's.
    async fn judge(&self, client: &str, make: impl Fn(&Path, &Server) -> Command) {
        for server in &self.servers {
            let (ok, said) = run(make(&self.dir.path().join("ca.pem"), server), self.dir.path()).await;
            assert!(ok, "{client} refuses {}: {said}", server.host);
            let (ok, _) = run(make(&self.dir.path().join("stranger.pem"), server), self.dir.path()).await;
            assert!(!ok, "{client} takes {} from any CA: the test shows nothing", server.host);
        }
    }

    /// The same for a client that takes all servers at once, as `name=port`: where starting it is slow.
    async fn judge_at_once(&self, client: &str, make: impl Fn() -> Command) {
        let pairs: Vec<_> = self.servers.iter().map(|s| format!("{}={}", s.name(), s.addr.port())).collect();
        let with = |ca: &str| {
            let mut command = make();
            command.arg(self.dir.path().join(ca)).args(&pairs);
            command
        };
        let (ok, said) = run(with("ca.pem"), self.dir.path()).await;
        assert!(ok, "{client}: {said}");
        let (ok, _) = run(with("stranger.pem"), self.dir.path()).await;
        assert!(!ok, "{client} takes leaves of any CA: the test shows nothing");
    }
}

fn hosts() -> Vec<Host> {
    let label = "l".repeat(62);
    let long = format!("{label}.{label}.{label}.example.com");
    assert_eq!(long.len(), 200);
    ["api.example.com", &long, "127.0.0.1", "[2001:db8::1]"].iter().map(|h| Host::parse(h).expect(h)).collect()
}

/// Answers every request on a loopback port with 200, for as long as the test's runtime lives.
async fn serve(acceptor: TlsAcceptor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut tls = acceptor.accept(tcp).await.ok()?;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(tls.read_u8().await.ok()?);
                }
                tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await.ok()?;
                tls.shutdown().await.ok()
            });
        }
    });
    addr
}

/// Runs a command in a clean environment; whether it ended well, and what it said.
async fn run(mut command: Command, home: &Path) -> (bool, String) {
    command.env_clear().env("HOME", home).env("PATH", environment::var("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(120), command.output()).await.expect("ends in time").expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

/// Where a program is, if it is there.
fn find(program: &str) -> Option<PathBuf> {
    let found = std::env::split_paths(&environment::var("PATH")?).map(|dir| dir.join(program)).find(|p| p.is_file());
    if found.is_none() {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

#[tokio::test]
async fn openssl() {
    let Some(openssl) = find("openssl") else { return };
    let scene = Scene::new().await;
    scene
        .judge("openssl", |ca, server| {
            let mut command = Command::new(&openssl);
            command.args(["s_client", "-brief", "-verify_return_error", "-x509_strict", "-purpose", "sslserver"]);
            command.arg("-connect").arg(server.addr.to_string()).arg("-CAfile").arg(ca).args(["-no-CApath", "-no-CAstore"]);
            match server.host {
                Host::Dns(_) => command.args(["-servername", &server.name(), "-verify_hostname", &server.name()]),
                // As undici does: an address in the SNI, which RFC 6066 3 forbids.
                Host::Ip(ip) if ip.is_ipv4() => command.args(["-servername", &server.name(), "-verify_ip", &server.name()]),
                Host::Ip(_) => command.args(["-noservername", "-verify_ip", &server.name()]),
            };
            command
        })
        .await;
}

#[tokio::test]
async fn curl() {
    let Some(curl) = find("curl") else { return };
    let scene = Scene::new().await;
    scene
        .judge("curl", |ca, server| {
            let mut command = Command::new(&curl);
            command.args(["-sS", "--http1.1", "--fail", "--noproxy", "*", "--cacert"]).arg(ca);
            command.arg("--connect-to").arg(format!("::{}", server.addr)).arg(format!("https://{}/", server.host));
            command
        })
        .await;
}

#[tokio::test]
async fn python() {
    let mut pythons: Vec<PathBuf> = find("python3").into_iter().collect();
    // 3.13 is the first that is strict by itself.
    if let Some(home) = environment::var("HOME")
        && let Ok(versions) = std::fs::read_dir(Path::new(&home).join(".pyenv/versions"))
    {
        let strict = versions.flatten().filter(|v| v.file_name().to_string_lossy().starts_with("3.13"));
        pythons.extend(strict.map(|v| v.path().join("bin/python3")).filter(|p| p.is_file()));
    }
    let scene = Scene::new().await;
    let script = scene.file("client.py", include_str!("client.py"));
    for python in pythons {
        scene
            .judge_at_once("python", || {
                let mut command = Command::new(&python);
                command.arg(&script);
                command
            })
            .await;
    }
}

#[tokio::test]
async fn node() {
    let Some(node) = find("node") else { return };
    let scene = Scene::new().await;
    let script = scene.file("client.js", include_str!("client.js"));
    scene
        .judge_at_once("node", || {
            let mut command = Command::new(&node);
            command.arg(&script);
            command
        })
        .await;
}

#[tokio::test]
async fn java() {
    let (Some(java), Some(_compiler)) = (find("java"), find("javac")) else { return };
    let scene = Scene::new().await;
    let source = scene.file("Client.java", include_str!("Client.java"));
    scene
        .judge_at_once("java", || {
            let mut command = Command::new(&java);
            command.arg(&source);
            command
        })
        .await;
}

#[tokio::test]
async fn rustls() {
    let cache = LeafCache::new(Arc::new(CaState::generate(clock::now()).expect("made"))).expect("made");
    let pem = cache.authority().anchors_pem(clock::now());
    let stranger = CaState::generate(clock::now()).expect("made").anchors_pem(clock::now());
    for host in hosts() {
        let config = cache.get(&AgentName::parse("one").expect("a name"), &host).await.expect("minted").config;
        let name = host.to_string().replace(['[', ']'], "");
        for version in VERSIONS {
            in_memory::handshake(&in_memory::client_config(&pem, &[version], &[]), &name, &config).expect(&name);
            assert!(in_memory::handshake(&in_memory::client_config(&stranger, &[version], &[]), &name, &config).is_err());
        }
    }
}
