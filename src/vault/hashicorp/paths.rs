//! Paths in Vault that are kept up to date: one task each, which asks, and hands what it learns to the cells.
//!
//! A request never waits for such a task once a value is known, and holds no lock of it. How long a value outlives the
//! last answer of Vault is decided here, by [`Freshness::max_stale`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::cells::{Cell, RETRY_AFTER};
use super::{Lease, MountKind, Reading, Vault};
use super::{VaultError, VaultErrorKind};
use crate::random;
use crate::vault::Unavailable;

/// How fresh a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// How old a value may be before it is asked for again.
    pub refresh: Duration,
    /// How long a known value is used while Vault cannot be asked.
    pub max_stale: Duration,
}

/// One refused value makes one question; the next such question about the path comes this much later.
const POKE_APART: Duration = Duration::from_secs(10);
/// The first wait after a failure, and the longest: a Vault that is back is noticed within it.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// A value that was replaced may still be on its way for so long: its lease is revoked after it.
const RETIRE_AFTER: Duration = Duration::from_secs(30);
/// A question that hangs ends nothing before this.
const PATIENCE: Duration = Duration::from_secs(2);
/// A path that Vault has refused or has nothing at is looked at again after this, at the latest.
const GONE: Duration = Duration::from_secs(30);

/// One path that is kept.
pub(super) struct Path {
    path: String,
    pinned: Option<u64>,
    cells: Mutex<Vec<Weak<Cell>>>,
    /// Counts the questions that are wanted out of turn.
    wanted: AtomicU64,
    wake: Notify,
    poked: Mutex<Option<Instant>>,
    /// The leases that are not over: the last is the value's, others were replaced at that time.
    leases: Mutex<Vec<(String, Option<Instant>)>>,
    /// Counts the answers, good and bad.
    rounds: watch::Sender<u64>,
    standing: Mutex<Standing>,
}

/// How a path stands, for `/readyz`, metrics and the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// Not read yet.
    #[default]
    Unread,
    /// As Vault last said.
    Fresh,
    /// Vault cannot be asked; the last value is used on.
    Stale(String),
    /// There is no value to use.
    Gone(String),
}

/// What is known of the value that the cells have.
struct Known {
    version: Option<u64>,
    lease: Option<(Lease, Instant)>,
}

/// What the task of a path works with.
pub(super) struct Keeper {
    pub(super) vault: Arc<Vault>,
    pub(super) path: Arc<Path>,
    pub(super) freshness: Freshness,
    /// Bounds the questions that are under way at once.
    pub(super) turns: Arc<Semaphore>,
}

impl Path {
    pub(super) fn new(path: &str, pinned: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            pinned,
            cells: Mutex::default(),
            wanted: AtomicU64::new(0),
            wake: Notify::new(),
            poked: Mutex::default(),
            leases: Mutex::default(),
            rounds: watch::Sender::new(0),
            standing: Mutex::default(),
        })
    }

    pub(super) fn rounds(&self) -> watch::Receiver<u64> {
        self.rounds.subscribe()
    }

    pub(super) fn name(&self) -> &str {
        &self.path
    }

    pub(super) fn standing(&self) -> Standing {
        lock(&self.standing).clone()
    }

    /// Another credential takes its value from here: it is read at once.
    pub(super) fn join(&self, cell: &Arc<Cell>) {
        lock(&self.cells).push(Arc::downgrade(cell));
        self.want();
    }

    /// The origin refused the value: it is asked for anew, at most once in ten seconds. Requests wait a moment for it.
    pub(super) fn poke(&self) {
        let mut poked = lock(&self.poked);
        if poked.is_some_and(|at| at.elapsed() < POKE_APART) {
            return;
        }
        *poked = Some(Instant::now());
        self.each(|cell| cell.doubt());
        self.want();
    }

    fn want(&self) {
        self.wanted.fetch_add(1, Ordering::AcqRel);
        self.wake.notify_one();
    }

    fn each(&self, act: impl Fn(&Cell)) {
        let mut cells = lock(&self.cells);
        cells.retain(|cell| cell.upgrade().inspect(|cell| act(cell)).is_some());
    }

    /// Whether some cell has no value.
    fn lacks_value(&self) -> bool {
        lock(&self.cells).iter().filter_map(Weak::upgrade).any(|cell| cell.lacks_value())
    }

    /// The leases that are held, for the end.
    pub(super) fn leases(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.leases)).into_iter().map(|(id, _)| id).collect()
    }

    /// Leases whose value nothing carries any more.
    fn retired(&self) -> Vec<String> {
        let over = |(_, since): &mut (String, Option<Instant>)| since.is_some_and(|at| at.elapsed() >= RETIRE_AFTER);
        lock(&self.leases).extract_if(.., over).map(|(id, _)| id).collect()
    }

    fn end(&self, why: &Unavailable) {
        self.each(|cell| cell.end(why));
    }

    /// Says how it stands now, and logs a change.
    fn stand(&self, now: Standing) {
        let mut standing = lock(&self.standing);
        match (&*standing, &now) {
            (Standing::Stale(_), Standing::Stale(_)) => {}
            (Standing::Gone(old), Standing::Gone(new)) if old == new => {}
            (_, Standing::Stale(why)) => tracing::warn!("{}: the value known last is used on: {why}", self.path),
            (_, Standing::Gone(why)) => tracing::error!("{}: requests that need it are refused: {why}", self.path),
            (Standing::Stale(_) | Standing::Gone(_), Standing::Fresh) => tracing::info!("{}: read from Vault again", self.path),
            _ => {}
        }
        *standing = now;
    }
}

