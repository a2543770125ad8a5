//! A folder in Vault whose entries mean something: listed again and again, each entry read where it changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Fields;
use super::paths::{back_off, jittered, lock};
use super::{Metadata, MountKind, Vault};
use super::{VaultError, VaultErrorKind};

/// Looks out of turn come no sooner after one another.
const POKE_APART: Duration = Duration::from_secs(10);

/// One entry, as it was read.
pub struct Child<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its custom metadata; empty where the engine is KV v1.
    pub custom: &'a BTreeMap<String, String>,
    /// The version of that value; KV v1 has none.
    pub version: Option<u64>,
    /// Its value; `None` where its present version is deleted, or there is none yet.
    pub fields: Option<&'a Fields>,
}

/// What the entries of a folder are.
pub trait Entries: Send + Sync + 'static {
    /// What is made of one.
    type Item: Clone + PartialEq + Send + Sync + 'static;

    /// Whether an entry may have this name. One that may not is not read at all.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    fn check_name(&self, name: &str) -> Result<(), String>;

    /// Makes something of an entry.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    fn make(&self, child: &Child<'_>) -> Result<Self::Item, String>;

    /// What stays of an item whose entry makes none any more, though it is still there.
    fn withhold(&self, item: Self::Item) -> Option<Self::Item>;
}

/// What stands for an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made<T> {
    /// What was made of it, if anything.
    pub item: Option<T>,
    /// What is wrong with it, if anything.
    pub fault: Option<String>,
}

/// All entries of a folder, by name.
pub type Listing<T> = BTreeMap<String, Made<T>>;

/// A folder that is kept up to date.
pub struct Folder<E: Entries> {
    path: String,
    entries: E,
    known: Mutex<BTreeMap<String, Entry<E::Item>>>,
    listing: watch::Sender<Option<Arc<Listing<E::Item>>>>,
    trouble: Mutex<Option<String>>,
    poked: Mutex<Option<Instant>>,
    wake: Notify,
}

/// What an entry was made of, and what was made.
#[derive(Clone)]
struct Entry<T> {
    seen: Option<Seen>,
    made: Made<T>,
}

/// An entry of KV v2 as its metadata tells it: while that stays, so does what was made of it.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    version: u64,
    /// An entry that was removed and made anew counts its versions from 1 again.
    created: Option<String>,
    gone: bool,
    custom: BTreeMap<String, String>,
}

