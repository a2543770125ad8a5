//! The Autobahn test suite (`wstest`), both ways round: its fuzzing client as the agent before a good echo server, and its
//! fuzzing server as the origin of a good client. Each case must have the verdict that it has without the proxy, in all
//! four pairings of HTTP/1.1 and HTTP/2.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::relay::{HOST, Relay};
use super::stage::Peer;
use super::{Key, RealKey, Stage};
use crate::support::clients::Client;
use crate::support::{skip, target_dir, within};

/// All but the cases about limits and those with a thousand messages each: of these a few of the small ones.
const CASES: [&str; 14] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", "9.1.1", "9.2.1", "12.1.3", "12.3.2", "13.1.3", "13.7.2"];
/// How many these are.
const COUNT: usize = 253;

/// What a case said of what was received, and of how the connection was closed.
type Verdicts = BTreeMap<String, (String, String)>;

/// The pairings: with the agent, with the origin.
const PAIRINGS: [(u8, u8); 4] = [(1, 1), (1, 2), (2, 1), (2, 2)];

/// A run of `wstest`, killed when the value is dropped.
struct Suite {
    child: Child,
    dir: TempDir,
}

impl Suite {
    /// Starts it with a specification, in which `{out}` is where its reports go.
    fn start(mode: &str, specification: &str) -> Self {
        let root = target_dir().join("wstest");
        let dir = TempDir::new().unwrap();
        let out = dir.path().join("reports");
        std::fs::write(dir.path().join("spec.json"), specification.replace("{out}", &out.display().to_string())).unwrap();
        std::fs::write(dir.path().join("wstest.py"), include_str!("peers/wstest.py")).unwrap();
        let mut command = Command::new(root.join("python2.7"));
        command.arg(dir.path().join("wstest.py")).arg(root.join("site")).args(["-m", mode, "-s"]).arg(dir.path().join("spec.json"));
        command.args(["-u", "0"]).current_dir(dir.path()).env_clear().env("PYTHONDONTWRITEBYTECODE", "1");
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self { child: command.spawn().unwrap(), dir }
    }

