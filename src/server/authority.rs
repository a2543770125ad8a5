//! The CA that Vault has, so that all replicas mint leaves under one: an entry that holds it, or an engine that signs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::error::{ReloadError, failed};
use crate::clock;
use crate::random;
use crate::tls::{CaState, CertificateRequest, generate_pem};
use crate::vault::hashicorp::{Vault, VaultError, VaultErrorKind};

/// The fields of the entry.
const CERTIFICATE: &str = "certificate";
const PRIVATE_KEY: &str = "private_key";
/// What the path of a signing engine ends in.
const SIGNS: &str = "/sign-intermediate";
/// How long an intermediate is asked for; the engine may give less.
const INTERMEDIATE_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The wait after a failed renewal.
const AGAIN: Duration = Duration::from_secs(30);

/// Where the CA comes from, and the one that came last.
pub(super) struct Authority {
    path: String,
    /// The entry's version, where it is one of KV v2.
    version: Option<u64>,
    /// When an intermediate is to be replaced.
    renew_at: Option<Timestamp>,
    ca: Option<CaState>,
}

impl Authority {
    /// Reads the CA, makes it where the entry is not there yet, or has an intermediate signed.
    ///
    /// # Errors
    /// [`ReloadError`] where that cannot be done, or gives no CA.
    pub(super) async fn load(vault: &Vault, path: &str, now: Timestamp) -> Result<Self, ReloadError> {
        if signs_ca(path) {
            let ca = sign(vault, path, now).await?;
            return Ok(Self { path: path.to_owned(), version: None, renew_at: Some(ca.renew_at(now)), ca: Some(ca) });
        }
        let (ca, version) = match read(vault, path, now).await {
            Err(Failure::Vault(e)) if e.kind == VaultErrorKind::NotFound => {
                make(vault, path, now).await?;
                read(vault, path, now).await?
            }
            other => other?,
        };
        Ok(Self { path: path.to_owned(), version, renew_at: None, ca: Some(ca) })
    }

    /// The CA that was loaded. Once.
    ///
    /// # Panics
    /// Where it was taken before.
    pub(super) fn take(&mut self) -> CaState {
        self.ca.take().expect("it is taken once, at the start")
    }

    /// Follows changes of the entry, or renews the intermediate in time, until it is ended. A CA that cannot be had leaves
    /// the last one signing.
    pub(super) async fn keep(
        mut self,
        vault: Arc<Vault>,
        refresh: Duration,
        adopt: impl Fn(CaState) -> Result<(), ReloadError> + Send + Sync + 'static,
    ) {
        let adopt = Arc::new(adopt);
        let mut trouble = false;
        loop {
            tokio::time::sleep(self.wait(refresh, trouble)).await;
            let next = self.next(&vault).await;
            let done = match next {
                Ok(None) => Ok(()),
                Ok(Some(ca)) => {
                    tracing::info!("{}: took another CA", self.path);
                    let adopt = Arc::clone(&adopt);
                    tokio::task::spawn_blocking(move || adopt(ca)).await.unwrap_or_else(|_| Err(failed("taking it was cut short")))
                }
                Err(e) => Err(e),
            };
            if let Err(e) = &done
                && !trouble
            {
                tracing::error!("the CA in Vault cannot be had; the last one signs on: {e}");
            }
            trouble = done.is_err();
        }
    }

    fn wait(&self, refresh: Duration, trouble: bool) -> Duration {
        match self.renew_at {
            _ if trouble => AGAIN,
            Some(at) => clock::now().duration_until(at).try_into().unwrap_or(Duration::ZERO).max(Duration::from_secs(1)),
            None => refresh,
        }
    }

