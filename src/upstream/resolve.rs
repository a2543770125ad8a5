//! From a name to its addresses: the hosts file, then DNS.
//!
//! Every name is absolute: no search domain is ever appended, since `api` must not become `api.attacker.example` because
//! of where the machine happens to stand. What is found here is not yet allowed: [`crate::host::refusal`] decides on it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{TokioResolver, system_conf};
use lru::LruCache;
use tokio::sync::Semaphore;

use crate::clock;
use crate::host::Host;

/// How many seconds pass before the two files are looked at again.
const LOOK_AGAIN: i64 = 2;
/// How long an answer is kept at most, whatever its TTL says.
const KEEP: Duration = Duration::from_secs(300);
/// How long an answer "there is no such name" is kept at most: the operator may just have made it.
const KEEP_NEGATIVE: Duration = Duration::from_secs(5);
/// How many answers are kept for one agent.
const ANSWERS: u64 = 256;
/// How many look-ups of one agent are under way at once; more of them wait.
const AT_ONCE: usize = 32;
/// For how many agents answers are kept: those that asked last.
const AGENTS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// NXDOMAIN.
    #[error("the name does not exist (NXDOMAIN)")]
    NoSuchName,
    /// The name exists, without an A or AAAA record.
    #[error("the name has no address")]
    NoAddress,
    /// No server answered in time.
    #[error("no DNS server answered in time")]
    Timeout,
    /// The servers answered with an error, such as SERVFAIL.
    #[error("the DNS server answers {0}")]
    Server(String),
    /// This machine names no DNS server.
    #[error("the name is not in the hosts file and there is no DNS server to ask: {0}")]
    NoServer(Arc<str>),
    /// Anything else, such as a server that cannot be reached.
    #[error("DNS failed: {0}")]
    Failed(String),
}

/// Who asks where no agent does: an agent's name is never empty.
pub const OURSELVES: &str = "";

/// Looks names up as this machine's files say, which are read again when they change.
pub struct Resolver {
    hosts_file: PathBuf,
    resolv_conf: PathBuf,
    sources: ArcSwap<Sources>,
    looked_at: AtomicI64,
}

/// What the two files said.
struct Sources {
    hosts: HashMap<Host, Vec<IpAddr>>,
    dns: Result<Dns, Arc<str>>,
    stamps: [Stamp; 2],
}

/// The servers to ask, and a client for each agent: what one asks, and how much, puts out no answer of another's and makes
/// nobody wait but itself.
struct Dns {
    config: ResolverConfig,
    options: ResolverOpts,
    clients: Mutex<LruCache<Box<str>, Arc<DnsClient>>>,
}

struct DnsClient {
    resolver: TokioResolver,
    turns: Semaphore,
}

/// By what a change of a file is noticed; `None` for one that is not there.
type Stamp = Option<(SystemTime, u64)>;

impl Resolver {
    /// By `/etc/hosts` and `/etc/resolv.conf`. Without the latter only the names in the former can be looked up, and the
    /// others fail one by one.
    #[must_use]
    pub fn system() -> Self {
        Self::with_files("/etc/hosts".into(), "/etc/resolv.conf".into())
    }

    /// By other files.
    pub(super) fn with_files(hosts_file: PathBuf, resolv_conf: PathBuf) -> Self {
        let sources = ArcSwap::from_pointee(Sources::read(&hosts_file, &resolv_conf));
        Self { hosts_file, resolv_conf, sources, looked_at: AtomicI64::new(clock::unix_seconds()) }
    }

    /// All addresses of a host, IPv4 first. An address is itself; `localhost` and names under it are loopback (RFC 6761
    /// 6.3); a name in the hosts file has the addresses there and no others. There is no time limit but the one in
    /// `resolv.conf`: the caller sets its own, and may drop the future. `who` asks: each agent has its own answers and its own
    /// turns.
    ///
    /// # Errors
    /// [`ResolveError`]; never an empty list.
    pub async fn resolve(&self, host: &Host, who: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let name = match host {
            Host::Ip(ip) => return Ok(vec![*ip]),
            Host::Dns(name) => name,
        };
        if &**name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        self.look_again(clock::unix_seconds()).await;
        let sources = self.sources.load_full();
        if let Some(addresses) = sources.hosts.get(host) {
            return Ok(addresses.clone());
        }
        match &sources.dns {
            Ok(dns) => dns.client(who).map_err(|e| ResolveError::Failed(e.to_string()))?.ask(name).await,
            Err(reason) => Err(ResolveError::NoServer(Arc::clone(reason))),
        }
    }

