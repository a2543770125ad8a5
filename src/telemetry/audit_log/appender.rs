//! Appending to the file: under its lock, on from its true last record, whoever wrote that.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::AuditOptions;
use super::chain::{AuditKey, Checkpoint};
use super::files;
use super::record::{CONTINUE, Entry, GAP, OwnRecord, START};

/// So much is gathered before it is written.
const BUFFER: usize = 64 * 1024;

/// Writes bytes at a file's end. A seam: tests put one in that fails as a full disk does.
pub(super) type WriteFn = Box<dyn FnMut(&mut File, &[u8]) -> io::Result<()> + Send>;

/// Appends records. Not shared: one to a process and log.
pub(super) struct Appender {
    path: PathBuf,
    key: AuditKey,
    options: AuditOptions,
    /// The furthest record known to have been written. Numbers never go back behind it, so that a cut tail leaves a gap.
    known: Option<Checkpoint>,
    /// The file as this process left it.
    current: Option<Current>,
    /// The last record of the file that is being rotated away, until the next file has its first record.
    rotating: Option<Checkpoint>,
    write: WriteFn,
    /// Kept between batches: a log that is busy would else ask the system for it over and over.
    buffer: String,
}

struct Current {
    file: File,
    id: (u64, u64),
    size: u64,
    last: Checkpoint,
    /// Whether only the opening record is in it.
    fresh: bool,
}

impl Appender {
    /// `checkpoint` is what the store kept: the log's last record known from outside.
    pub(super) fn new(path: &Path, key: AuditKey, options: AuditOptions, checkpoint: Option<Checkpoint>) -> Self {
        let write: WriteFn = Box::new(|file, bytes| file.write_all(bytes));
        Self { path: path.to_owned(), key, options, known: checkpoint, current: None, rotating: None, write, buffer: String::new() }
    }

    #[cfg(test)]
    pub(super) fn with_write(self, write: WriteFn) -> Self {
        Self { write, ..self }
    }

    /// The furthest record known.
    pub(super) fn known(&self) -> Option<Checkpoint> {
        self.known
    }

    /// Appends the entries in order. Returns how many are in the file, and why not all.
    pub(super) fn append(&mut self, entries: &[Entry]) -> (usize, io::Result<()>) {
        let mut done = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.append_locked(entries, &mut done, &mut buffer);
        buffer.clear();
        self.buffer = buffer;
        if result.is_err() {
            // Whatever state the file is in, the next attempt looks for itself.
            self.current = None;
        }
        (done, result)
    }

