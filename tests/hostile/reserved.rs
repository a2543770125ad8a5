//! What no agent reaches whatever is allowed: the proxy's own listeners, its sockets, and Vault; by any name and in any form.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use super::case::{audit_says, cases, is_well, nothing_was_sent};
use crate::support::raw::{PATIENCE, authorization, read_reply};
use crate::support::world::{HOSTS, configuration};
use crate::support::{Home, Origin, Serve, World, fresh_key, within};

/// Every address and every host is allowed, as far as an operator can allow it.
const ALL: &str = "[egress]\nprivate_addresses = \"allow\"\nallow_cidrs = [\"0.0.0.0/0\", \"::/0\"]\nallow_hosts = [\"*:*\"]\n";

/// Where the proxy listens over TLS.
fn over_tls(serve: &Serve) -> SocketAddr {
    let log = serve.log();
    log.split_once("over TLS listening on ").and_then(|(_, rest)| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap()
}

/// The proxy listens there, and a CONNECT to itself is refused.
fn is_not_reached((listen, host): (&str, &str)) {
    let listeners = format!("[proxy]\nlisten = \"{listen}\"\nallow_cleartext = true\ntls_listen = \"{listen}\"\ntls_names = [\"proxy.internal\"]\n");
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), &format!("{listeners}{ALL}"));
    let agent = world.agent();
    for port in [world.serve.proxy().port(), over_tls(&world.serve).port()] {
        agent.connect(&format!("{host}:{port}")).0.expect_own(403, "private_address");
        let head = format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nProxy-Authorization: {{auth}}\r\nConnection: close\r\n\r\n");
        agent.absolute(&head).expect_own(403, "private_address");
    }
    // It listens on 127.0.0.1 alone; elsewhere nobody is there.
    let (reply, _) = agent.connect(&format!("{host}:{}", world.serve.admin().port()));
    assert!(matches!(reply.status, 403 | 502), "{reply:?}");
    audit_says(&world, "denied", "private_address");
    assert!(world.serve.log().contains("the address is the proxy's own listener"), "{}", world.serve.log());
    nothing_was_sent(&world);
    is_well(&world);
}

cases! { is_not_reached {
    own_by_its_address: ("127.0.0.1:0", "127.0.0.1"),
    own_by_localhost: ("127.0.0.1:0", "localhost"),
    own_by_a_name_below_localhost: ("127.0.0.1:0", "own.localhost"),
    own_in_hexadecimal: ("127.0.0.1:0", "0x7f.1"),
    own_as_one_number: ("127.0.0.1:0", "2130706433"),
    own_by_the_unspecified_address: ("127.0.0.1:0", "0.0.0.0"),
    own_by_zero: ("127.0.0.1:0", "0"),
    own_by_the_unspecified_address_of_ipv6: ("127.0.0.1:0", "[::]"),
    own_ipv4_mapped: ("127.0.0.1:0", "[::ffff:127.0.0.1]"),
    own_unspecified_ipv4_mapped: ("127.0.0.1:0", "[::ffff:0.0.0.0]"),
    own_ipv4_compatible: ("127.0.0.1:0", "[::127.0.0.1]"),
    own_by_nat64: ("127.0.0.1:0", "[64:ff9b::127.0.0.1]"),
    own_by_6to4: ("127.0.0.1:0", "[2002:7f00:1::]"),
    everywhere_by_loopback: ("0.0.0.0:0", "127.0.0.1"),
    everywhere_by_another_loopback: ("0.0.0.0:0", "127.0.0.2"),
    everywhere_by_the_last_loopback: ("0.0.0.0:0", "127.255.255.254"),
    everywhere_by_localhost: ("0.0.0.0:0", "localhost"),
    everywhere_by_itself: ("0.0.0.0:0", "0.0.0.0"),
    everywhere_by_ipv6_loopback: ("0.0.0.0:0", "[::1]"),
    everywhere_ipv4_mapped: ("0.0.0.0:0", "[::ffff:127.0.0.3]"),
    everywhere_by_nat64: ("0.0.0.0:0", "[64:ff9b::127.0.0.1]"),
    everywhere_ipv6_by_loopback: ("[::]:0", "[::1]"),
    everywhere_ipv6_by_ipv4_loopback: ("[::]:0", "127.0.0.1"),
    everywhere_ipv6_by_another_loopback: ("[::]:0", "127.0.0.2"),
    everywhere_ipv6_by_itself: ("[::]:0", "[::]"),
    everywhere_ipv6_by_localhost: ("[::]:0", "localhost"),
} }

