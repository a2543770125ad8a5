//! How there comes to be a token: one log-in at a time, a new one where a call was refused, none thrown away by a caller that stopped waiting.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::answer::Answer;
use super::answers::{self, Grant};
use super::call::Call;
use super::client::{Counters, Vault};
use super::error::{VaultError, VaultErrorKind, policy_line};
use super::settings::Login;
use crate::credential::Secret;

/// After a failed log-in, whoever asks within this gets the same failure.
const FAILURE_HOLDS: Duration = Duration::from_secs(1);
/// A refusal holds twice as long each time, up to this, unless the file behind it changes: Vault locks out whoever is refused too often.
const REFUSAL_HOLDS: Duration = Duration::from_secs(60);
/// A token older than this that is good, but refused a path, is replaced once: a role may have got another policy since its log-in.
pub(super) const POLICIES_HOLD: Duration = Duration::from_secs(300);
/// The longest file of a token, a secret id or a JWT, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// [`Login`] as it is held here: a given token can be in a session without a copy.
pub(super) enum Way {
    Given(Arc<Secret>),
    File(PathBuf),
    AppRole { mount: String, role_id: String, secret_id_file: Option<PathBuf>, wrapped: bool },
    Jwt { mount: String, role: String, jwt_file: PathBuf },
}

impl Way {
    pub(super) fn of(login: Login) -> Self {
        let bare = |mount: String| mount.trim_matches('/').to_owned();
        match login {
            Login::Token(token) => Self::Given(Arc::new(token)),
            Login::TokenFile(path) => Self::File(path),
            Login::AppRole { mount, role_id, secret_id_file, wrapped } => Self::AppRole { mount: bare(mount), role_id, secret_id_file, wrapped },
            Login::Jwt { mount, role, jwt_file } => Self::Jwt { mount: bare(mount), role, jwt_file },
        }
    }

    /// Whether this process logs in itself: the token is its own to replace and to revoke.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::AppRole { .. } | Self::Jwt { .. })
    }

    /// The file that a log-in reads.
    fn file(&self) -> Option<&Path> {
        match self {
            Self::Given(_) => None,
            Self::File(path) | Self::Jwt { jwt_file: path, .. } => Some(path),
            Self::AppRole { secret_id_file, .. } => secret_id_file.as_deref(),
        }
    }

    /// What it is called in a sentence.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Given(_) => "the token of VAULT_TOKEN".to_owned(),
            Self::File(path) => format!("the token in {}", path.display()),
            Self::AppRole { mount, .. } => format!("AppRole (auth/{mount})"),
            Self::Jwt { mount, .. } => format!("a JWT (auth/{mount})"),
        }
    }
}

/// A token in use.
pub(super) struct Session {
    pub(super) token: Arc<Secret>,
    /// Grows with each new token, from 1.
    pub(super) number: u64,
    /// When it was come to.
    pub(super) born: Instant,
    /// When Vault ends it; `None`: never.
    pub(super) ends: Option<Instant>,
    /// The longest life that it was given at once.
    pub(super) whole: Duration,
    pub(super) renewable: bool,
    /// When something is to be done about its end; `None`: nothing can be.
    pub(super) due: Option<Instant>,
    /// What the token's file held.
    pub(super) digest: Option<[u8; 32]>,
}

impl Session {
    pub(super) fn is_over(&self) -> bool {
        self.ends.is_some_and(|end| Instant::now() >= end)
    }
}

/// What the one who logs in knows.
#[derive(Default)]
pub(super) struct Gate {
    last_number: u64,
    failed: Option<Failed>,
    /// An unwrapped secret id, and what its file held.
    pub(super) unwrapped: Option<([u8; 32], Secret)>,
    /// The content of the token's file that Vault would not take.
    pub(super) refused: Option<[u8; 32]>,
    /// The token before the present one, where it may still live.
    pub(super) past: Option<Arc<Session>>,
}

/// The last log-in, where it failed.
struct Failed {
    at: Instant,
    error: VaultError,
    /// How many failed in a row.
    times: u32,
    /// What its file held, where there was one.
    file: Option<[u8; 32]>,
}

impl Failed {
    /// Whether it is too early to try again.
    fn holds(&self, file: Option<[u8; 32]>) -> bool {
        let refused = self.error.kind == VaultErrorKind::LoginRefused;
        let hold = if refused { REFUSAL_HOLDS.min(FAILURE_HOLDS * 2_u32.pow((self.times - 1).min(6))) } else { FAILURE_HOLDS };
        self.at.elapsed() < hold && (!refused || self.file == file)
    }
}

/// Some moment between a half and two thirds of a life from now, so that replicas do not all come at once.
pub(super) fn due_after(life: Duration) -> Instant {
    Instant::now() + life.mul_f64(0.5 + 0.15 * crate::random::share())
}

