//! Verification of origins, against private CAs made for each test.

use super::*;
use std::slice::from_ref;

use crate::tls::acceptance::in_memory::{handshake, server};
use crate::tls::{CaState, describe_tls_error};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

type Ca = CertifiedIssuer<'static, KeyPair>;

fn private_ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("made")).expect("made")
}

/// An origin's configuration, with a leaf of serial 7 that ends in `until`.
fn origin(ca: &Ca, name: &str, until: i32) -> Arc<rustls::ServerConfig> {
    let key = KeyPair::generate().expect("made");
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.serial_number = Some(SerialNumber::from(7));
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let leaf = params.signed_by(&key, ca).expect("made");
    server(leaf.der().clone(), key.serialize_der())
}

fn revocation_list(ca: &Ca, next_update: i32) -> String {
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(7),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(next_update, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(ca).expect("made").pem().expect("PEM")
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("made"))
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }
}

fn load(extra: &[PathBuf], crl: &[PathBuf]) -> Result<UpstreamTrust, TrustError> {
    UpstreamTrust::load(&SystemStore::default(), TrustFiles { extra_ca: extra, crl }, &OwnKeys::default(), crate::clock::now())
}

fn refused(trust: &UpstreamTrust, name: &str, server: &Arc<rustls::ServerConfig>) -> String {
    describe_tls_error(&handshake(&trust.client.any, name, server).expect_err("refused"))
}

#[test]
fn a_private_ca_is_trusted_for_its_names_and_time_alone() {
    let (files, ca) = (Files::new(), private_ca("A"));
    let trust = load(&[files.put("ca.pem", ca.pem())], &[]).expect("loads");
    assert_eq!((trust.system_anchors, trust.extra_anchors, trust.warnings.len()), (0, 1, 0));
    let done = handshake(&trust.client.any, "a.example", &origin(&ca, "a.example", 2100)).expect("trusted");
    assert_eq!(done.alpn.as_deref(), Some(&b"h2"[..]));
    assert!(refused(&trust, "b.example", &origin(&ca, "a.example", 2100)).contains("not for b.example but for a.example"));
    assert!(refused(&trust, "a.example", &origin(&ca, "a.example", 2021)).contains("expired at 2021-01-01"));
    assert!(refused(&trust, "a.example", &origin(&private_ca("A"), "a.example", 2100)).contains("signature"));
    assert!(refused(&trust, "a.example", &origin(&private_ca("B"), "a.example", 2100)).contains("not trusted"));
}

#[test]
fn each_set_up_offers_its_protocols_and_resumes_its_own_sessions() {
    use rustls::HandshakeKind::{Full, Resumed};
    let (files, ca) = (Files::new(), private_ca("A"));
    let trust = load(&[files.put("ca.pem", ca.pem())], &[]).expect("loads");
    let mut origin = Arc::unwrap_or_clone(origin(&ca, "a.example", 2100));
    origin.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    origin.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().expect("made");
    let origin = Arc::new(origin);
    for (client, protocol) in [(&trust.client.any, "h2"), (&trust.client.http1, "http/1.1")] {
        let done = [(); 3].map(|()| handshake(client, "a.example", &origin).expect("trusted"));
        assert_eq!(done.each_ref().map(|d| d.kind), [Some(Full), Some(Resumed), Some(Resumed)], "{protocol}");
        assert!(done.iter().all(|d| d.alpn.as_deref() == Some(protocol.as_bytes())), "{protocol}");
    }
}

#[test]
fn neither_early_data_nor_a_key_log() {
    let files = Files::new();
    let trust = load(&[files.put("ca.pem", private_ca("A").pem())], &[]).expect("loads");
    for client in [&trust.client.any, &trust.client.http1] {
        assert!(!client.enable_early_data);
        assert!(!client.key_log.will_log("CLIENT_RANDOM"));
    }
}

#[test]
fn a_revoked_certificate_is_refused_and_one_without_a_list_is_not() {
    let (files, a, b) = (Files::new(), private_ca("A"), private_ca("B"));
    let anchors = [files.put("both.pem", a.pem() + &b.pem())];
    let trust = load(&anchors, &[files.put("a.crl", revocation_list(&a, 2100))]).expect("loads");
    assert!(trust.warnings.is_empty());
    assert!(refused(&trust, "a.example", &origin(&a, "a.example", 2100)).contains("revoked"));
    handshake(&trust.client.any, "a.example", &origin(&b, "a.example", 2100)).expect("no list covers it");
    // Stale: warned of, and what it lists stays revoked.
    let trust = load(&anchors, &[files.put("stale.crl", revocation_list(&a, 2025))]).expect("loads");
    assert!(trust.warnings[0].contains("stale.crl") && trust.warnings[0].contains("out of date"), "{:?}", trust.warnings);
    assert!(refused(&trust, "a.example", &origin(&a, "a.example", 2100)).contains("revoked"));
    let der = CertificateRevocationListDer::from_pem_slice(revocation_list(&a, 2100).as_bytes()).expect("one");
    let trust = load(&anchors, &[files.put("der.crl", &der)]).expect("DER loads too");
    assert!(refused(&trust, "a.example", &origin(&a, "a.example", 2100)).contains("revoked"));
}

