//! All credentials whose values are in Vault: which path each needs, and a task for every path.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Vault;
use super::cells::{Cell, Wanted};
use super::keeper::{Keeper, supervise};
use super::leases::Leases;
use super::paths::{Freshness, Path, Standing, lock};
use super::queue::Queue;
use crate::credential::CredentialId;
use crate::vault::{Cells, Held};

/// What questions under way at the end may take, and then the revocations.
const LAST: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3));

type Place = (String, Option<u64>);

/// Vault as a source of secrets.
pub struct HashicorpSource {
    vault: Arc<Vault>,
    freshness: Freshness,
    runtime: Handle,
    queue: Arc<Queue>,
    leases: Arc<Leases>,
    /// Counts the values that ended.
    ends: watch::Sender<u64>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    paths: HashMap<Place, Tracked>,
    cells: HashMap<CredentialId, Arc<Cell>>,
    /// Revokes leases.
    revoker: Option<JoinHandle<()>>,
    closed: bool,
}

/// A path and its task, which ends by itself once the path is left.
struct Tracked {
    path: Arc<Path>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        // Not aborted: the answer under way may bring a lease, which is to be revoked.
        self.path.leave();
    }
}

impl HashicorpSource {
    /// A source that keeps nothing yet. Its tasks run on this runtime.
    #[must_use]
    pub fn new(vault: Arc<Vault>, freshness: Freshness, runtime: Handle) -> Self {
        let leases = Leases::new(Arc::clone(&vault));
        Self { vault, freshness, runtime, queue: Arc::new(Queue::new()), leases, ends: watch::Sender::new(0), kept: Mutex::default() }
    }

    /// The cells of exactly these credentials. Those that stay keep their values; of the others the values are wiped
    /// with the last request that carries them, and their leases revoked.
    pub fn cells(&self, wanted: Vec<Wanted>) -> Cells {
        let mut kept = lock(&self.kept);
        let Kept { paths, cells: before, revoker, closed } = &mut *kept;
        let mut cells = HashMap::with_capacity(wanted.len());
        for wanted in wanted {
            let id = wanted.id;
            let cell = match before.remove(&id) {
                Some(cell) if cell.wanted == wanted => cell,
                old => cell(paths, wanted, old.as_deref()),
            };
            cells.insert(id, cell);
        }
        *before = cells;
        let used: HashSet<Place> = before.values().map(|cell| place(&cell.wanted)).collect();
        paths.retain(|place, _| used.contains(place));
        if !*closed {
            // Only now, so that all who look at a path get what its first question brings.
            paths.values_mut().filter(|tracked| tracked.task.is_none()).for_each(|tracked| tracked.task = Some(self.begin(&tracked.path)));
            revoker.get_or_insert_with(|| self.runtime.spawn(Arc::clone(&self.leases).keep()));
        }
        before.iter().map(|(id, cell)| (*id, Arc::clone(cell) as Arc<dyn Held>)).collect()
    }

    fn begin(&self, path: &Arc<Path>) -> JoinHandle<()> {
        let keeper = Arc::new(Keeper {
            vault: Arc::clone(&self.vault),
            path: Arc::clone(path),
            freshness: self.freshness,
            queue: Arc::clone(&self.queue),
            leases: Arc::clone(&self.leases),
            ends: self.ends.clone(),
        });
        self.runtime.spawn(supervise(Arc::clone(path), move || Arc::clone(&keeper).keep()))
    }

    /// The origin answered 401 to a request that carried this credential: its value is asked for anew, at most once in
    /// ten seconds for each path.
    pub fn refused(&self, id: CredentialId) {
        let kept = lock(&self.kept);
        if let Some(tracked) = kept.cells.get(&id).and_then(|cell| kept.paths.get(&place(&cell.wanted))) {
            tracked.path.poke();
        }
    }

    /// Tells of each value that ends.
    #[must_use]
    pub fn ends(&self) -> watch::Receiver<u64> {
        self.ends.subscribe()
    }

    /// How every path stands, by name; a value that is there and cannot be used, by path and field.
    #[must_use]
    pub fn standings(&self) -> Vec<(String, Standing)> {
        let kept = lock(&self.kept);
        let unfit = kept.cells.values().filter_map(|cell| {
            let why = cell.fault()?;
            let fresh = kept.paths.get(&place(&cell.wanted)).is_some_and(|tracked| tracked.path.standing() == Standing::Fresh);
            fresh.then(|| (cell.wanted.reference.to_string(), Standing::Gone(why)))
        });
        let mut all: Vec<_> = kept.paths.values().map(|t| (t.path.name().to_owned(), t.path.standing())).chain(unfit).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Waits until Vault was asked for every path once, but no longer than `limit`.
    pub async fn settled(&self, limit: Duration) {
        let rounds: Vec<_> = lock(&self.kept).paths.values().map(|t| t.path.rounds()).collect();
        let all = async {
            for mut round in rounds {
                // An error means that the path is no longer kept.
                let _ = round.wait_for(|n| *n > 0).await;
            }
        };
        // What is not known by then is asked for as requests need it.
        let _ = tokio::time::timeout(limit, all).await;
    }

    /// Ends all tasks and revokes the leases that are held.
    pub async fn close(&self) {
        let (paths, revoker) = {
            let mut kept = lock(&self.kept);
            kept.closed = true;
            (std::mem::take(&mut kept.paths), kept.revoker.take())
        };
        let tasks: Vec<_> = paths.into_values().filter_map(|mut tracked| tracked.task.take()).collect();
        let ended = async {
            for task in tasks {
                // One that panicked has ended as well.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(LAST.0, ended).await.is_err() {
            tracing::debug!("a question to Vault was still under way");
        }
        if let Some(revoker) = revoker {
            revoker.abort();
        }
        Arc::clone(&self.leases).close(LAST.1).await;
    }
}

impl Drop for HashicorpSource {
    fn drop(&mut self) {
        if let Some(revoker) = lock(&self.kept).revoker.take() {
            revoker.abort();
        }
    }
}

/// The cell of a credential, which takes over what `old` knows where it is the same value.
fn cell(paths: &mut HashMap<Place, Tracked>, wanted: Wanted, old: Option<&Cell>) -> Arc<Cell> {
    let track = |(name, pinned): &Place| Tracked { path: Path::new(name, *pinned), task: None };
    let tracked = paths.entry(place(&wanted)).or_insert_with_key(track);
    let cell = Cell::new(wanted, Arc::clone(&tracked.path));
    tracked.path.join(&cell, old);
    cell
}

fn place(wanted: &Wanted) -> Place {
    (wanted.reference.path().to_owned(), wanted.reference.version())
}