    /// The fuzzing client, against one server.
    fn client(server: SocketAddr) -> Self {
        let servers = format!(r#"[{{"agent":"peer","url":"ws://{server}"}}]"#);
        Self::start(
            "fuzzingclient",
            &format!(r#"{{"outdir":"{{out}}","servers":{servers},"cases":{CASES:?},"exclude-cases":[],"exclude-agent-cases":{{}}}}"#),
        )
    }

    /// The fuzzing server, and where it listens.
    fn server() -> (Self, SocketAddr) {
        // It says no port of its own choice.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let specification =
            format!(r#"{{"url":"ws://{address}","outdir":"{{out}}","cases":{CASES:?},"exclude-cases":[],"exclude-agent-cases":{{}}}}"#);
        let suite = Self::start("fuzzingserver", &specification);
        within(Duration::from_secs(20), "the fuzzing server listens", || TcpStream::connect(address).ok());
        (suite, address)
    }

    fn wait(&mut self) {
        within(Duration::from_secs(200), "the suite ends", || self.child.try_wait().unwrap());
    }

    fn verdicts(&self) -> Verdicts {
        let report = self.dir.path().join("reports/index.json");
        let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let text = std::fs::read_to_string(report).unwrap_or_else(|e| panic!("no report ({e}): {}", log()));
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        let cases = all.as_object().unwrap().values().next().unwrap().as_object().unwrap();
        let word = |v: &serde_json::Value, name: &str| v[name].as_str().unwrap_or_default().to_owned();
        cases.iter().map(|(case, v)| (case.clone(), (word(v, "behavior"), word(v, "behaviorClose")))).collect()
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the suite is there; else a line that says why it is not.
fn at_hand(test: &str) -> bool {
    let root = target_dir().join("wstest");
    let there = root.join("python2.7").exists() && root.join("site/autobahntestsuite").exists();
    if !there {
        skip(test, "no Autobahn test suite, or no Python 2.7 to run it with");
    }
    there
}

/// A proxy for one pairing, with an origin's relay behind it.
struct Way {
    stage: Stage,
    _origin: Relay,
}

impl Way {
    fn new(server: SocketAddr, version: u8) -> Self {
        let key = RealKey::new(Key::Bearer);
        let origin = Relay::of_origin(server, &key, version);
        Self { stage: Stage::new(origin.address, &key), _origin: origin }
    }

    /// Fails unless every case went this way, with the credential.
    #[track_caller]
    fn expect_all(&self, path: &str, (agent, origin): (u8, u8)) {
        self.stage.expect_spoken(path, agent, origin);
        within(Duration::from_secs(5), "a record of every case", || (self.stage.spoken(path).len() >= COUNT).then_some(()));
    }
}

#[track_caller]
fn compare(what: &str, direct: &Verdicts, through: &Verdicts) {
    // The suite calls it NON-STRICT where a peer answers frames that came before the wrong one. Whether they came with it or
    // before it is up to the network, so the same peer does now one, now the other.
    let class = |verdict: &(String, String)| (verdict.0.replace("NON-STRICT", "OK"), verdict.1.clone());
    let differing = direct.iter().filter(|(case, verdict)| through.get(*case).map(class) != Some(class(verdict)));
    let differing =
        differing.map(|(case, verdict)| format!("{case}: {verdict:?} directly, {:?} through the proxy", through.get(case))).collect::<Vec<_>>();
    assert!(differing.is_empty(), "{what}: {differing:#?}");
}

/// Fails unless the peer itself passes: what is compared must be worth comparing.
#[track_caller]
fn expect_good(direct: &Verdicts) {
    assert_eq!(direct.len(), COUNT);
    let failed = direct.iter().filter(|(_, (behaviour, _))| behaviour == "FAILED").map(|(case, _)| case.as_str()).collect::<Vec<_>>();
    // The library closes with another code here than the suite likes.
    assert!(failed.iter().all(|case| *case == "7.1.5"), "{failed:?}");
}

#[test]
fn autobahns_client_sees_no_proxy_before_a_server() {
    if !at_hand("autobahn") {
        return;
    }
    let Some(server) = Peer::python("autobahn", "websockets.asyncio.server", include_str!("peers/ws_echo.py"), &[]) else { return };
    let mut direct = Suite::client(server.address);
    let runs = PAIRINGS.map(|(agent, origin)| {
        let way = Way::new(server.address, origin);
        let relay = Relay::of_agent(&way.stage, agent);
        let suite = Suite::client(relay.address);
        ((agent, origin), way, relay, suite)
    });
    direct.wait();
    let direct = direct.verdicts();
    expect_good(&direct);
    for (pairing, way, relay, mut suite) in runs {
        suite.wait();
        compare(&format!("{pairing:?}"), &direct, &suite.verdicts());
        way.expect_all("/", pairing);
        drop(relay);
    }
}

/// Runs the good client against a fuzzing server; what env it has says whether that goes through the proxy.
fn testee(python: &Path, server: &str, env: &BTreeMap<String, String>) -> Child {
    let mut command = Command::new(python);
    command.args(["-c", include_str!("peers/ws_testee.py"), server, "peer"]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.envs(env).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn autobahns_server_sees_no_proxy_before_a_client() {
    let python: Option<PathBuf> = Client::Python.path();
    let Some(python) = python.filter(|_| at_hand("autobahn")) else { return };
    let (suite, address) = Suite::server();
    let mut direct = testee(&python, &format!("ws://{address}"), &BTreeMap::new());
    let mut runs = Vec::new();
    for (agent, origin) in PAIRINGS {
        let (suite, address) = Suite::server();
        let way = Way::new(address, origin);
        // The client itself knows the proxy's variables, but no HTTP/2.
        let relay = (agent == 2).then(|| Relay::of_agent(&way.stage, agent));
        let child = match &relay {
            Some(relay) => testee(&python, &format!("ws://{}", relay.address), &BTreeMap::new()),
            None => testee(&python, &format!("wss://{HOST}"), way.stage.env()),
        };
        runs.push(((agent, origin), way, relay, suite, child));
    }
    let ended = |child: &mut Child| within(Duration::from_secs(200), "the client ends", || child.try_wait().unwrap());
    assert!(ended(&mut direct).success());
    let direct = suite.verdicts();
    assert_eq!(direct.len(), COUNT);
    for (pairing, way, _relay, suite, mut child) in runs {
        assert!(ended(&mut child).success(), "{pairing:?}");
        way.expect_all("/runCase", pairing);
        compare(&format!("{pairing:?}"), &direct, &suite.verdicts());
    }
}