    async fn next(&mut self, vault: &Vault) -> Result<Option<CaState>, ReloadError> {
        let now = clock::now();
        if self.renew_at.is_some() {
            let ca = sign(vault, &self.path, now).await?;
            self.renew_at = Some(ca.renew_at(now));
            return Ok(Some(ca));
        }
        // KV v1 has no version: its CA is read at the start only.
        let Some(known) = self.version else { return Ok(None) };
        match vault.metadata(&self.path).await {
            Ok(metadata) if metadata.version == known && !metadata.gone => return Ok(None),
            Ok(_) => {}
            Err(e) if e.kind.is_outage() => return Ok(None),
            Err(e) => return Err(failed(e)),
        }
        let (ca, version) = read(vault, &self.path, now).await?;
        self.version = version;
        Ok(Some(ca))
    }
}

/// Why an entry gives no CA.
enum Failure {
    Vault(VaultError),
    Content(String),
}

impl From<Failure> for ReloadError {
    fn from(failure: Failure) -> Self {
        let why = match failure {
            Failure::Vault(e) => return ReloadError::vault(KEY, e),
            Failure::Content(why) => why,
        };
        setting(why)
    }
}

/// The key of the configuration that names the entry or the engine.
const KEY: &str = "vault.ca";

fn setting(why: String) -> ReloadError {
    ReloadError::Setting { key: KEY, why }
}

/// Whether a path is that of an engine that signs, and not of an entry.
#[must_use]
pub fn signs_ca(path: &str) -> bool {
    path.ends_with(SIGNS)
}

/// The CA in an entry, for commands, which make none; `None` where there is no entry yet.
///
/// # Errors
/// [`ReloadError`] where the entry cannot be read, or holds no CA.
pub async fn shared_ca(vault: &Vault, path: &str, now: Timestamp) -> Result<Option<CaState>, ReloadError> {
    match read(vault, path, now).await {
        Ok((ca, _)) => Ok(Some(ca)),
        Err(Failure::Vault(e)) if e.kind == VaultErrorKind::NotFound => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

async fn read(vault: &Vault, path: &str, now: Timestamp) -> Result<(CaState, Option<u64>), Failure> {
    let reading = vault.read(path, None).await.map_err(Failure::Vault)?;
    let missing =
        |field: &str| Failure::Content(format!("{path} in Vault has no field `{field}`; it holds `{CERTIFICATE}` and `{PRIVATE_KEY}`, both PEM"));
    let certificate = reading.fields.text(CERTIFICATE).ok_or_else(|| missing(CERTIFICATE))?;
    let key = reading.fields.get(PRIVATE_KEY).ok_or_else(|| missing(PRIVATE_KEY))?;
    let ca = CaState::from_pem(&certificate, key, now).map_err(|e| Failure::Content(format!("{path} in Vault: {e}")))?;
    Ok((ca, reading.version))
}

/// Makes a CA in Vault by check-and-set: of several replicas that start at once one writes it, and all read the same.
async fn make(vault: &Vault, path: &str, now: Timestamp) -> Result<(), ReloadError> {
    let (certificate, key) = generate_pem(now).map_err(failed)?;
    let certificate = crate::credential::Secret::from_opened(certificate.as_bytes());
    let made = vault.create(path, &[(CERTIFICATE, &certificate), (PRIVATE_KEY, &key)]).await;
    let said = |e: VaultError| VaultError { detail: format!("there is nothing at {path}, and a CA cannot be made there: {e}"), ..e };
    let made = made.map_err(|e| ReloadError::vault(KEY, said(e)))?;
    if made {
        tracing::info!("{path}: made a CA in Vault");
    }
    Ok(())
}

/// Has Vault's PKI engine sign an intermediate of this replica's own, whose key never leaves it.
async fn sign(vault: &Vault, path: &str, now: Timestamp) -> Result<CaState, ReloadError> {
    let [a, b, c, d] = random::bytes::<4>();
    let name = format!("Keyhatch CA {a:02x}{b:02x}{c:02x}{d:02x}");
    let request = CertificateRequest::new(&name).map_err(failed)?;
    let signed = vault.sign_csr(path, request.csr_pem(), &name, INTERMEDIATE_LIFE).await.map_err(|e| ReloadError::vault(KEY, e))?;
    request.finish(&signed.certificate, &signed.chain.concat(), now).map_err(|e| setting(format!("what {path} signed: {e}")))
}
