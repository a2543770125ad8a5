//! [`Vault`]: what may be asked, with a good token under each call.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::answer::Answer;
use super::answers::{self, Health, Lease, Metadata, Mount, MountKind, Reading, TokenInfo};
use super::error::{VaultError, VaultErrorKind};
use super::login::{Gate, POLICIES_HOLD, Session, Way};
use super::mounts::{below, entry, needs_kv2};
use super::refusals::Refusals;
use super::settings::{Address, VaultSettings};
use super::{Wire, call::Call};
use crate::credential::Secret;

/// A Vault, and the token with which it is asked. It has no `Debug`.
pub struct Vault {
    pub(super) wire: Wire,
    pub(super) at: String,
    pub(super) way: Way,
    warnings: Vec<String>,
    /// The present token. Calls take it as it is; only a log-in waits.
    pub(super) current: ArcSwapOption<Session>,
    /// One log-in at a time.
    pub(super) gate: tokio::sync::Mutex<Gate>,
    pub(super) session: watch::Sender<u64>,
    pub(super) closed: AtomicBool,
    pub(super) counters: Counters,
    /// The mounts met so far. There are few.
    pub(super) mounts: Mutex<Vec<Mount>>,
    pub(super) refusals: Refusals,
    pub(super) policies_hold: Duration,
    pub(super) this: Weak<Self>,
}

/// Counts since the start, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VaultStats {
    /// Reads of data, metadata and lists, each try counted.
    pub reads: u64,
    /// Tokens come to: log-ins, and tokens taken from a file or from `VAULT_TOKEN`.
    pub logins: u64,
    /// Log-ins that failed.
    pub login_failures: u64,
    /// Renewals of the token that worked.
    pub renewals: u64,
    /// Calls without an answer, or with one that says that Vault cannot serve (429, 5xx).
    pub errors: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) reads: AtomicU64,
    pub(super) logins: AtomicU64,
    pub(super) login_failures: AtomicU64,
    pub(super) renewals: AtomicU64,
    pub(super) errors: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A path of Vault as it may be put into a URL: `secret/openrouter`, without slashes at its ends.
pub(super) fn valid_path(path: &str) -> Result<&str, VaultError> {
    let trimmed = path.trim_end_matches('/');
    let bad_part = |part: &str| matches!(part, "" | "." | "..") || part.chars().any(char::is_control);
    if trimmed.split('/').any(bad_part) {
        return Err(VaultError::settings(format!("{path:?} is no path of Vault; give one as `secret/openrouter`")));
    }
    Ok(trimmed)
}

impl Vault {
    /// Reads the files that the settings name (the CA, the client's certificate) and sets the client up. Nothing is asked of Vault
    /// yet: the first call logs in.
    ///
    /// # Errors
    /// [`VaultError`] of kind `Settings`.
    pub fn new(settings: VaultSettings) -> Result<Arc<Self>, VaultError> {
        Self::with(settings, POLICIES_HOLD)
    }

    /// The same, where a token that is older than this is replaced at a refusal.
    pub(super) fn with(settings: VaultSettings, policies_hold: Duration) -> Result<Arc<Self>, VaultError> {
        let address = Address::parse(&settings.address)?;
        let warnings = settings.warnings(&address);
        let wire = Wire::new(&settings, &address)?;
        let at = address.shown().to_owned();
        let way = Way::of(settings.login);
        Ok(Arc::new_cyclic(|this| Self {
            wire,
            at,
            way,
            warnings,
            current: ArcSwapOption::empty(),
            gate: tokio::sync::Mutex::default(),
            session: watch::Sender::new(0),
            closed: AtomicBool::new(false),
            counters: Counters::default(),
            mounts: Mutex::default(),
            refusals: Refusals::default(),
            policies_hold,
            this: this.clone(),
        }))
    }

