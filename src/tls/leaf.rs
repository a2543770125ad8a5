//! The leaf for each intercepted host: minted off the reactor, once, and kept while it is fresh.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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
use crate::agent::AgentName;
use crate::clock;
use crate::host::Host;

/// How many hosts' leaves are kept for one agent.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// For how many agents: those that used theirs last.
const AGENTS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// How many are minted at once: agents that name many hosts must not fill the blocking pool.
const MINTING: usize = 4;
/// How many of these for one agent: the others of its new hosts wait behind it, and nobody else does.
const MINTING_OF_ONE: usize = 1;
/// Hosts that are looked over for leaves that nobody keeps any more, at the earliest.
const LEAST_LOOKED_OVER: usize = 1024;
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

/// The leaves of intercepted hosts: of each agent at most 256, the least recently used goes first. A host's leaf is one,
/// whoever asks, and is there for as long as one agent keeps it: so an agent that names any number of hosts puts out no
/// leaf but its own. Each is minted once however many connections wait for it, serves half its life and is then made anew,
/// as it is when another CA signs.
pub struct LeafCache {
    authority: ArcSwap<CaState>,
    slots: Mutex<Slots>,
    minting: Arc<Semaphore>,
    tickets: Arc<dyn ProducesTickets>,
}

/// A host's leaf: empty while it is being minted.
type Slot = OnceCell<Kept>;

/// Who keeps which leaf.
struct Slots {
    /// Of every host that some agent keeps a leaf of.
    hosts: HashMap<Host, Weak<Slot>>,
    agents: LruCache<AgentName, Share>,
    /// With so many hosts those that nobody keeps are forgotten.
    look_over_at: usize,
}

/// What one agent keeps.
struct Share {
    hosts: LruCache<Host, Arc<Slot>>,
    minting: Arc<Semaphore>,
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
        Ok(Self { authority: ArcSwap::new(authority), slots: Mutex::new(Slots::new()), minting: Arc::new(Semaphore::new(MINTING)), tickets })
    }

    /// Signs with another state of the CA from now on. Connections that are open stay.
    pub fn replace_ca(&self, authority: Arc<CaState>) {
        self.authority.store(authority);
        // A leaf that is being minted under the old state ends in a slot that nobody finds any more.
        *self.slots() = Slots::new();
    }

    /// The CA's state as it is used.
    #[must_use]
    pub fn authority(&self) -> Arc<CaState> {
        self.authority.load_full()
    }

    /// The configuration for a host, if it is there and fresh: no waiting, nothing minted.
    #[must_use]
    pub fn cached(&self, agent: &AgentName, host: &Host) -> Option<Arc<ServerConfig>> {
        self.cached_at(agent, host, clock::now())
    }

    /// The configuration for a host, minted if need be, in the agent's turn. If the caller gives up while its leaf is being
    /// made, another that waits for it makes it.
    ///
    /// # Errors
    /// [`LeafError`] where it cannot be minted; the next call tries again.
    pub async fn get(&self, agent: &AgentName, host: &Host) -> Result<Leaf, LeafError> {
        self.get_at(agent, host, clock::now()).await
    }

    fn cached_at(&self, agent: &AgentName, host: &Host, now: Timestamp) -> Option<Arc<ServerConfig>> {
        let mut slots = self.slots();
        let slot = slots.find(agent, host)?;
        let kept = slot.get()?;
        self.serves(kept, now).then(|| Arc::clone(&kept.config))
    }

    async fn get_at(&self, agent: &AgentName, host: &Host, now: Timestamp) -> Result<Leaf, LeafError> {
        let (slot, minting) = self.slot(agent, host, now);
        if let Some(kept) = slot.get() {
            return Ok(Leaf { config: Arc::clone(&kept.config), hit: true });
        }
        // Before the slot is taken hold of: another agent that wants this host must not wait behind all that this one wants.
        let _turn = minting.acquire().await.map_err(|_| LeafError::Stopping)?;
        let kept = slot.get_or_try_init(|| self.mint(vec![host.clone()], host.to_string(), now)).await?;
        Ok(Leaf { config: Arc::clone(&kept.config), hit: false })
    }

    /// The host's slot: empty, or holding a leaf that serves. And the agent's turn at minting.
    fn slot(&self, agent: &AgentName, host: &Host, now: Timestamp) -> (Arc<Slot>, Arc<Semaphore>) {
        let mut slots = self.slots();
        let slot = match slots.find(agent, host).filter(|slot| slot.get().is_none_or(|kept| self.serves(kept, now))) {
            Some(slot) => slot,
            None => slots.begin(agent, host),
        };
        let minting = Arc::clone(&slots.share(agent).minting);
        (slot, minting)
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

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // The map is whole between any two statements that hold the lock.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn new() -> Self {
        Self { hosts: HashMap::new(), agents: LruCache::new(AGENTS), look_over_at: LEAST_LOOKED_OVER }
    }

    fn share(&mut self, agent: &AgentName) -> &mut Share {
        if !self.agents.contains(agent) {
            self.agents.put(agent.clone(), Share { hosts: LruCache::new(CAPACITY), minting: Arc::new(Semaphore::new(MINTING_OF_ONE)) });
        }
        self.agents.get_mut(agent).expect("it was put in")
    }

    /// The host's slot, which the agent keeps from now on.
    fn find(&mut self, agent: &AgentName, host: &Host) -> Option<Arc<Slot>> {
        let all = self.hosts.get(host).and_then(Weak::upgrade);
        let share = self.share(agent);
        if let Some(own) = share.hosts.get(host)
            && all.as_ref().is_some_and(|all| Arc::ptr_eq(all, own))
        {
            return all;
        }
        // Another agent's, perhaps made anew since.
        let slot = all?;
        share.hosts.put(host.clone(), Arc::clone(&slot));
        Some(slot)
    }

    /// An empty slot in the place of what was there.
    fn begin(&mut self, agent: &AgentName, host: &Host) -> Arc<Slot> {
        let slot = Arc::new(Slot::new());
        self.share(agent).hosts.put(host.clone(), Arc::clone(&slot));
        if self.hosts.len() >= self.look_over_at {
            self.hosts.retain(|_, slot| slot.strong_count() > 0);
            self.look_over_at = (2 * self.hosts.len()).max(LEAST_LOOKED_OVER);
        }
        self.hosts.insert(host.clone(), Arc::downgrade(&slot));
        slot
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
mod tests;
