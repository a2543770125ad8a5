//! What unlocks the store: the first source that is set, in a fixed order. Never an argument, never standard input.

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::HomeError;
use super::key_file::read_key_file;
use crate::credential::Secret;
use crate::envelope::{SealedBy, UnlockKey};

pub(super) type Env<'a> = dyn Fn(&str) -> Option<OsString> + 'a;
/// Asks at the terminal, without echo; `None` where there is no terminal.
type Prompt<'a> = dyn Fn(&str) -> Option<Secret> + 'a;

const MAX_LEN: usize = 64 * 1024;

/// What the command line and the configuration say about unlocking.
#[derive(Debug, Clone, Default)]
pub struct UnlockSources {
    /// `--passphrase-file`
    pub passphrase_file: Option<PathBuf>,
    /// `[store] key_file`: where the key file lies now, if not where it was made.
    pub key_file: Option<PathBuf>,
}

/// A passphrase, and where it came from.
struct Found {
    passphrase: Secret,
    source: String,
}

impl UnlockSources {
    /// Gives what unlocks a store that is sealed so. In this order: `--passphrase-file`, `KEYHATCH_PASSPHRASE_FILE`,
    /// `$CREDENTIALS_DIRECTORY/keyhatch-passphrase`, `KEYHATCH_PASSPHRASE`, the key file, a prompt on `/dev/tty`.
    /// `None`: Vault is to be asked, and no source that is set contradicts it.
    ///
    /// # Errors
    /// [`HomeError`]: `Mismatch` where the first source that is set does not fit, `NoSource` where there is none.
    pub fn unlock(&self, store: &Path, sealed: &SealedBy) -> Result<Option<UnlockKey>, HomeError> {
        self.unlock_in(store, sealed, &crate::environment::var, &ask)
    }

    /// Gives the passphrase for a new store or a new seal: the first source that is set, else a prompt that asks twice.
    ///
    /// # Errors
    /// [`HomeError`]: `NoPassphrase`, `Differ`.
    pub fn new_passphrase(&self, store: &Path) -> Result<UnlockKey, HomeError> {
        self.new_passphrase_in(store, &crate::environment::var, &ask)
    }

    /// Asks twice for the new passphrase of `store rekey`, whatever sources are set: they give the old one.
    ///
    /// # Errors
    /// [`HomeError`]: `NoNewPassphrase`, `Differ`.
    pub fn prompt_new_passphrase(store: &Path) -> Result<UnlockKey, HomeError> {
        ask_twice(store, &ask, || HomeError::NoNewPassphrase)
    }

    fn unlock_in(&self, store: &Path, sealed: &SealedBy, env: &Env<'_>, prompt: &Prompt<'_>) -> Result<Option<UnlockKey>, HomeError> {
        let mismatch = |source_name: String, given| HomeError::Mismatch { store: store.to_owned(), sealed: sealed.clone(), source_name, given };
        match (self.passphrase(env)?, sealed, &self.key_file) {
            (Some(found), SealedBy::Passphrase, _) => Ok(Some(UnlockKey::Passphrase(found.passphrase))),
            (Some(found), SealedBy::KeyFile { .. } | SealedBy::Transit { .. }, _) => Err(mismatch(found.source, "a passphrase")),
            (None, SealedBy::KeyFile { path }, named) => read_key_file(named.as_ref().unwrap_or(path)).map(Some),
            (None, SealedBy::Passphrase | SealedBy::Transit { .. }, Some(path)) => {
                Err(mismatch(format!("`[store] key_file` ({})", path.display()), "a key file"))
            }
            (None, SealedBy::Transit { .. }, None) => Ok(None),
            (None, SealedBy::Passphrase, None) => {
                let typed = prompt(&format!("Passphrase for {}: ", store.display())).ok_or_else(|| HomeError::NoSource(store.to_owned()))?;
                checked(typed, "the terminal").map(UnlockKey::Passphrase).map(Some)
            }
        }
    }

    fn new_passphrase_in(&self, store: &Path, env: &Env<'_>, prompt: &Prompt<'_>) -> Result<UnlockKey, HomeError> {
        match self.passphrase(env)? {
            Some(found) => Ok(UnlockKey::Passphrase(found.passphrase)),
            None => ask_twice(store, prompt, || HomeError::NoPassphrase),
        }
    }

