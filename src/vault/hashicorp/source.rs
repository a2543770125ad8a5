//! All credentials whose values are in Vault: which path each needs, and a task for every path.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::Vault;
use super::cells::{Cell, HeldCell, Wanted};
use super::paths::{Freshness, Keeper, Path, Standing, lock};
use crate::credential::CredentialId;
use crate::vault::{Cells, Held};

/// So many questions are under way at once.
const TURNS: usize = 16;
/// What the revocations at the end may take.
const LAST: Duration = Duration::from_secs(3);

type Place = (String, Option<u64>);

/// Vault as a source of secrets.
pub struct HashicorpSource {
    vault: Arc<Vault>,
    freshness: Freshness,
    runtime: Handle,
    turns: Arc<Semaphore>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    paths: HashMap<Place, Tracked>,
    cells: HashMap<CredentialId, Arc<Cell>>,
}

/// A path and its task, which ends with this.
struct Tracked {
    path: Arc<Path>,
    task: JoinHandle<()>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HashicorpSource {
    /// A source that keeps nothing yet. Its tasks run on this runtime.
    #[must_use]
    pub fn new(vault: Arc<Vault>, freshness: Freshness, runtime: Handle) -> Self {
        Self { vault, freshness, runtime, turns: Arc::new(Semaphore::new(TURNS)), kept: Mutex::default() }
    }

    /// The cells of exactly these credentials. Those that stay keep their values; of the others the values are wiped
    /// with the last request that carries them, and their leases revoked.
    pub fn cells(&self, wanted: Vec<Wanted>) -> Cells {
        let mut kept = lock(&self.kept);
        let mut cells = HashMap::with_capacity(wanted.len());
        for wanted in wanted {
            let id = wanted.id;
            let cell = match kept.cells.remove(&id) {
                Some(cell) if cell.wanted == wanted => cell,
                _ => self.cell(&mut kept.paths, wanted),
            };
            cells.insert(id, cell);
        }
        kept.cells = cells;
        let used: Vec<Place> = kept.cells.values().map(|c| place(&c.wanted)).collect();
        let gone: Vec<Tracked> = kept.paths.extract_if(|place, _| !used.contains(place)).map(|(_, tracked)| tracked).collect();
        let leases: Vec<String> = gone.iter().flat_map(|tracked| tracked.path.leases()).collect();
        if !leases.is_empty() {
            let vault = Arc::clone(&self.vault);
            self.runtime.spawn(async move { revoke(&vault, leases).await });
        }
        kept.cells.iter().map(|(id, cell)| (*id, Arc::new(HeldCell(Arc::clone(cell))) as Arc<dyn Held>)).collect()
    }

    fn cell(&self, paths: &mut HashMap<Place, Tracked>, wanted: Wanted) -> Arc<Cell> {
        let tracked = paths.entry(place(&wanted)).or_insert_with_key(|(name, pinned)| self.track(name, *pinned));
        let cell = Cell::new(wanted, Arc::clone(&tracked.path));
        tracked.path.join(&cell);
        cell
    }

    fn track(&self, name: &str, pinned: Option<u64>) -> Tracked {
        let path = Path::new(name, pinned);
        let keeper = Keeper { vault: Arc::clone(&self.vault), path: Arc::clone(&path), freshness: self.freshness, turns: Arc::clone(&self.turns) };
        Tracked { path, task: self.runtime.spawn(keeper.keep()) }
    }

    /// The origin answered 401 to a request that carried this credential: its value is asked for anew, at most once in
    /// ten seconds for each path.
    pub fn refused(&self, id: CredentialId) {
        let kept = lock(&self.kept);
        if let Some(tracked) = kept.cells.get(&id).and_then(|cell| kept.paths.get(&place(&cell.wanted))) {
            tracked.path.poke();
        }
    }

    /// How every path stands, by name.
    #[must_use]
    pub fn standings(&self) -> Vec<(String, Standing)> {
        let kept = lock(&self.kept);
        let mut all: Vec<_> = kept.paths.values().map(|t| (t.path.name().to_owned(), t.path.standing())).collect();
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
        let kept = std::mem::take(&mut *lock(&self.kept));
        let leases = kept.paths.values().flat_map(|tracked| tracked.path.leases()).collect();
        drop(kept);
        if tokio::time::timeout(LAST, revoke(&self.vault, leases)).await.is_err() {
            tracing::warn!("not all leases could be revoked; Vault ends them at their time");
        }
    }
}

async fn revoke(vault: &Vault, leases: Vec<String>) {
    for lease in leases {
        if let Err(e) = vault.revoke_lease(&lease).await {
            tracing::warn!("a lease could not be revoked; Vault ends it at its time: {e}");
        }
    }
}

fn place(wanted: &Wanted) -> Place {
    (wanted.reference.path().to_owned(), wanted.reference.version())
}
