//! The one thread that writes: it gathers what is queued and appends it in batches, and goes on by itself after a failure.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::appender::Appender;
use super::chain::{Checkpoint, Checkpoints};
use super::record::Entry;
use crate::audit::AuditEvent;
use crate::telemetry::escape::human;

/// How long a first record waits for company: one write then serves many, and the queue's other end has nobody to wake.
const GATHER: Duration = Duration::from_millis(10);
/// How soon a failed write is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How often a failed write is tried again once the log is closing.
const LAST_TRIES: u32 = 4;
/// How often a checkpoint is saved.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// What is queued.
pub(super) enum Message {
    Event(AuditEvent),
    /// To be answered when what was queued before has been tried.
    Flush(SyncSender<()>),
    /// Only to wake the thread.
    Wake,
}

/// What the log's handle and the thread both see.
#[derive(Default)]
pub(super) struct Shared {
    /// Records lost since the start.
    pub(super) lost: AtomicU64,
    /// Those of them that no record tells of yet.
    pub(super) unrecorded: AtomicU64,
    pub(super) closing: AtomicBool,
    /// Why the last write failed, if it did.
    problem: Mutex<Option<String>>,
    failing: AtomicBool,
}

impl Shared {
    pub(super) fn count_lost(&self, n: u64) {
        self.lost.fetch_add(n, Ordering::Relaxed);
        self.unrecorded.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_problem(&self, problem: Option<String>) {
        self.failing.store(problem.is_some(), Ordering::Relaxed);
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

/// The thread's state.
pub(super) struct Writer {
    pub(super) queue: Receiver<Message>,
    pub(super) appender: Appender,
    pub(super) shared: Arc<Shared>,
    pub(super) checkpoints: Arc<dyn Checkpoints>,
    /// The most records held between the queue and the file.
    pub(super) batch_max: usize,
    pub(super) saved: Option<Checkpoint>,
    /// Whether the last batch was full: then more is waiting, and there is no need to wait for it.
    pub(super) busy: bool,
}

impl Writer {
    /// Runs until the log closes and nothing is left, or what is left cannot be written.
    pub(super) fn run(mut self) {
        let mut batch: Vec<Entry> = Vec::new();
        let mut waiting: Vec<SyncSender<()>> = Vec::new();
        let mut next_checkpoint = Instant::now() + CHECKPOINT_EVERY;
        let mut last_tries = LAST_TRIES;
        loop {
            self.receive(&mut batch, &mut waiting, next_checkpoint);
            self.busy = batch.len() >= self.batch_max;
            let closing = self.shared.closing.load(Ordering::Acquire);
            self.write(&mut batch);
            waiting.drain(..).for_each(|w| _ = w.try_send(()));
            if Instant::now() >= next_checkpoint || (self.saved.is_none() && self.appender.known().is_some()) {
                self.save_checkpoint();
                next_checkpoint = Instant::now() + CHECKPOINT_EVERY;
            }
            if closing {
                if batch.is_empty() && !self.drain_is_needed(&mut batch) {
                    break;
                }
                if self.shared.failing() {
                    last_tries -= 1;
                    if last_tries == 0 {
                        break;
                    }
                    std::thread::park_timeout(RETRY);
                }
            }
        }
        self.give_up(&batch);
        self.save_checkpoint();
    }

    /// Fills the batch from the queue; waits for a first record, and a moment longer for more.
    fn receive(&self, batch: &mut Vec<Entry>, waiting: &mut Vec<SyncSender<()>>, next_checkpoint: Instant) {
        let closing = self.shared.closing.load(Ordering::Acquire);
        if !closing {
            let patience = if self.shared.failing() { RETRY } else { next_checkpoint.saturating_duration_since(Instant::now()) };
            if batch.len() >= self.batch_max {
                std::thread::park_timeout(RETRY);
                return;
            }
            match self.queue.recv_timeout(patience) {
                Ok(Message::Event(event)) => {
                    batch.push(Entry::Event(event));
                    if !self.busy {
                        std::thread::park_timeout(GATHER);
                    }
                }
                Ok(Message::Flush(answer)) => waiting.push(answer),
                Ok(Message::Wake) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.shared.closing.store(true, Ordering::Release),
            }
        }
        while batch.len() < self.batch_max {
            match self.queue.try_recv() {
                Ok(Message::Event(event)) => batch.push(Entry::Event(event)),
                Ok(Message::Flush(answer)) => {
                    waiting.push(answer);
                    return;
                }
                Ok(Message::Wake) => {}
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// While closing: takes one more record, if there is one.
    fn drain_is_needed(&self, batch: &mut Vec<Entry>) -> bool {
        match self.queue.try_recv() {
            Ok(Message::Event(event)) => batch.push(Entry::Event(event)),
            Ok(Message::Flush(answer)) => _ = answer.try_send(()),
            Ok(Message::Wake) => {}
            Err(_) => return false,
        }
        true
    }

    /// Appends the batch; what did not get in stays in it.
    fn write(&mut self, batch: &mut Vec<Entry>) {
        let lost = self.shared.unrecorded.load(Ordering::Relaxed);
        if batch.is_empty() && lost == 0 && !self.shared.failing() {
            return;
        }
        if lost > 0 {
            batch.push(Entry::Lost(lost));
        }
        let (done, result) = self.appender.append(batch);
        let told = lost > 0 && done == batch.len();
        if lost > 0 && !told {
            batch.pop();
        }
        batch.drain(..done.min(batch.len()));
        if told {
            self.shared.unrecorded.fetch_sub(lost, Ordering::Relaxed);
        }
        self.report(result);
    }

    fn report(&self, result: io::Result<()>) {
        let was = self.shared.failing();
        match result {
            Ok(()) if was => {
                self.shared.set_problem(None);
                tracing::info!("the audit log is written again");
            }
            Ok(()) => {}
            Err(e) => {
                if !was {
                    tracing::error!("the audit log cannot be written: {}; it is tried again until it can", human(&e.to_string()));
                }
                self.shared.set_problem(Some(e.to_string()));
            }
        }
    }

    /// Saves how far the log goes, once the disk has it: a checkpoint must not outlive its record.
    fn save_checkpoint(&mut self) {
        let Some(known) = self.appender.known().filter(|k| self.saved != Some(*k)) else { return };
        let saved = self.appender.sync().map_err(Into::into).and_then(|()| self.checkpoints.save(&known));
        match saved {
            Ok(()) => self.saved = Some(known),
            Err(e) => tracing::warn!("the audit log's checkpoint was not saved: {}; it is tried again with the next", human(&e.to_string())),
        }
    }

    /// What is left when the log closes is lost, and said to be.
    fn give_up(&self, batch: &[Entry]) {
        let queued = self.queue.try_iter().filter(|m| matches!(m, Message::Event(_))).count();
        let left = (batch.len() + queued) as u64;
        if left > 0 {
            self.shared.count_lost(left);
            tracing::error!("{left} audit records could not be written before the end");
        }
    }
}
