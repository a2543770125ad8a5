//! The key file: made once, never overwritten, readable by its owner only.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::HomeError;
use super::files::{Mode, sync_parent, write_new};
use crate::credential::Secret;
use crate::envelope::{UnlockKey, key_file_text};

pub(super) const READ_KEY: &str = "read the key file";
/// Far more than any key file has.
const MAX_LEN: u64 = 4096;

/// Makes a key file of 256 random bits, mode 0600, and the directory it lies in.
///
/// # Errors
/// [`HomeError`]: `KeyFileExists` where something is there.
pub fn make_key_file(path: &Path) -> Result<UnlockKey, HomeError> {
    let path = std::path::absolute(path).map_err(|e| HomeError::io("write", path, &e))?;
    let random = Zeroizing::new(crate::random::bytes());
    let text = key_file_text(&random);
    let make = || -> std::io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        write_new(&path, text.expose(), Mode::Private)?;
        sync_parent(&path)
    };
    match make() {
        Ok(()) => Ok(UnlockKey::KeyFile { text, path }),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(HomeError::KeyFileExists(path)),
        Err(e) => Err(HomeError::io("write", &path, &e)),
    }
}

/// Reads a key file. What is in it is checked when it unlocks something.
///
/// # Errors
/// [`HomeError`]: `KeyFileMissing`, `KeyFileOpen` where others can read it.
pub fn read_key_file(path: &Path) -> Result<UnlockKey, HomeError> {
    let fail = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => HomeError::KeyFileMissing(path.to_owned()),
        _ => HomeError::io(READ_KEY, path, &e),
    };
    let file = fs::File::open(path).map_err(fail)?;
    let mode = file.metadata().map_err(fail)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(HomeError::KeyFileOpen { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(256));
    file.take(MAX_LEN).read_to_end(&mut text).map_err(fail)?;
    let path = std::path::absolute(path).map_err(fail)?;
    Ok(UnlockKey::KeyFile { text: Secret::from_opened(&text), path })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::envelope::parse_key_file;

    #[test]
    fn made_once_and_read_back() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("keyhatch/key");
        let UnlockKey::KeyFile { text, path: at } = make_key_file(&path).expect("made") else { panic!("a key file") };
        assert_eq!(at, path);
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        let UnlockKey::KeyFile { text: read, .. } = read_key_file(&path).expect("read") else { panic!("a key file") };
        assert!(read.expose() == text.expose() && parse_key_file(&read).is_ok());
        assert!(matches!(make_key_file(&path), Err(HomeError::KeyFileExists(_))));
        assert_eq!(fs::read(&path).expect("read"), text.expose(), "it was not overwritten");
        for mode in [0o640, 0o604, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
            assert!(matches!(read_key_file(&path), Err(HomeError::KeyFileOpen { .. })), "{mode:o}");
        }
        assert!(matches!(read_key_file(&dir.path().join("none")), Err(HomeError::KeyFileMissing(_))));
    }
}
