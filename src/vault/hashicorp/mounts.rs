//! Which engine is mounted where: asked once, and anew where nothing is found below a mount that was known.

use std::sync::PoisonError;

use super::answers::{self, Mount, MountKind};
use super::call::Call;
use super::client::{Vault, valid_path};
use super::error::{self, VaultError, VaultErrorKind};

/// What is below the mount; empty for the mount itself.
pub(super) fn below<'a>(mount: &Mount, path: &'a str) -> &'a str {
    path.strip_prefix(mount.path.as_str()).unwrap_or("")
}

impl Mount {
    fn holds(&self, path: &str) -> bool {
        path.starts_with(&self.path) || path == self.name()
    }

    /// Without the slash.
    pub(super) fn name(&self) -> &str {
        self.path.trim_end_matches('/')
    }
}

impl Vault {
    /// Which engine is mounted above a path: `GET sys/internal/ui/mounts/PATH`, remembered.
    ///
    /// # Errors
    /// [`VaultError`]. Vault says 403 both where nothing is mounted and where the token has no right below the mount; a read tells which.
    pub async fn mount_of(&self, path: &str) -> Result<Mount, VaultError> {
        let path = valid_path(path)?;
        self.mounted(path).await.map(|(mount, _)| mount)
    }

    /// The mount above a path, and whether it was known already.
    pub(super) async fn mounted(&self, path: &str) -> Result<(Mount, bool), VaultError> {
        let known = self.mounts().iter().find(|m| m.holds(path)).cloned();
        match known {
            Some(mount) => Ok((mount, true)),
            None => self.ask_mount(path).await.map(|mount| (mount, false)),
        }
    }

    /// The mount above a path, where it is another one by now than the one that was known: `vault kv enable-versioning` makes version
    /// 2 of version 1. What was asked below the known one tells by `ended` whether it is worth asking: where there was nothing.
    ///
    /// # Errors
    /// [`VaultError`] where Vault cannot be asked just now, so that nobody knows.
    pub(super) async fn moved<T>(&self, known: (&Mount, bool), path: &str, ended: &Result<T, VaultError>) -> Result<Option<Mount>, VaultError> {
        let (mount, was_known) = known;
        let found_nothing = ended.as_ref().is_err_and(|e| matches!(e.kind, VaultErrorKind::NotFound | VaultErrorKind::NoMount));
        if !was_known || !found_nothing {
            return Ok(None);
        }
        self.mounts().retain(|m| m.path != mount.path);
        match self.ask_mount(path).await {
            Ok(now) => Ok(Some(now).filter(|now| now != mount)),
            Err(e) if e.kind.is_outage() => Err(e),
            Err(_) => Ok(None),
        }
    }

    async fn ask_mount(&self, path: &str) -> Result<Mount, VaultError> {
        let answer = self.ask(&Call::mount_of(path)).await?;
        if answer.is_refusal() {
            let probe = self.ask(&Call::read(path)).await?;
            let told = (!(200..300).contains(&probe.status)).then(|| probe.failure());
            return Err(told.filter(|e| e.kind == VaultErrorKind::NoMount || e.kind.is_outage()).unwrap_or_else(|| hidden(path)));
        }
        let mount = answers::mount(&answer.ok()?.body, path)?;
        let mut mounts = self.mounts();
        mounts.retain(|m| m.path != mount.path);
        mounts.push(mount.clone());
        Ok(mount)
    }

    fn mounts(&self) -> std::sync::MutexGuard<'_, Vec<Mount>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error where the engine is another one than KV version 2.
pub(super) fn needs_kv2(mount: &Mount, path: &str) -> Result<(), VaultError> {
    if mount.kind == MountKind::KvV2 {
        return Ok(());
    }
    Err(VaultError::settings(format!("{path} must be in a key/value engine of version 2, and {} is not: `vault kv enable-versioning`", mount.path)))
}

/// The part of the path below the mount, where there is one.
pub(super) fn entry<'a>(mount: &Mount, path: &'a str) -> Result<&'a str, VaultError> {
    let rest = below(mount, path);
    if rest.is_empty() { Err(VaultError::settings(format!("{path} is where an engine of Vault is mounted; name an entry in it"))) } else { Ok(rest) }
}

/// A mount that Vault does not show. The line is that of KV version 2 mounted at the path's first part, as it mostly is.
fn hidden(path: &str) -> VaultError {
    let (mount, rest) = path.split_once('/').unwrap_or((path, ""));
    let guess = if rest.is_empty() { format!("{mount}/*") } else { format!("{mount}/data/{rest}") };
    let error = error::denied("read", &guess);
    VaultError { detail: format!("{}; or nothing is mounted at {mount}/ (`vault secrets list`)", error.detail), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_holds_what_is_below_it() {
        let mount = Mount { path: "team/kv/".into(), kind: MountKind::KvV2 };
        assert!(mount.holds("team/kv/a/b") && mount.holds("team/kv") && !mount.holds("team/kvx/a"));
        assert_eq!((below(&mount, "team/kv/a/b"), below(&mount, "team/kv")), ("a/b", ""));
        assert!(entry(&mount, "team/kv").is_err());
    }

    #[test]
    fn a_hidden_mount_is_told_both_ways() {
        let error = hidden("secret/openrouter");
        assert_eq!(error.kind, VaultErrorKind::Denied);
        assert!(error.detail.contains("path \"secret/data/openrouter\" { capabilities = [\"read\"] }"), "{error}");
        assert!(error.detail.contains("`vault secrets list`"), "{error}");
    }
}
