//! One `serve` a home.

use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::{Home, HomeError};

/// Held by a running `serve`; given up when dropped or when the process ends, however it does.
pub struct ServeLock(fs::File);

/// How often, and how far apart, a taken lock is tried again: [`ServeLock::holder`] takes it for a moment.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

impl ServeLock {
    /// Takes the lock and writes this process's id into it.
    ///
    /// # Errors
    /// [`HomeError::Serving`] with the holder's pid.
    pub fn acquire(home: &Home) -> Result<Self, HomeError> {
        let path = home.serve_lock();
        let fail = |e: std::io::Error| HomeError::io("lock", &path, &e);
        let mut file = open(&path, true).map_err(fail)?;
        let mut tries = 0;
        while let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            tries += 1;
            if e != rustix::io::Errno::WOULDBLOCK {
                return Err(fail(e.into()));
            }
            if tries == TRIES {
                return Err(HomeError::Serving { home: home.dir().to_owned(), pid: read_pid(&mut file) });
            }
            std::thread::sleep(PAUSE);
        }
        let write = |file: &mut fs::File| -> std::io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())?;
            file.flush()
        };
        write(&mut file).map_err(fail)?;
        Ok(Self(file))
    }

    /// The pid of the `serve` that runs on a home; 0 where it has not written it yet. `None` where none runs.
    #[must_use]
    pub fn holder(home: &Home) -> Option<u32> {
        let mut file = open(&home.serve_lock(), false).ok()?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => Some(read_pid(&mut file).unwrap_or_default()),
            _ => None,
        }
    }
}

impl Drop for ServeLock {
    fn drop(&mut self) {
        // The lock goes with the file; the pid of a process that is gone would only mislead.
        let _ = self.0.set_len(0);
    }
}

fn open(path: &Path, create: bool) -> std::io::Result<fs::File> {
    fs::OpenOptions::new().read(true).write(create).create(create).truncate(false).mode(0o600).open(path)
}

fn read_pid(file: &mut fs::File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_second_learns_of_the_first() {
        let dir = tempfile::tempdir().expect("temp dir");
        let home = Home::locate(Some(dir.path())).expect("found");
        assert_eq!(ServeLock::holder(&home), None);
        let first = ServeLock::acquire(&home).expect("free");
        assert_eq!(ServeLock::holder(&home), Some(std::process::id()));
        let text = ServeLock::acquire(&home).err().expect("taken").to_string();
        assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
        drop(first);
        assert_eq!(ServeLock::holder(&home), None);
        drop(ServeLock::acquire(&home).expect("free again"));
    }
}
