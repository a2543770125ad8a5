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
