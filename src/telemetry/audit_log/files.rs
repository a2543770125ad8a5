//! The log's files: `audit.jsonl`, the rotated `audit.jsonl.1` (newest) to `audit.jsonl.N`, and the lock beside them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::chain::Checkpoint;
use super::record::{LINE_MAX, Line};

/// How long another process may hold the lock before that counts as a failure.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// The path of the rotated file `n`; 0 is the current one.
pub(super) fn rotated(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

/// The numbers of the files that exist, the oldest (highest) first, the current one last.
///
/// # Errors
/// Where the directory cannot be read.
pub(super) fn existing(path: &Path) -> io::Result<Vec<u32>> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let file = entry?.file_name();
        match file.to_str().and_then(|f| f.strip_prefix(name)) {
            Some("") => numbers.push(0),
            // `.01` or `.+1` is no file of ours.
            Some(rest) => numbers.extend(rest.strip_prefix('.').and_then(|n| n.parse().ok()).filter(|n: &u32| *n > 0 && rest[1..] == n.to_string())),
            None => {}
        }
    }
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbers)
}

/// Moves every file up by one, which leaves no current one; what goes beyond `keep` is removed.
///
/// # Errors
/// Where a file cannot be moved. What was moved stays so; a later call goes on from there.
pub(super) fn shift(path: &Path, keep: u32) -> io::Result<()> {
    for n in existing(path)? {
        if n >= keep { fs::remove_file(rotated(path, n))? } else { fs::rename(rotated(path, n), rotated(path, n + 1))? }
    }
    Ok(())
}

/// The lock that whoever appends or rotates holds. It is a file of its own, since the log's files are renamed.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Takes the lock; it is given back when the file is closed.
///
/// # Errors
/// Where the lock file cannot be made, or another process holds the lock for longer than five seconds.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock_path(path))?;
    wait_for(&file)?;
    Ok(file)
}

/// Takes the lock for a reader: `None` where there is no lock file to take, as beside a copy of a log.
///
/// # Errors
/// Where another process holds the lock for longer than five seconds.
pub(super) fn lock_if_there(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).open(lock_path(path)) {
        Ok(file) => wait_for(&file).map(|()| Some(file)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(None),
        Err(e) => Err(e),
    }
}

fn wait_for(file: &File) -> io::Result<()> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            Err(fs::TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds the lock of the audit log"));
            }
            Err(fs::TryLockError::Error(e)) => return Err(e),
        }
    }
}

/// Which file this is, whatever its name: device and inode.
pub(super) fn identity(meta: &fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// Opens for appending and reading; makes the file, readable by its owner only, where there is none.
///
/// # Errors
/// As opening a file, and where the name is a symbolic link or no regular file.
pub(super) fn open_append(path: &Path) -> io::Result<File> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(nofollow).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "the audit log is no regular file")) }
}

/// How a file ends.
pub(super) struct Tail {
    /// The last line that has the form of a record.
    pub(super) last: Option<Checkpoint>,
    /// Whether the file ends without a line feed: a torn piece, or a record that lacks only that.
    pub(super) unfinished: bool,
}

/// Reads how a file of `size` bytes ends. Looks back as far as a few records of the greatest length.
///
/// # Errors
/// As reading a file.
pub(super) fn read_tail(file: &File, size: u64) -> io::Result<Tail> {
    let mut window = 4 * 1024;
    loop {
        let from = size.saturating_sub(window);
        let bytes = read_range(file, from, size - from)?;
        let unfinished = bytes.last().is_some_and(|&b| b != b'\n');
        let mut lines = bytes.split(|&b| b == b'\n').collect::<Vec<_>>();
        if from > 0 {
            // The first line may have begun before the window.
            lines.remove(0);
        }
        let last = lines.iter().rev().find_map(|line| Line::parse(line)).map(|line| line.place());
        if last.is_some() || from == 0 || window >= 16 * LINE_MAX as u64 {
            return Ok(Tail { last, unfinished });
        }
        window *= 8;
    }
}

/// Whether the record with this MAC ends at `end`.
///
/// # Errors
/// As reading a file.
pub(super) fn ends_with_record(file: &File, end: u64, record: &Checkpoint) -> io::Result<bool> {
    let text = format!("{}\"}}\n", record.mac);
    let Some(from) = end.checked_sub(text.len() as u64) else { return Ok(false) };
    Ok(read_range(file, from, text.len() as u64)? == text.as_bytes())
}

/// Reads a file's first line and gives it to `look`, if it has the form of a record.
///
/// # Errors
/// As reading a file.
pub(super) fn with_first_line<T>(file: &File, look: impl FnOnce(Option<Line<'_>>) -> T) -> io::Result<T> {
    let bytes = read_range(file, 0, LINE_MAX as u64)?;
    Ok(look(bytes.split(|&b| b == b'\n').next().and_then(Line::parse)))
}

fn read_range(mut file: &File, from: u64, len: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_oldest_first_and_strangers_left() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("audit.jsonl");
        for name in ["", ".1", ".2", ".10", ".01", ".x", ".+3", ".0", ".lock", ".4.gz"] {
            fs::write(format!("{}{name}", path.display()), name).expect("written");
        }
        assert_eq!(existing(&path).expect("read"), [10, 2, 1, 0]);
        shift(&path, 3).expect("moved");
        assert_eq!(existing(&path).expect("read"), [3, 2, 1]);
        assert_eq!(fs::read_to_string(rotated(&path, 3)).expect("read"), ".2");
        shift(&path, 0).expect("moved");
        assert_eq!(existing(&path).expect("read"), [0_u32; 0]);
        assert!(home.path().join("audit.jsonl.01").exists());
    }

    #[test]
    fn a_link_is_not_followed() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("audit.jsonl");
        std::os::unix::fs::symlink(home.path().join("elsewhere"), &path).expect("linked");
        assert!(open_append(&path).is_err());
    }

    #[test]
    fn the_tail_of_a_broken_file_is_none() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("audit.jsonl");
        for (content, unfinished) in [(&b""[..], false), (b"\n\n\n", false), (b"{\"seq\":1", true), (&[0xff; 9000], true)] {
            fs::write(&path, content).expect("written");
            let tail = read_tail(&open_append(&path).expect("opened"), content.len() as u64).expect("read");
            assert!(tail.last.is_none());
            assert_eq!(tail.unfinished, unfinished);
        }
    }
}
