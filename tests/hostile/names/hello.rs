//! ClientHellos inside a tunnel to `openrouter.ai:443` whose SNI names another host, or more than one.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use super::{audit_says, came_with_the_key, cases, is_refused, is_well, nothing_was_sent};
use crate::support::World;
use crate::support::raw::{Conn, read_reply};

/// A client that takes any certificate.
#[derive(Debug)]
struct Careless(Arc<CryptoProvider>);

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The beginning of a session with whoever is there.
fn careless(name: &str, alpn: &[&str]) -> ClientConnection {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Careless(provider)))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap()
}

/// A session in a tunnel to `openrouter.ai:443` whose SNI has this name.
fn shaken(world: &World, name: &str) -> Conn {
    let (_, stream) = world.agent().connect("openrouter.ai:443");
    let mut stream = StreamOwned::new(careless(name, &["http/1.1"]), stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    Conn { stream }
}

cases! { another_sni_is_misdirected {
    sni_of_another_host_and_a_host_that_agrees_with_connect: ("evil.example", "openrouter.ai"),
    sni_of_another_host_and_a_host_that_agrees_with_it: ("evil.example", "evil.example"),
    sni_of_another_host_of_the_credential: ("api.openrouter.ai", "openrouter.ai"),
    sni_of_another_host_of_the_credential_and_host_too: ("api.openrouter.ai", "api.openrouter.ai"),
    sni_of_a_longer_name: ("openrouter.ai.evil.example", "openrouter.ai"),
    sni_of_the_parent: ("ai", "openrouter.ai"),
} }

/// The handshake is done with the CONNECT host's leaf; then each request is refused, whatever it says.
fn another_sni_is_misdirected((sni, host): (&str, &str)) {
    let world = World::agreeable();
    let mut conn = shaken(&world, sni);
    {
        let leaf = conn.stream.conn.peer_certificates().unwrap()[0].to_vec();
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        let names = format!("{:?}", leaf.subject_alternative_name().unwrap().unwrap().value.general_names);
        assert_eq!(names, "[DNSName(\"openrouter.ai\")]");
    }
    let reply = conn.get(host, "/x");
    assert_eq!(reply.status, 421, "{reply:?}");
    is_refused(&world, &reply);
    is_well(&world);
}

/// Without SNI the CONNECT's name is all there is, and it counts.
#[test]
fn no_sni_leaves_the_connect_host() {
    let world = World::agreeable();
    let (_, stream) = world.agent().connect("openrouter.ai:443");
    let mut conn = world.agent().handshake(stream, "openrouter.ai", false).unwrap();
    assert_eq!(conn.get("openrouter.ai", "/x").status, 200);
    came_with_the_key(&world, "/x");
    is_well(&world);
}

/// Without SNI another `Host` is another `Host`.
#[test]
fn no_sni_and_another_host_is_misdirected() {
    let world = World::agreeable();
    let (_, stream) = world.agent().connect("openrouter.ai:443");
    let reply = world.agent().handshake(stream, "openrouter.ai", false).unwrap().get("api.openrouter.ai", "/x");
    is_refused(&world, &reply);
    is_well(&world);
}

/// A ClientHello for `openrouter.ai`, whose list of names is then another one.
fn hello(names: &[u8]) -> Vec<u8> {
    let mut hello = Vec::new();
    careless("openrouter.ai", &["http/1.1"]).write_tls(&mut hello).unwrap();
    let name = memchr::memmem::find(&hello, b"openrouter.ai").unwrap();
    // Type, length, length of the list, kind, length, then the name (RFC 6066 3).
    let (extension, end) = (name - 9, name + "openrouter.ai".len());
    assert_eq!(hello[extension..extension + 2], [0, 0]);
    let list = u16::try_from(names.len()).unwrap();
    let grown = names.len() as isize + 6 - (end - extension) as isize;
    let new = [&[0, 0][..], &(list + 2).to_be_bytes(), &list.to_be_bytes(), names].concat();
    hello.splice(extension..end, new);
    // The lengths round it: of the record, of the message, of the extensions (RFC 8446 4.1.2).
    let session = 5 + 4 + 2 + 32;
    let suites = session + 1 + usize::from(hello[session]);
    let methods = suites + 2 + usize::from(u16::from_be_bytes([hello[suites], hello[suites + 1]]));
    let extensions = methods + 1 + usize::from(hello[methods]);
    for at in [3, 7, extensions] {
        let length = u16::from_be_bytes([hello[at], hello[at + 1]]);
        let longer = u16::try_from(isize::try_from(length).unwrap() + grown).unwrap();
        hello[at..at + 2].copy_from_slice(&longer.to_be_bytes());
    }
    hello
}

/// An entry of the list: a host name, unless the kind says otherwise.
fn entry(kind: u8, name: &str) -> Vec<u8> {
    [&[kind][..], &u16::try_from(name.len()).unwrap().to_be_bytes(), name.as_bytes()].concat()
}

cases! { is_no_hello {
    sni_of_two_names: [entry(0, "openrouter.ai"), entry(0, "evil.example")].concat(),
    sni_of_two_names_the_other_one_first: [entry(0, "evil.example"), entry(0, "openrouter.ai")].concat(),
    sni_of_the_same_name_twice: [entry(0, "openrouter.ai"), entry(0, "openrouter.ai")].concat(),
    sni_of_no_name: Vec::new(),
    sni_of_an_empty_name: entry(0, ""),
    sni_with_a_nul: entry(0, "openrouter.ai\0.evil.example"),
    sni_with_a_space: entry(0, "openrouter.ai evil.example"),
    sni_that_is_longer_than_its_list: vec![0, 0, 200, b'a'],
} }

/// No handshake, so that no request can be read.
fn is_no_hello(names: Vec<u8>) {
    let world = World::agreeable();
    let (_, mut stream) = world.agent().connect("openrouter.ai:443");
    stream.write_all(&hello(&names)).unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    assert_eq!(said.first(), Some(&21), "an alert, then the end: {said:?}");
    audit_says(&world, "failed", "agent_tls");
    nothing_was_sent(&world);
    assert_eq!(world.origin.accepted(), 0);
    is_well(&world);
}

/// The hello as it would be: what is refused above is so for its list of names alone.
#[test]
fn sni_of_one_name_by_the_same_hand_is_answered() {
    let world = World::agreeable();
    let (_, mut stream) = world.agent().connect("openrouter.ai:443");
    stream.write_all(&hello(&entry(0, "openrouter.ai"))).unwrap();
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(first, [22], "a ServerHello");
    drop(stream);
    nothing_was_sent(&world);
    is_well(&world);
}

cases! { in_the_same_packet_as_connect {
    a_hello_right_behind_connect: "openrouter.ai",
    a_hello_right_behind_connect_to_a_blind_tunnel: "example.net",
} }

/// The first bytes of the tunnel may come with the CONNECT: they are read once it is accepted.
fn in_the_same_packet_as_connect(host: &str) {
    let world = World::agreeable();
    let agent = world.agent();
    let mut session = careless(host, &["http/1.1"]);
    let mut bytes = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\nProxy-Authorization: {}\r\n\r\n", agent.authorization).into_bytes();
    session.write_tls(&mut bytes).unwrap();
    let mut stream = agent.dial();
    stream.write_all(&bytes).unwrap();
    assert_eq!(read_reply(&mut stream, Some("CONNECT")).unwrap().status, 200);
    let mut stream = StreamOwned::new(session, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    let mut conn = Conn { stream };
    assert_eq!(conn.intercepted(), host == "openrouter.ai");
    assert_eq!(conn.get(host, "/x").status, 200);
    if host == "openrouter.ai" {
        came_with_the_key(&world, "/x");
    } else {
        assert_eq!(world.origin.last().values("authorization").len(), 0);
        drop(conn);
        audit_says(&world, "tunnelled", "unmatched");
    }
    is_well(&world);
}
