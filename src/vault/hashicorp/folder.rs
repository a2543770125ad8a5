//! A folder in Vault whose entries mean something: listed again and again, each entry read where it changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Fields;
use super::paths::{back_off, jittered, lock};
use super::{Metadata, MountKind, Vault};
use super::{VaultError, VaultErrorKind};

/// Looks out of turn come no sooner after one another.
const POKE_APART: Duration = Duration::from_secs(10);
/// So many entries are read at once.
const AT_ONCE: usize = 16;

/// One entry, as it was read.
#[derive(Clone, Copy)]
pub struct Child<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its custom metadata, empty where the engine is KV v1; `None` where it could not be read.
    pub custom: Option<&'a BTreeMap<String, String>>,
    /// Its value; `None` where its present version is deleted, there is none yet, or it could not be read.
    pub fields: Option<&'a Fields>,
    /// Which version that is; `None` in KV v1.
    pub version: Option<u64>,
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

    /// What stands for an entry that is there, but could not be read, or makes nothing. `last` is what was made of it when it last did.
    fn withhold(&self, child: &Child<'_>, last: Option<&Self::Item>) -> Option<Self::Item>;
}

/// What stands for an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made<T> {
    /// What was made of it, or stands in its stead, if anything.
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
    known: Mutex<BTreeMap<String, Arc<Entry<E::Item>>>>,
    listing: watch::Sender<Option<Arc<Listing<E::Item>>>>,
    trouble: Mutex<Option<String>>,
    poked: Mutex<Option<Instant>>,
    wake: Notify,
}

/// What an entry was made of, and what was made.
struct Entry<T> {
    seen: Option<Seen>,
    made: Made<T>,
    /// What was made of it when it last could be used.
    last: Option<T>,
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

/// What Vault says of an entry.
enum Answer {
    /// Nothing new.
    Same,
    /// Its metadata, where the engine has any, and its value, unless that is deleted.
    Read { seen: Option<Seen>, value: Option<(Fields, Option<u64>)> },
    /// It does not give it, though it lists it. The metadata, where that much could be read.
    Refused { seen: Option<Seen>, why: VaultError },
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
    pub async fn look(&self, vault: &Arc<Vault>) -> Result<(), VaultError> {
        let names = vault.list(&self.path).await?;
        let metadata = vault.mount_of(&self.path).await?.kind == MountKind::KvV2;
        let mut next = BTreeMap::new();
        let mut left = Vec::new();
        for name in names {
            match self.unfit(&name) {
                Some(why) => drop(next.insert(name, Arc::new(Entry { seen: None, made: Made { item: None, fault: Some(why) }, last: None }))),
                None => left.push(name),
            }
        }
        let (mut left, mut reads) = (left.into_iter(), JoinSet::new());
        loop {
            while reads.len() < AT_ONCE
                && let Some(name) = left.next()
            {
                let before = lock(&self.known).get(&name).and_then(|before| before.seen.clone());
                let (vault, path) = (Arc::clone(vault), format!("{}/{name}", self.path));
                reads.spawn(async move { (name, ask(&vault, &path, metadata, before).await) });
            }
            let Some(read) = reads.join_next().await else { break };
            let (name, answer) = read.map_err(|_| VaultError::new(VaultErrorKind::Unavailable, "reading an entry was cut short"))?;
            // At the first outage the reads under way are given up: back-off is for all of them.
            let entry = self.entry(&name, answer?);
            // So that the next look goes on from here, should this one fail.
            lock(&self.known).insert(name.clone(), Arc::clone(&entry));
            next.insert(name, entry);
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

    /// Why an entry is not even read, if so.
    fn unfit(&self, name: &str) -> Option<String> {
        match name.strip_suffix('/') {
            // An entry and a folder may have the same name.
            Some(folder) => {
                Some(format!("{}/{}: this is a folder; what is in folders of the folder is not looked into", self.path, folder.escape_debug()))
            }
            None => self.entries.check_name(name).err(),
        }
    }

    /// What stands for an entry now.
    fn entry(&self, name: &str, answer: Answer) -> Arc<Entry<E::Item>> {
        let before = lock(&self.known).get(name).cloned();
        let none = BTreeMap::new();
        let (seen, value, why) = match (answer, &before) {
            (Answer::Same, Some(before)) => return Arc::clone(before),
            // Only what is known can be the same.
            (Answer::Same, None) => (None, None, Some(format!("{}/{name}: it was not read", self.path))),
            (Answer::Read { seen, value }, _) => (seen, value, None),
            (Answer::Refused { seen, why }, _) => (seen, None, Some(format!("{}/{name}: {why}", self.path))),
        };
        let custom = match (&seen, &why) {
            (Some(seen), _) => Some(&seen.custom),
            (None, None) => Some(&none),
            (None, Some(_)) => None,
        };
        let (fields, version) = value.as_ref().map_or((None, None), |(fields, version)| (Some(fields), *version));
        let child = Child { name, custom, fields, version };
        let refused = why.is_some();
        let made = why.map_or_else(|| self.entries.make(&child), Err);
        let last = before.as_ref().and_then(|before| before.last.as_ref());
        Arc::new(match made {
            Ok(item) => Entry { seen, last: Some(item.clone()), made: Made { item: Some(item), fault: None } },
            Err(why) => {
                let item = self.entries.withhold(&child, last);
                // What was refused is asked for again at each look: another policy shows in no metadata.
                Entry { seen: seen.filter(|_| !refused), last: last.cloned(), made: Made { item, fault: Some(why) } }
            }
        })
    }

    /// Looks into it every `refresh` until the task is ended; after a failure sooner, with growing waits.
    pub async fn keep(&self, vault: &Arc<Vault>, refresh: Duration) {
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

/// Asks for an entry: of KV v2 its metadata first, and its value only where that says something new.
///
/// # Errors
/// [`VaultError`] of an outage, which says nothing of the entry.
async fn ask(vault: &Vault, path: &str, metadata: bool, before: Option<Seen>) -> Result<Answer, VaultError> {
    let mut seen = None;
    if metadata {
        match vault.metadata(path).await {
            Ok(Metadata { version, created, gone, custom }) => seen = Some(Seen { version, created, gone, custom }),
            Err(e) if e.kind.is_outage() => return Err(e),
            // What is gone since the folder was listed is not there at the next look.
            Err(why) => return Ok(Answer::Refused { seen, why }),
        }
    }
    if seen.is_some() && seen == before {
        return Ok(Answer::Same);
    }
    if seen.as_ref().is_some_and(|s| s.gone) {
        return Ok(Answer::Read { seen, value: None });
    }
    match vault.read(path, None).await {
        Ok(reading) => Ok(Answer::Read { seen, value: Some((reading.fields, reading.version)) }),
        Err(e) if e.kind.is_outage() => Err(e),
        Err(why) => Ok(Answer::Refused { seen, why }),
    }
}
