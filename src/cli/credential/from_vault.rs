//! The value of a credential in Vault, for the commands that ask an origin with it.

use crate::cli::context::Unlocked;
use crate::cli::error::CommandError;
use crate::credential::{Secret, VaultReference};

/// Asks Vault for the value at this place, as `serve` would: by `[vault]` and Vault's own variables.
pub(super) fn read_value(_unlocked: &Unlocked, reference: &VaultReference) -> Result<Secret, CommandError> {
    Err(CommandError::failed(format!("the value at vault:{reference} is not read by this command"))
        .hint("use the credential through `keyhatch serve`, and see `keyhatch audit tail`"))
}
