//! Origins that are not who they should be, or speak TLS as nobody should any more: nothing is sent to them, no secret is opened for them,
//! and the operator is told why.

mod certificates;
mod peers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::case::{audit_says, cases, is_well, nothing_was_sent};
use crate::support::over_h2::{code, over, run};
use crate::support::raw::trusting;
use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Home, Origin, Serve, World, fresh_key, holds, within};
use certificates as made;
use peers::{Bytes, Foreign, Relay, hello};

/// The host of the origin that is not who it should be; credential `real` covers it.
const HOST: &str = "bad.openrouter.ai";
/// The same by an address.
const ADDRESS: &str = "192.0.2.7";

/// What such an origin has, and whom the operator trusts beside the tests' own authority.
struct Bad {
    tls: Arc<ServerConfig>,
    anchors: Vec<String>,
    lists: Vec<String>,
}

/// A world in which a host leads elsewhere than the others.
fn world(host: &str, place: SocketAddr, anchors: &[String], lists: &[String], more: &str) -> World {
    let (origin, key) = (Origin::agreeable(&HOSTS), fresh_key());
    let mut home = Home::bare("");
    let mut text = configuration(&home, &origin, more);
    let files: Vec<String> = lists
        .iter()
        .enumerate()
        .map(|(n, list)| {
            let file = home.outside().join(format!("{n}.crl"));
            std::fs::write(&file, list).unwrap();
            format!("\"{}\"", file.display())
        })
        .collect();
    text = text.replace("\n[resolve]\n", &format!("\ncrl_files = [{}]\n[resolve]\n\"{host}:443\" = \"{place}\"\n", files.join(", ")));
    home.configure(&text);
    let file = home.outside().join("origins-ca.pem");
    let all = std::fs::read_to_string(&file).unwrap() + &anchors.concat();
    std::fs::write(&file, all).unwrap();
    home.init_with_key_file();
    home.add_key("real", &["*.openrouter.ai", ADDRESS], &key);
    let serve = Serve::start(&home);
    World { serve, origin, home, key }
}

/// Every way to ask is refused with this code, and the log says why.
#[track_caller]
fn all_are_refused(world: &World, host: &str, why: &str) {
    let agent = world.agent();
    let inside = agent.open(&format!("{host}:443")).get(host, "/x");
    inside.expect_own(502, "tls_error");
    let absolute =
        agent.absolute(&format!("GET https://{host}/x HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: {{auth}}\r\nConnection: close\r\n\r\n"));
    absolute.expect_own(502, "tls_error");
    assert_eq!(over_http2(world, &agent, host), (502, "tls_error".to_owned()));
    for reply in [inside, absolute] {
        assert!(!reply.text().contains(&world.key) && !reply.text().contains(why), "the reason is the operator's: {reply:?}");
    }
    within(Duration::from_secs(5), why, || world.serve.log().contains(why).then_some(()));
    let said = world.home.say(&["credential", "test", "real", "--url", &format!("https://{host}/x")], "");
    said.expect_error(1);
    assert!(said.stderr.contains(why) && !said.stderr.contains(&world.key), "{why}: {said:?}");
    let record = audit_says(world, "failed", "tls_error");
    assert_eq!(
        (record["credential"].as_str(), record["status"].as_u64(), record["bytes_up"].as_u64()),
        (Some("real"), Some(502), Some(0)),
        "{record}"
    );
}

/// The same request over HTTP/2: the status and the code.
fn over_http2(world: &World, agent: &Agent, host: &str) -> (u16, String) {
    let (reply, tunnel) = agent.connect(&format!("{host}:443"));
    assert_eq!(reply.status, 200);
    tunnel.set_nonblocking(true).unwrap();
    let tls = TlsConnector::from(trusting(&world.home.path().join("ca.pem"), &["h2"]));
    let name = ServerName::try_from(host.to_owned()).unwrap();
    run(async {
        let stream = tls.connect(name, tokio::net::TcpStream::from_std(tunnel).unwrap()).await.unwrap();
        let told = over(stream, agent.authorization.clone()).await.get(&format!("https://{host}/x"), &[]).await;
        let (status, code) = code(&told);
        (status, code.to_owned())
    })
}

