//! How commands ask Vault: one connection a command, closed at its end, and errors with their mend.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::context::{not_started, runtime};
use super::error::CommandError;
use crate::config::VaultConfig;
use crate::credential::{Secret, VaultReference};
use crate::server::{Asker, ReloadError, Remote, StartError, vault_client};
use crate::vault::hashicorp::{MountKind, Reading, Vault, VaultError, VaultErrorKind};

/// How long the good-bye may take: Vault ends tokens and leases by itself, later.
const FAREWELL: Duration = Duration::from_secs(2);

/// A Vault, and the runtime in which it is asked.
pub(crate) struct There {
    runtime: Runtime,
    vault: Arc<Vault>,
    config_file: PathBuf,
    /// What was leased by this command, to be given back.
    leases: Mutex<Vec<String>>,
}

/// Whether credentials or agents are looked for in Vault.
pub(crate) fn discovers(config: &VaultConfig) -> bool {
    config.discover.is_some() || config.discover_agents.is_some()
}

impl There {
    /// Sets it up by `[vault]` and the environment; asks nothing yet.
    pub(crate) fn new(config: &VaultConfig, config_file: &Path) -> Result<Self, CommandError> {
        let vault = vault_client(config, Asker::Command).map_err(|e| told(config_file, e))?;
        Ok(Self { runtime: runtime()?, vault, config_file: config_file.to_owned(), leases: Mutex::default() })
    }

    /// The client.
    pub(crate) fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Waits for an answer.
    pub(crate) fn wait<F: Future>(&self, answer: F) -> F::Output {
        self.runtime.block_on(answer)
    }

    /// A failure with its mend, and where a setting is at fault, with its place.
    pub(crate) fn failed(&self, e: ReloadError) -> CommandError {
        told(&self.config_file, e)
    }

    /// Looks into the folders of discovery.
    pub(crate) fn look(&self, config: &VaultConfig) -> Result<Arc<Remote>, CommandError> {
        let remote = Remote::with(Arc::clone(&self.vault), config, self.runtime.handle());
        self.wait(remote.look()).map_err(|e| self.failed(e))?;
        Ok(remote)
    }

    /// Reads what a reference points to. A lease that comes with it is given back at the end of the command.
    pub(crate) fn read(&self, reference: &VaultReference) -> Result<Reading, VaultError> {
        let reading = self.wait(self.vault.read(reference.path(), reference.version()))?;
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).extend(reading.lease.iter().map(|lease| lease.id.clone()));
        Ok(reading)
    }

    /// Whether a read makes a new secret: every engine but key/value may.
    pub(crate) fn makes_at_each_read(&self, reference: &VaultReference) -> Result<bool, VaultError> {
        Ok(matches!(self.wait(self.vault.mount_of(reference.path()))?.kind, MountKind::Other(_)))
    }

    /// The secret that a reference points to.
    pub(crate) fn value(&self, reference: &VaultReference) -> Result<Secret, CommandError> {
        let reading = self.read(reference).map_err(failed)?;
        reading.fields.secret(reference).map_err(|e| CommandError::failed(e.to_string()))
    }
}

impl Drop for There {
    fn drop(&mut self) {
        let leases = std::mem::take(self.leases.get_mut().unwrap_or_else(PoisonError::into_inner));
        let vault = &self.vault;
        let farewell = async {
            for lease in leases {
                // Without the right to revoke, it ends at its time.
                let _ = vault.revoke_lease(&lease).await;
            }
            vault.close().await;
        };
        let _ = self.runtime.block_on(async { tokio::time::timeout(FAREWELL, farewell).await });
    }
}

/// A failure of Vault as a command's.
pub(crate) fn failed(e: VaultError) -> CommandError {
    let error = CommandError::failed(e.to_string());
    match mend(&e) {
        Some(mend) => error.hint(mend),
        None => error,
    }
}

/// What to do about an error, where its line does not say so itself.
pub(crate) fn mend(e: &VaultError) -> Option<&'static str> {
    match e.kind {
        VaultErrorKind::Unreachable | VaultErrorKind::Timeout => Some("start Vault, or give its address: VAULT_ADDR, or `address` in [vault]"),
        VaultErrorKind::Unavailable => Some("look at Vault's own log, and try again"),
        VaultErrorKind::LoginRefused => Some("see to VAULT_TOKEN, or to `auth` in [vault]"),
        VaultErrorKind::NotFound => Some("write it there with `vault kv put`, or correct the path"),
        _ => None,
    }
}

fn told(config_file: &Path, e: ReloadError) -> CommandError {
    not_started(config_file, StartError::State(e))
}