/// Reads a small file: what it holds without white space round it, and a digest to tell a change by.
pub(super) async fn read_file(path: &Path, what: &str) -> Result<([u8; 32], Secret), VaultError> {
    let refused = |why: String| VaultError::new(VaultErrorKind::LoginRefused, format!("{what} cannot be read from {}: {why}", path.display()));
    let length = tokio::fs::metadata(path).await.map_err(|e| refused(e.to_string()))?.len();
    if length > MAX_FILE {
        return Err(refused("it is too long for one".into()));
    }
    let raw = Zeroizing::new(tokio::fs::read(path).await.map_err(|e| refused(e.to_string()))?);
    let text = raw.trim_ascii();
    if text.is_empty() || !text.iter().all(u8::is_ascii_graphic) {
        return Err(refused(if text.is_empty() { "it is empty".into() } else { "it holds more than one word".into() }));
    }
    Ok((Sha256::digest(text).into(), Secret::from_opened(text)))
}

impl Vault {
    /// The present token, or a new one where there is none or its time is over.
    pub(super) async fn present(&self) -> Result<Arc<Session>, VaultError> {
        let seen = match self.current.load_full() {
            Some(session) if !session.is_over() => return Ok(session),
            Some(over) => over.number,
            None => 0,
        };
        self.newer_than(seen).await
    }

    /// After a 403 for a path: a session to try again with, or `None` where the token is known to be good, so that the refusal is the
    /// policy's.
    pub(super) async fn other_than(&self, session: &Arc<Session>, path: &str) -> Result<Option<Arc<Session>>, VaultError> {
        if let Some(now) = self.current.load_full().filter(|now| now.number != session.number && !now.is_over()) {
            return Ok(Some(now));
        }
        let lookup = self.send(&Call::LookupSelf, Some(&session.token)).await?;
        if !is_good(&lookup)? {
            return self.newer_than(session.number).await.map(Some);
        }
        let old = match &self.way {
            Way::Given(_) => false,
            Way::File(path) => read_file(path, "a token").await.is_ok_and(|(digest, _)| Some(digest) != session.digest),
            Way::AppRole { .. } | Way::Jwt { .. } => {
                self.refusals.note(path, session.number, Instant::now()) && session.born.elapsed() >= self.policies_hold
            }
        };
        // A log-in that fails changes nothing about a good token.
        Ok(if old { self.newer_than(session.number).await.ok() } else { None })
    }

    /// A token with a number above `seen`. Whoever waits here waits for the one log-in that is under way. It goes on when its caller is
    /// dropped, or the one secret id of a wrapping token could be lost.
    pub(super) async fn newer_than(&self, seen: u64) -> Result<Arc<Session>, VaultError> {
        let Some(this) = self.this.upgrade() else { return Err(closing()) };
        let work = tokio::spawn(async move { this.log_in(seen).await });
        work.await.unwrap_or_else(|_| Err(closing()))
    }

    async fn log_in(&self, seen: u64) -> Result<Arc<Session>, VaultError> {
        let mut gate = self.gate.lock().await;
        if let Some(session) = self.current.load_full().filter(|s| s.number > seen && !s.is_over()) {
            return Ok(session);
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(closing());
        }
        let file = match self.way.file() {
            Some(path) => read_file(path, "it").await.ok().map(|(digest, _)| digest),
            None => None,
        };
        if let Some(failed) = gate.failed.as_ref().filter(|f| f.holds(file)) {
            return Err(failed.error.clone());
        }
        match self.obtain(&mut gate).await {
            Ok((grant, digest)) => {
                let session = self.install(&mut gate, grant, digest);
                if !self.closed.load(Ordering::Acquire) || !self.way.is_own() {
                    return Ok(session);
                }
                // It was closed meanwhile, and nobody else ends this token.
                drop(gate);
                self.current.store(None);
                self.revoke(&session).await;
                Err(closing())
            }
            Err(error) => {
                Counters::add(&self.counters.login_failures);
                // Said once, not at each try.
                if gate.failed.as_ref().is_none_or(|f| f.error != error) {
                    tracing::warn!("no token for Vault: {error}");
                }
                let times = gate.failed.as_ref().map_or(1, |f| f.times.saturating_add(1));
                gate.failed = Some(Failed { at: Instant::now(), error: error.clone(), times, file });
                Err(error)
            }
        }
    }

