//! Plaintexts for permits: opened at the first use of each version, wiped with its last.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::seal::Keys;
use super::state::{CredentialInfo, StoreState};
use super::{LocalStore, StoreError};
use crate::credential::{CredentialId, Material, Source, Terms};
use crate::policy::Permit;
use crate::vault::{CredentialSource, Fetched, Unavailable};

/// The local store as a source of secrets. A fetch neither locks nor asks the database.
///
/// A permit names the version it was made for. When [`LocalVault::replace`] ran between decision and fetch, the answer
/// is `superseded`: the decision is to be taken anew on the new roster.
pub struct LocalVault {
    keys: Arc<Keys>,
    cells: ArcSwap<HashMap<CredentialId, Arc<Cell>>>,
}

struct Cell {
    id: CredentialId,
    version: u64,
    source: Source,
    terms: Terms,
    sealed: Option<Vec<u8>>,
    broken: Option<String>,
    material: OnceLock<Result<Arc<Material>, Unavailable>>,
}

impl LocalVault {
    /// A source for the credentials of `state`.
    #[must_use]
    pub fn new(store: &LocalStore, state: &StoreState) -> Self {
        let vault = Self { keys: Arc::clone(&store.keys), cells: ArcSwap::default() };
        vault.replace(state);
        vault
    }

    /// Takes a newer state. Versions that stay keep what was opened; of the others the plaintext is wiped when the
    /// last request that uses it ends.
    pub fn replace(&self, state: &StoreState) {
        let known = self.cells.load();
        let cell = |info: &CredentialInfo| {
            let id = info.entry.id;
            let sealed = state.sealed.get(&id);
            match known.get(&id) {
                Some(cell) if cell.version == info.entry.version && cell.sealed.as_ref() == sealed => (id, Arc::clone(cell)),
                _ => (id, Arc::new(Cell::new(info, sealed.cloned()))),
            }
        };
        self.cells.store(Arc::new(state.credentials.iter().map(cell).collect()));
    }

    fn get(&self, permit: &Permit) -> Result<Arc<Material>, Unavailable> {
        let unavailable = |reason, detail: &str| Unavailable { reason, detail: detail.to_owned() };
        let cells = self.cells.load();
        let cell = cells.get(&permit.credential()).ok_or_else(|| unavailable("removed", "the credential was removed"))?;
        if cell.version != permit.version() {
            return Err(unavailable("superseded", "the credential was changed since the decision"));
        }
        cell.material.get_or_init(|| cell.open(&self.keys)).clone()
    }
}

impl Cell {
    fn new(info: &CredentialInfo, sealed: Option<Vec<u8>>) -> Self {
        let entry = &info.entry;
        Self {
            id: entry.id,
            version: entry.version,
            source: info.source.clone(),
            terms: entry.terms.clone(),
            sealed,
            broken: entry.broken.clone(),
            material: OnceLock::new(),
        }
    }

    fn open(&self, keys: &Keys) -> Result<Arc<Material>, Unavailable> {
        let closed = |detail: String| Unavailable { reason: "does_not_open", detail };
        if let Some(why) = &self.broken {
            return Err(closed(why.clone()));
        }
        if !self.terms.enabled {
            return Err(Unavailable { reason: "disabled", detail: "the credential is disabled".to_owned() });
        }
        let sealed = self.sealed.as_ref().ok_or_else(|| closed("its row is missing".to_owned()))?;
        let secret = keys.open_current(self.id, self.version, &self.source, &self.terms, sealed).map_err(|e| closed(e.to_string()))?;
        Material::new(&self.terms.presentation, secret).map(Arc::new).map_err(|e| closed(e.to_string()))
    }
}

impl CredentialSource for LocalVault {
    fn fetch(&self, permit: &Permit) -> Fetched {
        Fetched::Now(self.get(permit))
    }
}

impl LocalStore {
    /// Loads the store and makes a source for it.
    ///
    /// # Errors
    /// [`StoreError`] as [`LocalStore::load`].
    pub fn load_with_vault(&self) -> Result<(StoreState, LocalVault), StoreError> {
        let state = self.load()?;
        let vault = LocalVault::new(self, &state);
        Ok((state, vault))
    }
}
