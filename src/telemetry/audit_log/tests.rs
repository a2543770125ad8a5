//! Tests of the log as a whole, and what they share.

mod appending;
mod tailing;
mod tampering;

use super::appender::WriteFn;
use super::*;
use crate::audit::{ChangeRecord, RequestRecord};
use std::fs;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;
use zeroize::Zeroizing;

/// Checkpoints in memory, that never go back.
#[derive(Default)]
struct Kept(Mutex<Option<Checkpoint>>);

impl Checkpoints for Kept {
    fn save(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let mut kept = self.0.lock().expect("no test panics with it");
        if kept.is_none_or(|k| k.seq <= checkpoint.seq) {
            *kept = Some(*checkpoint);
        }
        Ok(())
    }

    fn load(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        Ok(*self.0.lock().expect("no test panics with it"))
    }
}

fn key() -> AuditKey {
    AuditKey::new(Zeroizing::new([5; 32]))
}

/// A log in a directory of its own.
struct Log {
    _home: TempDir,
    path: PathBuf,
    kept: Arc<Kept>,
    options: AuditOptions,
}

impl Log {
    fn new(options: AuditOptions) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("audit.jsonl");
        Self { _home: home, path, kept: Arc::default(), options }
    }

    fn open(&self) -> AuditLog {
        AuditLog::open(&self.path, key(), self.options, self.kept.clone()).expect("opened")
    }

    fn open_failing(&self, queue: usize) -> (AuditLog, Arc<AtomicBool>) {
        let full = Arc::new(AtomicBool::new(false));
        let appender = Appender::new(&self.path, key(), self.options, None).with_write(full_disk(&full));
        (AuditLog::start(&self.path, appender, None, self.kept.clone(), (queue, queue)).expect("started"), full)
    }

    fn append(&self, path: &str) {
        append_now(&self.path, key(), self.options, &*self.kept, request(path)).expect("written");
    }

    /// A log with records 1 (its start) to `n`.
    fn with_records(n: usize) -> Self {
        let log = Self::new(AuditOptions::default());
        (2..=n).for_each(|i| log.append(&format!("/{i}")));
        log
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.path).expect("read").lines().map(str::to_owned).collect()
    }

    fn write_lines(&self, lines: &[String]) {
        fs::write(&self.path, lines.iter().map(|l| format!("{l}\n")).collect::<String>()).expect("written");
    }

    fn verify(&self) -> VerifyReport {
        verify(&self.path, &key(), self.kept.load().expect("loaded")).expect("read")
    }

    fn faults(&self) -> Vec<(u64, FaultKind)> {
        self.verify().faults.into_iter().map(|f| (f.line, f.kind)).collect()
    }

    fn assert_sound(&self, records: u64) {
        let report = self.verify();
        assert!(report.is_sound(), "{:?}", report.faults);
        assert_eq!(report.records, records);
    }

    /// The paths of all requests, the oldest first.
    fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut tail = Tail::new(&self.path, Filter::default());
        tail.poll(&mut |r| {
            let value: serde_json::Value = serde_json::from_str(&r.json()).expect("JSON");
            out.extend(value["path"].as_str().map(str::to_owned));
            Ok(())
        })
        .expect("read");
        out
    }
}

/// Half of what is to be written gets in, then the disk is full.
fn full_disk(full: &Arc<AtomicBool>) -> WriteFn {
    let full = Arc::clone(full);
    Box::new(move |file, bytes| {
        use std::io::Write as _;
        if full.load(Ordering::SeqCst) {
            file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all(bytes)
    })
}

fn request_record(path: &str) -> RequestRecord {
    RequestRecord {
        at: crate::clock::now(),
        id: crate::audit::RequestId(1),
        agent: Some("default".into()),
        method: "GET".into(),
        host: "openrouter.ai".into(),
        port: 443,
        path: path.into(),
        status: 200,
        verdict: crate::audit::Verdict::Injected,
        credential: Some("openrouter".into()),
        reason: "ok".into(),
        upstream_addr: None,
        bytes_up: 0,
        bytes_down: 0,
        ttfb: None,
        duration: std::time::Duration::ZERO,
        client_protocol: "HTTP/1.1",
        upstream_protocol: "HTTP/1.1",
    }
}

fn request(path: &str) -> AuditEvent {
    AuditEvent::Request(Box::new(request_record(path)))
}

fn change(event: &'static str) -> AuditEvent {
    AuditEvent::Change(Box::new(ChangeRecord { at: crate::clock::now(), event, agent: None, credential: None, detail: String::new() }))
}
