//! What is held of a credential whose value Vault has: ready for requests, or why it cannot be had.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Fields;
use super::field::{FieldError, unfit};
use super::paths::Path;
use crate::credential::{CredentialId, CredentialName, Material, Presentation, VaultReference};
use crate::vault::{Fetched, Held, Unavailable};

/// How long requests wait for a value that was never read, from when it was first wanted.
const FIRST: Duration = Duration::from_secs(5);
/// How long requests wait for another value, from when the origin refused the one there is.
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
    this: Weak<Self>,
}

enum State {
    /// Not read yet; requests wait for it until then.
    Waiting(Instant),
    /// Known.
    Ready(Arc<Material>),
    /// Known, but the origin has just refused it: it is being asked for anew. Requests wait for that until then.
    Doubted(Arc<Material>, Instant),
    /// Not to be had.
    Gone(Unavailable),
}

impl Cell {
    pub(super) fn new(wanted: Wanted, path: Arc<Path>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self { wanted, path, state: ArcSwap::from_pointee(State::Waiting(Instant::now() + FIRST)), this: this.clone() })
    }

    /// Whether there is no value to go on with.
    pub(super) fn lacks_value(&self) -> bool {
        matches!(**self.state.load(), State::Waiting(_) | State::Gone(_))
    }

    /// Why there is no value, where that is so.
    pub(super) fn fault(&self) -> Option<String> {
        match &**self.state.load() {
            State::Gone(why) => Some(why.detail.clone()),
            _ => None,
        }
    }

    /// Changes the state, unless it becomes another one meanwhile: that is newer than what the change was made from.
    fn turn(&self, change: impl FnOnce(&State) -> Option<State>) -> bool {
        let before = self.state.load();
        let Some(after) = change(&before) else { return false };
        Arc::ptr_eq(&before, &self.state.compare_and_swap(&before, Arc::new(after)))
    }

    /// Takes over what is known of the same value under other terms. Whether there was anything.
    pub(super) fn succeed(&self, old: &Self) -> bool {
        if old.wanted.reference != self.wanted.reference || old.wanted.presentation != self.wanted.presentation {
            return false;
        }
        let (State::Ready(material) | State::Doubted(material, _)) = &**old.state.load() else { return false };
        // Where it has a value by now, that is newer.
        self.turn(|state| matches!(state, State::Waiting(_)).then(|| State::Ready(Arc::clone(material)))) || !self.lacks_value()
    }

    /// Takes a value that was read.
    pub(super) fn take(&self, fields: &Fields) {
        let next = match self.lay_out(fields) {
            Ok((material, weak)) => {
                if weak && self.lacks_value() {
                    tracing::warn!(
                        "credential `{}`: its value in Vault is short, so it is not scrubbed from the bodies of responses",
                        self.wanted.name
                    );
                }
                State::Ready(Arc::new(material))
            }
            Err(why) => {
                if !matches!(&**self.state.load(), State::Gone(before) if *before == why) {
                    tracing::error!("credential `{}` cannot be used: {}", self.wanted.name, why.detail);
                }
                State::Gone(why)
            }
        };
        self.state.store(Arc::new(next));
    }

    /// The value as a header field, and whether it is a short one.
    fn lay_out(&self, fields: &Fields) -> Result<(Material, bool), Unavailable> {
        let reference = &self.wanted.reference;
        let secret = fields.secret(reference).map_err(|e| match e {
            FieldError::Missing(why) => Unavailable::new("vault_no_field", why),
            FieldError::Unfit(why) => Unavailable::new("vault_unfit", why),
        })?;
        let weak = secret.is_weak();
        let material = Material::new(&self.wanted.presentation, secret).map_err(|e| Unavailable::new("vault_unfit", unfit(reference, e)))?;
        Ok((material, weak))
    }

    /// Ends the use of the value.
    pub(super) fn end(&self, why: &Unavailable) {
        self.state.store(Arc::new(State::Gone(why.clone())));
    }

    /// Vault cannot be asked, so that nobody need wait for a first value.
    pub(super) fn wait_no_more(&self, why: &Unavailable) {
        self.turn(|state| matches!(state, State::Waiting(_)).then(|| State::Gone(why.clone())));
    }

    /// The origin refused the value: requests wait a moment for another.
    pub(super) fn doubt(&self) {
        self.turn(|state| match state {
            State::Ready(material) => Some(State::Doubted(Arc::clone(material), Instant::now() + DOUBT)),
            _ => None,
        });
    }

    /// The value is the best that is known.
    pub(super) fn trust(&self) {
        self.turn(|state| match state {
            State::Doubted(material, _) => Some(State::Ready(Arc::clone(material))),
            _ => None,
        });
    }

    /// What a request gets now; else until when it is worth waiting.
    fn now(&self) -> Result<Result<Arc<Material>, Unavailable>, Instant> {
        match &**self.state.load() {
            State::Ready(material) => Ok(Ok(Arc::clone(material))),
            State::Doubted(material, until) if *until <= Instant::now() => Ok(Ok(Arc::clone(material))),
            State::Waiting(until) if *until <= Instant::now() => Ok(Err(self.unread())),
            State::Gone(why) => Ok(Err(why.clone())),
            State::Waiting(until) | State::Doubted(_, until) => Err(*until),
        }
    }

    fn unread(&self) -> Unavailable {
        let detail = format!("{} was not read from Vault yet", self.wanted.reference.path());
        Unavailable { retry_after: Some(RETRY_AFTER), ..Unavailable::new("vault_unreachable", detail) }
    }

    /// Waits for the next answer of Vault, but not for long.
    async fn wait(self: Arc<Self>, mut rounds: watch::Receiver<u64>) -> Result<Arc<Material>, Unavailable> {
        loop {
            let until = match self.now() {
                Ok(settled) => return settled,
                Err(until) => until,
            };
            // After an answer of Vault, or at the end of the wait, the state says what there is.
            if let Ok(Err(_)) = tokio::time::timeout_at(until, rounds.changed()).await {
                return Err(self.unread());
            }
        }
    }
}

impl Held for Cell {
    fn version(&self) -> u64 {
        self.wanted.version
    }

    fn material(&self) -> Fetched {
        if let State::Ready(material) = &**self.state.load() {
            return Fetched::Now(Ok(Arc::clone(material)));
        }
        // Before the look at the state, so that no answer comes between.
        let rounds = self.path.rounds();
        match (self.now(), self.this.upgrade()) {
            (Ok(settled), _) => Fetched::Now(settled),
            (Err(_), Some(this)) => Fetched::Later(Box::pin(this.wait(rounds))),
            (Err(_), None) => Fetched::Now(Err(self.unread())),
        }
    }
}

#[cfg(test)]
#[path = "cells_tests.rs"]
mod tests;
