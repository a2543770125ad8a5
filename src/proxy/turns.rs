//! Whose turn it is to compute.
//!
//! The runtime takes tasks in the order in which they were woken, whoever they are of: an agent with a thousand connections
//! that all have something to do would have another one's single request wait behind all of them. So of each agent's
//! connections only a few take a step before all who are waiting have had theirs, and the rest stand in a queue of that
//! agent's own. Those who have proved nothing share one. Where nobody else has computed for a while there is nobody to wait for.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// So many steps in a round: enough that few have to be put behind others, and over in about a millisecond.
static STEPS: LazyLock<usize> = LazyLock::new(|| 16 * std::thread::available_parallelism().map_or(2, usize::from));

/// Who takes steps alone for so long waits for nobody: to be put behind others costs more than a step.
const ALONE: Duration = Duration::from_secs(1);

/// Whose step was the last, and since when it is nobody else's.
static LAST: AtomicUsize = AtomicUsize::new(0);
static SINCE: AtomicU64 = AtomicU64::new(0);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the first question.
fn now() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The steps that are left of this round. Whoever takes the last begins the next, once it comes by again: it is put behind
/// all that wait to run.
pub(super) struct Round {
    left: Arc<Semaphore>,
    taken: AtomicUsize,
}

impl Default for Round {
    fn default() -> Self {
        Self { left: Arc::new(Semaphore::new(*STEPS)), taken: AtomicUsize::new(0) }
    }
}

impl Round {
    /// Takes note of a step. Says whether it was the last, after which others have theirs.
    fn is_last(&self) -> bool {
        let own = std::ptr::from_ref(self).addr();
        if LAST.load(Ordering::Relaxed) != own {
            LAST.store(own, Ordering::Relaxed);
            SINCE.store(now(), Ordering::Relaxed);
        }
        if self.taken.fetch_add(1, Ordering::AcqRel) + 1 < *STEPS {
            return false;
        }
        let alone = now().saturating_sub(SINCE.load(Ordering::Relaxed)) > ALONE.as_millis() as u64;
        if alone {
            self.begin_anew();
        }
        !alone
    }

    fn begin_anew(&self) {
        self.taken.store(0, Ordering::Release);
        self.left.add_permits(*STEPS);
    }
}

/// A connection's way to its turns: those of whoever has proved to be on it.
pub(super) struct Turns(ArcSwap<Round>);

/// What a connection is in for between two steps.
#[derive(Default)]
struct Between {
    /// It stands in the queue.
    waiting: Option<(Arc<Round>, Waiting)>,
    /// It took the last step of this round, and begins the next.
    begins: Option<Arc<Round>>,
}

type Waiting = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

impl Between {
    fn begin(&mut self) {
        if let Some(round) = self.begins.take() {
            round.begin_anew();
        }
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.begin();
    }
}

impl Turns {
    pub(super) fn of(round: Arc<Round>) -> Self {
        Self(ArcSwap::new(round))
    }

    /// From now on it waits with those of this agent.
    pub(super) fn belong_to(&self, round: &Arc<Round>) {
        if !Arc::ptr_eq(&self.0.load(), round) {
            self.0.store(Arc::clone(round));
        }
    }

    /// Runs a future a step at a time, each in turn; at once where it `hurries`.
    pub(super) async fn run<F: Future>(&self, future: F, hurries: impl Fn() -> bool) -> F::Output {
        let mut future = std::pin::pin!(future);
        let mut between = Between::default();
        std::future::poll_fn(|cx| if hurries() { future.as_mut().poll(cx) } else { self.step(future.as_mut(), &mut between, cx) }).await
    }

    fn step<F: Future>(&self, future: Pin<&mut F>, between: &mut Between, cx: &mut Context<'_>) -> Poll<F::Output> {
        between.begin();
        ready!(self.take(between, cx));
        let polled = future.poll(cx);
        if between.begins.is_some() && polled.is_pending() {
            // A task that wakes itself is put behind all others.
            cx.waker().wake_by_ref();
        }
        polled
    }

