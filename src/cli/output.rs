//! Data to standard output, talk to standard error.

use std::io::{self, Write};

use serde::Serialize;

use super::error::CommandError;
use crate::telemetry::escape;

/// Where a command writes.
pub(crate) struct Output {
    /// `--json`: lists and results as JSON.
    pub(crate) json: bool,
}

impl Output {
    /// Writes data, as it is.
    ///
    /// # Errors
    /// Where standard output cannot be written. A reader that has gone away (`| head`) is no error.
    pub(crate) fn data(&self, bytes: &[u8]) -> Result<(), CommandError> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(CommandError::failed(format!("standard output cannot be written: {e}"))),
            _ => Ok(()),
        }
    }

    /// Writes one line of many; whoever writes them wants to know when the reader has gone away.
    ///
    /// # Errors
    /// Whatever standard output returns, a broken pipe too.
    pub(crate) fn streamed_line(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush())
    }

    /// Writes one line of data.
    ///
    /// # Errors
    /// As [`Output::data`].
    pub(crate) fn line(&self, text: &str) -> Result<(), CommandError> {
        self.data(format!("{text}\n").as_bytes())
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    /// As [`Output::data`].
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), CommandError> {
        let text = serde_json::to_string_pretty(value).map_err(CommandError::doing("the result has no JSON form"))?;
        self.line(&text)
    }

    /// Writes a table: each column as wide as its widest cell.
    ///
    /// # Errors
    /// As [`Output::data`].
    pub(crate) fn table(&self, heads: &[&str], rows: &[Vec<String>]) -> Result<(), CommandError> {
        self.data(layout(heads, rows).as_bytes())
    }

    /// Writes what a `list` found: the views as JSON where that is asked for, else a table; `none` is said where there is nothing.
    ///
    /// # Errors
    /// As [`Output::data`].
    pub(crate) fn listing(&self, views: &[impl Serialize], heads: &[&str], rows: &[Vec<String>], none: &str) -> Result<(), CommandError> {
        if self.json {
            self.json(&views)
        } else if rows.is_empty() {
            self.say(none);
            Ok(())
        } else {
            self.table(heads, rows)
        }
    }

    /// Writes names and values, one a line.
    ///
    /// # Errors
    /// As [`Output::data`].
    pub(crate) fn fields(&self, lines: &[(&str, String)]) -> Result<(), CommandError> {
        let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let text: String = lines.iter().map(|(name, value)| format!("{name:width$}  {}\n", escape::human(value))).collect();
        self.data(text.as_bytes())
    }

    /// Says something to the person at the terminal.
    pub(crate) fn say(&self, text: &str) {
        // Where nobody can be told, there is nothing to be done.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Says something that a person should heed.
    pub(crate) fn warn(&self, text: &str) {
        self.say(&format!("keyhatch: warning: {text}"));
    }

    /// Says why the command failed.
    pub(crate) fn error(&self, e: &CommandError) {
        if self.json {
            self.say(&e.to_json());
        } else {
            self.say(&format!("keyhatch: {}", escape::human(&e.to_string())));
        }
    }
}

fn layout(heads: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| escape::human(cell).into_owned()).collect()).collect();
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).chain([heads[i].len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut out = String::new();
    let mut put = |cells: &[&str]| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    };
    put(heads);
    rows.iter().for_each(|r| put(&r.iter().map(String::as_str).collect::<Vec<_>>()));
    out
}

/// A time for people and for JSON: RFC 3339, in seconds.
#[must_use]
pub(crate) fn time(at: Option<jiff::Timestamp>) -> Option<String> {
    at.map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A time for a table: `never` where there is none.
#[must_use]
pub(crate) fn time_or_never(at: Option<jiff::Timestamp>) -> String {
    time(at).unwrap_or_else(|| "never".to_owned())
}

/// A time for a table: `-` where it is not known.
#[must_use]
pub(crate) fn time_or_dash(at: Option<jiff::Timestamp>) -> String {
    time(at).unwrap_or_else(|| "-".to_owned())
}

/// `1 fault`, `2 faults`.
#[must_use]
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up() {
        let rows = vec![vec!["a".to_owned(), "x y".to_owned()], vec!["longer".to_owned(), "\u{1b}[2J".to_owned()]];
        let text = layout(&["NAME", "V"], &rows);
        assert!(text.starts_with("NAME    V\na       x y\nlonger  "), "{text}");
        assert!(!text.contains('\u{1b}'), "an escape sequence reaches the terminal");
    }

    #[test]
    fn times() {
        let t = jiff::Timestamp::from_second(1_764_000_000).expect("in range");
        assert_eq!(time(Some(t)).as_deref(), Some("2025-11-24T16:00:00Z"));
        assert_eq!(time_or_never(None), "never");
    }
}
