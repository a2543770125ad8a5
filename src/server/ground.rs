//! What a proxy stands on before it opens: the store or what is in its stead, the CA, and a first look at Vault.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::ServerOptions;
use super::authority::Authority;
use super::error::{ReloadError, StartError, failed};
use super::keeper::Keeper;
use super::picture::Picture;
use super::remote::Remote;
use super::signing::SigningKeys;
use super::state::write_ca;
use crate::clock;
use crate::config::VaultConfig;
use crate::tls::CaState;

/// The parts of a first state.
pub(super) struct Ground {
    pub(super) keeper: Keeper,
    pub(super) remote: Option<Arc<Remote>>,
    pub(super) ca: CaState,
    /// Whether the CA is the store's.
    pub(super) own_ca: bool,
    pub(super) picture: Picture,
    pub(super) runtime: Handle,
}

impl Ground {
    /// Reads the store, and of Vault what must be known before the first request.
    ///
    /// # Errors
    /// [`StartError`] where one of them cannot be had.
    pub(super) async fn prepare(options: &ServerOptions) -> Result<(Self, Option<Authority>), StartError> {
        let (config, runtime) = (&options.config.vault, Handle::current());
        let asks = config.discover.is_some() || config.discover_agents.is_some() || config.ca.is_some() || config.signing_key.is_some();
        let remote = if asks { Some(Remote::new(config, &runtime)?) } else { None };
        let mut shared = None;
        let mut authority = None;
        if let Some(remote) = &remote {
            if let Some(path) = &config.signing_key {
                shared = Some(SigningKeys::load(remote.vault(), path).await?);
            }
            if let Some(path) = &config.ca {
                authority = Some(Authority::load(remote.vault(), path, clock::now()).await?);
            }
            remote.look().await?;
        }
        let keeper = Keeper::new(options.store.clone(), shared)?;
        let (home, there) = (options.home.clone(), remote.clone());
        let from_vault = authority.as_mut().map(Authority::take);
        let read = move || -> Result<_, ReloadError> {
            let own_ca = from_vault.is_none();
            let ca = match from_vault {
                Some(ca) => ca,
                None => keeper.ca()?.ok_or_else(|| failed("without a local store, `[vault] ca` must name the CA in Vault"))?,
            };
            write_ca(&ca, &home)?;
            let picture = Picture::new(keeper.load().map_err(failed)?, there.as_deref());
            Ok((keeper, ca, own_ca, picture))
        };
        let (keeper, ca, own_ca, picture) = tokio::task::spawn_blocking(read).await.map_err(|_| failed("the start was cut short"))??;
        Ok((Self { keeper, remote, ca, own_ca, picture, runtime }, authority))
    }
}

/// What `[vault]` must say beside nothing else for a proxy without a local store; the names of the keys that are missing.
#[must_use]
pub fn missing_for_no_store(config: &VaultConfig) -> Vec<&'static str> {
    let needed =
        [("discover", &config.discover), ("discover_agents", &config.discover_agents), ("ca", &config.ca), ("signing_key", &config.signing_key)];
    needed.into_iter().filter(|(_, given)| given.is_none()).map(|(key, _)| key).collect()
}
