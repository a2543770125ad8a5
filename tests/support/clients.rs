//! Real clients in a clean environment: `PATH`, `HOME` and what `keyhatch env` printed, nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use super::home::{Said, said};
use super::{skip, target_dir};

/// A real client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// `curl`
    Curl,
    /// Python from the virtual environment that `tests/run` makes (requests, httpx, openai).
    Python,
    /// Python 3.13, whose certificate checks are strict, with nothing but its library.
    Python313,
    /// Node 24, which knows `NODE_USE_ENV_PROXY`.
    Node,
    /// `git`
    Git,
}

impl Client {
    /// Where it is; `None` where this machine has none.
    pub fn path(self) -> Option<PathBuf> {
        let target = target_dir();
        match self {
            Self::Curl => found("curl"),
            Self::Git => found("git"),
            Self::Python => Some(target.join("venv/bin/python")).filter(|p| p.exists()),
            Self::Python313 => found("python3.13").or_else(|| Some(target.join("python3.13")).filter(|p| p.exists())),
            Self::Node => Some(target.join("node/node_modules/node/bin/node")).filter(|p| p.exists()),
        }
    }

    /// Runs it; `None`, and a line that says so, where this machine has none.
    pub fn run(self, test: &str, env: &BTreeMap<String, String>, args: &[&str]) -> Option<Said> {
        let Some(path) = self.path() else {
            skip(test, &format!("no {self:?} on this machine"));
            return None;
        };
        let home = tempfile::TempDir::new().unwrap();
        let mut command = Command::new(path);
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", home.path()).envs(env).current_dir(home.path());
        Some(said(command, b""))
    }

    /// Runs a script of Python or Node.
    pub fn script(self, test: &str, env: &BTreeMap<String, String>, script: &str) -> Option<Said> {
        match self {
            Self::Node => self.run(test, env, &["--input-type=module", "-e", script]),
            _ => self.run(test, env, &["-c", script]),
        }
    }
}

/// A program on `PATH` that runs.
pub fn found(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|p| p.is_file() && Command::new(p).arg("--version").output().is_ok_and(|o| o.status.success()))
}
