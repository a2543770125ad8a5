//! The audit log: `audit.jsonl`, one object a line, each chained to the one before.
//!
//! **The chain.** A record ends with `"mac"`: HMAC-SHA256 under a key of the store, over the last record's MAC (32 bytes) and the record's own
//! bytes without the `mac` member. Before the first record stand 32 zero bytes. Numbers (`seq`) go up by one and never go back.
//!
//! **Files.** At `max_size` the file becomes `audit.jsonl.1`, the older ones move up, and those beyond `keep` go. Each file begins
//! with a record of the log itself: `audit.start`, the very first; `audit.continue`, with the last `prev_seq` and `prev_mac` of the file
//! before; or `audit.gap`, where records that had been written are gone. `audit.lost` carries the `count` of records that could not be
//! written. So each file can be checked from its first line on, and old files may go.
//!
//! **Writers.** `serve`, commands and `run`'s proxies append to the same file. Each holds `audit.jsonl.lock` meanwhile and goes on from
//! the file's true last record. In `serve`, records are queued to one thread ([`AuditLog`]); a command writes its own at once ([`append_now`]).
//!
//! **Checkpoints.** A cut tail leaves a sound chain, so the store keeps how far the log went ([`Checkpoints`]): from the first record on, each minute, and at
//! the end.

mod appender;
mod chain;
mod files;
mod filter;
mod lines;
mod record;
mod report;
mod shown;
mod tail;
mod verify;
mod write;
mod writer;

pub use chain::{AuditKey, ChainMac, Checkpoint, CheckpointError, Checkpoints};
pub use filter::{Filter, FilterError, HostFilter, StatusFilter, parse_since};
pub use report::{Fault, FaultKind, Note, NoteKind, VerifyReport};
pub use shown::Shown;
pub use tail::Tail;
pub use verify::verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::audit::AuditEvent;
use appender::Appender;
use record::Entry;
use writer::{Message, Shared, Writer};

/// Records that wait to be written; what comes on top is lost, and counted.
const QUEUE: usize = 8192;
/// Records between the queue and the file.
const BATCH: usize = 1024;

/// How large the log's files grow and how many stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditOptions {
    /// In bytes: a file that would grow past it is rotated. One record more than the opening one always fits.
    pub max_size: u64,
    /// How many rotated files stay.
    pub keep: u32,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { max_size: 64 << 20, keep: 10 }
    }
}

/// Why the audit log cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file, or its lock, or the thread that writes it.
    #[error("the audit log `{}` cannot be written: {source}; see to its owner, its mode and the disk's space", path.display())]
    File {
        /// The log.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The store's side of it.
    #[error("the audit log's checkpoint cannot be had from the store: {0}; `keyhatch store verify` says more")]
    Checkpoint(CheckpointError),
}

/// The audit log of a running process: hands records to the thread that writes them. Closed on drop.
pub struct AuditLog {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl AuditLog {
    /// Opens the log and starts its thread. A disk that is full now is no error: the log is then unhealthy until it is written again.
    ///
    /// # Errors
    /// [`AuditError`] where the file cannot be opened or locked, or the checkpoint cannot be loaded.
    pub fn open(path: &Path, key: AuditKey, options: AuditOptions, checkpoints: Arc<dyn Checkpoints>) -> Result<Self, AuditError> {
        let checkpoint = checkpoints.load().map_err(AuditError::Checkpoint)?;
        Self::start(path, Appender::new(path, key, options, checkpoint), checkpoint, checkpoints, (QUEUE, BATCH))
    }

    fn start(
        path: &Path,
        mut appender: Appender,
        saved: Option<Checkpoint>,
        checkpoints: Arc<dyn Checkpoints>,
        (queue, batch_max): (usize, usize),
    ) -> Result<Self, AuditError> {
        let failed = |source| AuditError::File { path: path.to_owned(), source };
        let shared = Arc::new(Shared::default());
        match appender.append(&[]).1 {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => shared.set_problem(Some(e.to_string())),
            Err(e) => return Err(failed(e)),
        }
        let (queue, receiver) = sync_channel(queue);
        let writer = Writer { queue: receiver, appender, shared: Arc::clone(&shared), checkpoints, batch_max, saved, busy: false };
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(|| writer.run()).map_err(failed)?;
        Ok(Self { queue, shared, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a record. Never waits: where the queue is full the record is lost, and counted.
    pub fn record(&self, mut event: AuditEvent) {
        record::trim(&mut event);
        if self.shared.closing.load(Ordering::Acquire) || self.queue.try_send(Message::Event(event)).is_err() {
            self.shared.count_lost(1);
        }
    }

    /// How many records were lost since the log was opened.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Whether the last write went well and every lost record is accounted for in the file.
    #[must_use]
    pub fn healthy(&self) -> bool {
        !self.shared.failing() && self.shared.unrecorded.load(Ordering::Relaxed) == 0
    }

    /// What is wrong, for `/readyz` and the operator; `None` while healthy.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if let Some(problem) = self.shared.problem() {
            return Some(format!("the audit log cannot be written: {problem}"));
        }
        match self.shared.unrecorded.load(Ordering::Relaxed) {
            0 => None,
            n => Some(format!("{n} audit records were lost")),
        }
    }

    /// Waits until the writing of all that was recorded before has been tried. Not for the request's path.
    pub fn flush(&self) {
        let (answer, answered) = sync_channel(1);
        if !self.shared.closing.load(Ordering::Acquire) && self.queue.send(Message::Flush(answer)).is_ok() {
            // An error says that the thread has ended: then all has been tried.
            let _ = answered.recv();
        }
    }

    /// Writes what is queued, saves a checkpoint and ends the thread. Takes a few seconds where the file cannot be written.
    /// Records that come later are lost.
    pub fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        self.shared.closing.store(true, Ordering::Release);
        // Full queue or not: the thread sees `closing` once it is awake.
        let _ = self.queue.try_send(Message::Wake);
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::error!("the audit log's thread has failed");
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.close();
    }
}

/// Writes one record and its checkpoint at once: for commands, whose change must not be said to be done before it is recorded.
///
/// # Errors
/// [`AuditError`] where either cannot be written.
pub fn append_now(path: &Path, key: AuditKey, options: AuditOptions, checkpoints: &dyn Checkpoints, event: AuditEvent) -> Result<(), AuditError> {
    let checkpoint = checkpoints.load().map_err(AuditError::Checkpoint)?;
    let mut appender = Appender::new(path, key, options, checkpoint);
    let written = appender.append(&[Entry::Event(event)]).1.and_then(|()| appender.sync());
    written.map_err(|source| AuditError::File { path: path.to_owned(), source })?;
    appender.known().map_or(Ok(()), |known| checkpoints.save(&known)).map_err(AuditError::Checkpoint)
}

#[cfg(test)]
mod tests;
