//! The audit log read back: what was not written by us is no sound log, and no line moves a terminal.

use std::path::Path;
use std::sync::LazyLock;

use keyhatch::audit::{AuditEvent, ChangeRecord};
use keyhatch::telemetry::audit_log::{AuditKey, AuditOptions, Checkpoint, CheckpointError, Checkpoints, Filter, Shown, Tail, append_now, verify};
use keyhatch::telemetry::escape::is_unsafe;
use zeroize::Zeroizing;

use super::input::Input;

struct Nowhere;

impl Checkpoints for Nowhere {
    fn save(&self, _: &Checkpoint) -> Result<(), CheckpointError> {
        Ok(())
    }

    fn load(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        Ok(None)
    }
}

fn key() -> AuditKey {
    AuditKey::new(Zeroizing::new([3; 32]))
}

fn event(name: &str) -> AuditEvent {
    let (agent, credential) = (Some("default".to_owned()), Some(name.to_owned()));
    AuditEvent::Change(Box::new(ChangeRecord { at: jiff::Timestamp::UNIX_EPOCH, event: "credential.add", agent, credential, detail: String::new() }))
}

struct Stage {
    dir: tempfile::TempDir,
    genuine: Vec<u8>,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a directory");
    let path = dir.path().join("genuine.jsonl");
    for name in ["one", "two", "three"] {
        append_now(&path, key(), AuditOptions::default(), &Nowhere, event(name)).expect("written");
    }
    let genuine = std::fs::read(&path).expect("read");
    Stage { dir, genuine }
});

/// The input: whether the genuine log is to be patched (a place in two bytes and a mask, some times), then the patches, or else the log.
pub fn run(data: &[u8]) {
    let stage = &*STAGE;
    let mut input = Input::new(data);
    let content = if input.byte() & 1 == 0 {
        input.rest().to_vec()
    } else {
        let mut log = stage.genuine.clone();
        for patch in input.rest().chunks_exact(3).take(6) {
            let at = (usize::from(patch[0]) << 8 | usize::from(patch[1])) % log.len();
            log[at] ^= patch[2];
        }
        log
    };
    for line in content.split(|b| *b == b'\n') {
        let Some(shown) = Shown::parse(line) else { continue };
        for text in [shown.to_string(), shown.json().into_owned()] {
            assert!(!text.contains(is_unsafe), "{text:?} does something to a terminal");
        }
        // Escaped or not, it is the same record.
        let value = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).ok();
        assert_eq!(value(shown.json().as_bytes()), value(line));
    }
    let path = stage.dir.path().join("audit.jsonl");
    std::fs::write(&path, &content).expect("written");
    let report = verify(&path, &key(), None).expect("a file that can be read");
    // Without a checkpoint a cut tail is a sound log; nothing else is.
    let sound = stage.genuine.starts_with(&content) || content.is_empty();
    assert!(sound || !report.is_sound() || !report.notes.is_empty(), "{:?} passes for sound", content.escape_ascii().to_string());
    let mut tail = Tail::new(&path, Filter::default());
    tail.poll(&mut |_| Ok(())).expect("a file that can be read");
}