#[test]
fn the_own_ca_is_never_an_anchor() {
    let (files, now, other) = (Files::new(), crate::clock::now(), private_ca("A"));
    let mut own = CaState::generate(now).expect("made");
    let first = own.anchors_pem(now);
    own.rotate(now, true).expect("rotates");
    own.rotate(now, false).expect("rotates");
    let bundle = files.put("bundle.pem", first.clone() + &own.anchors_pem(now) + &other.pem());
    let load = |system: &SystemStore, extra: &[PathBuf]| UpstreamTrust::load(system, TrustFiles { extra_ca: extra, crl: &[] }, &own.own_keys(), now);
    let trust = load(&SystemStore::default(), from_ref(&bundle)).expect("loads");
    assert_eq!((trust.extra_anchors, trust.warnings.len()), (1, 3));
    let system = SystemStore { bundle: Some(bundle.clone()), directories: vec![files.0.path().into()] };
    let trust = load(&system, &[]).expect("loads");
    assert_eq!((trust.system_anchors, trust.warnings.len()), (1, 3));
    handshake(&trust.client.any, "a.example", &origin(&other, "a.example", 2100)).expect("trusted");
    let minted = own.signing(now).mint(&[crate::host::Host::parse("a.example").expect("a name")], now).expect("minted");
    let rustls::pki_types::PrivateKeyDer::Pkcs8(key) = minted.key else { panic!("PKCS #8") };
    assert!(refused(&trust, "a.example", &server(minted.certificate, key.secret_pkcs8_der().to_vec())).contains("not trusted"));
    let alone = files.put("alone.pem", first);
    assert_eq!(load(&SystemStore::default(), &[alone]).err(), Some(TrustError::NoAnchors));
}

#[test]
fn a_bad_file_is_named() {
    let files = Files::new();
    let good = files.put("good.pem", private_ca("A").pem());
    let missing = files.0.path().join("missing.pem");
    assert!(matches!(load(from_ref(&missing), &[]).err(), Some(TrustError::Read { file, .. }) if file == missing));
    let empty = files.put("empty.pem", "nothing here");
    assert_eq!(load(from_ref(&empty), &[]).err(), Some(TrustError::Empty { file: empty.clone(), wanted: "certificate" }));
    assert_eq!(load(from_ref(&good), from_ref(&empty)).err(), Some(TrustError::Empty { file: empty, wanted: "revocation list" }));
    let bad = files.put("bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(matches!(load(from_ref(&bad), &[]).err(), Some(TrustError::Entry { file, number: 1, .. }) if file == bad));
    let bad = files.put("bad.crl", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    assert!(matches!(load(&[good], from_ref(&bad)).err(), Some(TrustError::Entry { file, number: 1, .. }) if file == bad));
}

#[test]
fn a_bad_file_of_the_system_does_not_take_the_others_away() {
    let files = Files::new();
    files.put("a.pem", private_ca("A").pem());
    files.put("b.pem", "-----BEGIN CERTIFICATE-----\nA");
    let gone = files.0.path().join("gone");
    let system = SystemStore { bundle: None, directories: vec![files.0.path().into(), gone] };
    let trust = UpstreamTrust::load(&system, TrustFiles::default(), &OwnKeys::default(), crate::clock::now()).expect("loads");
    assert_eq!(trust.system_anchors, 1);
    assert!(!trust.warnings.is_empty());
}

#[test]
fn the_system_of_this_machine() {
    let system = SystemStore::here();
    if system.bundle.is_none() && system.directories.is_empty() {
        eprintln!("skipped: this system has no trust anchors");
        return;
    }
    let trust = UpstreamTrust::load(&system, TrustFiles::default(), &OwnKeys::default(), crate::clock::now()).expect("loads");
    assert!(trust.system_anchors > 0 && trust.extra_anchors == 0);
    assert_eq!(trust.client.any.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(trust.client.http1.alpn_protocols, [b"http/1.1".to_vec()]);
}
