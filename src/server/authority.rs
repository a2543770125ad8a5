//! The CA that Vault has, so that all replicas mint leaves under one: an entry that holds it, or an engine that signs.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

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
/// The longest wait after a failure.
const AGAIN: Duration = Duration::from_secs(30);
/// The shortest wait: an engine whose certificates live for seconds is not asked without end.
const LEAST: Duration = Duration::from_secs(1);
/// The longest wait: a machine may have slept meanwhile, or its clock been set.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// An end that is nearer is warned of at the start.
const NEAR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Where the CA comes from, and the one that came last.
pub(super) struct Authority {
    path: String,
    origin: Origin,
    ca: Option<CaState>,
}

/// Which one it was that came last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// An entry's version; none in KV v1, whose CA is read at the start only.
    Entry(Option<u64>),
    /// An intermediate of this replica's own.
    Signed {
        /// When it is to be replaced.
        renew_at: Timestamp,
        /// When it ends.
        ends: Timestamp,
    },
}

impl Origin {
    fn signed(ca: &CaState, now: Timestamp) -> Self {
        Self::Signed { renew_at: ca.renew_at(now), ends: ca.expires_at() }
    }

    /// How long to wait before Vault is asked again.
    fn wait(self, now: Timestamp, refresh: Duration, trouble: bool) -> Duration {
        let until = |at: Timestamp| Duration::try_from(now.duration_until(at)).unwrap_or(Duration::ZERO);
        match self {
            // A little less, so that a change is in force within that time.
            Self::Entry(_) => refresh.mul_f64(0.8).min(if trouble { AGAIN } else { LONGEST }),
            Self::Signed { ends, .. } if trouble => (until(ends) / 4).clamp(LEAST, AGAIN),
            Self::Signed { renew_at, .. } => until(renew_at).clamp(LEAST, LONGEST),
        }
    }
}

impl Authority {
    /// Reads the CA, makes it where the entry is not there yet, or has an intermediate signed.
    ///
    /// # Errors
    /// [`ReloadError`] where that cannot be done, or gives no CA.
    pub(super) async fn load(vault: &Vault, path: &str, now: Timestamp) -> Result<Self, ReloadError> {
        let path = path.to_owned();
        if signs_ca(&path) {
            let ca = sign(vault, &path, now).await?;
            warn_of_anchor(&path, &ca, now);
            return Ok(Self { path, origin: Origin::signed(&ca, now), ca: Some(ca) });
        }
        let (ca, version) = match read(vault, &path, now).await {
            Err(Failure::Vault(e)) if e.kind == VaultErrorKind::NotFound => {
                make(vault, &path, now).await?;
                read(vault, &path, now).await?
            }
            other => other?,
        };
        warn_of_anchor(&path, &ca, now);
        let ends = ca.expires_at();
        if now.duration_until(ends) < NEAR {
            tracing::warn!("the CA at {path} ends at {ends}: put another one there before that, and give agents its certificate");
        }
        Ok(Self { path, origin: Origin::Entry(version), ca: Some(ca) })
    }

    /// The CA that was loaded. Once.
    ///
    /// # Panics
    /// Where it was taken before.
    pub(super) fn take(&mut self) -> CaState {
        self.ca.take().expect("it is taken once, at the start")
    }

    /// Follows changes of the entry, or renews the intermediate in time, until it is ended. A CA that cannot be had leaves
    /// the last one signing, and is told to `told`, as is the end of that.
    pub(super) async fn keep(
        mut self,
        vault: Arc<Vault>,
        refresh: Duration,
        adopt: impl Fn(CaState) -> Result<(), ReloadError> + Send + Sync + 'static,
        told: impl Fn(Option<String>) + Send + Sync,
    ) {
        let adopt = Arc::new(adopt);
        let mut trouble: Option<String> = None;
        loop {
            tokio::time::sleep(self.origin.wait(clock::now(), refresh, trouble.is_some())).await;
            let now = self.follow(&vault, &adopt).await.err().map(|e| e.to_string());
            match (&trouble, &now) {
                (old, Some(why)) if old.as_ref() != Some(why) => tracing::error!("the CA in Vault cannot be had; the last one signs on: {why}"),
                (Some(_), None) => tracing::info!("{}: the CA can be had again", self.path),
                _ => {}
            }
            told(now.clone());
            trouble = now;
        }
    }

