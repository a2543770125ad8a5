//! The task that keeps one path up to date: it asks, and hands what it learns to the cells. How long a value outlives the
//! last answer of Vault is decided here.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::cells::RETRY_AFTER;
use super::leases::Leases;
use super::paths::{Freshness, Path, Standing, back_off, jittered};
use super::queue::Queue;
use super::{Lease, MountKind, Reading, Vault};
use super::{VaultError, VaultErrorKind};
use crate::vault::Unavailable;

/// A value that was replaced may still be on its way for so long: its lease is revoked after it.
const RETIRE_AFTER: Duration = Duration::from_secs(30);
/// A question that hangs ends nothing before this.
const PATIENCE: Duration = Duration::from_secs(2);
/// A path that Vault has refused or has nothing at is looked at again after this, at the latest.
const GONE: Duration = Duration::from_secs(30);
/// A leased value is used no more this long before its end, or a tenth of its life where that is shorter: it takes a moment to arrive.
const MARGIN: Duration = Duration::from_secs(1);
/// The same for the end of the token that it was read with.
const TOKEN_MARGIN: Duration = Duration::from_millis(500);
/// For a lease without a time of its own: it is asked for anew before this.
const ENDLESS: Duration = Duration::from_secs(86_400);
/// A lease is replaced because an origin refused its value so often at most.
const DOUBT_APART: Duration = Duration::from_secs(600);
/// A task that panicked is begun anew after this.
const AFTER_PANIC: Duration = Duration::from_secs(5);

/// What the task of a path works with.
pub(super) struct Keeper {
    pub(super) vault: Arc<Vault>,
    pub(super) path: Arc<Path>,
    pub(super) freshness: Freshness,
    pub(super) queue: Arc<Queue>,
    pub(super) leases: Arc<Leases>,
    /// Counts the values that ended.
    pub(super) ends: watch::Sender<u64>,
}

/// What is known of the value that the cells have.
struct Known {
    version: Option<u64>,
    /// When that version was written, as Vault says it: an entry that was removed and made anew counts its versions from 1 again.
    created: Option<String>,
    lease: Option<Leased>,
}

/// The value's lease.
struct Leased {
    id: String,
    renewable: bool,
    /// How long it was to live at first.
    whole: Duration,
    /// When one of this path was last replaced because an origin refused its value.
    doubted: Option<Instant>,
    /// When the value is used no more, where it is not renewed.
    end: Instant,
    /// The token that it was read with, by number, and when that one ends: the lease ends with it.
    session: u64,
    token_end: Option<Instant>,
}

/// How the keeping stands.
#[derive(Default)]
struct Course {
    known: Option<Known>,
    /// Since when Vault cannot be asked, while the value is used on.
    since: Option<Instant>,
    failures: u32,
    /// The questions out of turn that were answered.
    handled: u64,
}

/// Runs the task until it ends by itself. Where it panics the value is used no more, and it is begun anew.
pub(super) async fn supervise<F>(path: Arc<Path>, task: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    while tokio::spawn(task()).await.is_err_and(|e| e.is_panic()) {
        let why = "keeping it up to date failed in a way that it must not; please report it";
        path.end(&Unavailable { retry_after: Some(RETRY_AFTER), ..Unavailable::new("vault_failed", why) });
        path.answered();
        tokio::time::sleep(AFTER_PANIC).await;
    }
}

