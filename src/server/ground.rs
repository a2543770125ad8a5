//! What a proxy stands on before it opens: the store or what is in its stead, the CA, and a first look at Vault.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::ServerOptions;
use super::authority::Authority;
use super::error::{ReloadError, StartError, failed};
use super::keeper::Keeper;
use super::patience::Patience;
use super::picture::Picture;
use super::remote::Remote;
use super::signing::SigningKeys;
use super::state::{State, write_ca};
use crate::clock;
use crate::config::VaultConfig;
use crate::tls::{CaState, OwnKeys};
use crate::vault::hashicorp::{Vault, VaultError};

/// How long the end of a start that failed may take.
const FAREWELL: Duration = Duration::from_secs(3);

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
    pub(super) async fn prepare(options: &ServerOptions, opened: &mut Opened) -> Result<(Self, Option<Authority>), StartError> {
        let (config, runtime) = (&options.config.vault, Handle::current());
        let asks = config.discover.is_some() || config.discover_agents.is_some() || config.ca.is_some() || config.signing_key.is_some();
        let remote = match (asks, &options.vault) {
            (false, _) => None,
            (true, Some(vault)) => Some(Remote::with(Arc::clone(vault), config, &runtime)),
            (true, None) => Some(Remote::new(config, &runtime)?),
        };
        opened.vault = remote.as_ref().map(|r| Arc::clone(r.vault())).or_else(|| opened.vault.take());
        let mut shared = None;
        let mut authority = None;
        if let Some(remote) = &remote {
            let patience = Patience::new(options.is_serve);
            if let Some(path) = &config.signing_key {
                shared = Some(wait(&patience, async || SigningKeys::load(remote.vault(), path).await).await?);
            }
            if let Some(path) = &config.ca {
                authority = Some(wait(&patience, async || Authority::load(remote.vault(), path, clock::now()).await).await?);
            }
            wait(&patience, async || remote.look().await).await.map_err(unguarded)?;
        }
        let keeper = Keeper::new(options.store.clone(), shared)?;
        let (home, there) = (options.home.clone(), remote.clone());
        let from_vault = authority.as_mut().map(Authority::take);
        let read = move || -> Result<_, ReloadError> {
            let own_ca = from_vault.is_none();
            let ca = match from_vault {
                Some(mut ca) => {
                    // Those that this home had before, of the store and of Vault, vouch for no origin either.
                    ca.remember(&OwnKeys::of_certificates(&std::fs::read(home.ca()).unwrap_or_default()));
                    keeper.ca().ok().flatten().iter().for_each(|own| ca.remember(&own.own_keys()));
                    ca
                }
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

/// What a start has opened, to be closed where it does not come to its end.
#[derive(Default)]
pub(super) struct Opened {
    /// What Vault is asked with.
    pub(super) vault: Option<Arc<Vault>>,
    /// The state, which may hold leases.
    pub(super) state: Option<Arc<State>>,
}

impl Opened {
    /// Leaves no token behind that this process logged in for, and no lease.
    pub(super) async fn close(self) {
        let all = async {
            if let Some(remote) = self.state.as_ref().and_then(|state| state.remote()) {
                remote.close().await;
            }
            if let Some(vault) = &self.vault {
                vault.close().await;
            }
        };
        // Vault ends them too, later.
        let _ = tokio::time::timeout(FAREWELL, all).await;
    }
}

/// Why a start without a first look is none.
fn unguarded(error: ReloadError) -> ReloadError {
    match error {
        ReloadError::Vault { key, error } if error.kind.is_outage() => {
            let detail = format!("{error}; keyhatch does not start without it, since nobody knows then which hosts to guard");
            ReloadError::Vault { key, error: VaultError { detail, ..error } }
        }
        error => error,
    }
}

/// Asks what the start needs of Vault, with patience.
async fn wait<T>(patience: &Patience, ask: impl AsyncFn() -> Result<T, ReloadError>) -> Result<T, ReloadError> {
    patience.wait(ReloadError::is_outage, |left, line| tracing::warn!("waiting for Vault, for up to {left} s: {line}"), ask).await
}

/// What `[vault]` must say beside nothing else for a proxy without a local store; the names of the keys that are missing.
#[must_use]
pub fn missing_for_no_store(config: &VaultConfig) -> Vec<&'static str> {
    let needed =
        [("discover", &config.discover), ("discover_agents", &config.discover_agents), ("ca", &config.ca), ("signing_key", &config.signing_key)];
    needed.into_iter().filter(|(_, given)| given.is_none()).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;
    use crate::vault::hashicorp::VaultErrorKind;

    #[tokio::test]
    async fn an_outage_is_waited_for_and_a_refusal_is_not() {
        let asked = async |patience: Patience, kind: VaultErrorKind, good_at: u32| {
            let asked = Cell::new(0);
            let answer = wait(&patience, async || {
                asked.set(asked.get() + 1);
                if asked.get() == good_at { Ok(()) } else { Err(ReloadError::vault("vault.ca", VaultError::new(kind, "why"))) }
            });
            (answer.await.map_err(|e| e.to_string()), asked.get())
        };
        let (long, none) = (|| Patience::new(true), || Patience(Instant::now()));
        assert_eq!(asked(long(), VaultErrorKind::Sealed, 2).await, (Ok(()), 2));
        let refused = Err("`vault.ca` cannot be had: why".to_owned());
        for kind in [VaultErrorKind::LoginRefused, VaultErrorKind::Denied, VaultErrorKind::BadAnswer] {
            assert_eq!(asked(long(), kind, 2).await, (refused.clone(), 1), "{kind:?}");
        }
        assert_eq!(asked(none(), VaultErrorKind::Unreachable, 2).await, (refused, 1), "no time is left");
    }
}