impl<E: Entries> Folder<E> {
    /// A folder that was not looked into yet.
    pub fn new(path: &str, entries: E) -> Self {
        Self {
            path: path.to_owned(),
            entries,
            known: Mutex::default(),
            listing: watch::Sender::new(None),
            trouble: Mutex::default(),
            poked: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// The folder's path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is in it, as last read; `None` before the first time.
    #[must_use]
    pub fn listing(&self) -> Option<Arc<Listing<E::Item>>> {
        self.listing.borrow().clone()
    }

    /// Tells of each change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<Arc<Listing<E::Item>>>> {
        self.listing.subscribe()
    }

    /// Why it could not be read the last time, if so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Has it looked into out of turn, at most once in ten seconds.
    pub fn poke(&self) {
        let mut poked = lock(&self.poked);
        if poked.is_none_or(|at| at.elapsed() >= POKE_APART) {
            *poked = Some(Instant::now());
            self.wake.notify_one();
        }
    }

    /// Looks into it once, and takes what has changed. An entry that has a fault leaves the others alone.
    ///
    /// # Errors
    /// [`VaultError`] where the folder cannot be listed, or Vault cannot be asked for one of its entries: all stays as it was.
    pub async fn look(&self, vault: &Vault) -> Result<(), VaultError> {
        let names = vault.list(&self.path).await?;
        let metadata = vault.mount_of(&self.path).await?.kind == MountKind::KvV2;
        let mut next = BTreeMap::new();
        for name in names {
            let before = lock(&self.known).get(&name).cloned();
            if let Some(entry) = self.entry(vault, &name, metadata, before).await? {
                // So that the next look goes on from here, should this one fail.
                lock(&self.known).insert(name.clone(), entry.clone());
                next.insert(name, entry);
            }
        }
        let listing: Listing<E::Item> = next.iter().map(|(name, entry)| (name.clone(), entry.made.clone())).collect();
        *lock(&self.known) = next;
        self.listing.send_if_modified(|old| {
            let new = old.as_ref().is_none_or(|old| **old != listing);
            if new {
                *old = Some(Arc::new(listing));
            }
            new
        });
        Ok(())
    }

    /// What stands for an entry now; `None` where it is gone since the folder was listed.
    async fn entry(&self, vault: &Vault, name: &str, metadata: bool, before: Option<Entry<E::Item>>) -> Result<Option<Entry<E::Item>>, VaultError> {
        let faulty = |seen, why: String, before: Option<Entry<E::Item>>| {
            let item = before.and_then(|b| b.made.item).and_then(|item| self.entries.withhold(item));
            Ok(Some(Entry { seen, made: Made { item, fault: Some(why) } }))
        };
        let path = format!("{}/{name}", self.path);
        if let Some(folder) = name.strip_suffix('/') {
            // An entry and a folder may have the same name.
            let why = format!("{}/{}: this is a folder; what is in folders of the folder is not looked into", self.path, folder.escape_debug());
            return faulty(None, why, None);
        }
        if let Err(why) = self.entries.check_name(name) {
            return faulty(None, why, None);
        }
        let seen = match self.seen(vault, &path, metadata).await {
            Ok(seen) => seen,
            Err(e) if e.kind.is_outage() => return Err(e),
            Err(e) if e.kind == VaultErrorKind::NotFound => return Ok(None),
            Err(e) => return faulty(None, format!("{path}: {e}"), before),
        };
        if let Some(before) = before.as_ref().filter(|b| seen.is_some() && b.seen == seen) {
            return Ok(Some(before.clone()));
        }
        let gone = seen.as_ref().is_some_and(|s| s.gone);
        let reading = match if gone { None } else { Some(vault.read(&path, None).await) } {
            Some(Ok(reading)) => Some(reading),
            Some(Err(e)) if e.kind.is_outage() => return Err(e),
            Some(Err(e)) if e.kind == VaultErrorKind::NotFound && !metadata => return Ok(None),
            // It was there a moment ago: the next look tells.
            Some(Err(e)) => return faulty(None, format!("{path}: {e}"), before),
            None => None,
        };
        let empty = BTreeMap::new();
        let custom = seen.as_ref().map_or(&empty, |s| &s.custom);
        let (version, fields) = (reading.as_ref().and_then(|r| r.version), reading.as_ref().map(|r| &r.fields));
        match self.entries.make(&Child { name, custom, version, fields }) {
            Ok(item) => Ok(Some(Entry { seen, made: Made { item: Some(item), fault: None } })),
            Err(why) => faulty(seen, why, before),
        }
    }

    /// What the metadata says; `None` where the engine has none.
    async fn seen(&self, vault: &Vault, path: &str, metadata: bool) -> Result<Option<Seen>, VaultError> {
        if !metadata {
            return Ok(None);
        }
        let Metadata { version, created, gone, custom } = vault.metadata(path).await?;
        Ok(Some(Seen { version, created, gone, custom }))
    }

    /// Looks into it every `refresh` until the task is ended; after a failure sooner, with growing waits.
    pub async fn keep(&self, vault: &Vault, refresh: Duration) {
        let mut failures = 0_u32;
        let mut wait = jittered(refresh);
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wake.notified() => {}
            }
            wait = match self.look(vault).await {
                Ok(()) => {
                    failures = 0;
                    self.trouble_is(None);
                    jittered(refresh)
                }
                Err(e) => {
                    failures = failures.saturating_add(1);
                    let wait = if e.kind.is_outage() { back_off(failures) } else { jittered(refresh) };
                    self.trouble_is(Some(e.to_string()));
                    wait
                }
            };
        }
    }

    /// Notes trouble with the folder, and logs its beginning and its end.
    fn trouble_is(&self, now: Option<String>) {
        let mut trouble = lock(&self.trouble);
        match (&*trouble, &now) {
            (None, Some(why)) => tracing::warn!("{}: the folder cannot be listed; what was found last stays: {why}", self.path),
            (Some(_), None) => tracing::info!("{}: the folder was listed again", self.path),
            _ => {}
        }
        *trouble = now;
    }
}
