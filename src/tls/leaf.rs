//! The leaf for each intercepted host: minted off the reactor, once, and kept while it is fresh.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use lru::LruCache;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::sync::{OnceCell, Semaphore};
use zeroize::Zeroizing;

use super::ca::CaError;
use super::state::CaState;
use super::tickets::HostTickets;
use crate::clock;
use crate::host::Host;

/// How many hosts' leaves are kept.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
/// How many are minted at once: an agent that names many hosts must not fill the blocking pool.
const MINTING: usize = 4;
/// How many tickets a client gets at once (TLS 1.3).
const TICKETS: usize = 1;

/// Why there is no leaf for a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// The CA cannot sign.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// rustls does not take the leaf.
    #[error("the leaf certificate cannot be used: {0}")]
    Tls(String),
    /// The process is coming to its end.
    #[error("keyhatch is stopping")]
    Stopping,
}

/// What [`LeafCache::get`] answers.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The configuration for a handshake as the host.
    pub config: Arc<ServerConfig>,
    /// Whether it was there already, for the metric.
    pub hit: bool,
}

/// The leaves of intercepted hosts: at most 1,024, the least recently used goes first. Each is minted once however many
/// connections wait for it, serves half its life and is then made anew, as it is when another CA signs.
pub struct LeafCache {
    authority: ArcSwap<CaState>,
    slots: Mutex<LruCache<Host, Arc<OnceCell<Kept>>>>,
    minting: Arc<Semaphore>,
    tickets: Arc<dyn ProducesTickets>,
}

/// A minted leaf and for how long it serves.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) config: Arc<ServerConfig>,
    /// Seconds since 1970. It has a beginning as well, for a clock that was set back.
    fresh: Range<i64>,
    issuer: [u8; 32],
}

impl LeafCache {
    /// An empty cache.
    ///
    /// # Errors
    /// [`LeafError::Tls`] where the keys of the session tickets cannot be made.
    pub fn new(authority: Arc<CaState>) -> Result<Self, LeafError> {
        let tickets = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|e| LeafError::Tls(e.to_string()))?;
        Ok(Self {
            authority: ArcSwap::new(authority),
            slots: Mutex::new(LruCache::new(CAPACITY)),
            minting: Arc::new(Semaphore::new(MINTING)),
            tickets,
        })
    }

    /// Signs with another state of the CA from now on. Connections that are open stay.
    pub fn replace_ca(&self, authority: Arc<CaState>) {
        self.authority.store(authority);
        // A leaf that is being minted under the old state ends in a slot that nobody finds any more.
        self.slots().clear();
    }

    /// The CA's state as it is used.
    #[must_use]
    pub fn authority(&self) -> Arc<CaState> {
        self.authority.load_full()
    }

    /// The configuration for a host, if it is there and fresh: no waiting, nothing minted.
    #[must_use]
    pub fn cached(&self, host: &Host) -> Option<Arc<ServerConfig>> {
        self.cached_at(host, clock::now())
    }

    /// The configuration for a host, minted if need be. If the caller gives up while its leaf is being made, another
    /// that waits for it makes it.
    ///
    /// # Errors
    /// [`LeafError`] where it cannot be minted; the next call tries again.
    pub async fn get(&self, host: &Host) -> Result<Leaf, LeafError> {
        self.get_at(host, clock::now()).await
    }

    fn cached_at(&self, host: &Host, now: Timestamp) -> Option<Arc<ServerConfig>> {
        let mut slots = self.slots();
        let kept = slots.get(host)?.get()?;
        self.serves(kept, now).then(|| Arc::clone(&kept.config))
    }

    async fn get_at(&self, host: &Host, now: Timestamp) -> Result<Leaf, LeafError> {
        let slot = self.slot(host, now);
        if let Some(kept) = slot.get() {
            return Ok(Leaf { config: Arc::clone(&kept.config), hit: true });
        }
        let kept = slot.get_or_try_init(|| self.mint(vec![host.clone()], host.to_string(), now)).await?;
        Ok(Leaf { config: Arc::clone(&kept.config), hit: false })
    }

    /// The host's slot: empty, or holding a leaf that serves.
    fn slot(&self, host: &Host, now: Timestamp) -> Arc<OnceCell<Kept>> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(host)
            && slot.get().is_none_or(|kept| self.serves(kept, now))
        {
            return Arc::clone(slot);
        }
        let slot = Arc::new(OnceCell::new());
        slots.put(host.clone(), Arc::clone(&slot));
        slot
    }

    /// Whether a leaf is in its time and of the CA that signs now.
    pub(super) fn serves(&self, kept: &Kept, now: Timestamp) -> bool {
        kept.fresh.contains(&now.as_second()) && kept.issuer == self.authority.load().signing(now).public_key_digest()
    }

    /// Mints on a thread that may block. `purpose` is what its session tickets hold for.
    pub(super) async fn mint(&self, names: Vec<Host>, purpose: String, now: Timestamp) -> Result<Kept, LeafError> {
        let permit = Arc::clone(&self.minting).acquire_owned().await.map_err(|_| LeafError::Stopping)?;
        let (authority, tickets) = (self.authority(), self.tickets_for(&purpose));
        let minted = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            mint(&authority, &names, tickets, now)
        });
        minted.await.map_err(|_| LeafError::Stopping)?
    }

    pub(super) fn tickets_for(&self, purpose: &str) -> Arc<dyn ProducesTickets> {
        Arc::new(HostTickets::new(Arc::clone(&self.tickets), purpose))
    }

    fn slots(&self) -> MutexGuard<'_, LruCache<Host, Arc<OnceCell<Kept>>>> {
        // The map is whole between any two statements that hold the lock.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mint(authority: &CaState, names: &[Host], tickets: Arc<dyn ProducesTickets>, now: Timestamp) -> Result<Kept, LeafError> {
    let ca = authority.signing(now);
    let minted = ca.mint(names, now)?;
    // Half its life: the rest is for a client whose clock is fast, and for one that connects at the last moment.
    let half = minted.not_after.as_second() - (minted.not_after.as_second() - now.as_second()) / 2;
    let chain = std::iter::once(minted.certificate).chain(minted.between).collect();
    let config = server_config(chain, minted.key, tickets).map_err(|e| LeafError::Tls(e.to_string()))?;
    Ok(Kept { config, fresh: minted.not_before.as_second()..half, issuer: ca.public_key_digest() })
}