    fn passphrase(&self, env: &Env<'_>) -> Result<Option<Found>, HomeError> {
        let from_file = |path: &Path, name: String| read_passphrase(path).map(|passphrase| Some(Found { passphrase, source: name }));
        if let Some(path) = &self.passphrase_file {
            return from_file(path, format!("--passphrase-file {}", path.display()));
        }
        if let Some(path) = env("KEYHATCH_PASSPHRASE_FILE").map(PathBuf::from) {
            return from_file(&path, format!("KEYHATCH_PASSPHRASE_FILE ({})", path.display()));
        }
        // systemd sets the directory for every unit with credentials; ours need not be among them.
        if let Some(path) = env("CREDENTIALS_DIRECTORY").map(|d| PathBuf::from(d).join("keyhatch-passphrase")).filter(|p| p.exists()) {
            return from_file(&path, format!("systemd's credential {}", path.display()));
        }
        let Some(value) = env("KEYHATCH_PASSPHRASE") else { return Ok(None) };
        let value = Zeroizing::new(value.into_vec());
        let passphrase = checked(Secret::from_opened(&value), "KEYHATCH_PASSPHRASE")?;
        Ok(Some(Found { passphrase, source: "KEYHATCH_PASSPHRASE".to_owned() }))
    }
}

/// Reads a passphrase file: one newline at its end (`\n` or `\r\n`) is no part of the passphrase.
fn read_passphrase(path: &Path) -> Result<Secret, HomeError> {
    let fail = |e: std::io::Error| HomeError::PassphraseFile { path: path.to_owned(), why: e.to_string() };
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_LEN + 3));
    fs::File::open(path).map_err(fail)?.take(MAX_LEN as u64 + 3).read_to_end(&mut text).map_err(fail)?;
    let line = text.strip_suffix(b"\n").map_or(&text[..], |line| line.strip_suffix(b"\r").unwrap_or(line));
    checked(Secret::from_opened(line), &path.display().to_string())
}

fn checked(passphrase: Secret, source: &str) -> Result<Secret, HomeError> {
    match passphrase.expose().len() {
        0 => Err(HomeError::Empty(source.to_owned())),
        1..=MAX_LEN => Ok(passphrase),
        _ => Err(HomeError::TooLong(source.to_owned())),
    }
}

fn ask_twice(store: &Path, prompt: &Prompt<'_>, none: impl Fn() -> HomeError) -> Result<UnlockKey, HomeError> {
    let first = checked(prompt(&format!("New passphrase for {}: ", store.display())).ok_or_else(&none)?, "the terminal")?;
    let second = prompt("The same again: ").ok_or_else(&none)?;
    if first.expose() == second.expose() { Ok(UnlockKey::Passphrase(first)) } else { Err(HomeError::Differ) }
}

