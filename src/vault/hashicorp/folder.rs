//! A folder in Vault whose entries mean something: listed again and again, each entry read where it changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::Fields;
use super::paths::{back_off, jittered, lock};
use super::{Metadata, MountKind, Vault};
use super::{VaultError, VaultErrorKind};

/// One entry, as it was read.
pub struct Child<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its custom metadata; empty where the engine is KV v1.
    pub custom: &'a BTreeMap<String, String>,
    /// Its value; `None` where its present version is deleted.
    pub fields: Option<&'a Fields>,
}

/// What is made of an entry; its error is for the operator.
pub type Made<T> = Result<T, String>;

/// All entries of a folder, by name.
pub type Listing<T> = BTreeMap<String, Made<T>>;

/// Makes something of an entry.
type Make<T> = Box<dyn Fn(&Child<'_>) -> Made<T> + Send + Sync>;

/// A folder that is kept up to date.
pub struct Folder<T> {
    path: String,
    make: Make<T>,
    known: Mutex<BTreeMap<String, Entry<T>>>,
    listing: watch::Sender<Option<Arc<Listing<T>>>>,
    trouble: Mutex<Option<String>>,
}

/// What an entry was made of, and what was made.
struct Entry<T> {
    seen: Option<Seen>,
    made: Made<T>,
}

/// An entry of KV v2 as its metadata tells it: while that stays, so does what was made of it.
#[derive(PartialEq, Eq)]
struct Seen {
    version: u64,
    gone: bool,
    custom: BTreeMap<String, String>,
}

impl<T: Clone + PartialEq + Send + Sync + 'static> Folder<T> {
    /// A folder that was not looked into yet.
    pub fn new(path: &str, make: impl Fn(&Child<'_>) -> Made<T> + Send + Sync + 'static) -> Self {
        let (make, listing) = (Box::new(make), watch::Sender::new(None));
        Self { path: path.to_owned(), make, known: Mutex::default(), listing, trouble: Mutex::default() }
    }

    /// The folder's path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is in it, as last read; `None` before the first time.
    #[must_use]
    pub fn listing(&self) -> Option<Arc<Listing<T>>> {
        self.listing.borrow().clone()
    }

    /// Tells of each change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<Arc<Listing<T>>>> {
        self.listing.subscribe()
    }

    /// Why it could not be read the last time, if so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Looks into it once, and takes what has changed. An entry that cannot be read leaves the others alone; one that was
    /// read before stays what it was while Vault cannot be asked for it.
    ///
    /// # Errors
    /// [`VaultError`] where the folder itself cannot be listed: all stays as it was.
    pub async fn look(&self, vault: &Vault) -> Result<(), VaultError> {
        let names = vault.list(&self.path).await?;
        let metadata = vault.mount_of(&self.path).await?.kind == MountKind::KvV2;
        let mut next = BTreeMap::new();
        for name in names {
            let before = lock(&self.known).remove(&name);
            let entry = if name.ends_with('/') {
                Entry { seen: None, made: Err("it is a folder; entries of folders in the folder are not looked into".to_owned()) }
            } else {
                self.entry(vault, &name, metadata, before).await
            };
            next.insert(name, entry);
        }
        let listing: Listing<T> = next.iter().map(|(name, entry)| (name.clone(), entry.made.clone())).collect();
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

    async fn entry(&self, vault: &Vault, name: &str, metadata: bool, before: Option<Entry<T>>) -> Entry<T> {
        let path = format!("{}/{name}", self.path);
        match self.read(vault, &path, name, metadata, before.as_ref()).await {
            Ok(Some(entry)) => entry,
            Ok(None) => before.unwrap_or_else(|| Entry { seen: None, made: Err("it is not read".to_owned()) }),
            Err(e) if e.kind.is_outage() => before.unwrap_or_else(|| Entry { seen: None, made: Err(e.to_string()) }),
            Err(e) => Entry { seen: None, made: Err(e.to_string()) },
        }
    }

    /// Reads an entry; `None` where nothing of it has changed.
    async fn read(&self, vault: &Vault, path: &str, name: &str, metadata: bool, before: Option<&Entry<T>>) -> Result<Option<Entry<T>>, VaultError> {
        let seen = if metadata {
            let Metadata { version, gone, custom, .. } = vault.metadata(path).await?;
            Some(Seen { version, gone, custom })
        } else {
            None
        };
        if seen.is_some() && before.is_some_and(|b| b.seen == seen) {
            return Ok(None);
        }
        let fields = match vault.read(path, None).await {
            Ok(reading) => Some(reading.fields),
            Err(e) if e.kind == VaultErrorKind::Deleted => None,
            Err(e) => return Err(e),
        };
        let empty = BTreeMap::new();
        let custom = seen.as_ref().map_or(&empty, |s| &s.custom);
        let made = (self.make)(&Child { name, custom, fields: fields.as_ref() });
        Ok(Some(Entry { seen, made }))
    }

    /// Looks into it every `refresh` until the task is ended; after a failure sooner, with growing waits.
    pub async fn keep(&self, vault: &Vault, refresh: Duration) {
        let mut failures = 0_u32;
        let mut wait = jittered(refresh);
        loop {
            tokio::time::sleep(wait).await;
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
