//! Names whose addresses are off limits, or change to such: by a DNS server of the test's own, which `serve` finds in an
//! `/etc/resolv.conf` of its own. Both need a mount namespace and port 53.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};

use super::case::{audit_says, cases, is_well, nothing_was_sent, record_of};
use crate::support::world::{HOSTS, configuration};
use crate::support::{Home, Origin, Serve, World, fresh_key, skip, within};

/// What the server says of a name.
#[derive(Clone, Copy)]
enum Says {
    Addresses(&'static [&'static str]),
    Code(ResponseCode),
    Garbage,
    Nothing,
}

/// A DNS server on a loopback address of its own; it ends with the value.
struct Dns {
    address: Ipv4Addr,
    names: Arc<Mutex<HashMap<String, Says>>>,
    socket: Arc<UdpSocket>,
}

impl Dns {
    /// `None` where port 53 is not for the test.
    fn start() -> Option<Self> {
        let [a, b] = keyhatch::random::bytes::<2>();
        let address = Ipv4Addr::new(127, 77, a, b.max(1));
        let socket = Arc::new(UdpSocket::bind((address, 53)).ok()?);
        let names: Arc<Mutex<HashMap<String, Says>>> = Arc::default();
        let (own, known) = (socket.clone(), names.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = own.recv_from(&mut buffer) {
                if length == 0 {
                    return;
                }
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let name = query.queries[0].name().to_string();
                let says = known.lock().unwrap().get(name.trim_end_matches('.')).copied();
                if let Some(answer) = answer(query, says.unwrap_or(Says::Code(ResponseCode::NXDomain))) {
                    let _ = own.send_to(&answer, peer);
                }
            }
        });
        Some(Self { address, names, socket })
    }

    fn say(&self, name: &str, says: Says) {
        self.names.lock().unwrap().insert(name.to_owned(), says);
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|own| own.send_to(&[], self.socket.local_addr()?));
    }
}

fn answer(mut message: Message, says: Says) -> Option<Vec<u8>> {
    let query = message.queries[0].clone();
    message.metadata.message_type = MessageType::Response;
    match says {
        Says::Addresses(list) => {
            let fits = |ip: &IpAddr| query.query_type() == if ip.is_ipv4() { RecordType::A } else { RecordType::AAAA };
            let ips = list.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).filter(fits);
            // Nothing of it is kept.
            message.answers = ips.map(|ip| Record::from_rdata(query.name().clone(), 0, RData::from(ip))).collect();
        }
        Says::Code(code) => message.metadata.response_code = code,
        Says::Garbage => return Some([&message.to_vec().unwrap()[..2], &[0xff; 60]].concat()),
        Says::Nothing => return None,
    }
    Some(message.to_vec().unwrap())
}

/// A world whose `serve` asks that server. 127.0.0.1 stands for a public address, the rest of loopback is private.
struct Stage {
    world: World,
    dns: Dns,
}