/// An origin with that certificate gets nothing.
fn is_refused((bad, why): (Bad, &str)) {
    at_host_is_refused(HOST, bad, why);
}

/// The same for a host that is named by its address.
fn is_refused_by_address((bad, why): (Bad, &str)) {
    at_host_is_refused(ADDRESS, bad, why);
}

fn at_host_is_refused(host: &str, bad: Bad, why: &str) {
    let origin = Origin::start_with_tls(bad.tls, |exchange| exchange.json(200, "{}"));
    let world = world(host, origin.address(), &bad.anchors, &bad.lists, "");
    all_are_refused(&world, host, why);
    assert!(origin.recorded().is_empty(), "{:?}", origin.recorded());
    nothing_was_sent(&world);
    is_well(&world);
}

cases! { is_refused {
    a_certificate_that_has_expired: (made::in_time((2020, 2025)), "expired at 2025-01-01"),
    a_certificate_that_is_not_valid_yet: (made::in_time((2040, 2045)), "not valid before 2040-01-01"),
    an_expired_intermediate: (made::expired_intermediate(), "expired at 2025-01-01"),
    a_certificate_for_another_host: (made::named(&["api.openrouter.ai"]), "not for bad.openrouter.ai but for api.openrouter.ai"),
    a_wildcard_one_level_too_high: (made::named(&["*.ai"]), "not for bad.openrouter.ai but for *.ai"),
    a_wildcard_for_what_is_below: (made::named(&["*.bad.openrouter.ai"]), "not for bad.openrouter.ai but for *.bad.openrouter.ai"),
    a_wildcard_for_part_of_a_label: (made::named(&["b*.openrouter.ai"]), "not for bad.openrouter.ai"),
    a_wildcard_in_the_midst: (made::named(&["bad.*.ai"]), "not for bad.openrouter.ai"),
    a_bare_wildcard: (made::named(&["*"]), "not for bad.openrouter.ai"),
    a_longer_name_that_begins_so: (made::named(&["bad.openrouter.ai.evil.com"]), "not for bad.openrouter.ai but for bad.openrouter.ai.evil.com"),
    a_name_with_a_nul: (made::named(&["bad.openrouter.ai\0.evil.com"]), "not for bad.openrouter.ai but for bad.openrouter.ai?.evil.com"),
    the_name_in_the_common_name_alone: (made::common_name_alone(HOST), "not for bad.openrouter.ai but for no name at all"),
    a_self_signed_certificate: (made::self_signed(), "from a CA that is not trusted"),
    an_unknown_authority: (made::untrusted(), "from a CA that is not trusted"),
    another_authority_of_the_same_name: (made::of_a_namesake(), "a signature on the origin's certificate"),
    a_missing_intermediate: (made::without_its_intermediate(), "the origin may leave out its intermediate"),
    a_revoked_certificate: (made::revoked(2100), "has been revoked"),
    a_certificate_revoked_by_a_list_that_is_out_of_date: (made::revoked(2025), "has been revoked"),
    a_revoked_intermediate: (made::revoked_intermediate(), "has been revoked"),
    a_name_that_its_authority_may_not_vouch_for: (made::constrained(true), "may not vouch for the name"),
    a_name_that_is_excluded_for_its_authority: (made::constrained(false), "may not vouch for the name"),
    an_intermediate_that_is_no_authority: (made::below_a_leaf(), "signed by one that is no CA's"),
    an_intermediate_below_one_that_allows_none: (made::too_deep(), "allows fewer CAs below it"),
    a_certificate_for_clients: (made::for_clients(), "not one for servers"),
    an_authority_for_a_server: (made::authority_itself(), "is that of a CA"),
    a_critical_extension_that_nobody_knows: (made::with_a_strange_extension(), "critical extension that is not understood"),
    a_signature_by_sha_1: (made::stored("sha1"), "signed in a way that is not supported"),
    a_signature_by_md5: (made::stored("md5"), "signed in a way that is not supported"),
    a_signature_by_an_rsa_key_of_1024_bits: (made::stored("under-small-ca"), "a key is too weak"),
} }

cases! { is_refused_by_address {
    an_address_among_the_dns_names: (made::address_as_a_name(ADDRESS), "not for 192.0.2.7"),
    a_certificate_for_another_address: (made::named(&["192.0.2.8"]), "not for 192.0.2.7 but for 192.0.2.8"),
    an_address_with_a_certificate_for_a_name: (made::named(&[HOST]), "not for 192.0.2.7 but for bad.openrouter.ai"),
} }