    /// Reads the files anew if they changed, at most once in [`LOOK_AGAIN`] seconds.
    async fn look_again(&self, now: i64) {
        let last = self.looked_at.load(Ordering::Relaxed);
        // A clock that was set back must not keep us from looking.
        if (last..last + LOOK_AGAIN).contains(&now) || self.looked_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        if self.sources.load().stamps == stamps(&self.hosts_file, &self.resolv_conf) {
            return;
        }
        let (hosts_file, resolv_conf) = (self.hosts_file.clone(), self.resolv_conf.clone());
        // A hosts file against advertisements holds megabytes.
        if let Ok(sources) = tokio::task::spawn_blocking(move || Sources::read(&hosts_file, &resolv_conf)).await {
            self.sources.store(Arc::new(sources));
        }
    }
}

impl Sources {
    fn read(hosts_file: &Path, resolv_conf: &Path) -> Self {
        // Stamped first: a change while they are read is noticed the next time.
        let stamps = stamps(hosts_file, resolv_conf);
        let hosts = std::fs::read(hosts_file).map(|bytes| parse_hosts(&String::from_utf8_lossy(&bytes))).unwrap_or_default();
        let dns = std::fs::read(resolv_conf)
            .map_err(|e| e.to_string())
            .and_then(|bytes| system_conf::parse_resolv_conf(bytes).map_err(|e| e.to_string()))
            .and_then(|(config, options)| Dns::new(config, options).map_err(|e| e.to_string()))
            .map_err(|e| format!("{}: {e}", resolv_conf.display()).into());
        Self { hosts, dns, stamps }
    }
}

fn stamps(hosts_file: &Path, resolv_conf: &Path) -> [Stamp; 2] {
    [hosts_file, resolv_conf].map(|file| {
        let meta = std::fs::metadata(file).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    })
}

impl Dns {
    /// The servers in `config`, without its search domains.
    fn new(config: ResolverConfig, mut options: ResolverOpts) -> Result<Self, NetError> {
        let (_domain, _search, servers) = config.into_parts();
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = ANSWERS;
        options.positive_max_ttl = Some(KEEP);
        options.negative_max_ttl = Some(KEEP_NEGATIVE);
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let dns = Self { config, options, clients: Mutex::new(LruCache::new(AGENTS)) };
        // What is wrong with the servers is to be known now.
        dns.make().map(|_| dns)
    }

    fn make(&self) -> Result<TokioResolver, NetError> {
        TokioResolver::builder_with_config(self.config.clone(), TokioRuntimeProvider::default()).with_options(self.options.clone()).build()
    }

    fn client(&self, who: &str) -> Result<Arc<DnsClient>, NetError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(who) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(DnsClient { resolver: self.make()?, turns: Semaphore::new(AT_ONCE) });
        clients.put(who.into(), Arc::clone(&client));
        Ok(client)
    }
}

impl DnsClient {
    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let mut absolute = Name::from_ascii(name).map_err(|e| ResolveError::Failed(e.to_string()))?;
        absolute.set_fqdn(true);
        let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
        let found = self.resolver.lookup_ip(absolute).await.map_err(|e| reason(&e))?;
        let mut addresses = Vec::new();
        for ip in found.iter() {
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
        if addresses.is_empty() { Err(ResolveError::NoAddress) } else { Ok(addresses) }
    }
}

fn reason(error: &NetError) -> ResolveError {
    match error {
        NetError::Timeout => ResolveError::Timeout,
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => ResolveError::NoSuchName,
            ResponseCode::NoError => ResolveError::NoAddress,
            code => ResolveError::Server(code.to_string()),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => ResolveError::Server(code.to_string()),
        NetError::NoConnections => ResolveError::Failed("no DNS server can be reached".to_owned()),
        other => ResolveError::Failed(other.to_string()),
    }
}

/// hosts(5): `address name...`, a comment from `#` on. What is malformed is passed over, as the system's own resolver does.
fn parse_hosts(text: &str) -> HashMap<Host, Vec<IpAddr>> {
    let mut hosts: HashMap<Host, Vec<IpAddr>> = HashMap::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let mut fields = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(ip) = fields.next().and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
        for host in fields.filter_map(|name| Host::parse(name).ok()) {
            let addresses = hosts.entry(host).or_default();
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
    }
    for addresses in hosts.values_mut() {
        addresses.sort_by_key(IpAddr::is_ipv6);
    }
    hosts
}

#[cfg(test)]
mod tests;