impl Keeper {
    /// Keeps the path up to date until the task is ended. Where it panics, the value is used no more.
    pub(super) async fn keep(self) {
        let guard = EndAtPanic(Arc::clone(&self.path));
        let mut known: Option<Known> = None;
        // Since when Vault cannot be asked, while the value is used on.
        let mut since: Option<Instant> = None;
        let mut failures = 0_u32;
        let mut handled = 0;
        let mut session = self.vault.session();
        loop {
            let wanted = self.path.wanted.load(Ordering::Acquire);
            let started = Instant::now();
            let asked = self.ask_until(&mut known, since, started, wanted != handled).await;
            handled = wanted;
            let wait = match asked {
                Ok(()) => {
                    (since, failures) = (None, 0);
                    self.path.stand(Standing::Fresh);
                    self.until_next(known.as_ref())
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.failed(&error, &mut known, since.get_or_insert(started));
                    if error.kind.is_outage() { back_off(failures) } else { self.freshness.refresh.min(GONE) }
                }
            };
            if self.path.wanted.load(Ordering::Acquire) == wanted {
                self.path.each(|cell| cell.trust());
            }
            self.path.rounds.send_modify(|n| *n += 1);
            for lease in self.path.retired() {
                // One that cannot be revoked ends by itself.
                let _ = self.vault.revoke_lease(&lease).await;
            }
            let wait = wait.min(self.left(known.as_ref(), since).unwrap_or(wait));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.path.wake.notified() => {}
                // A lease ends with the token that it was read with.
                Ok(()) = session.changed(), if known.as_ref().is_some_and(|k| k.lease.is_some()) => self.path.want(),
            }
            let _ = &guard;
        }
    }

    /// Asks, and ends the value where its time is over while Vault does not answer.
    async fn ask_until(&self, known: &mut Option<Known>, since: Option<Instant>, started: Instant, out_of_turn: bool) -> Result<(), VaultError> {
        let stale = since.map_or(started + self.freshness.max_stale.max(PATIENCE), |since| since + self.freshness.max_stale);
        let limit = known.as_ref().map(|known| known.lease.as_ref().map_or(stale, |(_, end)| stale.min(*end)));
        let asked = self.ask(known, out_of_turn);
        tokio::pin!(asked);
        if let Some(limit) = limit {
            match tokio::time::timeout_at(limit, &mut asked).await {
                Ok(answer) => return answer,
                Err(_) => self.give_up("Vault does not answer"),
            }
        }
        let answer = asked.await;
        if answer.is_ok() && self.path.lacks_value() {
            // It was given up meanwhile, and the answer said only that nothing is new.
            self.path.want();
        }
        answer
    }

    /// A failed question: the value is used on, or ends.
    fn failed(&self, error: &VaultError, known: &mut Option<Known>, since: &Instant) {
        if !error.kind.is_outage() {
            *known = None;
            let reason = match error.kind {
                VaultErrorKind::Denied => "vault_denied",
                VaultErrorKind::NotFound | VaultErrorKind::Deleted | VaultErrorKind::NoMount => "vault_missing",
                _ => "vault_failed",
            };
            self.path.end(&Unavailable::new(reason, error.to_string()));
            return self.path.stand(Standing::Gone(error.to_string()));
        }
        let lease_over = known.as_ref().and_then(|k| k.lease.as_ref()).is_some_and(|(_, end)| Instant::now() >= *end);
        if known.is_some() && !lease_over && since.elapsed() < self.freshness.max_stale {
            return self.path.stand(Standing::Stale(error.to_string()));
        }
        *known = None;
        self.give_up(&error.to_string());
    }

    fn give_up(&self, why: &str) {
        self.path.end(&Unavailable { retry_after: Some(RETRY_AFTER), ..Unavailable::new("vault_unreachable", why) });
        self.path.stand(Standing::Gone(why.to_owned()));
    }

    /// How long the value may still be used, where Vault cannot be asked.
    fn left(&self, known: Option<&Known>, since: Option<Instant>) -> Option<Duration> {
        let now = Instant::now();
        let stale = known.and(since).map(|since| since + self.freshness.max_stale);
        let lease = known.and_then(|k| k.lease.as_ref()).map(|(_, end)| *end);
        let end = stale.into_iter().chain(lease).min()?;
        Some(end.saturating_duration_since(now))
    }

    /// When to ask again after a good answer: a little before the value is too old, or in good time before its lease ends.
    fn until_next(&self, known: Option<&Known>) -> Duration {
        match known.and_then(|k| k.lease.as_ref()) {
            Some((lease, _)) => jittered(lease.duration.mul_f64(2.0 / 3.0)),
            None => jittered(self.freshness.refresh),
        }
    }

    /// Asks Vault for what is new, and hands it to the cells.
    async fn ask(&self, known: &mut Option<Known>, out_of_turn: bool) -> Result<(), VaultError> {
        // A closed semaphore means that the process ends.
        let _turn = self.turns.acquire().await;
        if let Some(Known { lease: Some((lease, end)), .. }) = known {
            if lease.renewable && !out_of_turn && Instant::now() < *end && self.renew(lease, end).await {
                return Ok(());
            }
        } else if self.is_same(known.as_ref()).await? {
            return Ok(());
        }
        let reading = self.vault.read(&self.path.path, self.path.pinned).await?;
        *known = Some(self.learn(reading));
        Ok(())
    }

    /// Whether Vault still has the version that the cells have. Asked of KV v2 only, and cheaper than the value.
    async fn is_same(&self, known: Option<&Known>) -> Result<bool, VaultError> {
        let Some(Known { version: Some(version), .. }) = known.filter(|_| self.path.pinned.is_none() && !self.path.lacks_value()) else {
            return Ok(false);
        };
        if self.vault.mount_of(&self.path.path).await?.kind != MountKind::KvV2 {
            return Ok(false);
        }
        match self.vault.metadata(&self.path.path).await {
            Ok(metadata) => Ok(!metadata.gone && metadata.version == *version),
            // A policy may give the value without the metadata: then the value itself is asked for.
            Err(e) if e.kind == VaultErrorKind::Denied => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Renews a lease. `false` where it would soon end nevertheless: then the path is read anew.
    async fn renew(&self, lease: &mut Lease, end: &mut Instant) -> bool {
        match self.vault.renew_lease(&lease.id).await {
            Ok(renewed) if renewed.duration >= lease.duration / 2 => {
                *end = Instant::now() + renewed.duration;
                true
            }
            _ => false,
        }
    }

    /// Hands a reading to the cells.
    fn learn(&self, reading: Reading) -> Known {
        let Reading { fields, version, lease } = reading;
        let now = Instant::now();
        self.path.each(|cell| cell.take(&fields));
        let mut leases = lock(&self.path.leases);
        leases.iter_mut().for_each(|(_, since)| *since = since.or(Some(now)));
        let lease = lease.map(|lease| {
            leases.push((lease.id.clone(), None));
            let end = now + lease.duration;
            (lease, end)
        });
        Known { version, lease }
    }
}

/// Where the task of a path ends by a panic, its value is not used for ever.
struct EndAtPanic(Arc<Path>);

impl Drop for EndAtPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end(&Unavailable::new("vault_failed", "keeping it up to date failed; restart keyhatch"));
            self.0.stand(Standing::Gone("keeping it up to date failed; restart keyhatch".to_owned()));
        }
    }
}

/// A little before the time is over, and not for all paths at once.
pub(super) fn jittered(time: Duration) -> Duration {
    let share = f64::from(u16::from_be_bytes(random::bytes())) / f64::from(u16::MAX);
    time.mul_f64(0.8 + 0.15 * share)
}

pub(super) fn back_off(failures: u32) -> Duration {
    let doubled = BACK_OFF.0.saturating_mul(1 << failures.min(8).saturating_sub(1));
    jittered(doubled.min(BACK_OFF.1))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-done where a holder panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
