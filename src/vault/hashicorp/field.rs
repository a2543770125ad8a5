//! The one field of what was read that a reference names, as a secret that can be used.

use super::Fields;
use crate::credential::{Secret, VaultReference};

/// How many fields a message names, and how much of each.
const NAMES_SHOWN: usize = 10;
const NAME_SHOWN: usize = 40;

/// Why a reference gives no secret, in a line for the operator that says nothing of any value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// There is no such field; the line names those that there are.
    #[error("{0}")]
    Missing(String),
    /// Its value is empty, too long, or holds a control character.
    #[error("{0}")]
    Unfit(String),
}

impl Fields {
    /// The field that the reference names, as an operator would have given it: white space at both ends is cut.
    ///
    /// # Errors
    /// [`FieldError`]
    pub fn secret(&self, reference: &VaultReference) -> Result<Secret, FieldError> {
        let (path, field) = (reference.path(), reference.field());
        let Some(found) = self.get(field) else {
            let shown = |name: &str| name.chars().take(NAME_SHOWN).collect::<String>();
            let names = self.names().take(NAMES_SHOWN).map(shown).collect::<Vec<_>>().join(", ");
            let there = if names.is_empty() { "it has none".to_owned() } else { format!("it has: {names}") };
            return Err(FieldError::Missing(format!("{path} in Vault has no field `{field}`; {there}")));
        };
        found.accepted().map_err(|e| FieldError::Unfit(unfit(reference, e)))
    }
}

/// The line for a value that cannot be used.
#[must_use]
pub fn unfit(reference: &VaultReference, why: impl std::fmt::Display) -> String {
    format!("the field `{}` of {} in Vault: {why}", reference.field(), reference.path())
}
