use super::*;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry as oid;

fn at(days: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + days * 86_400).expect("in range")
}

fn hosts(names: &[&str]) -> Vec<Host> {
    names.iter().map(|n| Host::parse(n).expect(n)).collect()
}

fn parse<'a>(der: &'a CertificateDer<'static>) -> X509Certificate<'a> {
    X509Certificate::from_der(der).expect("a certificate").1
}

/// An extension and whether it is critical.
fn extension<'a>(cert: &'a X509Certificate<'_>, oid: &oid::Oid<'_>) -> (&'a ParsedExtension<'a>, bool) {
    let found = cert.get_extension_unique(oid).expect("once").expect("there");
    (found.parsed_extension(), found.critical)
}

fn key_identifier(cert: &X509Certificate<'_>) -> Vec<u8> {
    let (ParsedExtension::SubjectKeyIdentifier(id), false) = extension(cert, &oid::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER) else { panic!() };
    id.0.to_vec()
}

fn check_serial(cert: &X509Certificate<'_>) {
    assert!(cert.raw_serial().len() == 16 && cert.raw_serial()[0] & 0x80 == 0, "{:?}", cert.raw_serial());
}

#[test]
fn a_ca_is_what_strict_clients_want() {
    let ca = CertificateAuthority::generate(at(0)).expect("made");
    let cert = parse(ca.certificate());
    check_serial(&cert);
    assert_eq!(cert.subject(), cert.issuer());
    assert!(cert.subject().to_string().starts_with("O=Keyhatch, CN=Keyhatch CA "), "{}", cert.subject());
    let basic = cert.basic_constraints().expect("once").expect("there");
    assert!(basic.critical && basic.value.ca && basic.value.path_len_constraint == Some(0));
    let usage = cert.key_usage().expect("once").expect("there");
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign() && usage.value.flags.count_ones() == 2);
    assert_eq!(key_identifier(&cert).len(), 20);
    assert_eq!((ca.not_before(), ca.not_after()), (at(-2), at(730)));
    assert_eq!(cert.tbs_certificate.subject_pki.parsed().expect("a key").key_size(), 256);
    let other = CertificateAuthority::generate(at(0)).expect("made");
    assert_ne!(parse(other.certificate()).subject(), cert.subject());
    assert_ne!(other.fingerprint(), ca.fingerprint());
}

#[test]
fn a_leaf_is_what_strict_clients_want() {
    let ca = CertificateAuthority::generate(at(0)).expect("made");
    let minted = ca.mint(&hosts(&["api.example.com", "127.0.0.1", "[::1]"]), at(10)).expect("minted");
    let (cert, issuer) = (parse(&minted.certificate), parse(ca.certificate()));
    check_serial(&cert);
    assert_eq!(cert.issuer(), issuer.subject());
    assert_eq!(cert.subject().to_string(), "O=Keyhatch, CN=api.example.com");
    let (ParsedExtension::AuthorityKeyIdentifier(authority), false) = extension(&cert, &oid::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER) else { panic!() };
    assert_eq!(authority.key_identifier.as_ref().expect("there").0, key_identifier(&issuer));
    assert_ne!(key_identifier(&cert), key_identifier(&issuer));
    assert!(!cert.is_ca());
    let usage = cert.key_usage().expect("once").expect("there");
    assert!(usage.critical && usage.value.digital_signature() && usage.value.flags.count_ones() == 1);
    let extended = cert.extended_key_usage().expect("once").expect("there").value;
    assert!(extended.server_auth && !extended.client_auth && !extended.any);
    let names = &cert.subject_alternative_name().expect("once").expect("there").value.general_names;
    let loopback: [u8; 16] = std::net::Ipv6Addr::LOCALHOST.octets();
    assert_eq!(*names, [GeneralName::DNSName("api.example.com"), GeneralName::IPAddress(&[127, 0, 0, 1]), GeneralName::IPAddress(&loopback)]);
    assert_eq!((minted.not_before, minted.not_after), (at(9), at(17)));
    assert_eq!(cert.validity().not_before.timestamp(), at(9).as_second());
    cert.verify_signature(Some(issuer.public_key())).expect("signed by the CA");
}

#[test]
fn a_long_name_is_no_common_name() {
    let ca = CertificateAuthority::generate(at(0)).expect("made");
    let name = |length: usize| format!("{}.{}.example", "a".repeat(50), "b".repeat(length - 59));
    for (length, common) in [(64, true), (65, false)] {
        let minted = ca.mint(&hosts(&[&name(length)]), at(0)).expect("minted");
        let subject = parse(&minted.certificate).subject().to_string();
        assert_eq!(subject.contains(&name(length)), common, "{subject}");
        assert_eq!(subject.contains("CN=Keyhatch leaf "), !common, "{subject}");
    }
}

#[test]
fn a_leaf_stays_inside_its_cas_time() {
    let ca = CertificateAuthority::generate(at(0)).expect("made");
    assert_eq!(ca.mint(&hosts(&["a.example"]), at(728)).expect("minted").not_after, at(730));
    assert_eq!(ca.mint(&hosts(&["a.example"]), at(-2)).expect("minted").not_before, at(-2));
    assert_eq!(ca.mint(&hosts(&["a.example"]), at(730)).err(), Some(CaError::Ended(at(730))));
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let (a, b) = (CertificateAuthority::generate(at(0)).expect("made"), CertificateAuthority::generate(at(0)).expect("made"));
    let back = CertificateAuthority::from_der(a.certificate(), a.key_der()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((back.pem(), back.public_key_digest()), (a.pem(), a.public_key_digest()));
    assert!(matches!(CertificateAuthority::from_der(a.certificate(), b.key_der()), Err(CaError::Read(_))));
    let leaf = a.mint(&hosts(&["a.example"]), at(0)).expect("minted");
    assert!(matches!(CertificateAuthority::from_der(&leaf.certificate, leaf.key.secret_der()), Err(CaError::Read(_))));
    assert!(matches!(CertificateAuthority::from_der(&[], a.key_der()), Err(CaError::Read(_))));
}
