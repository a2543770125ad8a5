//! Where a command takes a secret from. Never from its arguments: those are seen by every user of the machine and kept in histories.
//! A place in Vault is no secret, and is given as one.

use std::io::{self, IsTerminal as _, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use super::error::CommandError;
use crate::credential::{InjectionError, Secret, SecretError, VaultReference};
use crate::environment;
use crate::vault::local::Stored;

/// More than the longest secret and the white space round it; what is longer is refused without being read to its end.
const READ_LIMIT: u64 = 128 * 1024;

/// SOURCE: where the secret comes from.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// Take the secret from this environment variable, not from standard input
    #[arg(long, value_name = "VAR", conflicts_with = "from_file")]
    from_env: Option<String>,
    /// Take the secret from this file, not from standard input
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Have the secret read from HashiCorp Vault, from this field of this entry, whenever it is needed
    ///
    /// The path is as `vault kv get` takes it, for KV version 1 and 2. `?version=N` after the field pins one version.
    /// A value in Vault is judged when it is read: a short one is used, and not scrubbed from bodies.
    #[arg(long, value_name = "MOUNT/PATH#FIELD", conflicts_with_all = ["from_env", "from_file", "allow_weak"])]
    vault: Option<String>,
    /// Accept a secret of less than 16 bytes (it cannot be scrubbed from bodies)
    #[arg(long)]
    allow_weak: bool,
}

impl SourceArgs {
    /// Judges what can be judged before a store is unlocked or a secret typed.
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        self.reference().map(drop)
    }

    /// The place in Vault, if one was given. The text is not repeated: somebody may have given the secret in its place.
    fn reference(&self) -> Result<Option<VaultReference>, CommandError> {
        let reference = self.vault.as_deref().map(VaultReference::parse).transpose();
        reference.map_err(|e| {
            CommandError::usage(format!("--vault was given no MOUNT/PATH#FIELD: {e}"))
                .hint("write it as in --vault secret/openrouter#api_key; `?version=3` after it pins one version")
        })
    }

    /// Reads the secret, or the place in Vault, where it is. Nothing is asked of Vault.
    pub(crate) fn read(&self, prompt: &str) -> Result<Stored, CommandError> {
        match self.reference()? {
            Some(reference) => Ok(Stored::Reference(reference)),
            None => self.secret(prompt).map(Stored::Secret),
        }
    }

    fn secret(&self, prompt: &str) -> Result<Secret, CommandError> {
        let raw = match (&self.from_env, &self.from_file) {
            (Some(variable), _) => from_variable(variable)?,
            (None, Some(file)) => from_file(file)?,
            (None, None) if io::stdin().is_terminal() => from_terminal(prompt)?,
            (None, None) => limited(io::stdin().lock()).map_err(CommandError::doing("standard input cannot be read"))?,
        };
        Secret::accept(raw, self.allow_weak).map_err(|e| refused(e, self))
    }
}

fn refused(e: SecretError, source: &SourceArgs) -> CommandError {
    let from = match (&source.from_env, &source.from_file) {
        (Some(variable), _) => format!("the variable {variable}"),
        (None, Some(file)) => file.display().to_string(),
        (None, None) if io::stdin().is_terminal() => "the terminal".to_owned(),
        (None, None) => "standard input".to_owned(),
    };
    let error = CommandError::usage(format!("{e} (from {from})"));
    match e {
        SecretError::Empty => error.hint("give it on standard input, or name --from-env, --from-file or --vault"),
        SecretError::Control => error.hint("a secret is one line of text; check that nothing else was copied with it"),
        SecretError::TooLong => error.hint("check that the file or variable is the right one"),
        SecretError::Weak => error,
    }
}

/// A secret that does not fit its type.
pub(crate) fn misfit(e: InjectionError) -> CommandError {
    CommandError::usage(e.to_string()).hint("check --type, and that the secret was copied whole")
}

fn from_variable(name: &str) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    match environment::var(name) {
        Some(value) => Ok(Zeroizing::new(value.into_vec())),
        None => {
            Err(CommandError::usage(format!("the variable {name} is not set, or empty"))
                .hint("export it first, or give the secret on standard input"))
        }
    }
}

fn from_file(file: &std::path::Path) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let read = std::fs::File::open(file).and_then(limited);
    read.map_err(|e| CommandError::usage(format!("the secret cannot be read from {}: {e}", file.display())).hint("check --from-file"))
}

fn limited(from: impl io::Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // The room is taken at once: a buffer that grows would leave copies behind.
    let mut out = Zeroizing::new(Vec::with_capacity(usize::try_from(READ_LIMIT).unwrap_or(usize::MAX)));
    from.take(READ_LIMIT).read_to_end(&mut out)?;
    Ok(out)
}

fn from_terminal(prompt: &str) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let text = rpassword::prompt_password(format!("{prompt} (not shown): "));
    text.map(|t| Zeroizing::new(t.into_bytes())).map_err(CommandError::doing("the terminal cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(file: PathBuf, allow_weak: bool) -> SourceArgs {
        SourceArgs { from_env: None, from_file: Some(file), vault: None, allow_weak }
    }

    #[test]
    fn a_file_is_read_trimmed_and_judged() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("s");
        let read = |bytes: &[u8], weak| {
            std::fs::write(&file, bytes).expect("written");
            source(file.clone(), weak).secret("secret").map(|s| s.expose().to_vec())
        };
        assert_eq!(read(b"  sk-or-v1-test-0001\r\n", false).expect("good"), b"sk-or-v1-test-0001");
        assert_eq!(read(b"short", true).expect("allowed"), b"short");
        for bad in [&b""[..], b"\n", b"short", b"sk-or-v1-te\0st-0001", &vec![b'a'; 65 * 1024], &vec![b'a'; 200 * 1024]] {
            let e = read(bad, false).expect_err("refused");
            assert_eq!(e.kind.code(), 2, "{e}");
            assert!(!e.to_string().contains("sk-or") && !e.to_string().contains("short\n"), "{e}");
        }
        assert_eq!(source(dir.path().join("none"), false).secret("s").err().expect("missing").kind.code(), 2);
    }

    #[test]
    fn a_place_in_vault_is_taken_and_another_text_is_not_repeated() {
        let vault = |text: &str| SourceArgs { from_env: None, from_file: None, vault: Some(text.to_owned()), allow_weak: false };
        let Ok(Stored::Reference(reference)) = vault("/secret/openrouter#api_key").read("s") else { panic!("a reference") };
        assert_eq!(reference.to_string(), "secret/openrouter#api_key");
        for bad in ["sk-or-v1-test-0001", "secret#f", "secret/x", "secret/x#", "secret/../sys#f", "secret/x#f?version=0"] {
            let e = vault(bad).check().expect_err("refused");
            assert_eq!(e.kind.code(), 2, "{e}");
            assert!(e.to_string().contains("MOUNT/PATH#FIELD") && !e.to_string().contains("sk-or"), "{e}");
        }
    }
}
