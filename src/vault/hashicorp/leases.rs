//! The leases that this process holds, and their end: who needs one no longer hands it in here, and it is revoked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Vault;
use super::paths::lock;

/// A revocation that Vault could not take is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// So many are revoked at once at the end of the process.
const AT_ONCE: usize = 16;

/// All leases of a source.
pub(super) struct Leases {
    vault: Arc<Vault>,
    held: Mutex<Vec<Entry>>,
    wake: Notify,
}

struct Entry {
    id: String,
    /// When Vault ends it by itself.
    end: Instant,
    /// When it is to be revoked; `None`: its value is in use.
    revoke: Option<Instant>,
}

impl Leases {
    pub(super) fn new(vault: Arc<Vault>) -> Arc<Self> {
        Arc::new(Self { vault, held: Mutex::default(), wake: Notify::new() })
    }

    /// A lease is held, or was renewed, until then.
    pub(super) fn hold(&self, id: &str, end: Instant) {
        let mut held = lock(&self.held);
        match held.iter_mut().find(|entry| entry.id == id) {
            Some(entry) => entry.end = end,
            None => held.push(Entry { id: id.to_owned(), end, revoke: None }),
        }
    }

    /// Nothing new takes its value from this lease: it is revoked after a time, for what is on its way with it.
    pub(super) fn let_go(&self, id: &str, after: Duration) {
        let at = Instant::now() + after;
        if let Some(entry) = lock(&self.held).iter_mut().find(|entry| entry.id == id) {
            entry.revoke = Some(entry.revoke.map_or(at, |before| before.min(at)));
        }
        self.wake.notify_one();
    }

    /// Those to be revoked now, and when to look again. Whatever is over by itself is forgotten.
    fn due(&self, now: Instant) -> (Vec<String>, Option<Instant>) {
        let mut held = lock(&self.held);
        held.retain(|entry| entry.revoke.is_none() || entry.end > now);
        let due = held.iter().filter(|entry| entry.revoke.is_some_and(|at| at <= now)).map(|entry| entry.id.clone()).collect();
        (due, held.iter().filter_map(|entry| entry.revoke).filter(|at| *at > now).min())
    }

    /// Revokes what is handed in, until the task is ended.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            let (due, next) = self.due(Instant::now());
            let busy = !due.is_empty();
            for id in due {
                self.revoke(&id).await;
            }
            if busy {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep_until(next.unwrap_or_else(far)) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    async fn revoke(&self, id: &str) {
        match self.vault.revoke_lease(id).await {
            Err(e) if e.kind.is_outage() => {
                tracing::debug!("a lease is not revoked yet: {e}");
                let mut held = lock(&self.held);
                held.iter_mut().filter(|entry| entry.id == id).for_each(|entry| entry.revoke = Some(Instant::now() + AGAIN));
                return;
            }
            Err(e) => tracing::warn!("a lease could not be revoked; Vault ends it at its time: {e}"),
            Ok(()) => {}
        }
        lock(&self.held).retain(|entry| entry.id != id);
    }

    /// Revokes everything at once: the process ends. Returns when all were tried, or at the limit.
    pub(super) async fn close(self: Arc<Self>, limit: Duration) {
        let ids: Vec<String> = lock(&self.held).iter().map(|entry| entry.id.clone()).collect();
        let (mut tasks, turns) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
        for id in ids {
            let (this, turns) = (Arc::clone(&self), Arc::clone(&turns));
            tasks.spawn(async move {
                let _turn = turns.acquire().await;
                this.revoke(&id).await;
            });
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(limit, all).await.is_ok();
        let left = lock(&self.held).len();
        if !in_time || left > 0 {
            tracing::warn!("{left} leases could not be revoked; Vault ends them at their time");
        }
    }
}

/// A time that does not come.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}

#[cfg(test)]
mod tests {
    use super::super::{Login, VaultSettings};
    use super::*;
    use crate::credential::Secret;

    fn leases() -> Arc<Leases> {
        let login = Login::Token(Secret::from_opened(b"none"));
        let settings = VaultSettings::new("http://127.0.0.1:1", login);
        Leases::new(Vault::new(settings).expect("settings"))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_let_go_is_due_after_its_time_and_forgotten_after_its_end() {
        let (leases, start) = (leases(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        leases.hold("one", at(60));
        leases.hold("two", at(20));
        assert_eq!(leases.due(at(100)), (vec![], None), "in use: whoever uses it says when it is over");
        leases.let_go("one", Duration::from_secs(30));
        leases.let_go("two", Duration::from_secs(30));
        assert_eq!(leases.due(at(10)), (vec![], Some(at(30))));
        assert_eq!(leases.due(at(30)), (vec!["one".to_owned()], None), "two has ended by itself");
        leases.let_go("one", Duration::from_secs(300));
        assert_eq!(leases.due(at(31)).0, ["one"], "never later than it was said first");
        leases.hold("one", at(600));
        assert_eq!(leases.due(at(100)).0, ["one"]);
        assert_eq!(leases.due(at(601)), (vec![], None));
        assert!(lock(&leases.held).is_empty());
    }
}
