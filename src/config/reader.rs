//! A TOML table that is read key by key: each key asked for is a known one, each one left over is an error
//! with its line, and each bad value says which values are allowed.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// The text of a file and its name, for errors.
#[derive(Clone, Copy)]
pub(super) struct Document<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
}

impl Document<'_> {
    /// An error at a byte of the text.
    fn error(&self, offset: usize, key: &str, why: String, allowed: Option<&str>) -> ConfigError {
        ConfigError {
            file: self.file.to_owned(),
            line: Some(line(self.text, offset)),
            key: (!key.is_empty()).then(|| key.to_owned()),
            why,
            allowed: allowed.map(str::to_owned),
        }
    }

    /// An error of the TOML parser, in one line.
    fn syntax(&self, e: &toml::de::Error) -> ConfigError {
        let why = format!("this is no TOML: {}", e.message().split_whitespace().collect::<Vec<_>>().join(" "));
        self.error(e.span().map_or(0, |s| s.start), "", why, None)
    }
}

/// Reads a whole document with `read`, and refuses keys that `read` did not ask for.
pub(super) fn read_document<'a, T>(
    file: &'a Path,
    text: &'a str,
    read: impl FnOnce(&Table<'a, '_>) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    let doc = Document { file, text };
    let root = DeTable::parse(text).map_err(|e| doc.syntax(&e))?;
    Table { doc, path: String::new(), entries: root.get_ref(), known: RefCell::default() }.read(read)
}

/// The line of a key such as `upstream.crl_files`, counted from 1; none where the text does not hold it.
pub(super) fn line_of(text: &str, key: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let (mut table, mut at) = (root.get_ref(), None);
    for part in key.split('.') {
        let (name, value) = table.get_key_value(part)?;
        at = Some(name.span().start);
        if let DeValue::Table(inner) = value.get_ref() {
            table = inner;
        }
    }
    at.map(|at| line(text, at))
}

/// The line that a byte is in, counted from 1.
fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&b| b == b'\n').count() + 1
}

/// One table, and which of its keys were asked for.
pub(super) struct Table<'a, 't> {
    doc: Document<'a>,
    path: String,
    entries: &'t DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a, 't> Table<'a, 't> {
    fn read<T>(self, read: impl FnOnce(&Self) -> Result<T, ConfigError>) -> Result<T, ConfigError> {
        // A bad value ends the reading before every key was asked for, so it comes before an unknown key.
        let out = read(&self)?;
        let known = self.known.into_inner();
        let unknown = self.entries.iter().filter(|(key, _)| !known.contains(&&**key.get_ref()));
        let Some((key, value)) = unknown.min_by_key(|(key, _)| key.span().start) else { return Ok(out) };
        let what = if value.get_ref().is_table() { "table" } else { "key" };
        let why = format!("this version knows no such {what}");
        Err(self.doc.error(key.span().start, &join(&self.path, &printable(key.get_ref())), why, Some(&known.join(", "))))
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, key: &'static str) -> Option<Item<'a, 't>> {
        self.known.borrow_mut().push(key);
        let (name, value) = self.entries.get_key_value(key)?;
        Some(Item { doc: self.doc, key: join(&self.path, key), at: name.span().start, value })
    }

    /// Reads a table below this one; `T::default()` where it is missing.
    pub(super) fn table<T: Default>(&self, key: &'static str, read: impl FnOnce(&Table<'a, 't>) -> Result<T, ConfigError>) -> Result<T, ConfigError> {
        self.get(key).map_or_else(|| Ok(T::default()), |item| item.into_table(read))
    }

    /// All entries of a table whose keys are free (`[resolve]`), in the file's order.
    pub(super) fn entries(&self) -> Vec<(&'t str, Item<'a, 't>)> {
        let entries = self.entries;
        let item = |(name, value): (&'t Spanned<_>, &'t Spanned<_>)| {
            let name: (&'t std::borrow::Cow<'a, str>, usize) = (name.get_ref(), name.span().start);
            let key = join(&self.path, &format!("\"{}\"", printable(name.0)));
            (&**name.0, Item { doc: self.doc, key, at: name.1, value })
        };
        let mut all: Vec<_> = entries.iter().map(item).collect();
        all.sort_by_key(|(_, item)| item.at);
        all
    }

    /// As [`Table::table`], for a table whose keys are free.
    pub(super) fn free_table<T: Default>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Table<'a, 't>) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        self.get(key).map_or_else(|| Ok(T::default()), |item| read(&item.table()?))
    }

    /// The value of `key`, or `default` where the key is missing.
    pub(super) fn or<T>(&self, key: &'static str, default: T, read: impl FnOnce(&Item<'a, 't>) -> Result<T, ConfigError>) -> Result<T, ConfigError> {
        self.get(key).map_or(Ok(default), |item| read(&item))
    }

    /// The value of `key`, if it is there.
    pub(super) fn opt<T>(&self, key: &'static str, read: impl FnOnce(&Item<'a, 't>) -> Result<T, ConfigError>) -> Result<Option<T>, ConfigError> {
        self.get(key).map(|item| read(&item)).transpose()
    }

    /// The value of a key that must be there.
    pub(super) fn required<T>(&self, key: &'static str, read: impl FnOnce(&Item<'a, 't>) -> Result<T, ConfigError>) -> Result<T, ConfigError> {
        match self.get(key) {
            Some(item) => read(&item),
            None => Err(self.doc.error(0, &join(&self.path, key), "it is missing".to_owned(), None)),
        }
    }
}

