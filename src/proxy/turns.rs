//! Whose turn it is to compute.
//!
//! The runtime takes tasks in the order in which they were woken, whoever they are of: an agent with a thousand connections
//! that all have something to do would have another one's single request wait behind all of them. So of each agent's
//! connections only a few are about to compute at a time, and the rest stand in a queue of that agent's own. Those who have
//! proved nothing share one.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

type Waiting = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// A connection's way to its turns: those of whoever has proved to be on it.
pub(super) struct Turns(ArcSwap<Semaphore>);

impl Turns {
    pub(super) fn of(turns: Arc<Semaphore>) -> Self {
        Self(ArcSwap::new(turns))
    }

    /// From now on it waits with those of this agent.
    pub(super) fn belong_to(&self, turns: &Arc<Semaphore>) {
        if !Arc::ptr_eq(&self.0.load(), turns) {
            self.0.store(Arc::clone(turns));
        }
    }

    /// Runs a future a step at a time, each in turn.
    pub(super) async fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let mut waiting: Option<Waiting> = None;
        std::future::poll_fn(|cx| self.step(future.as_mut(), &mut waiting, cx)).await
    }

    fn step<F: Future>(&self, future: Pin<&mut F>, waiting: &mut Option<Waiting>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if waiting.is_none() {
            // Nearly always it is free, and given back at the end of this step.
            let turns = self.0.load();
            if let Ok(_turn) = turns.try_acquire() {
                return future.poll(cx);
            }
            *waiting = Some(Box::pin(turns.clone().acquire_owned()));
        }
        let turn = match waiting {
            Some(waiting) => ready!(waiting.as_mut().poll(cx)),
            None => return Poll::Pending,
        };
        *waiting = None;
        let polled = future.poll(cx);
        // The next in the queue is woken, and is behind all that others have been woken for.
        drop(turn);
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A step that is counted by name, again and again.
    async fn steps(name: &'static str, count: usize, order: Arc<Mutex<Vec<&'static str>>>) {
        for _ in 0..count {
            order.lock().expect("whole").push(name);
            // As something that came from elsewhere in the meantime.
            let mut waited = false;
            std::future::poll_fn(|cx| {
                cx.waker().wake_by_ref();
                if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }

    #[tokio::test]
    async fn one_does_not_wait_behind_all_of_anothers() {
        let (flood, other) = (Arc::new(Semaphore::new(2)), Arc::new(Semaphore::new(2)));
        let order = Arc::new(Mutex::new(Vec::new()));
        let begin = |turns: &Arc<Semaphore>, name, count| {
            let (turns, order) = (Turns::of(Arc::clone(turns)), Arc::clone(&order));
            tokio::spawn(async move { turns.run(steps(name, count, order)).await })
        };
        let hold = Arc::clone(&flood).acquire_many_owned(2).await.expect("open");
        let mut tasks: Vec<_> = (0..100).map(|_| begin(&flood, "flood", 3)).collect();
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        assert!(order.lock().expect("whole").is_empty(), "all of them wait");
        drop(hold);
        tasks.push(begin(&other, "other", 3));
        for task in tasks {
            task.await.expect("runs");
        }
        let order = order.lock().expect("whole");
        let last = order.iter().rposition(|name| *name == "other").expect("it ran");
        assert_eq!(order.len(), 303);
        assert!(last < 100, "the other one's last step was the {last}th");
    }

    #[tokio::test]
    async fn a_connection_changes_the_queue_with_its_agent() {
        let (first, second) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1)));
        let turns = Turns::of(first);
        turns.belong_to(&second);
        assert_eq!(turns.run(async { 7 }).await, 7);
        assert_eq!(second.available_permits(), 1);
    }
}
