//! The audit log's side of the store: its key, and how far it went.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::telemetry::audit_log::{AuditKey, ChainMac, Checkpoint, CheckpointError, Checkpoints};
use crate::vault::local::{LocalStore, StoreError};

/// Keeps the audit log's checkpoints in the store, so that a cut tail shows.
pub struct StoreCheckpoints(pub Arc<LocalStore>);

impl Checkpoints for StoreCheckpoints {
    fn save(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        Ok(self.0.save_audit_checkpoint(checkpoint.seq, checkpoint.mac.0)?)
    }

    fn load(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        Ok(self.0.audit_checkpoint()?.map(|(seq, mac)| Checkpoint { seq, mac: ChainMac(mac) }))
    }
}

/// The key of the audit log's chain.
///
/// # Errors
/// [`StoreError`] where the store cannot be read.
pub fn audit_key(store: &LocalStore) -> Result<AuditKey, StoreError> {
    Ok(AuditKey::new(Zeroizing::new(*store.audit_key()?.bytes())))
}