/// An address of this machine that is not loopback, if it has one.
fn interface() -> Option<std::net::IpAddr> {
    // Nothing is sent: connecting only asks for the route.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    socket.local_addr().ok().map(|own| own.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn everywhere_by_an_interface() {
    match interface() {
        Some(ip) => is_not_reached(("0.0.0.0:0", &ip.to_string())),
        None => crate::support::skip("hostile::reserved::everywhere_by_an_interface", "no interface but loopback"),
    }
}

#[test]
fn everywhere_ipv6_by_an_interface_in_mapped_form() {
    match interface() {
        Some(ip) => is_not_reached(("[::]:0", &format!("[::ffff:{ip}]"))),
        None => crate::support::skip("hostile::reserved::everywhere_ipv6_by_an_interface_in_mapped_form", "no interface but loopback"),
    }
}

/// An operator's override does not lead there either.
#[test]
fn own_by_an_override() {
    let origin = Origin::agreeable(&HOSTS);
    let mut world = World::with_configuration(origin, fresh_key(), ALL);
    let own = [world.serve.proxy(), world.serve.admin()];
    let mut text = configuration(&world.home, &world.origin, ALL);
    for (n, address) in own.iter().enumerate() {
        text.push_str(&format!("\"own{n}.example:443\" = \"{address}\"\n\"named{n}.example:443\" = \"localhost:{}\"\n", address.port()));
    }
    world.home.configure(&text);
    reload(&mut world);
    let agent = world.agent();
    for host in ["own0.example", "own1.example", "named0.example", "named1.example"] {
        agent.connect(&format!("{host}:443")).0.expect_own(403, "private_address");
    }
    audit_says(&world, "denied", "private_address");
    nothing_was_sent(&world);
    is_well(&world);
}

/// Has `serve` read its configuration anew.
fn reload(world: &mut World) {
    let pid = rustix::process::Pid::from_raw(world.serve.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    super::audited(&world.home, &["\"event\":\"serve.reload\""]);
}

/// The proxy that `run` has for itself is no way to itself, nor to where `serve` would listen.
#[test]
fn the_proxy_of_a_run() {
    let origin = Origin::agreeable(&HOSTS);
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::with_key_file(&format!("[admin]\nlisten = \"{}\"\n{ALL}", admin.local_addr().unwrap()));
    let mut command = home.command(&["run", "--", "sh", "-c", "echo \"$HTTPS_PROXY\"; cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut url, mut byte, out) = (Vec::new(), [0], child.stdout.as_mut().unwrap());
    while byte != *b"\n" {
        out.read_exact(&mut byte).unwrap();
        url.push(byte[0]);
    }
    let url = String::from_utf8(url).unwrap().trim().to_owned();
    let proxy: SocketAddr = url.trim_end_matches('/').rsplit('@').next().unwrap().parse().unwrap();
    let ask = |target: String| {
        let mut stream = TcpStream::connect(proxy).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {}\r\n\r\n", authorization(&url));
        stream.write_all(head.as_bytes()).unwrap();
        read_reply(&mut stream, Some("CONNECT")).unwrap()
    };
    for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"] {
        ask(format!("{host}:{}", proxy.port())).expect_own(403, "private_address");
        ask(format!("{host}:{}", admin.local_addr().unwrap().port())).expect_own(403, "private_address");
    }
    assert_eq!(ask(origin.address().to_string()).status, 200, "what is allowed is reached");
    admin.set_nonblocking(true).unwrap();
    assert!(admin.accept().is_err(), "nobody came to the admin listener");
    drop(child.stdin.take());
    assert!(within(Duration::from_secs(20), "the run ends", || child.try_wait().unwrap()).success());
    assert_eq!(super::audited(&home, &["\"reason\":\"private_address\"", "\"decision\":\"denied\""]).len(), 8);
}

/// No form of a target is a path to a Unix socket. `{sock}` stands for that of `admin.sock`, `{esc}` for the same escaped.
fn is_no_socket(request: &str) {
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), ALL);
    let socket = world.home.path().join("admin.sock").display().to_string();
    let request = request.replace("{sock}", &socket).replace("{esc}", &socket.replace('/', "%2F"));
    let answer = super::raw(&world.agent(), &format!("{request}Proxy-Authorization: {{auth}}\r\nConnection: close\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 400 ") && !answer.contains("HTTP/1.1 2"), "{request}: {answer}");
    audit_says(&world, "denied", "bad_request");
    nothing_was_sent(&world);
    is_well(&world);
}

