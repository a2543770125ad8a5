//! The home: the directory that holds a set-up's configuration, store, CA and log, and whatever guards it.

mod error;
mod files;
mod key_file;
mod lock;
mod unlock;

pub use error::{HomeError, HomeErrorKind};
pub use files::{Mode, write_atomic};
pub use key_file::{make_key_file, read_key_file};
pub use lock::ServeLock;
pub use unlock::UnlockSources;

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// A home's place. The directory need not be there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    dir: PathBuf,
    /// Whether it is the place used where nothing names another.
    default: bool,
}

impl Home {
    /// Finds the home: the option, else `KEYHATCH_HOME`, else `$XDG_DATA_HOME/keyhatch`, else `~/.local/share/keyhatch`.
    ///
    /// # Errors
    /// [`HomeError`] where none of these is set.
    pub fn locate(option: Option<&Path>) -> Result<Self, HomeError> {
        Self::locate_in(option, &crate::environment::var)
    }

    fn locate_in(option: Option<&Path>, env: &unlock::Env<'_>) -> Result<Self, HomeError> {
        let usual = base(env, "XDG_DATA_HOME", ".local/share").map(|b| b.join("keyhatch"));
        let named = option.map(Path::to_owned).or_else(|| env("KEYHATCH_HOME").map(PathBuf::from));
        let dir = named.or_else(|| usual.clone()).ok_or(HomeError::Nowhere)?;
        let dir = std::path::absolute(&dir).map_err(|e| HomeError::io("find", &dir, &e))?;
        Ok(Self { default: usual.as_ref() == Some(&dir), dir })
    }

    /// Makes the directory, mode 0700, with its parents; one that is there is only checked.
    ///
    /// # Errors
    /// [`HomeError`] as [`Home::check`], or where it cannot be made, or where `sudo` would leave root's files among
    /// those of the user who called it.
    pub fn create(&self) -> Result<(), HomeError> {
        self.refuse_sudo(&crate::environment::var)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(|e| HomeError::io("make", &self.dir, &e))?;
        self.check()
    }

    fn refuse_sudo(&self, env: &unlock::Env<'_>) -> Result<(), HomeError> {
        let caller = env("SUDO_UID").and_then(|id| id.to_str()?.parse::<u32>().ok()).filter(|id| *id != 0);
        let there = self.dir.ancestors().find_map(|dir| fs::metadata(dir).ok());
        match (caller, there) {
            (Some(owner), Some(meta)) if meta.uid() == owner && rustix::process::geteuid().is_root() => {
                Err(HomeError::Sudo { dir: self.dir.clone(), owner })
            }
            _ => Ok(()),
        }
    }

    /// Whether the directory may be trusted: it is there, belongs to the user who runs the command, and nobody else
    /// can write it.
    ///
    /// # Errors
    /// [`HomeError`] with the mend.
    pub fn check(&self) -> Result<(), HomeError> {
        let meta = match fs::metadata(&self.dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(HomeError::Missing(self.dir.clone())),
            other => other.map_err(|e| HomeError::io("read", &self.dir, &e))?,
        };
        if !meta.is_dir() {
            return Err(HomeError::NoDirectory(self.dir.clone()));
        }
        let user = rustix::process::geteuid().as_raw();
        if meta.uid() != user {
            return Err(HomeError::Owner { dir: self.dir.clone(), owner: meta.uid(), user });
        }
        if meta.mode() & 0o022 != 0 {
            return Err(HomeError::Writable { dir: self.dir.clone(), mode: meta.mode() & 0o777 });
        }
        Ok(())
    }

    /// The directory, absolute.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `keyhatch.toml`, where no option names another.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("keyhatch.toml")
    }

    /// `store.db`
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.dir.join("store.db")
    }

    /// `ca.pem`, public.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// `audit.jsonl`
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.dir.join("audit.jsonl")
    }

    /// `admin.sock`
    #[must_use]
    pub fn admin_sock(&self) -> PathBuf {
        self.dir.join("admin.sock")
    }

    /// `serve.lock`
    #[must_use]
    pub fn serve_lock(&self) -> PathBuf {
        self.dir.join("serve.lock")
    }

    /// Where `init --key-file` puts the key file: outside the home, so that a copy of the home opens nothing. Every
    /// home has a place of its own: `~/.config/keyhatch/key` for the usual one, else with a digest of its path.
    ///
    /// # Errors
    /// [`HomeError`] where neither `XDG_CONFIG_HOME` nor `HOME` is set.
    pub fn key_file(&self) -> Result<PathBuf, HomeError> {
        self.key_file_in(&crate::environment::var)
    }

    fn key_file_in(&self, env: &unlock::Env<'_>) -> Result<PathBuf, HomeError> {
        let dir = base(env, "XDG_CONFIG_HOME", ".config").ok_or(HomeError::Nowhere)?.join("keyhatch");
        if self.default {
            return Ok(dir.join("key"));
        }
        let digest = Sha256::digest(self.dir.as_os_str().as_encoded_bytes());
        let short: String = digest[..6].iter().map(|b| format!("{b:02x}")).collect();
        Ok(dir.join(format!("key-{short}")))
    }
}

