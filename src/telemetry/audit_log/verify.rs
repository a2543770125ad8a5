//! Checking the log: every record against the one before, the whole against the checkpoint.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _};
use std::path::Path;

use super::chain::{AuditKey, Checkpoint};
use super::files;
use super::lines::{Piece, next_line};
use super::record::{GAP, LOST, Line, START};
use super::report::{FaultKind, NoteKind, VerifyReport};

/// Checks the log at `path` and its rotated files. Load the checkpoint before: records may be added meanwhile.
///
/// # Errors
/// Where a file cannot be read. A broken log is no error but a report with faults.
pub fn verify(path: &Path, key: &AuditKey, checkpoint: Option<Checkpoint>) -> io::Result<VerifyReport> {
    let files = snapshot(path)?;
    let mut report = VerifyReport::default();
    let begin = first_of_this_chain(&files, key)?;
    files[..begin].iter().for_each(|f| report.note(&f.name, 0, NoteKind::OtherStore));
    report.files = files[begin..].iter().map(|f| f.name.clone()).collect();
    let mut walk = Walk { key, checkpoint, report, trusted: None, taken: None, suspect: None, file: name_of(path, 0), line: 0, first: true };
    for file in &files[begin..] {
        walk.file(file)?;
    }
    walk.end();
    Ok(walk.report)
}

/// A file as it was at one moment.
struct Snapshot {
    name: String,
    file: File,
    size: u64,
}

fn name_of(path: &Path, n: u32) -> String {
    files::rotated(path, n).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Opens all files while nobody writes or rotates; they are read afterwards, so that nobody waits.
fn snapshot(path: &Path) -> io::Result<Vec<Snapshot>> {
    let _lock = files::lock_if_there(path)?;
    let mut out = Vec::new();
    for n in files::existing(path)? {
        let file = File::open(files::rotated(path, n))?;
        let size = file.metadata()?.len();
        out.push(Snapshot { name: name_of(path, n), file, size });
    }
    Ok(out)
}

/// Where this store's chain begins: nothing before its genuine start belongs to it.
fn first_of_this_chain(files: &[Snapshot], key: &AuditKey) -> io::Result<usize> {
    for (i, f) in files.iter().enumerate().rev() {
        let start = |line: Option<Line<'_>>| {
            line.is_some_and(|l| l.event.as_deref() == Some(START) && l.opens_a_file() && l.follows(&l.said_previous().mac, key))
        };
        if files::with_first_line(&f.file, start)? {
            return Ok(i);
        }
    }
    Ok(0)
}

/// Where the walk along the chain is.
struct Walk<'a> {
    key: &'a AuditKey,
    checkpoint: Option<Checkpoint>,
    report: VerifyReport,
    /// The last record that was sound.
    trusted: Option<Checkpoint>,
    /// The last record that was taken as one of the chain, sound or not, as it says itself.
    taken: Option<Checkpoint>,
    /// The fault given for `taken`, while `taken` is not `trusted`.
    suspect: Option<usize>,
    file: String,
    line: u64,
    /// Whether no record of this file has been seen.
    first: bool,
}