cases! { is_no_socket {
    a_connect_to_unix_and_a_path: "CONNECT unix:{sock} HTTP/1.1\r\nHost: unix\r\n",
    a_connect_to_a_unix_url: "CONNECT unix://{sock} HTTP/1.1\r\nHost: unix\r\n",
    a_connect_to_a_path: "CONNECT {sock} HTTP/1.1\r\nHost: unix\r\n",
    a_connect_to_a_path_and_a_port: "CONNECT {sock}:443 HTTP/1.1\r\nHost: unix\r\n",
    a_connect_to_a_path_in_brackets: "CONNECT [unix:{sock}]:443 HTTP/1.1\r\nHost: unix\r\n",
    a_connect_to_a_host_and_a_path: "CONNECT localhost{sock}:443 HTTP/1.1\r\nHost: localhost\r\n",
    a_connect_to_an_abstract_socket: "CONNECT @admin.sock:443 HTTP/1.1\r\nHost: unix\r\n",
    a_request_for_a_path: "GET {sock} HTTP/1.1\r\nHost: unix\r\n",
    a_request_for_unix_and_a_path: "GET unix:{sock} HTTP/1.1\r\nHost: unix\r\n",
    a_request_for_a_unix_url: "GET unix://{sock} HTTP/1.1\r\nHost: unix\r\n",
    a_request_for_http_over_a_socket: "GET http+unix://{esc}/healthz HTTP/1.1\r\nHost: unix\r\n",
    a_request_for_https_over_a_socket: "GET https+unix://{esc}/healthz HTTP/1.1\r\nHost: unix\r\n",
    a_request_for_an_escaped_path_as_host: "GET http://{esc}/healthz HTTP/1.1\r\nHost: unix\r\n",
    a_request_for_a_socket_in_brackets: "GET http://[unix:{sock}]/healthz HTTP/1.1\r\nHost: unix\r\n",
    a_request_for_a_file: "GET file://{sock} HTTP/1.1\r\nHost: unix\r\n",
} }

/// `http://unix:/path` names a host like any other, and a path on it.
#[test]
fn the_word_unix_is_a_host_like_any_other() {
    let (origin, key) = (Origin::agreeable(&HOSTS), fresh_key());
    let mut home = Home::bare("");
    home.configure(&format!("{}\"unix:80\" = \"{}\"\n", configuration(&home, &origin, ALL), origin.address()));
    home.init_with_key_file();
    home.add_key("real", &["*.openrouter.ai"], &key);
    let world = World { serve: Serve::start(&home), origin, home, key };
    let socket = world.home.path().join("admin.sock").display().to_string();
    let head = format!("GET http://unix:{socket} HTTP/1.1\r\nHost: unix\r\nProxy-Authorization: {{auth}}\r\nConnection: close\r\n\r\n");
    assert_eq!(world.agent().absolute(&head).status, 200);
    let got = world.origin.last();
    assert_eq!((got.value("host").as_str(), got.target.as_str(), got.values("authorization").len()), ("unix", socket.as_str(), 0));
    super::audited(&world.home, &["\"host\":\"unix\"", "\"decision\":\"forwarded\""]);
    is_well(&world);
}