/// A base directory of the XDG specification, which says that a relative one is to be ignored.
fn base(env: &unlock::Env<'_>, variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |p: PathBuf| p.is_absolute().then_some(p);
    let named = env(variable).map(PathBuf::from).and_then(absolute);
    named.or_else(|| env("HOME").map(PathBuf::from).and_then(absolute).map(|h| h.join(below_home)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<std::ffi::OsString> + 'a {
        move |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into())
    }

    #[test]
    fn the_order_of_places() {
        let at = |option: Option<&str>, pairs: &[(&str, &str)]| Home::locate_in(option.map(Path::new), &env(pairs)).map(|h| h.dir);
        let all = [("KEYHATCH_HOME", "/k"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(at(Some("/o"), &all).expect("found"), Path::new("/o"));
        assert_eq!(at(None, &all).expect("found"), Path::new("/k"));
        assert_eq!(at(None, &all[1..]).expect("found"), Path::new("/x/keyhatch"));
        assert_eq!(at(None, &all[2..]).expect("found"), Path::new("/h/.local/share/keyhatch"));
        assert_eq!(at(None, &[("XDG_DATA_HOME", "relative"), ("HOME", "/h")]).expect("found"), Path::new("/h/.local/share/keyhatch"));
        assert!(matches!(at(None, &[]), Err(HomeError::Nowhere)));
        assert!(at(Some("rel"), &all).expect("found").is_absolute());
    }

    #[test]
    fn every_home_has_a_key_file_of_its_own_outside_it() {
        let pairs = [("HOME", "/h")];
        let key = |option: Option<&str>| {
            let home = Home::locate_in(option.map(Path::new), &env(&pairs)).expect("found");
            let key = home.key_file_in(&env(&pairs)).expect("found");
            assert!(!key.starts_with(home.dir()));
            key
        };
        assert_eq!(key(None), Path::new("/h/.config/keyhatch/key"));
        assert_ne!(key(Some("/a")), key(Some("/b")));
        assert_eq!(key(Some("/a")), key(Some("/a")));
    }

    #[test]
    fn a_home_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let home = Home::locate(Some(&dir.path().join("a/b"))).expect("found");
        assert!(matches!(home.check(), Err(HomeError::Missing(_))));
        home.create().expect("made");
        assert_eq!(fs::metadata(home.dir()).expect("there").mode() & 0o777, 0o700);
        for (mode, good) in [(0o750, true), (0o755, true), (0o770, false), (0o702, false), (0o777, false)] {
            fs::set_permissions(home.dir(), fs::Permissions::from_mode(mode)).expect("chmod");
            assert_eq!(home.check().is_ok(), good, "{mode:o}");
            if !good {
                let text = home.check().expect_err("refused").to_string();
                assert!(text.contains("chmod go-w") && text.contains(&home.dir().display().to_string()), "{text}");
            }
        }
    }

    #[test]
    fn sudo_makes_no_home_among_the_callers_files() {
        let dir = tempfile::tempdir().expect("temp dir");
        if !rustix::process::geteuid().is_root() {
            return; // only root can give a directory away
        }
        std::os::unix::fs::chown(dir.path(), Some(12345), None).expect("chown");
        let home = Home::locate(Some(&dir.path().join("a/b"))).expect("found");
        let by = |id: &'static str| home.refuse_sudo(&move |name: &str| (name == "SUDO_UID").then(|| id.into()));
        let text = by("12345").expect_err("refused").to_string();
        assert!(text.contains("12345") && text.contains("without sudo"), "{text}");
        assert!(by("0").is_ok() && by("12346").is_ok() && home.refuse_sudo(&|_: &str| None).is_ok());
    }

    #[test]
    fn a_home_of_another_user_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let home = Home::locate(Some(dir.path())).expect("found");
        if !rustix::process::geteuid().is_root() {
            return; // only root can give a directory away
        }
        std::os::unix::fs::chown(dir.path(), Some(12345), None).expect("chown");
        let text = home.check().expect_err("refused").to_string();
        assert!(text.contains("12345") && text.contains("sudo -u"), "{text}");
    }
}
