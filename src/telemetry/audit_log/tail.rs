//! Reading the log from its oldest file on, and following it.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files;
use super::filter::Filter;
use super::lines::{Piece, next_line};
use super::shown::Shown;

/// How often a followed log is looked at.
const EVERY: Duration = Duration::from_millis(200);

/// Which file (device and inode), the file itself, and where to go on in it.
type Unread = ((u64, u64), File, u64);

/// A reader that remembers how far it came, through rotations.
pub struct Tail {
    path: PathBuf,
    filter: Filter,
    /// The file that was the newest, and the place behind its last whole line.
    reached: Option<((u64, u64), u64)>,
    skipped: u64,
}

impl Tail {
    /// A reader of the log at `path` and its rotated files. Nothing is opened yet.
    #[must_use]
    pub fn new(path: &Path, filter: Filter) -> Self {
        Self { path: path.to_owned(), filter, reached: None, skipped: 0 }
    }

    /// How many lines were no records.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Shows every record written since the last call that the filter lets pass; the first call begins with the oldest. A log that
    /// does not exist has no records.
    ///
    /// # Errors
    /// Where a file cannot be read, and whatever `show` returns, which ends the call.
    pub fn poll(&mut self, show: &mut dyn FnMut(&Shown<'_>) -> io::Result<()>) -> io::Result<()> {
        if let (Some((id, offset)), Ok(meta)) = (self.reached, fs::metadata(&self.path))
            && files::identity(&meta) == id
            && meta.len() == offset
        {
            return Ok(());
        }
        let files = self.unread()?;
        let newest = files.len().saturating_sub(1);
        for (i, (id, file, from)) in files.into_iter().enumerate() {
            let to = self.read(file, from, i == newest, show)?;
            self.reached = Some((id, to));
        }
        Ok(())
    }

    /// Shows the records there are, the last `last` of them only if it is given; then, if `follow`, those that come. Ends with the records, or
    /// with the first error of `show`.
    ///
    /// # Errors
    /// As [`Tail::poll`].
    pub fn run(&mut self, follow: bool, last: Option<usize>, show: &mut dyn FnMut(&Shown<'_>) -> io::Result<()>) -> io::Result<()> {
        match last {
            None => self.poll(show)?,
            Some(n) => {
                let mut lines: VecDeque<String> = VecDeque::new();
                self.poll(&mut |record| {
                    if lines.len() >= n {
                        lines.pop_front();
                    }
                    if n > 0 {
                        lines.push_back(record.json().into_owned());
                    }
                    Ok(())
                })?;
                lines.iter().filter_map(|line| Shown::parse(line.as_bytes())).try_for_each(|record| show(&record))?;
            }
        }
        if !follow {
            return Ok(());
        }
        loop {
            std::thread::sleep(EVERY);
            self.poll(show)?;
        }
    }

    /// The files not read to their end, the oldest first, and where to go on in each.
    fn unread(&self) -> io::Result<Vec<Unread>> {
        // No file may be renamed between two opens, else one could be missed. Who cannot have the lock reads all the same.
        let _lock = files::lock_if_there(&self.path).ok().flatten();
        let numbers = match files::existing(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            numbers => numbers?,
        };
        let mut out = Vec::new();
        for n in numbers {
            let file = match File::open(files::rotated(&self.path, n)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            let id = files::identity(&file.metadata()?);
            let mut from = 0;
            if let Some((_, offset)) = self.reached.filter(|(reached, _)| *reached == id) {
                out.clear();
                from = offset;
            }
            out.push((id, file, from));
        }
        Ok(out)
    }

    /// Reads one file on from `from`; returns the place behind its last whole line.
    fn read(&mut self, mut file: File, from: u64, newest: bool, show: &mut dyn FnMut(&Shown<'_>) -> io::Result<()>) -> io::Result<u64> {
        // A file that was cut has nothing new.
        let mut at = from.min(file.metadata()?.len());
        file.seek(SeekFrom::Start(at))?;
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let mut buffer = Vec::new();
        while let Some((piece, bytes)) = next_line(&mut reader, &mut buffer)? {
            if piece == Piece::Unfinished && newest {
                // Its rest may be on its way.
                break;
            }
            at += bytes;
            match Shown::parse(&buffer).filter(|_| piece != Piece::TooLong) {
                Some(record) if self.filter.matches(&record) => show(&record)?,
                Some(_) => {}
                None => self.skipped += 1,
            }
        }
        Ok(at)
    }
}