impl Walk<'_> {
    fn file(&mut self, f: &Snapshot) -> io::Result<()> {
        self.file.clone_from(&f.name);
        self.line = 0;
        self.first = true;
        let mut file = &f.file;
        file.rewind()?;
        let mut reader = BufReader::with_capacity(64 * 1024, file.take(f.size));
        let mut buffer = Vec::new();
        while let Some((piece, _)) = next_line(&mut reader, &mut buffer)? {
            self.line += 1;
            match Line::parse(&buffer).filter(|_| piece != Piece::TooLong) {
                Some(line) if self.first => self.open(&line),
                Some(line) => self.follow(&line),
                None => self.no_record(&buffer),
            }
        }
        Ok(())
    }

    /// A file's first record, which says itself what it follows.
    fn open(&mut self, line: &Line<'_>) {
        self.first = false;
        if !line.opens_a_file() {
            if self.taken.is_some() {
                return self.follow(line);
            }
            self.fault(FaultKind::Headless);
            return self.take(line);
        }
        let said = line.said_previous();
        if !line.follows(&said.mac, self.key) {
            self.suspect = self.fault(FaultKind::Changed { seq: line.seq });
            return self.take(line);
        }
        match self.taken {
            None if said.seq > 0 && line.event.as_deref() != Some(GAP) => {
                self.report.note(&self.file, self.line, NoteKind::OlderRemoved { up_to: said.seq })
            }
            None => {}
            Some(before) if before == said => {}
            Some(_) if self.trusted == Some(said) => self.was_added(),
            Some(before) if said.seq > before.seq => _ = self.fault(FaultKind::Missing { from: before.seq.saturating_add(1), to: said.seq }),
            Some(_) => _ = self.fault(FaultKind::Misplaced { seq: line.seq }),
        }
        self.accept(line);
    }

    /// Any other record.
    fn follow(&mut self, line: &Line<'_>) {
        let before = self.taken.unwrap_or(Checkpoint::GENESIS);
        let next = before.seq.saturating_add(1);
        if line.follows(&before.mac, self.key) {
            if line.seq > next && line.event.as_deref() != Some(GAP) {
                self.fault(FaultKind::Missing { from: next, to: line.seq - 1 });
            }
            return self.accept(line);
        }
        // Where what was taken last was none of the chain, this one follows the last sound one.
        if self.taken != self.trusted && self.trusted.is_some_and(|t| line.follows(&t.mac, self.key)) {
            self.was_added();
            return self.accept(line);
        }
        if line.seq < next {
            self.fault(FaultKind::Misplaced { seq: line.seq });
            return;
        }
        let kind = if line.seq == next { FaultKind::Changed { seq: line.seq } } else { FaultKind::Missing { from: next, to: line.seq - 1 } };
        self.suspect = self.fault(kind);
        self.take(line);
    }

    /// What was taken last turns out not to belong there.
    fn was_added(&mut self) {
        if let (Some(i), Some(taken)) = (self.suspect, self.taken) {
            self.report.faults[i].kind = FaultKind::Misplaced { seq: taken.seq };
        }
    }

    fn no_record(&mut self, bytes: &[u8]) {
        let next = self.taken.map_or(0, |t| t.seq).saturating_add(1);
        let beginning = if self.first { "{\"seq\":".to_owned() } else { format!("{{\"seq\":{next},") };
        // A record that was removed by tearing it shows as missing all the same.
        if bytes.starts_with(beginning.as_bytes()) || beginning.as_bytes().starts_with(bytes) {
            self.report.note(&self.file, self.line, NoteKind::Torn);
        } else {
            self.fault(FaultKind::NotARecord);
        }
    }

    /// Goes on from a record that is not sound, by what it says itself.
    fn take(&mut self, line: &Line<'_>) {
        self.taken = Some(line.place());
    }

    fn accept(&mut self, line: &Line<'_>) {
        let place = line.place();
        self.taken = Some(place);
        self.trusted = Some(place);
        self.suspect = None;
        self.report.accepted(&place);
        if self.checkpoint.is_some_and(|c| c.seq == place.seq && c.mac != place.mac) {
            self.fault(FaultKind::NotAsCheckpoint { seq: place.seq });
        }
        match line.event.as_deref() {
            Some(GAP) => {
                let detail = line.detail.as_deref().unwrap_or_default().to_owned();
                self.fault(FaultKind::Gap { seq: line.seq, detail });
            }
            Some(LOST) => {
                self.report.lost = self.report.lost.saturating_add(line.count);
                self.report.note(&self.file, self.line, NoteKind::Lost { count: line.count });
            }
            _ => {}
        }
    }

    fn end(&mut self) {
        let last = self.taken.map_or(0, |t| t.seq);
        if let Some(c) = self.checkpoint.filter(|c| c.seq > last) {
            self.fault(FaultKind::CutTail { from: last.saturating_add(1), to: c.seq });
        }
    }

    fn fault(&mut self, kind: FaultKind) -> Option<usize> {
        self.report.fault(&self.file, self.line, kind)
    }
}