    /// Where Vault is, for messages.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.at
    }

    /// What is to be said at every start and by `doctor`: plain http off loopback, a certificate that is not verified,
    /// variables that are not heeded.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// The counts so far.
    #[must_use]
    pub fn stats(&self) -> VaultStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { reads, logins, login_failures, renewals, errors } = &self.counters;
        VaultStats { reads: get(reads), logins: get(logins), login_failures: get(login_failures), renewals: get(renewals), errors: get(errors) }
    }

    /// The number of the token in use, which grows with each new one (not with a renewal). A lease ends with the token it was read
    /// with, so whoever holds one reads anew when this changes.
    #[must_use]
    pub fn session(&self) -> watch::Receiver<u64> {
        self.session.subscribe()
    }

    /// One call on the wire, counted.
    pub(super) async fn send(&self, call: &Call<'_>, token: Option<&Secret>) -> Result<Answer, VaultError> {
        if call.is_read() {
            Counters::add(&self.counters.reads);
        }
        let answer = self.wire.send(call, token).await;
        if answer.as_ref().map_or(true, |a| a.status == 429 || a.status >= 500) {
            Counters::add(&self.counters.errors);
        }
        answer
    }

    /// Makes a call with the present token, logging in where there is none. A 403 is believed of a token that is known to be good
    /// alone: an expired one is a 403 too.
    pub(super) async fn ask(&self, call: &Call<'_>) -> Result<Answer, VaultError> {
        let session = self.present().await?;
        let answer = self.send(call, Some(&session.token)).await?;
        if !answer.is_refusal() {
            self.allowed(&answer);
            return Ok(answer);
        }
        let Some(other) = self.other_than(&session, &answer.path).await? else { return Ok(answer) };
        let answer = self.send(call, Some(&other.token)).await?;
        if answer.is_refusal() {
            self.refusals.note(&answer.path, other.number, Instant::now());
        } else {
            self.allowed(&answer);
        }
        Ok(answer)
    }

    /// An outage says nothing of what is allowed.
    fn allowed(&self, answer: &Answer) {
        if (200..300).contains(&answer.status) || answer.is_nothing() {
            self.refusals.forget(&answer.path);
        }
    }

    /// Reads a secret. KV version 2: `GET MOUNT/data/REST`, `version` pins one. Any other engine: `GET PATH`; the answer may have a lease.
    ///
    /// # Errors
    /// [`VaultError`]: `NotFound`, `Deleted`, `Denied`, `NoMount`, or an outage.
    pub async fn read(&self, path: &str, version: Option<u64>) -> Result<Reading, VaultError> {
        let path = valid_path(path)?;
        let (mount, known) = self.mounted(path).await?;
        let read = self.read_in(&mount, path, version).await;
        match self.moved((&mount, known), path, &read).await? {
            Some(now) => self.read_in(&now, path, version).await,
            None => read,
        }
    }

    async fn read_in(&self, mount: &Mount, path: &str, version: Option<u64>) -> Result<Reading, VaultError> {
        if mount.kind != MountKind::KvV2 {
            if version.is_some() {
                return Err(VaultError::settings(format!("{path} has no versions: {} is not a key/value engine of version 2", mount.path)));
            }
            return answers::plain(&self.ask(&Call::read(path)).await?.ok()?.body, path);
        }
        let answer = self.ask(&Call::Kv2Read { mount: mount.name(), path: entry(mount, path)?, version }).await?;
        if !answer.is_nothing() {
            return answers::kv2(&answer.ok()?.body, path)?.ok_or_else(|| deleted(path, None));
        }
        // The body tells a deleted version, which has its metadata, from nothing.
        if let Ok(None) = answers::kv2(&answer.body, path) {
            return Err(deleted(path, version));
        }
        let error = answer.failure();
        Err(match version {
            Some(n) if error.kind == VaultErrorKind::NotFound => VaultError { detail: format!("{}, or no version {n} of it", error.detail), ..error },
            _ => error,
        })
    }

    /// What KV version 2 says about a secret without reading it: `GET MOUNT/metadata/REST`.
    ///
    /// # Errors
    /// [`VaultError`], of kind `Settings` where the engine is another one.
    pub async fn metadata(&self, path: &str) -> Result<Metadata, VaultError> {
        let path = valid_path(path)?;
        let (mount, known) = self.mounted(path).await?;
        let read = self.metadata_in(&mount, path).await;
        match self.moved((&mount, known), path, &read).await? {
            Some(now) => self.metadata_in(&now, path).await,
            None => read,
        }
    }

    async fn metadata_in(&self, mount: &Mount, path: &str) -> Result<Metadata, VaultError> {
        needs_kv2(mount, path)?;
        let answer = self.ask(&Call::Kv2Metadata { mount: mount.name(), path: entry(mount, path)? }).await?;
        answers::metadata(&answer.ok()?.body, path, crate::clock::now())
    }

    /// The names directly below a folder; those of sub-folders end in a slash. An empty folder is an empty list.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list(&self, path: &str) -> Result<Vec<String>, VaultError> {
        let path = valid_path(path)?;
        let (mount, known) = self.mounted(path).await?;
        let listed = self.list_in(&mount, path).await;
        let listed = match self.moved((&mount, known), path, &listed).await? {
            Some(now) => self.list_in(&now, path).await,
            None => listed,
        };
        match listed {
            Err(e) if e.kind == VaultErrorKind::NotFound => Ok(Vec::new()),
            listed => listed,
        }
    }

    async fn list_in(&self, mount: &Mount, path: &str) -> Result<Vec<String>, VaultError> {
        let answer = match mount.kind {
            MountKind::KvV2 => self.ask(&Call::Kv2List { mount: mount.name(), path: below(mount, path) }).await?,
            _ => self.ask(&Call::list(path)).await?,
        };
        answers::keys(&answer.ok()?.body, path)
    }

    /// Writes a secret where there is none yet (KV version 2, check-and-set 0). `false`: there is one, and it was left alone; one that
    /// is soft-deleted counts.
    ///
    /// # Errors
    /// [`VaultError`], of kind `Settings` where the engine is another one or a value is not UTF-8.
    pub async fn create(&self, path: &str, fields: &[(&str, &Secret)]) -> Result<bool, VaultError> {
        let path = valid_path(path)?;
        let mount = self.mount_of(path).await?;
        needs_kv2(&mount, path)?;
        let answer = self.ask(&Call::kv2_create(mount.name(), entry(&mount, path)?, fields)?).await?;
        if answer.status == 400 && answer.said.contains("check-and-set") {
            return Ok(false);
        }
        let refused = answer.is_refusal();
        let made = answer.ok().and_then(|a| if a.is_vaults() { Ok(true) } else { Err(VaultError::not_vaults(a.path)) });
        // To a token that may `create` and not `update`, writing what is there is a 403.
        if refused && matches!(self.read(path, None).await.map_err(|e| e.kind), Ok(_) | Err(VaultErrorKind::Deleted)) {
            return Ok(false);
        }
        made
    }

    /// Renews a lease: `POST sys/leases/renew`.
    ///
    /// # Errors
    /// [`VaultError`], of kind `BadAnswer` where the lease is over or cannot be renewed.
    pub async fn renew_lease(&self, lease_id: &str) -> Result<Lease, VaultError> {
        answers::lease(&self.ask(&Call::renew_lease(lease_id)?).await?.ok()?.body)
    }

    /// Revokes a lease: `POST sys/leases/revoke`.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn revoke_lease(&self, lease_id: &str) -> Result<(), VaultError> {
        self.ask(&Call::revoke_lease(lease_id)?).await?.ok().map(drop)
    }

    /// How Vault is: `GET sys/health`. It takes no token, and a sealed Vault answers too.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn health(&self) -> Result<Health, VaultError> {
        answers::health(&self.send(&Call::Health, None).await?.ok()?.body)
    }

    /// What Vault says about the token in use: `GET auth/token/lookup-self`.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn token_info(&self) -> Result<TokenInfo, VaultError> {
        answers::token_info(&self.ask(&Call::LookupSelf).await?.ok()?.body)
    }
}

fn deleted(path: &str, version: Option<u64>) -> VaultError {
    let which = version.map_or_else(|| "the current version".to_owned(), |n| format!("version {n}"));
    VaultError::new(
        VaultErrorKind::Deleted,
        format!("{which} of {path} is deleted in Vault: `vault kv put` writes a new one, `vault kv undelete` brings it back"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for good in ["secret/a", "secret/a/", "secret", "kv/team/a b", "secret/ü"] {
            assert!(valid_path(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "/secret/a", "secret//a", "secret/../sys/seal", "secret/./a", "secret/a\n"] {
            assert!(valid_path(bad).is_err(), "{bad}");
        }
    }
}