    /// Has the disk keep what was written.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.current.as_ref().map_or(Ok(()), |c| c.file.sync_data())
    }

    fn append_locked(&mut self, entries: &[Entry], done: &mut usize, buffer: &mut String) -> io::Result<()> {
        let _lock = files::lock(&self.path)?;
        self.settle()?;
        let mut waiting = 0;
        let mut last = self.current().last;
        for entry in entries {
            let start = buffer.len();
            let mut next = self.encode(entry, &last, buffer);
            let current = self.current();
            let too_big = current.size + buffer.len() as u64 > self.options.max_size;
            if too_big && !(current.fresh && start == 0) {
                buffer.truncate(start);
                self.flush(buffer, last)?;
                *done += std::mem::take(&mut waiting);
                last = self.rotate()?;
                next = self.encode(entry, &last, buffer);
            }
            last = next;
            waiting += 1;
            if buffer.len() >= BUFFER {
                self.flush(buffer, last)?;
                *done += std::mem::take(&mut waiting);
            }
        }
        self.flush(buffer, last)?;
        *done += waiting;
        Ok(())
    }

    fn current(&self) -> &Current {
        self.current.as_ref().expect("`settle` and `rotate` leave a current file")
    }

    fn encode(&self, entry: &Entry, last: &Checkpoint, buffer: &mut String) -> Checkpoint {
        let seq = last.seq.saturating_add(1);
        Checkpoint { seq, mac: entry.write(&self.key, seq, &last.mac, buffer) }
    }

    /// Writes the buffer, whose last record is `last`. On failure the file is cut back to what it was.
    fn flush(&mut self, buffer: &mut String, last: Checkpoint) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let current = self.current.as_mut().expect("`settle` and `rotate` leave a current file");
        if let Err(e) = (self.write)(&mut current.file, buffer.as_bytes()) {
            // Where this fails too, the torn piece gets a line of its own at the next attempt.
            let _ = current.file.set_len(current.size);
            return Err(e);
        }
        current.size += buffer.len() as u64;
        current.last = last;
        current.fresh = false;
        self.known = Some(last);
        buffer.clear();
        Ok(())
    }

    /// Sees to it that `current` is the file at the path, as it is now.
    fn settle(&mut self) -> io::Result<()> {
        if let (Some(current), Ok(meta)) = (&self.current, fs::symlink_metadata(&self.path))
            && (files::identity(&meta), meta.len()) == (current.id, current.size)
        {
            return Ok(());
        }
        let before = self.current.take();
        let file = files::open_append(&self.path)?;
        let meta = file.metadata()?;
        if meta.len() == 0 {
            return self.open_new(file);
        }
        self.rotating = None;
        if self.known.is_none() && !self.is_ours(&file)? {
            // The log of a store that is gone: its records stay, but this chain cannot go on from them.
            files::shift(&self.path, self.options.keep)?;
            return self.open_new(files::open_append(&self.path)?);
        }
        self.adopt(file, &meta, before.as_ref())
    }

    /// Goes on in a file that another process, or nobody, has written to since.
    fn adopt(&mut self, mut file: File, meta: &fs::Metadata, before: Option<&Current>) -> io::Result<()> {
        let mut size = meta.len();
        let tail = files::read_tail(&file, size)?;
        let id = files::identity(meta);
        let replaced = match before {
            Some(b) if b.id == id && size >= b.size => !files::ends_with_record(&file, b.size, &b.last)?,
            _ => false,
        };
        if tail.unfinished {
            (self.write)(&mut file, b"\n")?;
            size += 1;
        }
        let Some(in_file) = tail.last else {
            // Not one record: the opening one was torn. Only a file that begins with one can be checked by itself.
            files::shift(&self.path, self.options.keep)?;
            return self.open_new(files::open_append(&self.path)?);
        };
        let known = self.known.unwrap_or(in_file);
        self.current = Some(Current { file, id, size, last: in_file, fresh: false });
        if known.seq > in_file.seq || replaced {
            return self.note_gap(&known, &in_file);
        }
        self.known = Some(in_file);
        Ok(())
    }

    /// Records for good that records which had been written are gone: by the gap in the numbers, and in words.
    fn note_gap(&mut self, known: &Checkpoint, in_file: &Checkpoint) -> io::Result<()> {
        let detail = if known.seq > in_file.seq {
            format!("records {} to {} had been written and are gone", in_file.seq.saturating_add(1), known.seq)
        } else {
            "records that had been written here were replaced".to_owned()
        };
        let own = OwnRecord { event: GAP, detail, previous: None, count: None };
        let seq = known.seq.max(in_file.seq).saturating_add(1);
        let mut buffer = String::new();
        let mac = own.write(&self.key, seq, &in_file.mac, &mut buffer);
        self.flush(&mut buffer, Checkpoint { seq, mac })
    }

    /// Whether a file's first record was written under this key.
    fn is_ours(&self, file: &File) -> io::Result<bool> {
        files::with_first_line(file, |line| line.is_some_and(|l| l.opens_a_file() && l.follows(&l.said_previous().mac, &self.key)))
    }

    /// The last record of the newest rotated file that has one.
    fn last_rotated(&self) -> io::Result<Option<Checkpoint>> {
        for n in files::existing(&self.path)?.into_iter().rev().filter(|&n| n > 0) {
            let file = File::open(files::rotated(&self.path, n))?;
            let size = file.metadata()?.len();
            if let Some(last) = files::read_tail(&file, size)?.last {
                // Without a checkpoint it may be the log of a store that is gone.
                return Ok(if self.known.is_some() || self.is_ours(&file)? { Some(last) } else { None });
            }
        }
        Ok(None)
    }

    /// Begins an empty file with a record that says what it follows.
    fn open_new(&mut self, mut file: File) -> io::Result<()> {
        let before = match self.rotating {
            Some(last) => Some(last),
            None => self.last_rotated()?,
        };
        let (event, previous, seq, detail) = match (before, self.known.filter(|_| self.rotating.is_none())) {
            (Some(b), Some(k)) if k.seq > b.seq => {
                (GAP, Some(b), k.seq, format!("records {} to {} had been written and are gone", b.seq.saturating_add(1), k.seq))
            }
            (Some(b), _) => (CONTINUE, Some(b), b.seq, String::new()),
            (None, Some(k)) => (GAP, Some(k), k.seq, format!("the records up to {} had been written and are gone", k.seq)),
            (None, None) => (START, None, 0, String::new()),
        };
        let mut line = String::new();
        let own = OwnRecord { event, detail, previous, count: None };
        let seq = seq.saturating_add(1);
        let mac = own.write(&self.key, seq, &previous.unwrap_or(Checkpoint::GENESIS).mac, &mut line);
        if let Err(e) = (self.write)(&mut file, line.as_bytes()) {
            let _ = file.set_len(0);
            return Err(e);
        }
        let last = Checkpoint { seq, mac };
        let id = files::identity(&file.metadata()?);
        self.current = Some(Current { file, id, size: line.len() as u64, last, fresh: true });
        self.known = Some(last);
        self.rotating = None;
        Ok(())
    }

    /// Moves the full file away and begins the next; returns the place to go on from.
    fn rotate(&mut self) -> io::Result<Checkpoint> {
        let last = self.current().last;
        self.sync()?;
        self.rotating = Some(last);
        self.current = None;
        files::shift(&self.path, self.options.keep)?;
        let file = files::open_append(&self.path)?;
        self.open_new(file)?;
        Ok(self.current().last)
    }
}