/// What answers a ClientHello with these bytes gets no request.
fn is_no_tls((answer, why): (Vec<u8>, &str)) {
    let peer = Bytes::start(answer, true);
    let world = world(HOST, peer.address, &[], &[], "");
    all_are_refused(&world, HOST, why);
    peer.got_no_request();
    nothing_was_sent(&world);
    is_well(&world);
}

cases! { is_no_tls {
    tls_1_0: (hello(0x0301, 0xc013, *b"12345678"), "older than 1.2"),
    tls_1_1: (hello(0x0302, 0xc013, *b"12345678"), "older than 1.2"),
    ssl_3: (hello(0x0300, 0x002f, *b"12345678"), "older than 1.2"),
    tls_1_2_with_rc4: (hello(0x0303, 0xc011, *b"12345678"), "a cipher suite that was not offered"),
    tls_1_2_with_cbc: (hello(0x0303, 0xc013, *b"12345678"), "a cipher suite that was not offered"),
    tls_1_2_with_a_static_rsa_key: (hello(0x0303, 0x009c, *b"12345678"), "a cipher suite that was not offered"),
    tls_1_2_without_encryption: (hello(0x0303, 0x003b, *b"12345678"), "a cipher suite that was not offered"),
    a_downgrade_to_tls_1_2_that_says_so: (hello(0x0303, 0xc02f, *b"DOWNGRD\x01"), "holds the connection down to 1.2"),
    a_handshake_failure: (b"\x15\x03\x03\x00\x02\x02\x28".to_vec(), "handshake_failure"),
    plain_http: (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec(), "does not speak TLS on this port"),
    another_protocol: (b"220 mail.example ESMTP\r\n".to_vec(), "does not speak TLS on this port"),
    garbage: (vec![0xa5; 600], "does not speak TLS on this port"),
    half_a_handshake: (hello(0x0303, 0xc02f, *b"12345678"), "closed the connection during the TLS handshake"),
    half_a_record: (b"\x16\x03\x03\x10\x00\x02\x00".to_vec(), "closed the connection during the TLS handshake"),
    nothing_but_the_end: (Vec::new(), "closed the connection during the TLS handshake"),
} }

/// Silence ends by the time limit.
fn is_too_slow(answer: Vec<u8>) {
    let peer = Bytes::start(answer, false);
    let world = world(HOST, peer.address, &[], &[], "[timeouts]\ntls = \"2s\"\n");
    world.agent().open(&format!("{HOST}:443")).get(HOST, "/x").expect_own(504, "upstream_timeout");
    audit_says(&world, "failed", "upstream_timeout");
    assert!(world.serve.log().contains("took longer than 2s"), "{}", world.serve.log());
    peer.got_no_request();
    nothing_was_sent(&world);
    is_well(&world);
}

cases! { is_too_slow {
    a_handshake_that_never_begins: Vec::new(),
    a_handshake_that_stops_half_way: hello(0x0303, 0xc02f, *b"12345678"),
} }

/// What only another TLS library serves.
fn is_refused_by_foreign((name, arguments, why): (&str, &[&str], &str)) {
    let Some(peer) = Foreign::start(&format!("hostile::upstream_tls::{name}"), arguments) else { return };
    let world = world(HOST, peer.address, &[made::stored_pem("ca.pem")], &[], "");
    all_are_refused(&world, HOST, why);
    peer.got_nothing();
    nothing_was_sent(&world);
    is_well(&world);
}

cases! { is_refused_by_foreign {
    an_rsa_key_of_1024_bits: ("an_rsa_key_of_1024_bits", &["small", "TLSv1_3", "ALL"], "a key is too weak"),
    a_server_of_tls_1_1_alone: ("a_server_of_tls_1_1_alone", &["small", "TLSv1_1", "ALL"], "protocol_version"),
    a_server_of_static_rsa_alone: ("a_server_of_static_rsa_alone", &["small", "TLSv1_2", "AES128-GCM-SHA256:AES256-SHA"], "handshake_failure"),
    a_server_of_cbc_alone: ("a_server_of_cbc_alone", &["small", "TLSv1_2", "ECDHE-RSA-AES128-SHA"], "handshake_failure"),
} }