impl Stage {
    /// `None`, and the test is skipped by name, where this machine does not let it have namespaces and port 53.
    fn new(test: &str, origin: Origin, more: &str) -> Option<Self> {
        let may = Command::new("unshare").args(["-m", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
        let Some(dns) = Dns::start().filter(|_| may) else {
            skip(test, "no leave for a mount namespace and for port 53");
            return None;
        };
        let key = fresh_key();
        let mut home = Home::bare("");
        home.configure(&configuration(&home, &origin, more));
        home.init_with_key_file();
        home.add_key("real", &["*.openrouter.ai", "pool.openrouter.ai:*"], &key);
        let [hosts, resolv] = ["hosts", "resolv.conf"].map(|name| home.outside().join(name).display().to_string());
        std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
        std::fs::write(&resolv, format!("nameserver {}\noptions timeout:1 attempts:1\n", dns.address)).unwrap();
        let script = "mount --bind \"$1\" /etc/hosts && mount --bind \"$2\" /etc/resolv.conf && shift 2 && exec \"$@\"";
        let serve = Serve::start_under(&home, &["unshare", "-m", "sh", "-c", script, "sh", &hosts, &resolv]);
        Some(Self { world: World { serve, origin, home, key }, dns })
    }

    /// The same where the origin's port is open and its address public.
    fn at_the_origin(test: &str) -> Option<(Self, u16)> {
        let origin = Origin::agreeable(&[&HOSTS[..], &["pool.openrouter.ai"]].concat());
        let port = origin.address().port();
        let more = format!("[egress]\nports = [80, 443, {port}]\nallow_cidrs = [\"127.0.0.1\"]\n");
        Some((Self::new(test, origin, &more)?, port))
    }
}

/// A name of which the server says that is refused, for tunnels, in absolute form, and where a credential covers it.
fn is_refused((test, says, status, code, why): (&str, Says, u16, &str, &str)) {
    let Some((Stage { world, dns }, port)) = Stage::at_the_origin(&format!("hostile::rebinding::{test}")) else { return };
    dns.say("name.example", says);
    dns.say("name.openrouter.ai", says);
    let agent = world.agent();
    agent.connect(&format!("name.example:{port}")).0.expect_own(status, code);
    let head = format!(
        "GET http://name.example:{port}/ HTTP/1.1\r\nHost: name.example:{port}\r\nProxy-Authorization: {{auth}}\r\nConnection: close\r\n\r\n"
    );
    agent.absolute(&head).expect_own(status, code);
    let inside = agent.open("name.openrouter.ai:443").get("name.openrouter.ai", "/");
    inside.expect_own(status, code);
    assert!(!inside.text().contains(why), "the reason is the operator's: {inside:?}");
    audit_says(&world, if status == 403 { "denied" } else { "failed" }, code);
    assert!(world.serve.log().contains(why), "{why}: {}", world.serve.log());
    assert_eq!(world.origin.accepted(), 0);
    nothing_was_sent(&world);
    is_well(&world);
}

cases! { is_refused {
    a_private_address: ("a_private_address", Says::Addresses(&["10.0.0.1"]), 403, "private_address", "Private-Use"),
    a_metadata_service: ("a_metadata_service", Says::Addresses(&["169.254.169.254"]), 403, "private_address", "Link Local"),
    loopback: ("loopback", Says::Addresses(&["127.0.0.2"]), 403, "private_address", "Loopback"),
    the_unspecified_address: ("the_unspecified_address", Says::Addresses(&["0.0.0.0"]), 403, "private_address", "This host"),
    ipv6_loopback: ("ipv6_loopback", Says::Addresses(&["::1"]), 403, "private_address", "Loopback Address"),
    an_address_in_mapped_form: ("an_address_in_mapped_form", Says::Addresses(&["::ffff:10.0.0.1"]), 403, "private_address", "IPv4-mapped form"),
    an_address_behind_a_translator: ("an_address_behind_a_translator", Says::Addresses(&["64:ff9b::7f00:2"]), 403, "private_address", "NAT64 form"),
    a_public_and_a_private_address: ("a_public_and_a_private_address", Says::Addresses(&["127.0.0.1", "127.0.0.2"]), 403, "private_address", "127.0.0.2 is not"),
    a_private_and_a_public_address: ("a_private_and_a_public_address", Says::Addresses(&["10.0.0.1", "127.0.0.1"]), 403, "private_address", "10.0.0.1 is not"),
    a_public_and_a_private_one_of_ipv6: ("a_public_and_a_private_one_of_ipv6", Says::Addresses(&["127.0.0.1", "fd00::1"]), 403, "private_address", "fd00::1 is not"),
    a_private_one_among_many: (
        "a_private_one_among_many",
        Says::Addresses(&["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4", "1.1.1.5", "1.1.1.6", "1.1.1.7", "1.1.1.8", "192.168.0.1", "1.1.1.9"]),
        403, "private_address", "192.168.0.1 is not",
    ),
    no_such_name: ("no_such_name", Says::Code(ResponseCode::NXDomain), 502, "dns_error", "NXDOMAIN"),
    no_address: ("no_address", Says::Addresses(&[]), 502, "dns_error", "no address"),
    a_server_that_fails: ("a_server_that_fails", Says::Code(ResponseCode::ServFail), 502, "dns_error", "the DNS server answers"),
    a_server_that_refuses: ("a_server_that_refuses", Says::Code(ResponseCode::Refused), 502, "dns_error", "DNS"),
    a_server_that_says_nothing: ("a_server_that_says_nothing", Says::Nothing, 502, "dns_error", "in time"),
    a_server_that_says_garbage: ("a_server_that_says_garbage", Says::Garbage, 502, "dns_error", "DNS"),
} }

/// Each new connection is looked up and checked anew.
#[test]
fn a_name_that_turns_private_between_two_tunnels() {
    const PRIVATE: [&[&str]; 3] = [&["127.0.0.2"], &["127.0.0.1", "127.0.0.2"], &["::1"]];
    let Some((Stage { world, dns }, port)) = Stage::at_the_origin("hostile::rebinding::a_name_that_turns_private_between_two_tunnels") else {
        return;
    };
    let agent = world.agent();
    dns.say("turns.example", Says::Addresses(&["127.0.0.1"]));
    assert_eq!(agent.connect(&format!("turns.example:{port}")).0.status, 200);
    for private in PRIVATE {
        dns.say("turns.example", Says::Addresses(private));
        agent.connect(&format!("turns.example:{port}")).0.expect_own(403, "private_address");
    }
    audit_says(&world, "denied", "private_address");
    nothing_was_sent(&world);
    is_well(&world);
}

/// A connection that was checked goes on; another one to the same host is checked, and refused.
#[test]
fn a_name_that_turns_private_under_a_connection() {
    let Some((Stage { world, dns }, port)) = Stage::at_the_origin("hostile::rebinding::a_name_that_turns_private_under_a_connection") else { return };
    let host = format!("pool.openrouter.ai:{port}");
    dns.say("pool.openrouter.ai", Says::Addresses(&["127.0.0.1"]));
    let agent = world.agent();
    let mut conn = agent.open(&host);
    assert_eq!(conn.get(&host, "/first").status, 200);
    dns.say("pool.openrouter.ai", Says::Addresses(&["127.0.0.2"]));
    assert_eq!(conn.get(&host, "/second").status, 200);
    let got = world.origin.recorded();
    assert_eq!((got.len(), got[0].connection), (2, got[1].connection));
    let other = super::another_agent(&world, "other", &["real"]);
    other.open(&host).get(&host, "/third").expect_own(403, "private_address");
    let record = record_of(&world, "private_address");
    assert_eq!(
        (record["agent"].as_str(), record["upstream_addr"].as_str().is_some_and(|a| a.starts_with("127.0.0.2"))),
        (Some("other"), true),
        "{record}"
    );
    assert_eq!(world.origin.recorded().len(), 2, "the third came nowhere");
    world.origin.forget();
    is_well(&world);
}

/// A world that knows Vault by a name that only DNS knows. Everything else is allowed.
fn beside_vault(test: &str, says: Says) -> Option<(Stage, Origin, u16)> {
    let vault = Origin::agreeable(&HOSTS);
    let port = vault.address().port();
    let more = format!("[vault]\naddress = \"http://vault.example:{port}\"\n[egress]\nprivate_addresses = \"allow\"\nallow_hosts = [\"*:*\"]\n");
    let stage = Stage::new(&format!("hostile::rebinding::{test}"), Origin::agreeable(&HOSTS), &more)?;
    stage.dns.say("vault.example", says);
    Some((stage, vault, port))
}

#[test]
fn another_name_of_vaults_address() {
    let Some((Stage { world, dns }, vault, port)) = beside_vault("another_name_of_vaults_address", Says::Addresses(&["127.0.0.1"])) else { return };
    dns.say("alias.example", Says::Addresses(&["127.0.0.1"]));
    dns.say("mixed.example", Says::Addresses(&["1.1.1.1", "::ffff:127.0.0.1"]));
    let agent = world.agent();
    for host in ["vault.example", "VAULT.example.", "alias.example", "mixed.example", "127.0.0.1", "127.0.0.2", "[::1]"] {
        agent.connect(&format!("{host}:{port}")).0.expect_own(403, "private_address");
    }
    audit_says(&world, "denied", "private_address");
    assert!(world.serve.log().contains("the address is Vault's own"), "{}", world.serve.log());
    assert_eq!(vault.accepted(), 0);
    nothing_was_sent(&world);
    is_well(&world);
}

/// Vault's name turns elsewhere, and then nowhere: what was its address stays closed.
#[test]
fn an_address_that_vaults_name_had() {
    let Some((Stage { world, dns }, vault, port)) = beside_vault("an_address_that_vaults_name_had", Says::Addresses(&["127.0.0.1"])) else { return };
    let agent = world.agent();
    agent.connect(&format!("127.0.0.1:{port}")).0.expect_own(403, "private_address");
    for says in [Says::Addresses(&["1.1.1.1"]), Says::Code(ResponseCode::NXDomain), Says::Code(ResponseCode::ServFail)] {
        dns.say("vault.example", says);
        agent.connect(&format!("127.0.0.1:{port}")).0.expect_own(403, "private_address");
    }
    audit_says(&world, "denied", "private_address");
    assert_eq!(vault.accepted(), 0);
    nothing_was_sent(&world);
    is_well(&world);
}

/// Where nothing is known of Vault's addresses because the look-up fails, none at its port is taken for another's.
#[test]
fn vaults_name_cannot_be_looked_up() {
    let Some((Stage { world, dns }, vault, port)) = beside_vault("vaults_name_cannot_be_looked_up", Says::Code(ResponseCode::ServFail)) else {
        return;
    };
    let agent = world.agent();
    agent.connect(&format!("127.0.0.1:{port}")).0.expect_own(502, "dns_error");
    audit_says(&world, "failed", "dns_error");
    assert!(world.serve.log().contains("Vault's own name vault.example cannot be looked up"), "{}", world.serve.log());
    assert_eq!(agent.connect(&world.origin.address().to_string()).0.status, 200, "another port is nothing of Vault's");
    dns.say("vault.example", Says::Addresses(&["127.0.0.1"]));
    let refused = within(Duration::from_secs(5), "it is known again", || {
        Some(agent.connect(&format!("127.0.0.1:{port}")).0).filter(|reply| !reply.text().contains("dns_error"))
    });
    refused.expect_own(403, "private_address");
    assert_eq!(vault.accepted(), 0);
    nothing_was_sent(&world);
    is_well(&world);
}