/// One value and where it stands.
pub(super) struct Item<'a, 't> {
    doc: Document<'a>,
    key: String,
    at: usize,
    value: &'t Spanned<DeValue<'a>>,
}

impl<'a, 't> Item<'a, 't> {
    /// An error about this value.
    pub(super) fn error(&self, why: impl Into<String>, allowed: &str) -> ConfigError {
        self.doc.error(self.at, &self.key, why.into(), (!allowed.is_empty()).then_some(allowed))
    }

    fn wrong_type(&self, allowed: &str) -> ConfigError {
        self.error(format!("the value is of the wrong type ({})", self.value.get_ref().type_str()), allowed)
    }

    /// Reads the table that this value is.
    pub(super) fn into_table<T>(self, read: impl FnOnce(&Table<'a, 't>) -> Result<T, ConfigError>) -> Result<T, ConfigError> {
        self.table()?.read(read)
    }

    fn table(self) -> Result<Table<'a, 't>, ConfigError> {
        match self.value.get_ref() {
            DeValue::Table(entries) => Ok(Table { doc: self.doc, path: self.key, entries, known: RefCell::default() }),
            _ => Err(self.wrong_type("a table")),
        }
    }

    /// A string; `allowed` says which ones, for the error.
    pub(super) fn str(&self, allowed: &str) -> Result<&'t str, ConfigError> {
        match self.value.get_ref() {
            DeValue::String(s) => Ok(s),
            _ => Err(self.wrong_type(allowed)),
        }
    }

    /// A string that `parse` makes a value of.
    pub(super) fn parse<T, E: std::fmt::Display>(&self, allowed: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T, ConfigError> {
        let text = self.str(allowed)?;
        parse(text).map_err(|e| self.error(format!("\"{}\": {e}", printable(text)), allowed))
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let mut allowed = String::new();
        for (i, (word, _)) in choices.iter().enumerate() {
            let _ = write!(allowed, "{}\"{word}\"", if i == 0 { "" } else { ", " });
        }
        let text = self.str(&allowed)?;
        choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|&(_, value)| value)
            .ok_or_else(|| self.error(format!("\"{}\" is not a value of it", printable(text)), &allowed))
    }

    /// `true` or `false`.
    pub(super) fn bool(&self) -> Result<bool, ConfigError> {
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong_type("true, false"))
    }

    /// A whole number from `min` to `max`.
    pub(super) fn integer(&self, min: u64, max: u64) -> Result<u64, ConfigError> {
        let allowed = format!("a whole number from {min} to {max}");
        let DeValue::Integer(number) = self.value.get_ref() else { return Err(self.wrong_type(&allowed)) };
        let value = u64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok();
        value.filter(|v| (min..=max).contains(v)).ok_or_else(|| self.error(format!("{} is out of range", printable(number.as_str())), &allowed))
    }

    /// A list, each element read by `read`.
    pub(super) fn list<T>(&self, allowed: &str, mut read: impl FnMut(&Item<'a, 't>) -> Result<T, ConfigError>) -> Result<Vec<T>, ConfigError> {
        let DeValue::Array(array) = self.value.get_ref() else { return Err(self.wrong_type(allowed)) };
        array.iter().map(|value| read(&Item { doc: self.doc, key: self.key.clone(), at: value.span().start, value })).collect()
    }

    /// A list of tables.
    pub(super) fn tables<T>(&self, mut read: impl FnMut(&Table<'a, 't>) -> Result<T, ConfigError>) -> Result<Vec<T>, ConfigError> {
        let DeValue::Array(array) = self.value.get_ref() else { return Err(self.wrong_type("a list of tables")) };
        array.iter().map(|value| Item { doc: self.doc, key: self.key.clone(), at: value.span().start, value }.table()?.read(&mut read)).collect()
    }

    /// A path; a relative one begins at the file's own directory.
    pub(super) fn path(&self) -> Result<PathBuf, ConfigError> {
        match self.str("a path")? {
            "" => Err(self.error("the path is empty", "a path")),
            text => Ok(self.beside(text)),
        }
    }

    /// A path as the file means it.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        self.doc.file.parent().unwrap_or(Path::new("")).join(path)
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// What stands in a file, safe to print in one line.
fn printable(text: &str) -> String {
    text.chars().take(80).flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}