fn ask(question: &str) -> Option<Secret> {
    match rpassword::prompt_password(question) {
        Ok(typed) => Some(Secret::from_opened(Zeroizing::new(typed).as_bytes())),
        // Ctrl-D: there is a terminal, and nothing was typed.
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Some(Secret::from_opened(b"")),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::{HomeErrorKind, make_key_file};

    const STORE: &str = "/s/store.db";

    struct Case {
        sources: UnlockSources,
        env: Vec<(&'static str, String)>,
        typed: Option<&'static str>,
    }

    impl Case {
        fn unlock(&self, sealed: &SealedBy) -> Result<String, HomeError> {
            let pairs = self.env.clone();
            let typed = self.typed;
            let env = move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
            let prompt = move |_: &str| typed.map(|t| Secret::from_opened(t.as_bytes()));
            self.sources.unlock_in(Path::new(STORE), sealed, &env, &prompt).map(|key| match key {
                Some(UnlockKey::Passphrase(text)) => String::from_utf8_lossy(text.expose()).into_owned(),
                Some(UnlockKey::KeyFile { path, .. }) => path.display().to_string(),
                Some(UnlockKey::Transit { .. }) => panic!("only Vault gives this"),
                None => "Vault".to_owned(),
            })
        }
    }

    #[test]
    fn the_first_source_that_is_set_counts() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = |name: &str, text: &str| {
            fs::write(dir.path().join(name), text).expect("written");
            dir.path().join(name)
        };
        let option = file("option", "one\n");
        let variable = file("variable", "two\r\n").display().to_string();
        file("keyhatch-passphrase", "three\n\n");
        let systemd = dir.path().display().to_string();
        let mut case = Case {
            sources: UnlockSources { passphrase_file: Some(option), key_file: None },
            env: vec![("KEYHATCH_PASSPHRASE", "four\n".into()), ("CREDENTIALS_DIRECTORY", systemd), ("KEYHATCH_PASSPHRASE_FILE", variable)],
            typed: Some("five"),
        };
        assert_eq!(case.unlock(&SealedBy::Passphrase).expect("found"), "one");
        case.sources.passphrase_file = None;
        for expected in ["two", "three\n", "four\n", "five"] {
            assert_eq!(case.unlock(&SealedBy::Passphrase).expect("found"), expected, "one newline of a file is cut, nothing else");
            case.env.pop();
        }
        case.typed = None;
        let error = case.unlock(&SealedBy::Passphrase).expect_err("nothing is left");
        assert_eq!(error.kind(), HomeErrorKind::Locked);
        let text = error.to_string();
        for way in ["--passphrase-file", "KEYHATCH_PASSPHRASE_FILE", "KEYHATCH_PASSPHRASE", "keyhatch-passphrase", "key file"] {
            assert!(text.contains(way), "{way}: {text}");
        }
    }

    #[test]
    fn a_source_that_does_not_fit_names_both() {
        let dir = tempfile::tempdir().expect("temp dir");
        let key = dir.path().join("key");
        make_key_file(&key).expect("made");
        let sealed = SealedBy::KeyFile { path: key.clone() };
        let mut case = Case { sources: UnlockSources::default(), env: vec![("KEYHATCH_PASSPHRASE", "x".into())], typed: Some("typed") };
        let error = case.unlock(&sealed).expect_err("does not fit");
        assert_eq!(error.kind(), HomeErrorKind::Locked);
        assert!(error.to_string().contains("KEYHATCH_PASSPHRASE") && error.to_string().contains(&key.display().to_string()), "{error}");
        case.env.clear();
        assert_eq!(case.unlock(&sealed).expect("read"), key.display().to_string());
        let moved = dir.path().join("moved");
        fs::rename(&key, &moved).expect("moved");
        assert!(matches!(case.unlock(&sealed), Err(HomeError::KeyFileMissing(path)) if path == key));
        case.sources.key_file = Some(moved.clone());
        assert_eq!(case.unlock(&sealed).expect("read"), moved.display().to_string());
        let text = case.unlock(&SealedBy::Passphrase).expect_err("does not fit").to_string();
        assert!(text.contains("key_file") && text.contains("a passphrase"), "{text}");
    }

    #[test]
    fn a_store_that_vault_opens_takes_no_other_source() {
        let sealed = SealedBy::Transit { key: "transit/keyhatch".into(), ciphertext: "vault:v1:AAAA".into() };
        let mut case = Case { sources: UnlockSources::default(), env: Vec::new(), typed: Some("typed") };
        assert_eq!(case.unlock(&sealed).expect("none is set"), "Vault", "nothing is asked for at the terminal");
        case.sources.key_file = Some("/k".into());
        let error = case.unlock(&sealed).expect_err("does not fit");
        assert!(error.kind() == HomeErrorKind::Locked && error.to_string().contains("[store] key_file"), "{error}");
        case.sources.key_file = None;
        case.env.push(("KEYHATCH_PASSPHRASE", "x".into()));
        let error = case.unlock(&sealed).expect_err("does not fit");
        assert_eq!(error.kind(), HomeErrorKind::Locked);
        let text = error.to_string();
        assert!(text.contains("transit key transit/keyhatch of Vault") && text.contains("KEYHATCH_PASSPHRASE") && !text.contains("AAAA"), "{text}");
    }

    #[test]
    fn what_is_no_passphrase_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("p");
        let case = Case { sources: UnlockSources { passphrase_file: Some(path.clone()), key_file: None }, env: Vec::new(), typed: None };
        let error = case.unlock(&SealedBy::Passphrase).expect_err("not there");
        assert!(error.kind() == HomeErrorKind::Locked && error.to_string().contains(&path.display().to_string()), "{error}");
        for (content, length) in [("\n", 0), ("", 0), (&*"a".repeat(MAX_LEN), MAX_LEN), (&*"a".repeat(MAX_LEN + 1), 0)] {
            fs::write(&path, content).expect("written");
            assert_eq!(case.unlock(&SealedBy::Passphrase).map_or(0, |p| p.len()), length);
        }
    }

    #[test]
    fn a_new_passphrase_is_typed_twice() {
        let typed = std::cell::RefCell::new(vec!["b", "a", "c", "c"]);
        let typed = std::rc::Rc::new(typed);
        let answers = std::rc::Rc::clone(&typed);
        let prompt = move |_: &str| answers.borrow_mut().pop().map(|t| Secret::from_opened(t.as_bytes()));
        let none = |_: &str| None;
        let sources = UnlockSources::default();
        let ask = || sources.new_passphrase_in(Path::new(STORE), &none, &prompt);
        assert!(matches!(ask(), Ok(UnlockKey::Passphrase(p)) if p.expose() == b"c"));
        assert!(matches!(ask(), Err(HomeError::Differ)));
        assert!(matches!(ask(), Err(HomeError::NoPassphrase)));
    }
}
