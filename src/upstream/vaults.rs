//! Where Vault is, so that no agent comes there through the proxy.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::dial::{DialError, DialErrorKind};
use super::resolve::{OURSELVES, ResolveError, Resolver};
use crate::host::Authority;

/// Vault's name is looked up again after so long, where somebody dials its port.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// After a look-up that failed, the next one waits so long.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// An address that the name does not have any more stays Vault's for so long: names of balancers go round.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// So many addresses are remembered of a name.
const MOST_ADDRESSES: usize = 256;

/// Every Vault that this process was told of. None is taken out: a changed configuration counts for Vault at the next start.
#[derive(Default)]
pub struct Vaults(Mutex<Vec<Arc<Place>>>);

struct Place {
    authority: Authority,
    known: tokio::sync::Mutex<Known>,
}

/// What is known of a name's addresses.
#[derive(Default)]
struct Known {
    addresses: Vec<(IpAddr, Instant)>,
    again: Option<Instant>,
    /// Why the last look-up says nothing, if so.
    failure: Option<ResolveError>,
}

impl Vaults {
    /// Adds one; none is there twice.
    pub fn add(&self, authority: Authority) {
        let mut all = self.lock();
        if !all.iter().any(|place| place.authority == authority) {
            all.push(Arc::new(Place { authority, known: tokio::sync::Mutex::default() }));
        }
    }

    /// Whether this is the name and the port that a Vault is asked under.
    pub(super) fn is_named(&self, authority: &Authority) -> bool {
        self.lock().iter().any(|place| place.authority == *authority)
    }

    /// The addresses of those at a port. Where a name cannot be looked up, it has the addresses that it had.
    ///
    /// # Errors
    /// Where nothing was ever known of one and its look-up fails: any address could be its own. A name that does not exist has none.
    pub(super) async fn addresses(&self, port: u16, resolver: &Resolver, limit: Duration) -> Result<Vec<SocketAddr>, DialError> {
        let places: Vec<Arc<Place>> = self.lock().iter().filter(|place| place.authority.port == port).cloned().collect();
        let mut all = Vec::new();
        for place in places {
            let mut known = place.known.lock().await;
            known.look(&place.authority, resolver, limit).await;
            if let (true, Some(failure)) = (known.addresses.is_empty(), &known.failure) {
                let detail =
                    format!("Vault's own name {} cannot be looked up, so nothing is connected to at its port: {failure}", place.authority.host);
                return Err(DialError::new(DialErrorKind::Dns, detail));
            }
            all.extend(known.addresses.iter().map(|(ip, _)| SocketAddr::new(*ip, port)));
        }
        Ok(all)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Place>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Looks the name up, unless that was done lately. Whoever else dials waits for it.
    async fn look(&mut self, authority: &Authority, resolver: &Resolver, limit: Duration) {
        if self.again.is_some_and(|again| Instant::now() < again) {
            return;
        }
        // Those who wait must not wait long where there is something to go by.
        let limit = if self.addresses.is_empty() { limit } else { limit.min(Duration::from_secs(2)) };
        let found = tokio::time::timeout(limit, resolver.resolve(&authority.host, OURSELVES)).await.unwrap_or(Err(ResolveError::Timeout));
        let now = Instant::now();
        // Where there is something to go by, those who dial must not wait for each try.
        self.again = Some(now + if found.is_ok() || !self.addresses.is_empty() { LOOK_AGAIN } else { TRY_AGAIN });
        match found {
            Ok(ips) => {
                self.failure = None;
                self.addresses.retain(|(ip, seen)| !ips.contains(ip) && now.duration_since(*seen) < REMEMBERED);
                self.addresses.extend(ips.into_iter().map(|ip| (ip, now)));
                let over = self.addresses.len().saturating_sub(MOST_ADDRESSES);
                self.addresses.drain(..over);
            }
            Err(ResolveError::NoSuchName | ResolveError::NoAddress | ResolveError::NoServer(_)) => self.failure = None,
            Err(failure) => self.failure = Some(failure),
        }
    }
}
