//! The store as the audit log and the sessions see it.

use zeroize::Zeroizing;

use crate::telemetry::audit_log::{AuditKey, ChainMac, Checkpoint, CheckpointError, Checkpoints};
use crate::vault::local::{LocalStore, StoreError};

impl LocalStore {
    /// The audit log's key, as the log takes it.
    pub(crate) fn audit_log_key(&self) -> Result<AuditKey, StoreError> {
        Ok(AuditKey::new(Zeroizing::new(*self.audit_key()?.bytes())))
    }
}

impl Checkpoints for LocalStore {
    fn save(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        if self.audit_checkpoint()?.is_some_and(|(seq, _)| seq >= checkpoint.seq) {
            return Ok(());
        }
        Ok(self.save_audit_checkpoint(checkpoint.seq, checkpoint.mac.0)?)
    }

    fn load(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        Ok(self.audit_checkpoint()?.map(|(seq, mac)| Checkpoint { seq, mac: ChainMac(mac) }))
    }
}