/// A world that says where Vault is; another origin stands for it.
fn beside_vault(address: &str, more: &str, override_to: &str) -> (World, Origin) {
    let (vault, origin, key) = (Origin::agreeable(&HOSTS), Origin::agreeable(&HOSTS), fresh_key());
    let port = vault.address().port().to_string();
    let mut home = Home::bare("");
    let said = format!("[vault]\naddress = \"{}\"\n{more}", address.replace("{p}", &port));
    let mut text = configuration(&home, &origin, &said);
    if !override_to.is_empty() {
        text.push_str(&format!("\"alias.example:443\" = \"{}\"\n", override_to.replace("{p}", &port)));
    }
    home.configure(&text);
    home.init_with_key_file();
    home.add_key("real", &["*.openrouter.ai"], &key);
    (World { serve: Serve::start(&home), origin, home, key }, vault)
}

/// Nobody came to Vault, and the operator is told what was refused.
#[track_caller]
fn vault_was_not_reached(world: &World, vault: &Origin) {
    audit_says(world, "denied", "private_address");
    assert!(world.serve.log().contains("the address is Vault's own"), "{}", world.serve.log());
    assert_eq!((vault.accepted(), vault.recorded().len()), (0, 0));
    nothing_was_sent(world);
    is_well(world);
}

/// Where Vault is at that address, that host is refused at its port, whatever is allowed.
fn is_vaults((address, host): (&str, &str)) {
    let (world, vault) = beside_vault(address, ALL, "");
    let (agent, port) = (world.agent(), vault.address().port());
    let reply = agent.connect(&format!("{host}:{port}")).0;
    reply.expect_own(403, "private_address");
    assert!(!reply.text().to_lowercase().contains("vault"), "{reply:?}");
    for scheme in ["http", "https"] {
        let head = format!(
            "GET {scheme}://{host}:{port}/v1/sys/health HTTP/1.1\r\nHost: {host}:{port}\r\nProxy-Authorization: {{auth}}\r\nConnection: close\r\n\r\n"
        );
        agent.absolute(&head).expect_own(403, "private_address");
    }
    vault_was_not_reached(&world, &vault);
}

cases! { is_vaults {
    vault_by_its_address: ("http://127.0.0.1:{p}", "127.0.0.1"),
    vault_over_tls: ("https://127.0.0.1:{p}", "127.0.0.1"),
    vault_with_a_path: ("https://127.0.0.1:{p}/vault", "127.0.0.1"),
    vault_by_its_name: ("http://localhost:{p}", "localhost"),
    vault_by_its_name_in_capitals: ("http://localhost:{p}", "LOCALHOST."),
    vault_by_the_address_of_its_name: ("http://localhost:{p}", "127.0.0.1"),
    vault_by_the_ipv6_address_of_its_name: ("http://localhost:{p}", "[::1]"),
    vault_by_another_name_of_its_address: ("http://127.0.0.1:{p}", "any.localhost"),
    vault_in_hexadecimal: ("http://127.0.0.1:{p}", "0x7f.1"),
    vault_as_one_number: ("http://127.0.0.1:{p}", "2130706433"),
    vault_by_another_loopback: ("http://127.0.0.1:{p}", "127.0.0.2"),
    vault_by_ipv6_loopback: ("http://127.0.0.1:{p}", "[::1]"),
    vault_by_the_unspecified_address: ("http://127.0.0.1:{p}", "0.0.0.0"),
    vault_by_the_unspecified_address_of_ipv6: ("http://127.0.0.1:{p}", "[::]"),
    vault_ipv4_mapped: ("http://127.0.0.1:{p}", "[::ffff:127.0.0.1]"),
    vault_ipv4_compatible: ("http://127.0.0.1:{p}", "[::127.0.0.1]"),
    vault_by_nat64: ("http://127.0.0.1:{p}", "[64:ff9b::127.0.0.1]"),
    vault_by_6to4: ("http://127.0.0.1:{p}", "[2002:7f00:1::]"),
    vault_in_a_mapped_address: ("http://[::ffff:127.0.0.1]:{p}", "127.0.0.1"),
    vault_at_ipv6_loopback: ("http://[::1]:{p}", "127.0.0.1"),
} }