    /// Makes a grant the present session.
    fn install(&self, gate: &mut Gate, grant: Arc<Grant>, digest: Option<[u8; 32]>) -> Arc<Session> {
        Counters::add(&self.counters.logins);
        gate.last_number += 1;
        gate.failed = None;
        let Grant { token, ttl, renewable, policies } = &*grant;
        let session = Arc::new(Session {
            token: Arc::clone(token),
            number: gate.last_number,
            born: Instant::now(),
            ends: ttl.map(|ttl| Instant::now() + ttl),
            whole: ttl.unwrap_or_default(),
            renewable: *renewable,
            due: ttl.filter(|_| *renewable || self.way.is_own()).map(due_after),
            digest,
        });
        let life = ttl.map_or_else(|| "without an end".to_owned(), |ttl| format!("for {} s", ttl.as_secs()));
        tracing::info!("Vault at {} takes {}: {life}, policies {}", self.at, self.way.name(), policies.join(", "));
        if session.ends.is_some() && session.due.is_none() {
            tracing::warn!("{} ends in {} s and cannot be renewed: give another one before", self.way.name(), session.whole.as_secs());
        }
        let old = self.current.swap(Some(Arc::clone(&session)));
        if self.way.is_own() {
            let past = std::mem::replace(&mut gate.past, old.filter(|s| !s.is_over()));
            if let (Some(past), Some(this)) = (past.filter(|s| !s.is_over()), self.this.upgrade()) {
                tokio::spawn(async move { this.revoke(&past).await });
            }
        }
        self.session.send_replace(session.number);
        session
    }

    async fn obtain(&self, gate: &mut Gate) -> Result<(Arc<Grant>, Option<[u8; 32]>), VaultError> {
        match &self.way {
            Way::Given(token) => self.look_up(Arc::clone(token)).await.map(|g| (g, None)),
            Way::File(path) => {
                let (digest, token) = read_file(path, "a token").await?;
                let grant = self.look_up(Arc::new(token)).await;
                gate.refused = grant.as_ref().is_err_and(|e| e.kind == VaultErrorKind::LoginRefused).then_some(digest);
                Ok((grant?, Some(digest)))
            }
            Way::AppRole { mount, role_id, secret_id_file, wrapped } => {
                let read;
                let secret_id = match secret_id_file {
                    None => None,
                    Some(path) if *wrapped => Some(self.unwrapped(gate, mount, path).await?),
                    Some(path) => {
                        read = read_file(path, "the secret id").await?.1;
                        Some(&read)
                    }
                };
                self.logged_in(&Call::login_approle(mount, role_id, secret_id)?).await
            }
            Way::Jwt { mount, role, jwt_file } => {
                let (_, jwt) = read_file(jwt_file, "the JWT").await?;
                self.logged_in(&Call::login_jwt(mount, role, &jwt)?).await
            }
        }
    }

    async fn logged_in(&self, call: &Call<'_>) -> Result<(Arc<Grant>, Option<[u8; 32]>), VaultError> {
        let answer = self.send(call, None).await?;
        let grant = answers::grant(&self.log_in_answer(answer)?.body, "the log-in")?;
        Ok((Arc::new(grant), None))
    }

    /// A log-in's answer. Every refusal is one of the log-in, whatever its status.
    fn log_in_answer(&self, answer: Answer) -> Result<Answer, VaultError> {
        if !(400..500).contains(&answer.status) || answer.failure().kind.is_outage() {
            return answer.ok();
        }
        let why = match (answer.status, answer.said.as_str()) {
            (404, _) => "nothing is mounted there: `vault auth list` shows the methods".to_owned(),
            (403, "permission denied") => "permission denied: the role does not take it, or nothing is mounted there (`vault auth list`)".to_owned(),
            (_, "") => format!("status {}", answer.status),
            (_, said) => said.to_owned(),
        };
        Err(VaultError::new(VaultErrorKind::LoginRefused, format!("Vault refuses the log-in by {}: {why}", self.way.name())))
    }

    /// Takes a token that was made elsewhere: how long it lives, and whether it does.
    async fn look_up(&self, token: Arc<Secret>) -> Result<Arc<Grant>, VaultError> {
        let answer = self.send(&Call::LookupSelf, Some(&token)).await?;
        let grant = |ttl, renewable, policies| Arc::new(Grant { token: Arc::clone(&token), ttl, renewable, policies });
        if !answer.is_refusal() {
            let info = answers::token_info(&answer.ok()?.body)?;
            return Ok(grant(info.ttl, info.renewable, info.policies));
        }
        if is_good(&answer)? {
            let line = policy_line("read", "auth/token/lookup-self");
            tracing::warn!("{} may not look itself up, so it is not renewed: its policy needs  {line}", self.way.name());
            return Ok(grant(None, false, Vec::new()));
        }
        Err(VaultError::new(
            VaultErrorKind::LoginRefused,
            format!("Vault does not know {}: it is expired or revoked; give a new one", self.way.name()),
        ))
    }
}

fn closing() -> VaultError {
    VaultError::new(VaultErrorKind::Unavailable, "Vault is not asked any more: the program is about to end")
}

/// Whether the answer of `lookup-self` shows a good token. A refusal does too where it is the policy's: Vault says that in the words of
/// an error list, and `permission denied` alone, or `invalid token`, of a token that it does not know.
fn is_good(lookup: &Answer) -> Result<bool, VaultError> {
    match lookup.status {
        200..=299 => Ok(true),
        403 if lookup.is_vaults() => Ok(lookup.said.starts_with("1 error occurred")),
        _ => Err(lookup.failure()),
    }
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
