//! One timer a connection.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// A request that lasts so long has a record at its opening too.
pub(super) const LONG: Duration = Duration::from_secs(10);

/// A timer that is set anew only when it fires, so that activity costs no timer work.
pub(super) struct Ticker {
    sleep: Pin<Box<Sleep>>,
}

impl Ticker {
    pub(super) fn new() -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(LONG)) }
    }

    /// Whether `at` has come; if not, the task is woken no later than then.
    pub(super) fn poll_at(&mut self, at: Instant, cx: &mut Context<'_>) -> bool {
        loop {
            let at = tokio::time::Instant::from_std(at);
            if self.sleep.deadline() > at {
                self.sleep.as_mut().reset(at);
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            if tokio::time::Instant::now() >= at {
                return true;
            }
            self.sleep.as_mut().reset(at);
        }
    }
}
