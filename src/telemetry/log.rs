//! The log on stderr: one plain line an event.
//!
//! Only what this crate itself logs is shown in detail. The libraries below it see heads with tokens and credentials in them, and might print those at
//! their lower levels, so they are held at `warn` whatever is asked for. Nothing in this crate logs a secret.

use std::io::{self, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::telemetry::escape::human;

/// The variable that sets the level.
pub const VARIABLE: &str = "KEYHATCH_LOG";

const CRATE: &str = "keyhatch";

/// Libraries under the client for Vault. They print each failed call as an error of their own, with its path, and some answers' words; what is to be
/// said of a failure the client says itself.
const SILENT: [&str; 5] = ["vaultrs", "rustify", "reqwest", "hyper_util", "rustls_platform_verifier"];

/// `KEYHATCH_LOG` says nothing that can be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "KEYHATCH_LOG: `{0}` is no level; give `off`, `error`, `warn`, `info`, `debug` or `trace`, and with commas `keyhatch::MODULE=LEVEL` for a part"
)]
pub struct LogError(String);

/// Sets the log up for the rest of the process's life. A second call leaves the first one's.
///
/// # Errors
/// [`LogError`] where `KEYHATCH_LOG` has a bad value.
pub fn init() -> Result<(), LogError> {
    let wanted = crate::environment::var(VARIABLE);
    let targets = targets(&wanted.map_or_else(|| "info".to_owned(), |w| w.to_string_lossy().into_owned()))?;
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(Stderr);
    // An error says that there is one already.
    let _ = tracing_subscriber::registry().with(targets).with(layer).try_init();
    Ok(())
}

/// Reads levels: one for this crate, others for modules of it.
fn targets(text: &str) -> Result<Targets, LogError> {
    let bad = |part: &str| LogError(human(part).into_owned());
    let level = |word: &str| match word.to_ascii_lowercase().as_str() {
        "off" => Some(LevelFilter::OFF),
        "error" => Some(LevelFilter::ERROR),
        "warn" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        _ => None,
    };
    let mut own = LevelFilter::INFO;
    let mut modules = Vec::new();
    for part in text.split(',').map(str::trim) {
        match part.split_once('=') {
            None => own = level(part).ok_or_else(|| bad(part))?,
            Some((module, word)) if module == CRATE || module.starts_with("keyhatch::") => {
                modules.push((module.to_owned(), level(word).ok_or_else(|| bad(part))?));
            }
            Some(_) => return Err(bad(part)),
        }
    }
    let others = own.min(LevelFilter::WARN);
    let silent = SILENT.iter().map(|library| (*library, LevelFilter::OFF));
    Ok(Targets::new().with_default(others).with_targets(silent).with_target(CRATE, own).with_targets(modules))
}

/// Makes a writer for each event.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Escaping<io::StderrLock<'a>>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaping(io::stderr().lock())
    }
}

/// Writes each event, which arrives in one piece, as one line without control characters.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.trim_end_matches('\n');
        let mut out = String::with_capacity(line.len() + 1);
        for c in line.chars() {
            if crate::telemetry::escape::is_unsafe(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
        }
        out.push('\n');
        self.0.write_all(out.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn an_event_is_one_plain_line() {
        let mut out = Vec::new();
        let event = "2026-11-21 INFO a\nb\u{1b}[2J\u{202e}c\r \\n\n";
        let n = Escaping(&mut out).write(event.as_bytes()).expect("written");
        assert_eq!(n, event.len());
        assert_eq!(String::from_utf8(out).expect("UTF-8"), "2026-11-21 INFO a\\u{a}b\\u{1b}[2J\\u{202e}c\\u{d} \\n\n");
    }

    #[test]
    fn libraries_never_say_more_than_warnings() {
        let all = targets("trace").expect("a level");
        assert!(all.would_enable("keyhatch::proxy", &Level::TRACE));
        assert!(all.would_enable("h2", &Level::WARN) && !all.would_enable("h2", &Level::INFO));
        for target in ["vaultrs::api", "rustify::client", "reqwest::async_impl", "hyper_util::client"] {
            assert!(!all.would_enable(target, &Level::ERROR), "{target}");
        }
        let quiet = targets("error").expect("a level");
        assert!(!quiet.would_enable("h2", &Level::WARN) && quiet.would_enable("keyhatch", &Level::ERROR));
    }

    #[test]
    fn a_part_may_say_more() {
        let part = targets("warn, keyhatch::proxy=debug").expect("levels");
        assert!(part.would_enable("keyhatch::proxy::connect", &Level::DEBUG));
        assert!(!part.would_enable("keyhatch::store", &Level::INFO));
        for bad in ["", "loud", "h2=trace", "keyhatchx=trace", "keyhatch::proxy=", "info,"] {
            assert!(targets(bad).is_err(), "{bad}");
        }
    }
}
