//! What is held of a credential whose value Vault has: ready for requests, or why it cannot be had.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Fields;
use super::paths::Path;
use crate::credential::{CredentialId, CredentialName, Material, Presentation, VaultReference};
use crate::vault::{Fetched, Held, Unavailable};

/// How long a request waits for a value that was never read.
const FIRST: Duration = Duration::from_secs(5);
/// How long a request waits while a value that the origin has just refused is asked for anew.
const DOUBT: Duration = Duration::from_secs(1);
/// When it is worth trying again after an outage of Vault.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A credential whose value is to be kept: what the roster says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its identity.
    pub id: CredentialId,
    /// The version that permits name.
    pub version: u64,
    /// Its name, for the log.
    pub name: CredentialName,
    /// Where its value is.
    pub reference: VaultReference,
    /// How the value is laid out.
    pub presentation: Presentation,
}

/// The value of one credential.
pub(super) struct Cell {
    pub(super) wanted: Wanted,
    path: Arc<Path>,
    state: ArcSwap<State>,
}

enum State {
    /// Not read yet.
    Waiting,
    /// Known.
    Ready(Arc<Material>),
    /// Known, but the origin has just refused it: it is being asked for anew.
    Doubted(Arc<Material>),
    /// Not to be had.
    Gone(Unavailable),
}

impl Cell {
    pub(super) fn new(wanted: Wanted, path: Arc<Path>) -> Arc<Self> {
        Arc::new(Self { wanted, path, state: ArcSwap::from_pointee(State::Waiting) })
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(**self.state.load(), State::Waiting)
    }

    /// Whether there is no value to go on with.
    pub(super) fn lacks_value(&self) -> bool {
        matches!(**self.state.load(), State::Waiting | State::Gone(_))
    }

    /// Takes a value that was read.
    pub(super) fn take(&self, fields: &Fields) {
        let made = self.lay_out(fields);
        if let Err(why) = &made {
            tracing::error!("credential `{}` cannot be used: {}", self.wanted.name, why.detail);
        }
        self.state.store(Arc::new(made.map_or_else(State::Gone, |material| State::Ready(Arc::new(material)))));
    }

    fn lay_out(&self, fields: &Fields) -> Result<Material, Unavailable> {
        let (path, field) = (self.wanted.reference.path(), self.wanted.reference.field());
        let found = fields.get(field).ok_or_else(|| {
            let names = fields.names().collect::<Vec<_>>().join(", ");
            let there = if names.is_empty() { "it has none".to_owned() } else { format!("it has: {names}") };
            Unavailable::new("vault_no_field", format!("{path} in Vault has no field `{field}`; {there}"))
        })?;
        let unfit = |why: String| Unavailable::new("vault_unfit", format!("the field `{field}` of {path} in Vault: {why}"));
        let secret = found.accepted().map_err(|e| unfit(e.to_string()))?;
        if secret.is_weak() {
            tracing::warn!("credential `{}`: its value in Vault is short, so it is not scrubbed from the bodies of responses", self.wanted.name);
        }
        Material::new(&self.wanted.presentation, secret).map_err(|e| unfit(e.to_string()))
    }

    /// Ends the use of the value.
    pub(super) fn end(&self, why: &Unavailable) {
        self.state.store(Arc::new(State::Gone(why.clone())));
    }

    /// The origin refused the value: requests wait a moment for another.
    pub(super) fn doubt(&self) {
        if let State::Ready(material) = &**self.state.load() {
            self.state.store(Arc::new(State::Doubted(Arc::clone(material))));
        }
    }

    /// The value is the best that is known.
    pub(super) fn trust(&self) {
        if let State::Doubted(material) = &**self.state.load() {
            self.state.store(Arc::new(State::Ready(Arc::clone(material))));
        }
    }

    /// The value, if there is one by now; `Ok(None)` while it is worth waiting.
    fn settled(&self) -> Option<Result<Arc<Material>, Unavailable>> {
        match &**self.state.load() {
            State::Ready(material) => Some(Ok(Arc::clone(material))),
            State::Gone(why) => Some(Err(why.clone())),
            State::Waiting | State::Doubted(_) => None,
        }
    }

    /// What a request gets that has waited long enough.
    fn at_last(&self) -> Result<Arc<Material>, Unavailable> {
        match &**self.state.load() {
            State::Ready(material) | State::Doubted(material) => Ok(Arc::clone(material)),
            State::Gone(why) => Err(why.clone()),
            State::Waiting => {
                let detail = format!("{} was not read from Vault yet", self.wanted.reference.path());
                Err(Unavailable { retry_after: Some(RETRY_AFTER), ..Unavailable::new("vault_unreachable", detail) })
            }
        }
    }

    /// Waits for the next answer of Vault, but not for long.
    async fn wait(self: Arc<Self>, mut rounds: watch::Receiver<u64>) -> Result<Arc<Material>, Unavailable> {
        let limit = if self.is_waiting() { FIRST } else { DOUBT };
        let settled = async {
            loop {
                if let Some(settled) = self.settled() {
                    return settled;
                }
                if rounds.changed().await.is_err() {
                    return self.at_last();
                }
            }
        };
        tokio::time::timeout(limit, settled).await.unwrap_or_else(|_| self.at_last())
    }
}

/// The cell as requests hold it.
pub(super) struct HeldCell(pub(super) Arc<Cell>);

impl Held for HeldCell {
    fn version(&self) -> u64 {
        self.0.wanted.version
    }

    fn material(&self) -> Fetched {
        if let State::Ready(material) = &**self.0.state.load() {
            return Fetched::Now(Ok(Arc::clone(material)));
        }
        match self.0.settled() {
            Some(settled) => Fetched::Now(settled),
            None => Fetched::Later(Box::pin(Arc::clone(&self.0).wait(self.0.path.rounds()))),
        }
    }
}
