//! What checking the log found.

use std::fmt;

use super::chain::Checkpoint;
use crate::telemetry::escape::human;

/// A broken log may hold a fault in every line; no more than this many are listed.
const LISTED_MAX: usize = 1000;

/// What [`super::verify`] found.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct VerifyReport {
    /// The files checked, the oldest first.
    pub files: Vec<String>,
    /// How many records are sound.
    pub records: u64,
    /// The first record's number, 0 where there is none.
    pub first_seq: u64,
    /// The last record's number, 0 where there is none.
    pub last_seq: u64,
    /// How many records the log says it could not write.
    pub lost: u64,
    /// What speaks for tampering, or a broken disk; at most a thousand.
    pub faults: Vec<Fault>,
    /// How many more faults there were.
    pub more_faults: u64,
    /// What is to be known but is no fault; at most a thousand.
    pub notes: Vec<Note>,
}

impl VerifyReport {
    /// Whether every record is there and as it was written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// Adds a fault; returns its place in the list, if it was listed.
    pub(super) fn fault(&mut self, file: &str, line: u64, kind: FaultKind) -> Option<usize> {
        if self.faults.len() >= LISTED_MAX {
            self.more_faults += 1;
            return None;
        }
        self.faults.push(Fault { file: file.to_owned(), line, kind });
        Some(self.faults.len() - 1)
    }

    pub(super) fn note(&mut self, file: &str, line: u64, kind: NoteKind) {
        if self.notes.len() < LISTED_MAX {
            self.notes.push(Note { file: file.to_owned(), line, kind });
        }
    }

    pub(super) fn accepted(&mut self, place: &Checkpoint) {
        self.records += 1;
        self.last_seq = place.seq;
        if self.first_seq == 0 {
            self.first_seq = place.seq;
        }
    }
}

/// One fault and where it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// The file's name.
    pub file: String,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: u64,
    /// What it is.
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// What kind of fault.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum FaultKind {
    /// The record is not as it was written.
    Changed {
        /// The number it says it has.
        seq: u64,
    },
    /// The record does not belong here: it was added, or moved from elsewhere.
    Misplaced {
        /// The number it says it has.
        seq: u64,
    },
    /// Records that should stand before this line are not there.
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The log itself found, when it went on, that records were gone.
    Gap {
        /// The number of the record that says so.
        seq: u64,
        /// What it says.
        detail: String,
    },
    /// The file does not begin with a record of the log: what stood before cannot be told.
    Headless,
    /// The line is no record, nor the beginning of one.
    NotARecord,
    /// The end of the log is gone: the checkpoint knows of later records.
    CutTail {
        /// The first one gone.
        from: u64,
        /// The last one known of.
        to: u64,
    },
    /// The record is not the one that the checkpoint knows under this number.
    NotAsCheckpoint {
        /// The number.
        seq: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(&self.file, self.line, f)?;
        match &self.kind {
            FaultKind::Changed { seq } => write!(f, "record {seq} was changed or added"),
            FaultKind::Misplaced { seq } => write!(f, "record {seq} does not belong here: it was added or moved"),
            FaultKind::Missing { from, to } if from == to => write!(f, "record {from} is missing before this line"),
            FaultKind::Missing { from, to } => write!(f, "records {from} to {to} are missing before this line"),
            FaultKind::Gap { seq, detail } => write!(f, "record {seq} says: {}", human(detail)),
            FaultKind::Headless => f.write_str("the beginning of the file is missing"),
            FaultKind::NotARecord => f.write_str("the line is no record"),
            FaultKind::CutTail { from, to } if from == to => write!(f, "record {from}, the last, is gone"),
            FaultKind::CutTail { from, to } => write!(f, "the last records, {from} to {to}, are gone"),
            FaultKind::NotAsCheckpoint { seq } => {
                write!(f, "record {seq} is not the one that the store knows: the log was replaced from there or before")
            }
        }
    }
}

/// One note and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    /// The file's name.
    pub file: String,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: u64,
    /// What it is.
    #[serde(flatten)]
    pub kind: NoteKind,
}

/// What is to be known but is no fault.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum NoteKind {
    /// A piece of a record that was being written when the process or the machine stopped.
    Torn,
    /// Records that could not be written when it was time.
    Lost {
        /// How many.
        count: u64,
    },
    /// Older files were removed, by `keep` or by hand.
    OlderRemoved {
        /// The last record that went with them.
        up_to: u64,
    },
    /// The file is older than this store's log and was not checked.
    OtherStore,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(&self.file, self.line, f)?;
        match self.kind {
            NoteKind::Torn => f.write_str("a torn piece of a record, from a crash or a full disk"),
            NoteKind::Lost { count: 1 } => f.write_str("1 record could not be written at the time"),
            NoteKind::Lost { count } => write!(f, "{count} records could not be written at the time"),
            NoteKind::OlderRemoved { up_to } => write!(f, "the log begins here; the records up to {up_to} went with older files"),
            NoteKind::OtherStore => f.write_str("the file is older than this store's log and was not checked"),
        }
    }
}

fn place(file: &str, line: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if line == 0 { write!(f, "{file}: ") } else { write!(f, "{file}:{line}: ") }
}
