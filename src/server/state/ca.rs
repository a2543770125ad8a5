//! The CA in force, and how another one takes its place.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::State;
use crate::clock;
use crate::home::{self, Home, Mode};
use crate::policy::Snapshot;
use crate::proxy::Live;
use crate::server::error::{ReloadError, failed};
use crate::server::settings::{egress, transport};
use crate::tls::CaState;

impl State {
    /// Signs with another CA from now on, and does not take it for an origin's.
    pub(in crate::server) fn adopt_ca(&self, mut ca: CaState) -> Result<(), ReloadError> {
        let current = self.lock();
        ca.remember(&self.leaves.authority().own_keys());
        // All that can fail comes before anything changes.
        let transport = Arc::new(transport(&current.config, &ca.own_keys(), &self.resolver, &self.off_limits)?);
        let picture = self.picture()?;
        write_ca(&ca, &self.home)?;
        let detail = format!("{}, until {}", ca.signing(clock::now()).fingerprint(), ca.expires_at());
        self.leaves.replace_ca(Arc::new(ca));
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let snapshot = Snapshot::compile(&picture.roster, egress(&current.config), serial);
        let settings = Arc::clone(&self.proxy.live().settings);
        self.proxy.replace(Live { snapshot, settings, transport, session_key: Arc::clone(&self.session_key) });
        drop(current);
        self.record("ca.change", &detail);
        Ok(())
    }

    /// Signs with the CA that the store holds now. Says whether it is another one.
    pub(super) fn take_own_ca(&self) -> bool {
        let read = || -> Result<Option<CaState>, ReloadError> {
            let ca = self.keeper.ca()?;
            ca.iter().try_for_each(|ca| write_ca(ca, &self.home))?;
            Ok(ca)
        };
        match read() {
            Ok(Some(ca)) if ca.own_keys() != self.leaves.authority().own_keys() => {
                self.leaves.replace_ca(Arc::new(ca));
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::error!("the CA cannot be read; the one read last signs on: {error}");
                false
            }
        }
    }

    /// How it stands with the CA in Vault.
    pub(in crate::server) fn note_ca(&self, trouble: Option<String>) {
        self.told().ca = trouble;
    }
}

/// Writes `ca.pem` anew where it differs.
pub(in crate::server) fn write_ca(ca: &CaState, home: &Home) -> Result<(), ReloadError> {
    let pem = ca.anchors_pem(clock::now());
    if std::fs::read_to_string(home.ca()).ok().as_deref() == Some(pem.as_str()) {
        return Ok(());
    }
    home::write_atomic(&home.ca(), pem.as_bytes(), Mode::Public).map_err(|e| failed(format!("{} cannot be written: {e}", home.ca().display())))
}