    /// Takes another CA where there is one.
    async fn follow<A>(&mut self, vault: &Vault, adopt: &Arc<A>) -> Result<(), ReloadError>
    where
        A: Fn(CaState) -> Result<(), ReloadError> + Send + Sync + 'static,
    {
        let Some((ca, origin)) = self.next(vault, clock::now()).await? else { return Ok(()) };
        warn_of_anchor(&self.path, &ca, clock::now());
        let adopt = Arc::clone(adopt);
        tokio::task::spawn_blocking(move || adopt(ca)).await.unwrap_or_else(|_| Err(failed("taking it was cut short")))?;
        // Not before: what could not be taken is tried again.
        self.origin = origin;
        tracing::info!("{}: took another CA", self.path);
        Ok(())
    }

    async fn next(&self, vault: &Vault, now: Timestamp) -> Result<Option<(CaState, Origin)>, ReloadError> {
        let known = match self.origin {
            Origin::Signed { renew_at, .. } if now < renew_at => return Ok(None),
            Origin::Signed { .. } => {
                let ca = sign(vault, &self.path, now).await?;
                let origin = Origin::signed(&ca, now);
                return Ok(Some((ca, origin)));
            }
            Origin::Entry(None) => return Ok(None),
            Origin::Entry(Some(known)) => known,
        };
        match vault.metadata(&self.path).await {
            Ok(metadata) if metadata.version == known && !metadata.gone => return Ok(None),
            Ok(_) => {}
            Err(e) if e.kind.is_outage() => return Ok(None),
            // A policy may give the value without the metadata.
            Err(e) if e.kind == VaultErrorKind::Denied => {}
            Err(e) => return Err(setting(e.to_string())),
        }
        let (ca, version) = read(vault, &self.path, now).await?;
        Ok((version != Some(known)).then_some((ca, Origin::Entry(version))))
    }
}

fn warn_of_anchor(path: &str, ca: &CaState, now: Timestamp) {
    if !ca.signing(now).anchor_is_root() {
        tracing::warn!("{path}: the last certificate of the CA is no root, and OpenSSL, curl and Node trust nothing else: put its root's after it");
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
    }

    #[test]
    fn an_entry_is_looked_at_within_the_refresh_time() {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        let entry = Origin::Entry(Some(1));
        assert_eq!(entry.wait(at(0), minute, false), Duration::from_secs(48));
        assert_eq!(entry.wait(at(0), minute, true), AGAIN);
        assert_eq!(entry.wait(at(0), hour, true), AGAIN);
        // A clock may be set, and a machine sleep.
        assert_eq!(entry.wait(at(0), 24 * hour, false), LONGEST);
        assert!(entry.wait(at(0), Duration::from_secs(1), true) < Duration::from_secs(1));
    }

    #[test]
    fn an_intermediate_is_renewed_in_time_however_short_it_lives() {
        let refresh = Duration::from_secs(30);
        for life in [3, 60, 3600, 30 * 86_400] {
            let origin = Origin::Signed { renew_at: at(life * 2 / 3), ends: at(life) };
            let mut now = 0;
            // As often as it takes, and none of the waits goes over its end.
            while now < life * 2 / 3 {
                let wait = origin.wait(at(now), refresh, false);
                assert!(wait >= LEAST && wait <= LONGEST, "{wait:?}");
                now += wait.as_secs().cast_signed();
                assert!(now < life, "{life}: at {now}");
            }
            // A failure then leaves time for some more tries.
            let mut tries = 0;
            while now < life {
                now += origin.wait(at(now), refresh, true).as_secs().cast_signed();
                tries += 1;
            }
            assert!(tries > if life > 10 { 3 } else { 0 }, "{life}: {tries}");
        }
        let over = Origin::Signed { renew_at: at(0), ends: at(10) };
        assert_eq!((over.wait(at(100), refresh, false), over.wait(at(100), refresh, true)), (LEAST, LEAST));
    }
}
