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
mod tests {
    use super::*;
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig};
    use hickory_resolver::proto::op::Message;
    use hickory_resolver::proto::rr::{RData, Record, RecordType};
    use std::collections::HashSet;
    use std::net::SocketAddr;
    use tokio::net::UdpSocket;

    fn host(name: &str) -> Host {
        Host::parse(name).expect(name)
    }

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().expect(ip)).collect()
    }

    /// A resolver with a hosts file and no `resolv.conf`.
    fn with_hosts(dir: &tempfile::TempDir, text: &str) -> Resolver {
        let hosts = dir.path().join("hosts");
        std::fs::write(&hosts, text).expect("written");
        Resolver::with_files(hosts, dir.path().join("resolv.conf"))
    }

    /// A DNS server on loopback that knows three names, and what it was asked.
    async fn dns_server() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let addr = socket.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let mut message = Message::from_vec(&buffer[..length]).expect("a query");
                let query = message.queries[0].clone();
                let name = query.name().to_string();
                log.lock().expect("whole").push(name.clone());
                if name.ends_with(".silent.example.") {
                    continue;
                }
                let ip = match (name.as_str(), query.query_type()) {
                    ("both.example." | "four.example.", RecordType::A) => Some("192.0.2.1".parse().expect("an address")),
                    ("both.example.", RecordType::AAAA) => Some("2001:db8::1".parse::<IpAddr>().expect("an address")),
                    _ => None,
                };
                message.metadata.message_type = hickory_resolver::proto::op::MessageType::Response;
                message.metadata.response_code = match name.as_str() {
                    "both.example." | "four.example." | "none.example." => ResponseCode::NoError,
                    "broken.example." => ResponseCode::ServFail,
                    _ => ResponseCode::NXDomain,
                };
                message.answers = ip.map(|ip| Record::from_rdata(query.name().clone(), 60, RData::from(ip))).into_iter().collect();
                socket.send_to(&message.to_vec().expect("written"), peer).await.expect("sent");
            }
        });
        (addr, asked)
    }

    fn ask_server(resolver: &Resolver, server: SocketAddr) {
        let mut udp = ConnectionConfig::udp();
        udp.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![udp]);
        let search = vec![Name::from_ascii("example.").expect("a name")];
        let config = ResolverConfig::from_parts(search.first().cloned(), search, vec![server]);
        let dns = Dns::new(config, ResolverOpts::default()).map_err(|e| e.to_string().into());
        let old = resolver.sources.load_full();
        resolver.sources.store(Arc::new(Sources { hosts: old.hosts.clone(), dns, stamps: old.stamps }));
    }

    #[tokio::test]
    async fn addresses_and_localhost_need_no_look_up() {
        let dir = tempfile::tempdir().expect("made");
        let resolver = with_hosts(&dir, "192.0.2.9 localhost x.localhost\n");
        assert_eq!(resolver.resolve(&host("0x7f.1"), "").await, Ok(ips(&["127.0.0.1"])));
        assert_eq!(resolver.resolve(&host("[::2]"), "").await, Ok(ips(&["::2"])));
        for name in ["localhost", "LocalHost.", "x.localhost"] {
            assert_eq!(resolver.resolve(&host(name), "").await, Ok(ips(&["127.0.0.1", "::1"])), "{name}");
        }
    }

    #[tokio::test]
    async fn the_hosts_file_is_honoured_without_a_resolv_conf() {
        let dir = tempfile::tempdir().expect("made");
        let text = "\u{feff}# comment\n10.0.0.1\tApi.Example. short # tail other\n\n2001:db8::1 api.example\n10.0.0.2 api.example\n10.0.0.1 api.example\n\
                    fe80::1%lo0 zone\nnonsense api.example\n10.0.0.3\n";
        let resolver = with_hosts(&dir, text);
        assert_eq!(resolver.resolve(&host("api.example"), "").await, Ok(ips(&["10.0.0.1", "10.0.0.2", "2001:db8::1"])));
        assert_eq!(resolver.resolve(&host("SHORT"), "").await, Ok(ips(&["10.0.0.1"])));
        for name in ["tail", "other", "zone", "sub.api.example"] {
            let error = resolver.resolve(&host(name), "").await.expect_err(name);
            assert!(matches!(error, ResolveError::NoServer(_)) && error.to_string().contains("resolv.conf"), "{error}");
        }
    }

    #[tokio::test]
    async fn names_are_absolute_and_errors_have_reasons() {
        let dir = tempfile::tempdir().expect("made");
        let resolver = with_hosts(&dir, "10.0.0.1 four.hosts\n");
        let (server, asked) = dns_server().await;
        ask_server(&resolver, server);
        assert_eq!(resolver.resolve(&host("both.example"), "").await, Ok(ips(&["192.0.2.1", "2001:db8::1"])));
        assert_eq!(resolver.resolve(&host("four.example"), "").await, Ok(ips(&["192.0.2.1"])));
        assert_eq!(resolver.resolve(&host("none.example"), "").await, Err(ResolveError::NoAddress));
        assert_eq!(resolver.resolve(&host("both"), "").await, Err(ResolveError::NoSuchName));
        let broken = resolver.resolve(&host("broken.example"), "").await.expect_err("SERVFAIL");
        assert!(matches!(&broken, ResolveError::Server(_)), "{broken}");
        // A name in the hosts file with one family only is not looked up for the other.
        assert_eq!(resolver.resolve(&host("four.hosts"), "").await, Ok(ips(&["10.0.0.1"])));
        let asked = asked.lock().expect("whole");
        assert!(asked.iter().any(|name| name == "both."), "{asked:?}");
        let known = ["both.example.", "four.example.", "none.example.", "broken.example.", "both."];
        assert!(asked.iter().all(|name| known.contains(&name.as_str())), "{asked:?}");
    }

    #[tokio::test]
    async fn one_agents_many_names_make_nobody_else_wait() {
        let dir = tempfile::tempdir().expect("made");
        let resolver = Arc::new(with_hosts(&dir, ""));
        let (server, asked) = dns_server().await;
        ask_server(&resolver, server);
        // Names that the server does not answer: all of one agent's turns are taken, and more wait.
        let waiting: Vec<_> = (0..3 * AT_ONCE)
            .map(|n| {
                let resolver = Arc::clone(&resolver);
                tokio::spawn(async move { resolver.resolve(&host(&format!("n{n}.silent.example")), "flood").await })
            })
            .collect();
        let silent = || asked.lock().expect("whole").iter().filter(|name| name.ends_with(".silent.example.")).cloned().collect::<HashSet<_>>().len();
        while silent() < AT_ONCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let other = tokio::time::timeout(Duration::from_secs(4), resolver.resolve(&host("both.example"), "other")).await;
        assert_eq!(other.expect("at once"), Ok(ips(&["192.0.2.1", "2001:db8::1"])));
        assert_eq!(silent(), AT_ONCE, "the rest wait for their turn");
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn one_agents_many_names_put_out_no_answer_of_anothers() {
        let dir = tempfile::tempdir().expect("made");
        let resolver = with_hosts(&dir, "");
        let (server, asked) = dns_server().await;
        ask_server(&resolver, server);
        let both = ips(&["192.0.2.1", "2001:db8::1"]);
        assert_eq!(resolver.resolve(&host("both.example"), "other").await, Ok(both.clone()));
        for n in 0..2 * ANSWERS {
            let _ = resolver.resolve(&host(&format!("n{n}.four.example")), "flood").await;
        }
        asked.lock().expect("whole").clear();
        assert_eq!(resolver.resolve(&host("both.example"), "other").await, Ok(both));
        assert!(asked.lock().expect("whole").is_empty(), "it was remembered");
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again() {
        let dir = tempfile::tempdir().expect("made");
        let resolver = with_hosts(&dir, "10.0.0.1 a.example\n");
        assert_eq!(resolver.resolve(&host("a.example"), "").await, Ok(ips(&["10.0.0.1"])));
        std::fs::write(dir.path().join("hosts"), "10.0.0.22 a.example\n").expect("written");
        let now = resolver.looked_at.load(Ordering::Relaxed);
        resolver.look_again(now + LOOK_AGAIN - 1).await;
        assert_eq!(resolver.sources.load().hosts[&host("a.example")], ips(&["10.0.0.1"]));
        resolver.look_again(now + LOOK_AGAIN).await;
        assert_eq!(resolver.sources.load().hosts[&host("a.example")], ips(&["10.0.0.22"]));
        std::fs::write(dir.path().join("resolv.conf"), "nameserver 192.0.2.53\nsearch example\n").expect("written");
        assert!(resolver.sources.load().dns.is_err());
        resolver.look_again(now + 2 * LOOK_AGAIN).await;
        assert!(resolver.sources.load().dns.is_ok());
    }

    #[test]
    fn a_resolv_conf_without_servers_is_an_error_per_name() {
        let dir = tempfile::tempdir().expect("made");
        std::fs::write(dir.path().join("resolv.conf"), "search example\n").expect("written");
        assert!(with_hosts(&dir, "").sources.load().dns.is_err());
    }
}