/// Neither does an override lead to it.
fn is_vaults_by_an_override((address, to): (&str, &str)) {
    let (world, vault) = beside_vault(address, ALL, to);
    world.agent().connect("alias.example:443").0.expect_own(403, "private_address");
    vault_was_not_reached(&world, &vault);
}

cases! { is_vaults_by_an_override {
    vault_by_an_override_to_its_address: ("http://127.0.0.1:{p}", "127.0.0.1:{p}"),
    vault_by_an_override_to_another_form: ("http://127.0.0.1:{p}", "[::ffff:127.0.0.1]:{p}"),
    vault_by_an_override_to_its_name: ("http://localhost:{p}", "localhost:{p}"),
} }

/// A credential for Vault's host does not open it: the CONNECT is intercepted, its requests are refused.
#[test]
fn vault_by_a_credential_for_it() {
    let (world, vault) = beside_vault("https://127.0.0.1:{p}", ALL, "");
    let (agent, port) = (world.agent(), vault.address().port());
    world.home.ok_with(&["credential", "add", "there", "--allow", &format!("127.0.0.1:{port}")], &fresh_key());
    within(super::SECOND, "felt", || (agent.connect(&format!("127.0.0.1:{port}")).0.status == 200).then_some(()));
    let reply = agent.open(&format!("127.0.0.1:{port}")).get(&format!("127.0.0.1:{port}"), "/v1/sys/health");
    reply.expect_own(403, "private_address");
    let said = world.home.say(&["credential", "test", "there", "--url", &format!("https://127.0.0.1:{port}/")], "");
    said.expect_error(1);
    assert!(said.stderr.contains("the address is Vault's own"), "{said:?}");
    vault_was_not_reached(&world, &vault);
}

/// `VAULT_ADDR` counts as `[vault] address` does.
#[test]
fn vault_by_the_environment() {
    let vault = Origin::agreeable(&HOSTS);
    let mut world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), ALL);
    world.serve.stop();
    let address = format!("http://localhost:{}", vault.address().port());
    world.serve = Serve::start_with(&world.home, &[], &[("VAULT_ADDR", &address)]);
    world.agent().connect(&vault.address().to_string()).0.expect_own(403, "private_address");
    vault_was_not_reached(&world, &vault);
}

/// Where nothing is said of Vault, it is where its own tools look for it.
#[test]
fn vault_where_it_usually_is() {
    let world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), ALL);
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        world.agent().connect(&format!("{host}:8200")).0.expect_own(403, "private_address");
    }
    vault_was_not_reached(&world, &Origin::agreeable(&HOSTS));
}

/// `[vault]` counts at a start: after a reload the old place is closed on, and the new one is closed already.
#[test]
fn vault_after_a_reload_that_names_another() {
    let (mut world, vault) = beside_vault("http://127.0.0.1:{p}", ALL, "");
    let other = Origin::agreeable(&HOSTS);
    assert_eq!(world.agent().connect(&other.address().to_string()).0.status, 200);
    let text = configuration(&world.home, &world.origin, &format!("[vault]\naddress = \"http://{}\"\n{ALL}", other.address()));
    world.home.configure(&text);
    reload(&mut world);
    for address in [vault.address(), other.address()] {
        world.agent().connect(&address.to_string()).0.expect_own(403, "private_address");
    }
    vault_was_not_reached(&world, &vault);
}
