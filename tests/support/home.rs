//! A throw-away home, and commands in it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::binary;

/// The passphrase of every test's store.
pub const PASSPHRASE: &str = "correct horse battery staple";

/// A home with a store.
pub struct Home {
    dir: TempDir,
    variables: BTreeMap<String, String>,
}

/// What a command said and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// The exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Fails unless the command ended with this code and explains itself: one line, no panic, no source path.
    #[track_caller]
    pub fn expect_error(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{self:?}");
        assert!(!self.stderr.trim().is_empty(), "an error says what happened: {self:?}");
        self.expect_no_panic()
    }

    /// Fails where the command panicked.
    #[track_caller]
    pub fn expect_no_panic(&self) -> &Self {
        assert!(!self.stderr.contains("panicked at") && !self.stderr.contains("RUST_BACKTRACE") && self.code != 101, "{self:?}");
        self
    }
}

impl Home {
    /// A home without anything in it but the configuration.
    pub fn bare(configuration: &str) -> Self {
        let dir = TempDir::with_prefix("keyhatch-test-").unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        std::fs::create_dir(dir.path().join("user")).unwrap();
        set_mode(&dir.path().join("home"), 0o700);
        let variables = BTreeMap::from([("KEYHATCH_PASSPHRASE".to_owned(), PASSPHRASE.to_owned())]);
        let home = Self { dir, variables };
        home.configure(configuration);
        home
    }

    /// A home after `init`, sealed with a passphrase.
    #[track_caller]
    pub fn new(configuration: &str) -> Self {
        let home = Self::bare(configuration);
        home.ok(&["init"]);
        home
    }

    /// A home after `init --key-file`: its commands need no Argon2, which suits tests with hundreds of them.
    #[track_caller]
    pub fn with_key_file(configuration: &str) -> Self {
        let mut home = Self::bare(configuration);
        home.init_with_key_file();
        home
    }

    /// `init --key-file` in a bare home: what it and later commands do takes no Argon2.
    #[track_caller]
    pub fn init_with_key_file(&mut self) {
        self.variables.remove("KEYHATCH_PASSPHRASE");
        let key = self.dir.path().join("key-file").to_string_lossy().into_owned();
        self.ok(&["init", "--key-file", &key]);
    }

    /// Writes the configuration anew: free ports, and what the test adds.
    pub fn configure(&self, more: &str) {
        let listen = if more.contains("[proxy]") { "" } else { "[proxy]\nlisten = \"127.0.0.1:0\"\n" };
        let admin = if more.contains("[admin]") { "" } else { "[admin]\nlisten = \"127.0.0.1:0\"\n" };
        std::fs::write(self.path().join("keyhatch.toml"), format!("{listen}{admin}{more}")).unwrap();
    }

    /// `KEYHATCH_HOME`.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// A directory outside the home that goes with it.
    pub fn outside(&self) -> &Path {
        self.dir.path()
    }

    /// Sets or takes away a variable for all later commands.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.variables.insert(name.to_owned(), value.to_owned()),
            None => self.variables.remove(name),
        };
    }

    /// A command in a clean environment: `PATH`, `HOME`, the home, the way to unlock.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args);
        self.dress(&mut command);
        command
    }

    /// Gives any program that clean environment.
    pub fn dress(&self, command: &mut Command) {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", self.dir.path().join("user")).env("KEYHATCH_HOME", self.path()).envs(&self.variables);
        command.stdin(Stdio::null());
    }

    /// Runs a command with something on its standard input.
    pub fn say(&self, args: &[&str], input: &str) -> Said {
        said(self.command(args), input.as_bytes())
    }

    /// Runs a command that must succeed; its standard output.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.ok_with(args, "")
    }

    /// The same with something on its standard input.
    #[track_caller]
    pub fn ok_with(&self, args: &[&str], input: &str) -> String {
        let said = self.say(args, input);
        assert_eq!(said.code, 0, "keyhatch {}: {said:?}", args.join(" "));
        said.stdout
    }

    /// Runs a command with `--json` that must succeed.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let said = self.say(&[args, &["--json"]].concat(), "");
        assert_eq!(said.code, 0, "keyhatch {}: {said:?}", args.join(" "));
        said.json()
    }

    /// Stores a bearer key for these patterns, granted to `default`.
    #[track_caller]
    pub fn add_key(&self, name: &str, patterns: &[&str], key: &str) {
        let mut args = vec!["credential", "add", name, "--type", "bearer"];
        patterns.iter().for_each(|p| args.extend(["--allow", p]));
        self.ok_with(&args, key);
    }

    /// All bytes of all files in the home.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut out = Vec::new();
        let mut todo = vec![self.path()];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    todo.push(entry.path());
                } else if kind.is_file() {
                    out.push((entry.path(), std::fs::read(entry.path()).unwrap()));
                }
            }
        }
        out
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.path().join("store.db")
    }
}

/// Runs any command to its end.
pub fn said(mut command: Command, input: &[u8]) -> Said {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    // A command that does not read its input closes the pipe: no fault of the test's.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `chmod`.
pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