/// The server's side of TLS towards agents: no client certificates, no early data, no sessions in memory.
pub(super) fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    // `with_single_cert` would take the key and drop it unwiped.
    let key = Zeroizing::new(key);
    let certified = CertifiedKey::new(chain, any_supported_type(&key)?);
    certified.keys_match()?;
    let mut config = ServerConfig::builder_with_provider(super::provider())
        .with_protocol_versions(super::VERSIONS)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = super::protocols(super::ALPN);
    config.max_early_data_size = 0;
    // Sessions live in the client's ticket. A session store would be memory that grows with agents' wishes.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    config.send_tls13_tickets = TICKETS;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::acceptance::in_memory::{client_config, handshake};
    use jiff::SignedDuration;
    use rustls::HandshakeKind;

    fn host(name: &str) -> Host {
        Host::parse(name).expect(name)
    }

    fn cache() -> LeafCache {
        LeafCache::new(Arc::new(CaState::generate(clock::now()).expect("made"))).expect("made")
    }

    fn after(at: Timestamp, hours: i64) -> Timestamp {
        at.saturating_add(SignedDuration::from_hours(hours)).expect("in range")
    }

    #[tokio::test]
    async fn a_host_is_minted_once_for_all_who_wait() {
        let cache = Arc::new(cache());
        assert!(cache.cached(&host("a.example")).is_none());
        let waiting: Vec<_> = (0..16)
            .map(|_| {
                let cache = Arc::clone(&cache);
                tokio::spawn(async move { cache.get(&host("A.example.")).await.expect("minted").config })
            })
            .collect();
        let first = cache.get(&host("a.example")).await.expect("minted");
        for other in waiting {
            assert!(Arc::ptr_eq(&other.await.expect("runs"), &first.config));
        }
        let again = cache.get(&host("a.example")).await.expect("there");
        assert!(!first.hit && again.hit);
        assert!(Arc::ptr_eq(&cache.cached(&host("a.example")).expect("there"), &first.config));
        assert!(!cache.get(&host("b.example")).await.expect("minted").hit);
    }

    #[tokio::test]
    async fn the_cache_is_bounded() {
        let cache = cache();
        let now = clock::now();
        for i in 0..CAPACITY.get() + 10 {
            cache.slot(&host(&format!("h{i}.example")), now);
        }
        assert_eq!(cache.slots().len(), CAPACITY.get());
        assert!(cache.slots().peek(&host("h0.example")).is_none());
    }

    #[tokio::test]
    async fn a_leaf_is_made_anew_at_half_its_life() {
        let cache = cache();
        let (a, now) = (host("a.example"), clock::now());
        let first = cache.get_at(&a, now).await.expect("minted").config;
        assert!(cache.cached_at(&a, after(now, 83)).is_some());
        assert!(cache.cached_at(&a, after(now, 85)).is_none());
        assert!(cache.cached_at(&a, after(now, -25)).is_none());
        let second = cache.get_at(&a, after(now, 85)).await.expect("minted");
        assert!(!second.hit && !Arc::ptr_eq(&first, &second.config));
    }

    #[tokio::test]
    async fn another_ca_means_other_leaves() {
        let cache = cache();
        let (a, now) = (host("a.example"), clock::now());
        cache.get(&a).await.expect("minted");
        let mut next = CaState::from_secret(&cache.authority().to_secret()).expect("reads");
        next.rotate(now, false).expect("rotates");
        cache.replace_ca(Arc::new(next));
        let old = cache.get(&a).await.expect("minted");
        assert!(!old.hit);
        // The new CA begins to sign by the clock alone.
        assert!(cache.cached_at(&a, after(now, 7 * 24 - 100)).is_some());
        cache.get_at(&a, after(now, 7 * 24 - 1)).await.expect("minted");
        assert!(cache.cached_at(&a, after(now, 7 * 24 - 1)).is_some());
        assert!(cache.cached_at(&a, after(now, 7 * 24)).is_none());
    }

    #[tokio::test]
    async fn an_ended_ca_mints_nothing_and_says_so() {
        let cache = cache();
        let later = after(clock::now(), 731 * 24);
        let error = cache.get_at(&host("a.example"), later).await.expect_err("ended");
        assert!(matches!(error, LeafError::Ca(CaError::Ended(_))) && error.to_string().contains("ca rotate --now"), "{error}");
        // Near its end a leaf ends with the CA, and is not minted for each connection.
        let last_hour = after(cache.authority().expires_at(), -1);
        assert!(!cache.get_at(&host("b.example"), last_hour).await.expect("minted").hit);
        assert!(cache.get_at(&host("b.example"), last_hour).await.expect("there").hit);
    }

    #[tokio::test]
    async fn sessions_are_resumed_for_the_same_host_only() {
        for version in super::super::VERSIONS {
            let cache = cache();
            let pem = cache.authority().anchors_pem(clock::now());
            let client = client_config(&pem, &[version], &[b"http/1.1"]);
            let a = cache.get(&host("a.example")).await.expect("minted").config;
            let b = cache.get(&host("b.example")).await.expect("minted").config;
            assert_eq!(handshake(&client, "a.example", &a).expect("trusted").kind, Some(HandshakeKind::Full));
            assert_eq!(handshake(&client, "a.example", &a).expect("trusted").kind, Some(HandshakeKind::Resumed));
            // Names `a` with a ticket of `a` where `b` answers: a full handshake, and b's certificate is not a's.
            let error = handshake(&client, "a.example", &b).expect_err("another host's certificate");
            assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
        }
    }

    #[tokio::test]
    async fn no_early_data_and_http_2_before_http_1_1() {
        let cache = cache();
        let pem = cache.authority().anchors_pem(clock::now());
        let config = cache.get(&host("a.example")).await.expect("minted").config;
        assert_eq!(config.max_early_data_size, 0);
        for (offered, chosen) in [(&[&b"h2"[..], b"http/1.1"][..], &b"h2"[..]), (&[b"http/1.1"], b"http/1.1"), (&[b"h2"], b"h2")] {
            let done = handshake(&client_config(&pem, super::super::VERSIONS, offered), "a.example", &config).expect("trusted");
            assert_eq!(done.alpn.as_deref(), Some(chosen));
        }
        let done = handshake(&client_config(&pem, super::super::VERSIONS, &[]), "a.example", &config).expect("trusted");
        assert_eq!(done.alpn, None);
    }
}
