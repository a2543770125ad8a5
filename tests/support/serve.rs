//! A running `keyhatch serve`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{Home, within};

/// The process; killed when the value is dropped.
pub struct Serve {
    child: Child,
    log: PathBuf,
    /// What `keyhatch env --format json` printed for agent `default`.
    pub env: BTreeMap<String, String>,
}

impl Serve {
    /// Starts `serve` in the home and waits until it answers `env`.
    #[track_caller]
    pub fn start(home: &Home) -> Self {
        Self::start_with(home, &[], &[])
    }

    /// The same with further arguments and variables.
    #[track_caller]
    pub fn start_with(home: &Home, args: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_asking(home, args, variables, &[])
    }

    /// The same with further arguments for `env`: a serve on a Unix socket alone has no URL of its own to tell.
    #[track_caller]
    pub fn start_asking(home: &Home, args: &[&str], variables: &[(&str, &str)], asking: &[&str]) -> Self {
        Self::spawn(home, home.command(&[&["serve"], args].concat()), variables, asking)
    }

    /// The same by another program, which becomes `serve` in the end: the words before it.
    #[track_caller]
    pub fn start_under(home: &Home, words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(super::binary()).arg("serve");
        home.dress(&mut command);
        Self::spawn(home, command, &[], &[])
    }

    /// The same with so few descriptors.
    #[track_caller]
    pub fn start_with_descriptors(home: &Home, descriptors: usize) -> Self {
        Self::start_under(home, &["sh", "-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")])
    }

    #[track_caller]
    fn spawn(home: &Home, mut command: Command, variables: &[(&str, &str)], asking: &[&str]) -> Self {
        let log = home.outside().join(format!("serve-{}.log", std::process::id()));
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        command.envs(variables.iter().copied()).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap();
        let mut serve = Self { child, log, env: BTreeMap::new() };
        serve.env = within(Duration::from_secs(20), "serve answers `env`", || {
            assert!(serve.child.try_wait().unwrap().is_none(), "serve ended: {}", serve.log());
            let said = home.say(&[&["env", "--format", "json"], asking].concat(), "");
            (said.code == 0).then(|| variables_of(&said.json()))
        });
        serve
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// The environment for an agent.
    #[track_caller]
    pub fn env_for(&self, home: &Home, agent: &str) -> BTreeMap<String, String> {
        variables_of(&home.json_env(&["--agent", agent]))
    }

    /// Where the proxy listens.
    pub fn proxy(&self) -> SocketAddr {
        let url = &self.env["HTTPS_PROXY"];
        let address = url.trim_end_matches('/').rsplit(['@', '/']).next().unwrap();
        address.parse().unwrap_or_else(|e| panic!("{address}: {e}"))
    }

    /// Where the admin listener listens: from what `serve` said at its start.
    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        let log = self.log();
        let line = log.lines().find(|l| l.contains("admin") && l.contains("127.0.0.1:"));
        let line = line.unwrap_or_else(|| panic!("serve tells where the admin listener is: {log}"));
        let at = line.find("admin").unwrap();
        let rest = &line[at + line[at..].find("127.0.0.1:").unwrap()..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
        rest[..end].parse().unwrap_or_else(|e| panic!("{rest}: {e}"))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory now and at its greatest, in KiB.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let value = |name: &str| {
            let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name} in {status}"));
            line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
        };
        (value("VmRSS:"), value("VmHWM:"))
    }

    /// How many descriptors it has open. A process of another user cannot be looked at.
    #[track_caller]
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(&path).unwrap_or_else(|e| panic!("{path}: {e}")).count()
    }

    /// SIGTERM, at once.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        within(limit, "serve ends", || self.child.try_wait().unwrap())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// SIGTERM, and its end.
    #[track_caller]
    pub fn stop(&mut self) {
        self.terminate();
        let status = self.wait(Duration::from_secs(35));
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
            eprintln!("--- serve said ---\n{tail}\n------------------");
        }
    }
}

impl Home {
    /// `env --format json` with further arguments.
    #[track_caller]
    pub fn json_env(&self, args: &[&str]) -> serde_json::Value {
        let said = self.say(&[&["env", "--format", "json"], args].concat(), "");
        assert_eq!(said.code, 0, "{said:?}");
        said.json()
    }
}

/// The variables of `env --format json`: one object from names to values.
#[track_caller]
pub fn variables_of(json: &serde_json::Value) -> BTreeMap<String, String> {
    let object = json.as_object().unwrap_or_else(|| panic!("an object: {json}"));
    object.iter().map(|(n, v)| (n.clone(), v.as_str().unwrap_or_else(|| panic!("{n} is a string: {json}")).to_owned())).collect()
}
