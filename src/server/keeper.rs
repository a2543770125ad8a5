//! Where a running proxy keeps what must outlive it: the local store, or nowhere, where Vault has all of it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::checkpoints::{StoreCheckpoints, audit_key};
use super::error::{ReloadError, failed};
use super::signing::SigningKeys;
use crate::clock;
use crate::session::SessionKey;
use crate::telemetry::audit_log::{AuditKey, Checkpoint, CheckpointError, Checkpoints};
use crate::tls::CaState;
use crate::vault::Cells;
use crate::vault::local::{LocalStore, LocalVault, StoreError, StoreState, UsageBatch};

/// The store's item that holds the CA.
pub const CA_ITEM: &str = "ca";

/// The local store, where there is one, and the keys that stand in its stead or above it.
pub(super) struct Keeper {
    store: Option<(Arc<LocalStore>, LocalVault)>,
    /// `[vault] signing_key`.
    shared: Option<SigningKeys>,
}

impl Keeper {
    /// With a store, or keys from Vault, or both.
    ///
    /// # Errors
    /// [`ReloadError`] where there is neither.
    pub(super) fn new(store: Option<Arc<LocalStore>>, shared: Option<SigningKeys>) -> Result<Self, ReloadError> {
        if store.is_none() && shared.is_none() {
            return Err(failed("without a local store, `[vault] signing_key` must name the entry that holds the keys"));
        }
        Ok(Self { store: store.map(|store| (Arc::clone(&store), LocalVault::new(&store))), shared })
    }

    /// Everything in the store.
    pub(super) fn load(&self) -> Result<Option<StoreState>, StoreError> {
        self.store.as_ref().map(|(store, _)| store.load()).transpose()
    }

    /// Changes where [`Keeper::load`] would give something else.
    pub(super) fn change_marker(&self) -> Result<Option<u64>, StoreError> {
        self.store.as_ref().map(|(store, _)| store.change_marker()).transpose()
    }

    /// What is held of the store's own secrets.
    pub(super) fn cells(&self, stored: Option<&StoreState>) -> Cells {
        self.store.as_ref().zip(stored).map(|((_, local), stored)| local.cells(stored)).unwrap_or_default()
    }

    /// What signs session tokens: the key that all replicas share, or the store's.
    pub(super) fn session_key(&self) -> SessionKey {
        match (&self.shared, &self.store) {
            (Some(shared), _) => shared.session_key(),
            (None, Some((store, _))) => SessionKey::new(Zeroizing::new(*store.session_key().bytes())),
            (None, None) => unreachable!("`new` refuses to be without both"),
        }
    }

    /// What chains the audit log: the store's key; without a store, the shared one.
    pub(super) fn audit_key(&self) -> Result<AuditKey, StoreError> {
        match (&self.store, &self.shared) {
            (Some((store, _)), _) => audit_key(store),
            (None, Some(shared)) => Ok(shared.audit_key()),
            (None, None) => unreachable!("`new` refuses to be without both"),
        }
    }

    /// Where the audit log's checkpoints go.
    pub(super) fn checkpoints(&self) -> Arc<dyn Checkpoints> {
        match &self.store {
            Some((store, _)) => Arc::new(StoreCheckpoints(Arc::clone(store))),
            None => Arc::new(NoCheckpoints),
        }
    }

    /// The store's own CA; `None` where there is no store.
    pub(super) fn ca(&self) -> Result<Option<CaState>, ReloadError> {
        let Some((store, _)) = &self.store else { return Ok(None) };
        let none = || failed("the store holds no CA; `keyhatch ca rotate --now` makes one");
        let secret = store.item(CA_ITEM).map_err(failed)?.ok_or_else(none)?;
        CaState::from_secret(&secret).map(Some).map_err(failed)
    }

    /// Writes down when agents and credentials of the store were last in use.
    pub(super) fn record_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.store.as_ref().map_or(Ok(()), |(store, _)| store.record_usage(batch))
    }

    /// The previous versions of secrets go after a day, the old CA after a rotation's overlap.
    pub(super) fn tidy(&self) -> Result<(), StoreError> {
        let Some((store, _)) = &self.store else { return Ok(()) };
        store.purge_previous()?;
        if let Some(secret) = store.item(CA_ITEM)?
            && let Ok(mut ca) = CaState::from_secret(&secret)
            && ca.settle(clock::now())
        {
            store.put_item(CA_ITEM, &ca.to_secret())?;
        }
        Ok(())
    }
}

/// For a proxy without a store: a cut tail of its log does not show across a restart.
pub struct NoCheckpoints;

impl Checkpoints for NoCheckpoints {
    fn save(&self, _: &Checkpoint) -> Result<(), CheckpointError> {
        Ok(())
    }

    fn load(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        Ok(None)
    }
}
