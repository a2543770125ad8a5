//! The life of the token: renewed before two thirds of it, replaced in good time where it cannot be.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::answer::Answer;
use super::answers;
use super::call::Call;
use super::client::{Counters, Vault};
use super::error::VaultError;
use super::login::{Session, Way, due_after, read_file};

/// How often it is looked whether something is due, and whether the token's file changed.
const TICK: Duration = Duration::from_secs(1);
/// The longest wait after a failure: service is to be back soon after Vault is.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// What the end may take.
const LAST: Duration = Duration::from_millis(1900);
/// A token whose renewal was refused is tried again after half of what is left of it, but not before this.
const REFUSED_WAIT: Duration = Duration::from_secs(10);

impl Vault {
    /// Keeps the token alive for as long as this `Vault` lives: renews it before two thirds of its life; where Vault caps or refuses that,
    /// logs in anew before it ends; takes what a token's file holds now. Failures are tried again with growing waits.
    pub fn spawn_renewal(self: &Arc<Self>) -> JoinHandle<()> {
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut keeper = Keeper::default();
            loop {
                let Some(vault) = this.upgrade().filter(|v| !v.closed.load(Ordering::Acquire)) else { return };
                let wait = keeper.step(&vault).await;
                drop(vault);
                tokio::time::sleep(wait).await;
            }
        })
    }

    /// Revokes the tokens that this process logged in for, and asks for no further one. `VAULT_TOKEN` and a file's token are left alone.
    /// It takes two seconds at most: what Vault does not revoke by then ends at its time.
    pub async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if !self.way.is_own() {
            return;
        }
        let current = async {
            if let Some(session) = self.current.swap(None) {
                self.revoke(&session).await;
            }
        };
        let past = async {
            // A log-in that is under way has the gate. It revokes its token itself.
            let past = self.gate.lock().await.past.take();
            if let Some(session) = past {
                self.revoke(&session).await;
            }
        };
        if tokio::time::timeout(LAST, async { tokio::join!(current, past) }).await.is_err() {
            tracing::debug!("Vault did not revoke the token in time");
        }
    }

    /// Ends a token of our own, and the leases that were read with it. Vault would end it too, in time.
    pub(super) async fn revoke(&self, session: &Session) {
        if session.is_over() {
            return;
        }
        if let Err(error) = self.send(&Call::RevokeSelf, Some(&session.token)).await.and_then(Answer::ok) {
            tracing::debug!("a token of Vault was not revoked: {error}");
        }
    }
}

/// What the renewal remembers from one step to the next.
#[derive(Default)]
struct Keeper {
    failures: u32,
    /// The session that was warned about.
    warned: u64,
}

impl Keeper {
    /// Does what is due and says how long to wait then.
    async fn step(&mut self, vault: &Vault) -> Duration {
        let done = match vault.current.load_full() {
            Some(session) if !session.is_over() => self.keep(vault, session).await,
            other => vault.newer_than(other.map_or(0, |s| s.number)).await.map(drop),
        };
        match done {
            Ok(()) => {
                self.failures = 0;
                vault.current.load().as_ref().and_then(|s| s.due).map_or(TICK, |due| due.saturating_duration_since(Instant::now()).min(TICK))
            }
            Err(error) => {
                tracing::debug!("the token of Vault is not renewed yet: {error}");
                self.failures = (self.failures + 1).min(8);
                let longest = LONGEST_WAIT.min(Duration::from_millis(100) * 2_u32.pow(self.failures));
                longest.mul_f64(0.5 + 0.5 * crate::random::share())
            }
        }
    }

    async fn keep(&mut self, vault: &Vault, session: Arc<Session>) -> Result<(), VaultError> {
        if let Way::File(path) = &vault.way {
            // A file that is being replaced may not be there for a moment: the token in use is good as it is.
            if let Ok((digest, _)) = read_file(path, "a token").await {
                let refused = vault.gate.lock().await.refused;
                if Some(digest) != session.digest && Some(digest) != refused {
                    return vault.newer_than(session.number).await.map(drop);
                }
            }
        }
        if session.due.is_none_or(|due| Instant::now() < due) {
            return Ok(());
        }
        let own = vault.way.is_own();
        if !session.renewable {
            return vault.newer_than(session.number).await.map(drop);
        }
        let answer = vault.send(&Call::RenewSelf, Some(&session.token)).await?;
        let at_end = is_at_end(&answer);
        if at_end || (matches!(answer.status, 400 | 403 | 404) && answer.is_vaults()) {
            if own {
                return vault.newer_than(session.number).await.map(drop);
            }
            self.warn_once(vault, &session, session.ends);
            // A policy can be mended while the token lives; its maximum cannot.
            let left = session.ends.filter(|_| !at_end).map(|end| end.saturating_duration_since(Instant::now()));
            let due = left.map(|left| Instant::now() + REFUSED_WAIT.max(left / 2));
            vault.replace(&session, Session { due, ..copy(&session) }).await;
            return Ok(());
        }
        let grant = answers::grant(&answer.ok()?.body, "auth/token/renew-self")?;
        Counters::add(&vault.counters.renewals);
        let ends = grant.ttl.map(|ttl| Instant::now() + ttl);
        // Near its maximum a token gets less than was asked for, and at it nothing.
        let capped = grant.ttl.is_some_and(|ttl| ttl < session.whole.mul_f64(0.9));
        let whole = session.whole.max(grant.ttl.unwrap_or_default());
        let due = grant.ttl.filter(|_| !capped || own).map(due_after);
        vault.replace(&session, Session { ends, whole, due, renewable: grant.renewable, ..copy(&session) }).await;
        if capped && own {
            return vault.newer_than(session.number).await.map(drop);
        }
        if capped {
            self.warn_once(vault, &session, ends);
        }
        Ok(())
    }

    fn warn_once(&mut self, vault: &Vault, session: &Session, ends: Option<Instant>) {
        if std::mem::replace(&mut self.warned, session.number) != session.number {
            let left = ends.map_or(0, |end| end.saturating_duration_since(Instant::now()).as_secs());
            tracing::warn!("{} ends in {left} s and cannot be renewed any further: give another one before", vault.way.name());
        }
    }
}

/// Whether Vault will never renew the token again. OpenBao says of one at its maximum 500 and `past the max TTL, cannot renew`. Any other
/// 500 is a fault that passes: of the storage, of a failover.
fn is_at_end(answer: &Answer) -> bool {
    let says = |words: &str| answer.said.contains(words);
    matches!(answer.status, 400 | 500) && (says("max TTL") || says("cannot renew") || says("cannot be renewed") || says("not renewable"))
}

/// The same token, for another state of its life.
fn copy(session: &Session) -> Session {
    let Session { number, born, ends, whole, renewable, due, digest, .. } = *session;
    Session { token: Arc::clone(&session.token), number, born, ends, whole, renewable, due, digest }
}

impl Vault {
    /// Puts a renewed session in the place of the one it came from, unless there is another token by now.
    async fn replace(&self, old: &Session, new: Session) {
        // With the gate held no log-in comes between.
        let _gate = self.gate.lock().await;
        if self.current.load().as_ref().is_some_and(|now| now.number == old.number) {
            self.current.store(Some(Arc::new(new)));
        }
    }
}
