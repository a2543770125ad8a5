//! Files written whole or not at all.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::HomeError;

/// Who may read a file of the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// 0600
    Private,
    /// 0644
    Public,
}

impl Mode {
    fn bits(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
        }
    }
}

/// Writes a file under another name, syncs it and gives it its own: a crash leaves the old content or the new.
///
/// # Errors
/// [`HomeError::Io`]; the old file is left as it was then.
pub fn write_atomic(path: &Path, content: &[u8], mode: Mode) -> Result<(), HomeError> {
    let partial = beside(path);
    let write = || -> std::io::Result<()> {
        write_new(&partial, content, mode)?;
        fs::rename(&partial, path)?;
        sync_parent(path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&partial);
        HomeError::io("write", path, &e)
    })
}

/// Writes a file that must not be there yet.
pub(super) fn write_new(path: &Path, content: &[u8], mode: Mode) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode.bits()).open(path)?;
    // The umask may have taken bits away from a public file.
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(mode.bits()))?;
    file.write_all(content)?;
    file.sync_all()
}

pub(super) fn sync_parent(path: &Path) -> std::io::Result<()> {
    fs::File::open(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".partial-{:08x}", u32::from_be_bytes(crate::random::bytes())));
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn whole_with_its_mode_and_nothing_left_beside() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("ca.pem");
        write_atomic(&path, b"one", Mode::Private).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        write_atomic(&path, b"two", Mode::Public).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o644);
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
        let text = write_atomic(&dir.path().join("none/x"), b"", Mode::Private).expect_err("no directory").to_string();
        assert!(text.contains("none/x"), "{text}");
    }
}
