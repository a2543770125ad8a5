//! The configuration file, and the provider files that are compiled in.

mod error;
mod model;
mod parse;
pub mod provider;
mod reader;
pub mod terms;
pub mod units;
mod vault;

pub use error::ConfigError;
pub use model::{
    AdminConfig, AgentLimits, AuditConfig, Config, EgressConfig, Limits, ListenAddr, ProxyConfig, StoreConfig, Timeouts, UnlockMethod, UpstreamConfig,
};
pub use parse::{parse, proxy_url, transit_key};
pub use vault::{RoleId, VaultAuth, VaultConfig, address as vault_address};

use std::io;
use std::path::Path;

/// The configuration file's name inside the home.
pub const FILE_NAME: &str = "keyhatch.toml";

impl Config {
    /// Reads a configuration file. An absent one means the defaults, unless it was named (`must_exist`).
    ///
    /// # Errors
    /// [`ConfigError`] where the file cannot be read or says what cannot be.
    pub fn load(file: &Path, must_exist: bool) -> Result<Self, ConfigError> {
        let whole = |why: String, allowed: Option<&str>| ConfigError {
            file: file.to_owned(),
            line: None,
            key: None,
            why,
            allowed: allowed.map(str::to_owned),
        };
        match std::fs::read(file) {
            Ok(bytes) => {
                let text = std::str::from_utf8(&bytes).map_err(|_| whole("the file is not UTF-8".to_owned(), Some("TOML in UTF-8")))?;
                parse(file, text)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && !must_exist => Ok(Self::default()),
            Err(e) if must_exist => Err(whole(format!("the configuration cannot be read: {e}; check --config or KEYHATCH_CONFIG"), None)),
            Err(e) => Err(whole(format!("the configuration cannot be read: {e}; see to its owner and mode"), None)),
        }
    }
}

impl ConfigError {
    /// An error about a value that was read well and turned out bad in use. Its line is looked up in the file as it is now.
    #[must_use]
    pub fn in_use(file: &Path, key: &str, why: String) -> Self {
        let line = std::fs::read_to_string(file).ok().and_then(|text| reader::line_of(&text, key));
        Self { file: file.to_owned(), line, key: Some(key.to_owned()), why, allowed: parse::file_form(key).map(str::to_owned) }
    }
}

#[cfg(test)]
mod tests;