impl Keeper {
    /// Keeps the path up to date until nobody takes a value from it.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut course = Course::default();
        while !self.path.is_left() {
            let wanted = self.path.wanted();
            let started = Instant::now();
            let asked = self.ask_until(&mut course, started, wanted).await;
            if asked.as_ref().map_or_else(|e| !e.kind.is_outage(), |()| true) {
                self.queue.answered();
            }
            let wait = match asked {
                Ok(()) => {
                    (course.since, course.failures, course.handled) = (None, 0, wanted);
                    self.path.stand(Standing::Fresh);
                    self.until_next(course.known.as_ref())
                }
                Err(error) => {
                    course.failures = course.failures.saturating_add(1);
                    course.since.get_or_insert(started);
                    self.failed(&error, &mut course);
                    if error.kind.is_outage() { back_off(course.failures) } else { self.freshness.refresh.min(GONE) }
                }
            };
            if self.path.wanted() == wanted {
                self.path.each(|cell| cell.trust());
            }
            self.path.answered();
            self.pause(wait, wanted, &mut course).await;
        }
        self.let_go(&mut course.known, Duration::ZERO);
    }

    /// Waits until something is to be done.
    async fn pause(&self, wait: Duration, wanted: u64, course: &mut Course) {
        let next = Instant::now() + wait;
        let mut session = self.vault.session();
        loop {
            let end = self.end(course);
            let until = end.map_or(next, |end| next.min(end));
            let (leased, read_with) = (course.known.as_ref().and_then(|k| k.lease.as_ref()).is_some(), course.session());
            tokio::select! {
                () = tokio::time::sleep_until(until) => {
                    // A token that was renewed meanwhile keeps its leases alive.
                    if until >= next || self.end(course).is_none_or(|end| end <= until) {
                        return;
                    }
                }
                () = self.path.woken(wanted) => return,
                // A lease ends with the token that it was read with.
                () = replaced(&mut session, read_with), if leased => return self.path.want(),
            }
        }
    }

    /// When the value is used no more, where Vault says nothing until then.
    fn end(&self, course: &mut Course) -> Option<Instant> {
        let known = course.known.as_mut()?;
        let lease = known.lease.as_mut().map(|lease| {
            if let Some(session) = self.vault.current.load().as_ref().filter(|s| s.number == lease.session) {
                lease.token_end = session.ends.map(Instant::from_std);
            }
            lease.ends()
        });
        let stale = course.since.map(|since| since + self.freshness.max_stale);
        lease.into_iter().chain(stale).min()
    }

    /// Asks, and ends the value where its time is over while Vault does not answer.
    async fn ask_until(&self, course: &mut Course, started: Instant, wanted: u64) -> Result<(), VaultError> {
        let limit = course.known.is_some().then(|| {
            let hangs = started + self.freshness.max_stale.max(PATIENCE);
            self.end(course).map_or(hangs, |end| end.min(hangs))
        });
        let Course { known, failures, handled, .. } = course;
        let asked = self.ask(known, *failures > 0, wanted != *handled);
        let Some(limit) = limit else { return asked.await };
        tokio::pin!(asked);
        if let Ok(answer) = tokio::time::timeout_at(limit, &mut asked).await {
            return answer;
        }
        self.give_up(match self.path.standing() {
            Standing::Stale(why) | Standing::Gone(why) => why,
            Standing::Unread | Standing::Fresh => "Vault does not answer".to_owned(),
        });
        let answer = asked.await;
        if answer.is_ok() && self.path.lacks_value() {
            // The answer said only that nothing is new.
            self.path.want();
        }
        answer
    }

    /// A failed question: the value is used on, or ends.
    fn failed(&self, error: &VaultError, course: &mut Course) {
        if !error.kind.is_outage() {
            self.let_go(&mut course.known, Duration::ZERO);
            let reason = match error.kind {
                VaultErrorKind::Denied => "vault_denied",
                VaultErrorKind::NotFound | VaultErrorKind::Deleted | VaultErrorKind::NoMount => "vault_missing",
                _ => "vault_failed",
            };
            return self.end_use(&Unavailable::new(reason, error.to_string()));
        }
        // Without a token there are no leases either: they ended with it.
        let lost = error.kind == VaultErrorKind::LoginRefused && course.known.as_ref().is_some_and(|k| k.lease.is_some());
        if !lost && self.end(course).is_some_and(|end| Instant::now() < end) {
            self.path.stand(Standing::Stale(error.to_string()));
            return self.path.each(|cell| cell.wait_no_more(&unreachable(error.to_string())));
        }
        self.let_go(&mut course.known, Duration::ZERO);
        self.give_up(error.to_string());
    }

    fn give_up(&self, why: String) {
        self.end_use(&unreachable(why));
    }

    fn end_use(&self, why: &Unavailable) {
        self.path.end(why);
        self.ends.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// The value is known no more, and its lease not needed.
    fn let_go(&self, known: &mut Option<Known>, after: Duration) {
        if let Some(lease) = known.take().and_then(|known| known.lease) {
            self.leases.let_go(&lease.id, after);
        }
    }

    /// When to ask again after a good answer: a little before the value is too old, or in good time before its lease ends.
    fn until_next(&self, known: Option<&Known>) -> Duration {
        match known.and_then(|known| known.lease.as_ref()) {
            Some(lease) => jittered(lease.end.saturating_duration_since(Instant::now()).mul_f64(2.0 / 3.0)),
            None => jittered(self.freshness.refresh),
        }
    }

    /// Asks Vault for what is new, and hands it to the cells.
    async fn ask(&self, known: &mut Option<Known>, failed_before: bool, out_of_turn: bool) -> Result<(), VaultError> {
        let _turn = self.queue.turn(failed_before).await;
        let mut by_doubt = false;
        let is_good = match known {
            Some(Known { lease: Some(lease), .. }) => {
                let changed = self.path.lacks_value() || *self.vault.session().borrow() != lease.session;
                by_doubt = out_of_turn && !changed && lease.is_replaced_on_doubt();
                let replace = by_doubt || out_of_turn && changed;
                !replace && Instant::now() < lease.ends() && (self.renew(lease).await || lease.is_good_though_doubted(out_of_turn))
            }
            // Somebody doubts the value: whether it is the same is not asked, for it may be the same that was doubted.
            _ if out_of_turn => false,
            Some(known) => self.is_same(known).await?,
            None => false,
        };
        if is_good {
            return Ok(());
        }
        // There is a token from here on: the first one is no reason to read again.
        let session = self.vault.present().await?;
        let leased = known.as_ref().is_some_and(|known| known.lease.is_some());
        if leased && session.ends.is_some_and(|end| end.saturating_duration_since(std::time::Instant::now()) <= TOKEN_MARGIN) {
            // Another lease would end with it in the same moment.
            let why = "the token for Vault is about to end, and what was leased with it";
            return Err(VaultError::new(VaultErrorKind::LoginRefused, why));
        }
        let asked = Instant::now();
        let reading = self.vault.read(self.path.name(), self.path.pinned()).await?;
        let mut new = self.learn(reading, asked, session.number, session.ends.map(Instant::from_std));
        if let (Some(new), Some(old)) = (&mut new.lease, known.as_ref().and_then(|k| k.lease.as_ref())) {
            new.doubted = if by_doubt { Some(asked) } else { old.doubted };
        }
        let old = known.replace(new);
        // A cache between us and Vault may give the same lease once more.
        let lease_of = |known: &Option<Known>| known.as_ref().and_then(|k| k.lease.as_ref()).map(|lease| lease.id.clone());
        if lease_of(&old) != lease_of(known) {
            self.let_go(&mut { old }, RETIRE_AFTER);
        }
        Ok(())
    }

    /// Whether Vault still has the version that the cells have. Asked of KV v2 only, and cheaper than the value.
    async fn is_same(&self, known: &Known) -> Result<bool, VaultError> {
        if known.version.is_none() || self.path.pinned().is_some() || self.path.lacks_value() {
            return Ok(false);
        }
        if self.vault.mount_of(self.path.name()).await?.kind != MountKind::KvV2 {
            return Ok(false);
        }
        match self.vault.metadata(self.path.name()).await {
            Ok(now) => Ok(!now.gone && Some(now.version) == known.version && now.created == known.created),
            // A policy may give the value without the metadata: then the value itself is asked for.
            Err(e) if e.kind == VaultErrorKind::Denied => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Renews a lease. `false` where it cannot be, or would soon end nevertheless: then the path is read anew.
    async fn renew(&self, lease: &mut Leased) -> bool {
        if !lease.renewable {
            return false;
        }
        let asked = Instant::now();
        let Ok(renewed) = self.vault.renew_lease(&lease.id).await else { return false };
        let end = asked + usable(renewed.duration);
        if renewed.duration < lease.whole / 2 {
            lease.end = lease.end.min(end);
            return false;
        }
        (lease.end, lease.renewable) = (end, renewed.renewable);
        self.leases.hold(&lease.id, asked + renewed.duration);
        true
    }

    /// Hands a reading to the cells.
    fn learn(&self, reading: Reading, asked: Instant, session: u64, token_end: Option<Instant>) -> Known {
        let Reading { fields, version, created, lease } = reading;
        self.path.each(|cell| cell.take(&fields));
        let lease = lease.map(|Lease { id, duration, renewable }| {
            let whole = if duration.is_zero() { ENDLESS } else { duration };
            self.leases.hold(&id, asked + whole);
            Leased { id, renewable, whole, doubted: None, end: asked + usable(whole), session, token_end }
        });
        Known { version, created, lease }
    }
}

impl Course {
    /// The token that the value was read with, by number.
    fn session(&self) -> u64 {
        self.known.as_ref().and_then(|known| known.lease.as_ref()).map_or(0, |lease| lease.session)
    }
}

impl Leased {
    /// Whether an origin's 401 is worth another lease. Agents can provoke a 401 at will, and may not fill a database with users:
    /// the first is, then one in a tenth of a lease's life, or in ten minutes.
    fn is_replaced_on_doubt(&self) -> bool {
        self.doubted.is_none_or(|at| at.elapsed() >= DOUBT_APART.min(self.whole / 10))
    }

    /// Whether a lease that Vault cannot renew is used on after a 401: it was not asked for because its time is near.
    fn is_good_though_doubted(&self, out_of_turn: bool) -> bool {
        out_of_turn && !self.renewable && !self.is_replaced_on_doubt()
    }

    /// When the value is used no more.
    fn ends(&self) -> Instant {
        // Vault ends the leases of a token in the moment in which the token ends.
        let token = self.token_end.map(|end| end.checked_sub(TOKEN_MARGIN).unwrap_or(end));
        token.map_or(self.end, |token| token.min(self.end))
    }
}

/// How long of a lease its value is used.
fn usable(duration: Duration) -> Duration {
    duration - MARGIN.min(duration / 10)
}

/// Completes when there is another token than this.
async fn replaced(session: &mut watch::Receiver<u64>, read_with: u64) {
    if session.wait_for(|number| *number != read_with).await.is_err() {
        std::future::pending().await
    }
}

fn unreachable(why: String) -> Unavailable {
    Unavailable { retry_after: Some(RETRY_AFTER), ..Unavailable::new("vault_unreachable", why) }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
