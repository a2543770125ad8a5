//! Why a command failed, what a person can do about it, and the exit code.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

/// What kind of failure it is; each has its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorKind {
    /// Exit code 1.
    Failed,
    /// Bad usage or configuration: exit code 2.
    Usage,
    /// Locked, or a wrong passphrase: exit code 3.
    Locked,
    /// No such thing: exit code 4.
    NotFound,
}

impl ErrorKind {
    /// The exit code.
    #[must_use]
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Locked => 3,
            Self::NotFound => 4,
        }
    }
}

/// A command's failure: what and why, and the mend. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandError {
    /// The kind.
    pub(crate) kind: ErrorKind,
    /// What happened, and why.
    pub(crate) message: String,
    /// What to do about it, where there is something.
    pub(crate) hint: Option<String>,
    /// The exit code, where it is not the kind's own.
    pub(crate) exit_code: Option<u8>,
}

impl CommandError {
    /// A failure of this kind.
    #[must_use]
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, exit_code: None }
    }

    /// Exit code 1.
    #[must_use]
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    /// Exit code 2.
    #[must_use]
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// Exit code 4.
    #[must_use]
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// The exit code.
    #[must_use]
    pub(crate) fn code(&self) -> u8 {
        self.exit_code.unwrap_or_else(|| self.kind.code())
    }

    /// With the mend.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Maps an error of `doing` something.
    pub(crate) fn doing<E: fmt::Display>(doing: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |e| Self::failed(format!("{doing}: {e}"))
    }

    /// The error as JSON, in one line.
    #[must_use]
    pub(crate) fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Outer<'a> {
            error: Inner<'a>,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            kind: ErrorKind,
            exit_code: u8,
            message: &'a str,
            hint: Option<&'a str>,
        }
        let error = Inner { kind: self.kind, exit_code: self.code(), message: &self.message, hint: self.hint.as_deref() };
        serde_json::to_string(&Outer { error }).expect("strings and a number have a JSON form")
    }
}

impl fmt::Display for CommandError {
    /// One line: `what, why; mend`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one_line = |text: &str| text.split(['\n', '\r']).map(str::trim).filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" ");
        f.write_str(&one_line(&self.message))?;
        match &self.hint {
            Some(hint) => write!(f, "; {}", one_line(hint)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CommandError {}

impl From<crate::config::ConfigError> for CommandError {
    fn from(e: crate::config::ConfigError) -> Self {
        Self::usage(e.to_string())
    }
}

impl From<crate::agent::NameError> for CommandError {
    fn from(e: crate::agent::NameError) -> Self {
        Self::usage(e.to_string())
    }
}

/// What a command that did its work ends with: 0, or what the command under `run` ended with.
pub(crate) type Outcome = Result<ExitCode, CommandError>;

/// The outcome of a command that has nothing else to say.
pub(crate) const DONE: Outcome = Ok(ExitCode::SUCCESS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_and_its_json() {
        let e = CommandError::not_found("there is no agent `x`\n").hint("list them:\nkeyhatch agent list");
        assert_eq!(e.to_string(), "there is no agent `x`; list them: keyhatch agent list");
        assert_eq!(
            e.to_json(),
            r#"{"error":{"kind":"not_found","exit_code":4,"message":"there is no agent `x`\n","hint":"list them:\nkeyhatch agent list"}}"#
        );
    }
}
