//! Plaintexts for permits: opened at the first use of each version, wiped with its last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::LocalStore;
use super::seal::Keys;
use super::state::{CredentialInfo, StoreState};
use crate::credential::{CredentialId, Material, Source, Terms};
use crate::vault::{Cells, Fetched, Held, Unavailable};

/// The local store's part of [`crate::vault::Sources`]: a cell for each credential that it holds the secret of.
pub struct LocalVault {
    keys: Arc<Keys>,
    known: Mutex<HashMap<CredentialId, Arc<Cell>>>,
}

struct Cell {
    id: CredentialId,
    version: u64,
    terms: Terms,
    sealed: Option<Vec<u8>>,
    broken: Option<String>,
    keys: Arc<Keys>,
    material: OnceLock<Result<Arc<Material>, Unavailable>>,
}

impl LocalVault {
    /// For the credentials of this store.
    #[must_use]
    pub fn new(store: &LocalStore) -> Self {
        Self { keys: Arc::clone(&store.keys), known: Mutex::default() }
    }

    /// The cells of a state: of every credential whose secret the store holds, and of every broken one, wherever its secret
    /// is, so that its requests are refused. A sound one in Vault has none here. Versions that stay keep what was opened; of the others the plaintext is wiped when the
    /// last request that uses it ends.
    pub fn cells(&self, state: &StoreState) -> Cells {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = |info: &CredentialInfo| {
            let id = info.entry.id;
            let sealed = state.sealed.get(&id);
            match known.get(&id) {
                Some(cell) if cell.version == info.entry.version && cell.sealed.as_ref() == sealed => (id, Arc::clone(cell)),
                _ => (id, Arc::new(Cell::new(info, sealed.cloned(), Arc::clone(&self.keys)))),
            }
        };
        *known = state.credentials.iter().filter(|c| c.source == Source::Local || c.entry.broken.is_some()).map(cell).collect();
        known.iter().map(|(id, cell)| (*id, Arc::clone(cell) as Arc<dyn Held>)).collect()
    }
}

impl Cell {
    fn new(info: &CredentialInfo, sealed: Option<Vec<u8>>, keys: Arc<Keys>) -> Self {
        let entry = &info.entry;
        Self {
            id: entry.id,
            version: entry.version,
            terms: entry.terms.clone(),
            sealed,
            broken: entry.broken.clone(),
            keys,
            material: OnceLock::new(),
        }
    }

    fn open(&self) -> Result<Arc<Material>, Unavailable> {
        let closed = |detail: String| Unavailable::new("does_not_open", detail);
        if let Some(why) = &self.broken {
            return Err(closed(why.clone()));
        }
        if !self.terms.enabled {
            return Err(Unavailable::new("disabled", "the credential is disabled"));
        }
        let sealed = self.sealed.as_ref().ok_or_else(|| closed("its row is missing".to_owned()))?;
        let secret = self.keys.open_current(self.id, self.version, &self.terms, sealed).map_err(|e| closed(e.to_string()))?;
        Material::new(&self.terms.presentation, secret).map(Arc::new).map_err(|e| closed(e.to_string()))
    }
}

impl Held for Cell {
    fn version(&self) -> u64 {
        self.version
    }

    fn material(&self) -> Fetched {
        Fetched::Now(self.material.get_or_init(|| self.open()).clone())
    }
}
