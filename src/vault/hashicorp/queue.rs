//! How much is asked of Vault: so much at once, and little while nobody gets an answer.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

use super::paths::lock;

/// So many questions are under way at once.
const TURNS: usize = 16;
/// While Vault answers nobody, questions that failed before are asked so far apart, whatever the number of paths.
const APART: Duration = Duration::from_millis(50);

/// The line before Vault, one for all paths.
pub(super) struct Queue {
    turns: Semaphore,
    /// When the next question may go that failed before; `None`: at once.
    next: Mutex<Option<Instant>>,
    /// Counts Vault's answers.
    answers: watch::Sender<u64>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { turns: Semaphore::new(TURNS), next: Mutex::default(), answers: watch::Sender::new(0) }
    }

    /// Waits for a turn. One whose last question failed stands in a slower line, until Vault has answered somebody.
    pub(super) async fn turn(&self, failed_before: bool) -> Option<SemaphorePermit<'_>> {
        if failed_before {
            let mut answers = self.answers.subscribe();
            let slot = {
                let mut next = lock(&self.next);
                let slot = next.map_or_else(Instant::now, |at| at.max(Instant::now()));
                *next = Some(slot + APART);
                slot
            };
            tokio::select! {
                biased;
                _ = answers.changed() => {}
                () = tokio::time::sleep_until(slot) => {}
            }
        }
        // A closed semaphore means that the process ends.
        self.turns.acquire().await.ok()
    }

    /// Vault answered, whatever it said: who waits in the slower line may go.
    pub(super) fn answered(&self) {
        *lock(&self.next) = None;
        self.answers.send_modify(|n| *n = n.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_that_fail_ask_little_and_all_go_once_it_answers() {
        let (queue, asked) = (Arc::new(Queue::new()), Arc::new(AtomicUsize::new(0)));
        let back = Arc::new(tokio::sync::Notify::new());
        for _ in 0..500 {
            let (queue, asked, back) = (Arc::clone(&queue), Arc::clone(&asked), Arc::clone(&back));
            tokio::spawn(async move {
                loop {
                    drop(queue.turn(true).await);
                    asked.fetch_add(1, Ordering::SeqCst);
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(2)) => {}
                        () = back.notified() => return,
                    }
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        let sealed = asked.load(Ordering::SeqCst);
        assert!((300..=402).contains(&sealed), "{sealed} questions of 500 paths in 20 s");
        queue.answered();
        tokio::time::sleep(Duration::from_millis(1)).await;
        // Those who stood in the line, all but the forty who had just asked.
        let all = asked.load(Ordering::SeqCst) - sealed;
        assert!(all >= 450, "{all}");
        back.notify_waiters();
    }

    #[tokio::test(start_paused = true)]
    async fn who_did_not_fail_waits_for_nobody() {
        let queue = Queue::new();
        for _ in 0..100 {
            let waits = tokio::time::timeout(Duration::ZERO, queue.turn(true)).await;
            drop(waits);
        }
        let begin = Instant::now();
        drop(queue.turn(false).await);
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
