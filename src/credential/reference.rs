//! A reference into HashiCorp Vault: which field of which entry is the secret.

use std::fmt;

/// `MOUNT/PATH#FIELD`, with `?version=N` to pin one version of a KV v2 entry.
///
/// The path is as Vault's own `kv` commands take it: without the `data/` that KV v2 puts between mount and path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultReference {
    path: Box<str>,
    field: Box<str>,
    version: Option<u64>,
}

/// Why a text is no reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No `#`.
    #[error("it names no field: write MOUNT/PATH#FIELD, as in secret/openrouter#api_key")]
    NoField,
    /// A path of one part, an empty part, a dot segment, or a character that has no place there.
    #[error("its path is not MOUNT/PATH with letters, digits and `-_.@+=~,:` between the slashes")]
    Path,
    /// A field name with control characters, or longer than 256 bytes.
    #[error("its field is empty, too long, or holds a control character, `#` or `?`")]
    Field,
    /// Something else than `version=N`, N from 1.
    #[error("after `?` only version=N may stand, with N from 1")]
    Version,
}

/// The longest path or field that is taken.
const LONGEST: usize = 512;

impl VaultReference {
    /// Reads a reference. `?version=N` may stand before or after `#FIELD`.
    ///
    /// # Errors
    /// [`ReferenceError`] where it has another form.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let (front, back) = text.split_once('#').ok_or(ReferenceError::NoField)?;
        let (path, early) = pinned(front)?;
        let (field, late) = pinned(back)?;
        if early.is_some() && late.is_some() {
            return Err(ReferenceError::Version);
        }
        let path = check_path(path).ok_or(ReferenceError::Path)?;
        if field.is_empty() || field.len() > LONGEST || field.chars().any(|c| c.is_control() || c == '#') {
            return Err(ReferenceError::Field);
        }
        Ok(Self { path: path.into(), field: field.into(), version: early.or(late) })
    }

    /// Mount and path, without a slash at either end.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The field.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The version that is pinned, if one is.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.version
    }
}

impl fmt::Display for VaultReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.path, self.field)?;
        self.version.map_or(Ok(()), |version| write!(f, "?version={version}"))
    }
}

/// A path into Vault without slashes at its ends; `None` where it is not one of two or more plain segments.
#[must_use]
pub fn check_path(text: &str) -> Option<&str> {
    let path = text.trim_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@+=~,:".contains(c);
    let good = |segment: &str| !segment.is_empty() && segment != "." && segment != ".." && segment.chars().all(plain);
    (path.len() <= LONGEST && path.contains('/') && path.split('/').all(good)).then_some(path)
}

/// What stands before `?version=N`, and N.
fn pinned(text: &str) -> Result<(&str, Option<u64>), ReferenceError> {
    let Some((front, query)) = text.split_once('?') else { return Ok((text, None)) };
    let digits = query.strip_prefix("version=").filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
    let version = digits.and_then(|d| d.parse().ok()).filter(|&n| n > 0).ok_or(ReferenceError::Version)?;
    Ok((front, Some(version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_reference_and_what_is_none() {
        let canonical = |text: &str| VaultReference::parse(text).map(|r| r.to_string());
        assert_eq!(canonical("secret/openrouter#api_key").as_deref(), Ok("secret/openrouter#api_key"));
        assert_eq!(canonical("/kv/team/a/openrouter/#apiKey").as_deref(), Ok("kv/team/a/openrouter#apiKey"));
        for pinned in ["secret/x#f?version=3", "secret/x?version=3#f"] {
            assert_eq!(canonical(pinned).as_deref(), Ok("secret/x#f?version=3"), "{pinned}");
        }
        for (bad, why) in [
            ("secret/openrouter", ReferenceError::NoField),
            ("", ReferenceError::NoField),
            ("secret#f", ReferenceError::Path),
            ("secret//x#f", ReferenceError::Path),
            ("secret/../sys/x#f", ReferenceError::Path),
            ("secret/x y#f", ReferenceError::Path),
            ("secret/x%2f#f", ReferenceError::Path),
            ("secret/x#", ReferenceError::Field),
            ("secret/x#a#b", ReferenceError::Field),
            ("secret/x#a\n", ReferenceError::Field),
            ("secret/x#f?version=0", ReferenceError::Version),
            ("secret/x#f?version=+1", ReferenceError::Version),
            ("secret/x#f?cas=1", ReferenceError::Version),
            ("secret/x?version=1#f?version=2", ReferenceError::Version),
        ] {
            assert_eq!(VaultReference::parse(bad), Err(why), "{bad}");
        }
    }
}