/// The leaf that our own CA made for the host, in a stranger's hands: no anchor, though the operator named its file.
#[test]
fn a_leaf_of_our_own_authority() {
    let relay = Relay::start();
    let listen = format!("[proxy]\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\ntls_names = [\"{HOST}\"]\n");
    let mut world = world(HOST, relay.address, &[], &[], &listen);
    let anchors = world.home.outside().join("origins-ca.pem");
    let all = std::fs::read_to_string(&anchors).unwrap() + &std::fs::read_to_string(world.home.path().join("ca.pem")).unwrap();
    std::fs::write(&anchors, all).unwrap();
    world.serve.stop();
    world.serve = Serve::start(&world.home);
    let log = world.serve.log();
    relay.lead_to(log.rsplit_once("over TLS listening on ").and_then(|(_, rest)| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap());
    all_are_refused(&world, HOST, "from a CA that is not trusted");
    assert!(world.serve.log().contains("for origins it is left out"), "{}", world.serve.log());
    nothing_was_sent(&world);
    is_well(&world);
}

/// Where no list covers a certificate it passes: a list of another authority's closes nothing.
#[test]
fn a_certificate_that_no_list_covers_is_taken() {
    let bad = made::beside_a_list();
    let origin = Origin::start_with_tls(bad.tls, |exchange| exchange.json(200, "{}"));
    let world = world(HOST, origin.address(), &bad.anchors, &bad.lists, "");
    assert_eq!(world.agent().open(&format!("{HOST}:443")).get(HOST, "/x").status, 200);
    assert_eq!(origin.last().values("authorization"), [world.bearer()]);
    is_well(&world);
}

/// A secret is not even asked for while the origin has not proved who it is: with a Vault that nobody can reach, the origin's fault is what is
/// told, and the credential's only where the origin has none.
#[test]
fn no_secret_is_asked_for_before_the_origin_has_proved_itself() {
    let bad = made::untrusted();
    let origin = Origin::start_with_tls(bad.tls, |exchange| exchange.json(200, "{}"));
    let vault = format!("[vault]\naddress = \"http://{}\"\nauth = {{ method = \"token\", token_file = \"/dev/null\" }}\n", peers::closed_port());
    let world = world(HOST, origin.address(), &[], &[], &vault);
    world.home.ok(&["credential", "add", "there", "--allow", HOST, "--allow", "example.net", "--vault", "secret/there#key"]);
    let agent = world.agent();
    within(super::SECOND, "felt", || agent.open("example.net:443").intercepted().then_some(()));
    agent.open(&format!("{HOST}:443")).get(HOST, "/x").expect_own(502, "tls_error");
    agent.open("example.net:443").get("example.net", "/x").expect_own(503, "credential_unavailable");
    let record = audit_says(&world, "failed", "tls_error");
    assert_eq!(record["credential"], "there", "{record}");
    assert!(origin.recorded().is_empty());
    nothing_was_sent(&world);
    is_well(&world);
}

/// A session is resumed, and no request goes before the handshake has ended, though the origin would take it (RFC 8446 2.3).
#[test]
fn early_data_is_never_sent() {
    let good = made::good(&[HOST]);
    let mut tls = Arc::unwrap_or_clone(good.tls);
    tls.max_early_data_size = 16 << 10;
    let origin = Origin::start_with_tls(Arc::new(tls), |exchange| {
        exchange.json(200, "{}")?;
        exchange.close();
        Ok(())
    });
    let relay = Relay::start();
    relay.lead_to(origin.address());
    let world = world(HOST, relay.address, &good.anchors, &[], "");
    for _ in 0..3 {
        assert_eq!(world.agent().open(&format!("{HOST}:443")).get(HOST, "/x").status, 200);
    }
    let offers = relay.offers();
    assert!(offers.len() >= 3 && offers.iter().skip(1).any(|extensions| extensions.contains(&41)), "sessions are resumed: {offers:?}");
    assert!(offers.iter().all(|extensions| !extensions.contains(&42)), "early data is offered: {offers:?}");
    assert!(origin.recorded().iter().all(|r| !holds(&r.head, "early-data")));
    is_well(&world);
}