    /// Takes a step of the round, or waits for one.
    fn take(&self, between: &mut Between, cx: &mut Context<'_>) -> Poll<()> {
        if between.waiting.is_none() {
            let round = self.0.load();
            if let Ok(step) = round.left.try_acquire() {
                step.forget();
                between.begins = round.is_last().then(|| Arc::clone(&round));
                return Poll::Ready(());
            }
            between.waiting = Some((Arc::clone(&round), Box::pin(Arc::clone(&round.left).acquire_owned())));
        }
        let Some((round, waiting)) = &mut between.waiting else { return Poll::Pending };
        let step = ready!(waiting.as_mut().poll(cx));
        step.expect("the semaphore is never closed").forget();
        between.begins = round.is_last().then(|| Arc::clone(round));
        between.waiting = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    type Order = Arc<Mutex<Vec<&'static str>>>;

    /// Steps that are counted by name; what wakes it for the next comes from elsewhere.
    async fn steps(name: &'static str, count: usize, order: Order) {
        for _ in 0..count {
            order.lock().expect("whole").push(name);
            let mut waited = false;
            std::future::poll_fn(|cx| {
                cx.waker().wake_by_ref();
                if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }

    fn begin(round: &Arc<Round>, name: &'static str, count: usize, order: &Order) -> tokio::task::JoinHandle<()> {
        let (turns, order) = (Turns::of(Arc::clone(round)), Arc::clone(order));
        tokio::spawn(async move { turns.run(steps(name, count, order), || false).await })
    }

    #[tokio::test]
    async fn one_does_not_wait_behind_all_of_anothers() {
        let (flood, other, order) = (Arc::default(), Arc::default(), Order::default());
        let mut tasks: Vec<_> = (0..300).map(|_| begin(&flood, "flood", 3, &order)).collect();
        tasks.push(begin(&other, "other", 3, &order));
        for task in tasks {
            task.await.expect("runs");
        }
        let order = order.lock().expect("whole");
        assert_eq!(order.len(), 903);
        // Each step of its own comes after a round of the flood's at most, and what stood before it.
        let last = order.iter().rposition(|name| *name == "other").expect("it ran");
        assert!(last < 5 * *STEPS, "the other one's last step was the {last}th");
    }

    #[tokio::test]
    async fn a_round_goes_on_when_the_one_that_was_to_begin_it_is_gone() {
        let (round, order) = (Arc::<Round>::default(), Order::default());
        for _ in 0..3 {
            // Each is dropped amid its steps.
            let tasks: Vec<_> = (0..3 * *STEPS).map(|_| begin(&round, "gone", usize::MAX, &order)).collect();
            tokio::task::yield_now().await;
            tasks.iter().for_each(tokio::task::JoinHandle::abort);
            for task in tasks {
                assert!(task.await.expect_err("aborted").is_cancelled());
            }
        }
        for _ in 0..3 * *STEPS {
            begin(&round, "after", 2, &order).await.expect("runs");
        }
    }

    #[tokio::test]
    async fn what_hurries_waits_for_nothing() {
        let round = Arc::<Round>::default();
        let all = round.left.try_acquire_many(u32::try_from(*STEPS).expect("few")).expect("free");
        assert_eq!(Turns::of(Arc::clone(&round)).run(async { 7 }, || true).await, 7);
        drop(all);
    }

    #[tokio::test]
    async fn a_connection_changes_the_queue_with_its_agent() {
        let (first, second) = (Arc::<Round>::default(), Arc::<Round>::default());
        let turns = Turns::of(Arc::clone(&first));
        turns.belong_to(&second);
        assert_eq!(turns.run(async { 7 }, || false).await, 7);
        assert_eq!((first.left.available_permits(), second.left.available_permits()), (*STEPS, *STEPS - 1));
    }
}
