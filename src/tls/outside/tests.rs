use super::*;
use crate::agent::AgentName;
use crate::host::Host;
use crate::tls::LeafCache;
use crate::tls::acceptance::in_memory::{client_config, handshake};
use crate::tls::acceptance::outside::{Maker, intermediate};
use jiff::SignedDuration;
use rcgen::{CertificateSigningRequestParams, DistinguishedName, DnType, KeyIdMethod, NameConstraints};

fn at(days: i64) -> Timestamp {
    crate::clock::now().saturating_add(SignedDuration::from_hours(days * 24)).expect("in range")
}

fn secret(pem: &str) -> Secret {
    Secret::from_opened(pem.as_bytes())
}

fn error(certificates: &str, key: &str) -> String {
    let e = CaState::from_pem(certificates, &secret(key), at(0)).map(|_| ()).expect_err("refused");
    assert!(matches!(e, CaError::Outside(_)), "{e:?}");
    e.to_string()
}

fn count(pem: &str) -> usize {
    pem.matches("-----BEGIN CERTIFICATE-----\n").count()
}

#[test]
fn one_that_was_generated_comes_back() {
    let (certificate, key) = generate_pem(at(0)).expect("made");
    assert!(key.expose().starts_with(b"-----BEGIN PRIVATE KEY-----\n") && key.expose().ends_with(b"\n-----END PRIVATE KEY-----\n"));
    let ca = CaState::from_pem(&certificate, &key, at(0)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(ca.anchors_pem(at(0)), certificate);
    assert!(ca.signing(at(0)).anchor_is_root() && ca.signing(at(0)).mint(&[], at(0)).expect("mints").between.is_empty());
    // It is another state than the home's own in one thing: how its end is mended.
    let ended = ca.signing(at(0)).mint(&[], at(731)).map(|_| ()).expect_err("ended").to_string();
    assert!(ended.contains("from outside") && !ended.contains("ca rotate"), "{ended}");
}

#[tokio::test]
async fn leaves_of_an_intermediate_are_presented_with_their_chain() {
    let (root, middle, low) = (Maker::root("Root"), Maker::new("Middle"), Maker::new("Low"));
    let (middle_pem, low_pem) = (middle.signed_by(&root), low.signed_by(&middle));
    let all = format!("{low_pem}{middle_pem}{}", root.own_pem());
    let ca = CaState::from_pem(&all, &secret(&low.key_pem()), at(0)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(ca.anchors_pem(at(0)), root.own_pem());
    let minted = ca.signing(at(0)).mint(&[Host::parse("a.example").expect("a host")], at(0)).expect("mints");
    assert_eq!(minted.between.len(), 2, "the root is the client's own");
    for maker in [&root, &middle, &low] {
        assert!(ca.own_keys().holds(&maker.public_key_info()));
    }
    // What the store seals holds all of it.
    let back = CaState::from_secret(&ca.to_secret()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((back.own_keys(), back.anchors_pem(at(0))), (ca.own_keys(), root.own_pem()));
    let stranger = Maker::root("Root").own_pem();
    let one = AgentName::parse("one").expect("a name");
    let leaf = LeafCache::new(Arc::new(back)).expect("made").get(&one, &Host::parse("a.example").expect("a host")).await.expect("minted");
    for version in crate::tls::VERSIONS {
        handshake(&client_config(&root.own_pem(), &[version], &[]), "a.example", &leaf.config).expect("trusted");
        assert!(handshake(&client_config(&stranger, &[version], &[]), "a.example", &leaf.config).is_err());
    }
}

#[test]
fn an_intermediate_alone_is_its_own_anchor() {
    let (root, low) = (Maker::root("Root"), Maker::new("Low"));
    let pem = low.signed_by(&root);
    let ca = CaState::from_pem(&pem, &secret(&low.key_pem()), at(0)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(ca.anchors_pem(at(0)), pem);
    assert!(!ca.signing(at(0)).anchor_is_root());
}

type Foreign = (&'static str, &'static str, KeyPair, Vec<u8>);

/// `openssl ecparam -genkey`: ECPrivateKey with its curve and public key (RFC 5915 3).
fn sec1() -> Foreign {
    let pair = KeyPair::generate().expect("a key");
    let pkcs8 = pair.serialized_der();
    let scalar = pkcs8.windows(5).position(|w| w == [2, 1, 1, 4, 32]).expect("an ECPrivateKey") + 5;
    let mut der = vec![0x30, 0x77, 2, 1, 1, 4, 32];
    der.extend(&pkcs8[scalar..scalar + 32]);
    der.extend([0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 0xa1, 0x44, 3, 0x42, 0]);
    der.extend(pair.public_key_raw());
    ("SEC 1", "EC PRIVATE KEY", pair, der)
}

/// `openssl genrsa -traditional`: what PKCS #8 wraps after its 26 bytes (RFC 8017 A.1.2).
fn pkcs1() -> Foreign {
    let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let der = pair.serialized_der()[26..].to_vec();
    ("PKCS #1", "RSA PRIVATE KEY", pair, der)
}

#[test]
fn keys_of_every_kind_that_is_in_use() {
    for (kind, label, pair, der) in [sec1(), pkcs1()] {
        let mut key = String::new();
        write_pem(label, &der, |text| key.push_str(text));
        let maker = Maker::with_key("Own", pair);
        let ca = CaState::from_pem(&maker.self_signed(), &secret(&key), at(0)).unwrap_or_else(|e| panic!("{kind}: {e}"));
        let back = CaState::from_secret(&ca.to_secret()).unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!(back.own_keys(), ca.own_keys(), "{kind}");
    }
    let p384 = Maker::with_key("Own", KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("made"));
    assert!(CaState::from_pem(&p384.self_signed(), &secret(&p384.key_pem()), at(0)).is_ok());
}

#[test]
fn what_does_not_belong_together_is_refused_in_words() {
    let (root, low, other) = (Maker::root("Root"), Maker::new("Low"), Maker::root("Root"));
    let (root_pem, low_pem, other_pem) = (root.own_pem(), low.signed_by(&root), other.own_pem());
    let key = low.key_pem();
    for (certificates, key, words) in [
        (format!("{low_pem}{root_pem}"), root.key_pem(), "private key is not its certificate's"),
        (format!("{root_pem}{low_pem}"), key.clone(), "private key is not its certificate's"),
        (format!("{low_pem}{other_pem}"), key.clone(), "the CA's certificate is not signed by the one after it"),
        (format!("{low_pem}{root_pem}{other_pem}"), key.clone(), "certificate 2 of the CA's chain is not signed"),
        (String::new(), key.clone(), "-----BEGIN CERTIFICATE-----"),
        (low_pem.replace("MII", "!!!"), key.clone(), "-----BEGIN CERTIFICATE-----"),
        (low_pem.clone(), String::new(), "-----BEGIN PRIVATE KEY-----"),
        (low_pem.clone(), key.replace("PRIVATE", "ENCRYPTED PRIVATE"), "encrypted"),
        (low_pem.clone(), key.replacen("MI", "AA", 1), "cannot be used"),
        (low_pem.repeat(3).replace(&low_pem, &format!("{low_pem}{root_pem}")).repeat(3), key.clone(), "more than 8"),
    ] {
        let e = error(&certificates, &key);
        assert!(e.contains(words), "{words}: {e}");
        assert!(!key.lines().any(|line| line.len() > 20 && !line.starts_with('-') && e.contains(line)), "{e}");
    }
}

#[test]
fn what_is_no_ca_or_may_not_sign_is_refused() {
    let root = Maker::root("Root");
    let made = |change: fn(&mut CertificateParams)| {
        let low = Maker::changed("Low", change);
        error(&format!("{}{}", low.signed_by(&root), root.own_pem()), &low.key_pem())
    };
    assert!(made(|p| p.is_ca = IsCa::ExplicitNoCa).contains("is no CA's"));
    assert!(made(|p| p.is_ca = IsCa::NoCa).contains("is no CA's"));
    assert!(made(|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]).contains("keyCertSign"));
    assert!(made(|p| p.key_usages.clear()).contains("keyCertSign"));
    assert!(made(|p| p.not_after = rcgen::date_time_ymd(2020, 1, 1)).contains("ended at 2020-01-01"));
    assert!(made(|p| p.not_before = rcgen::date_time_ymd(2200, 1, 1)).contains("is the clock right?"));
    assert!(made(|p| p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth]).contains("clients would refuse every leaf"));
    let twice = made(|p| {
        p.distinguished_name = DistinguishedName::new();
        for part in ["a", "b"] {
            p.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 11]), part);
            p.distinguished_name.push(DnType::OrganizationalUnitName, part);
        }
    });
    assert!(twice.contains("plain name"), "{twice}");
    // The one above it has a path length of 0: it may sign leaves only.
    let short = Maker::changed("Short", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let low = Maker::new("Low");
    let e = error(&format!("{}{}", low.signed_by(&short), short.self_signed()), &low.key_pem());
    assert!(e.contains("certificate 2 of the CA's chain allows fewer CAs"), "{e}");
    let ended = Maker::changed("Root", |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let e = error(&format!("{}{}", low.signed_by(&ended), ended.self_signed()), &low.key_pem());
    assert!(e.contains("certificate 2 of the CA's chain ended"), "{e}");
}

#[test]
fn one_that_is_bound_to_names_is_taken() {
    let root = Maker::root("Root");
    let low = Maker::changed("Low", |p| {
        let names = vec![rcgen::GeneralSubtree::DnsName("corp.example".to_owned())];
        p.name_constraints = Some(NameConstraints { permitted_subtrees: names, excluded_subtrees: Vec::new() });
    });
    let all = format!("{}{}", low.signed_by(&root), root.own_pem());
    assert_eq!(CaState::from_pem(&all, &secret(&low.key_pem()), at(0)).map(|_| ()), Ok(()));
}

#[test]
fn a_foreign_key_identifier_is_repeated() {
    let own = Maker::changed("Own", |p| p.key_identifier_method = KeyIdMethod::PreSpecified(vec![7; 20]));
    let ca = CaState::from_pem(&own.self_signed(), &secret(&own.key_pem()), at(0)).unwrap_or_else(|e| panic!("{e}"));
    let minted = ca.signing(at(0)).mint(&[], at(0)).expect("mints");
    let (_, leaf) = X509Certificate::from_der(&minted.certificate).expect("a certificate");
    let found = leaf.iter_extensions().find_map(|e| match e.parsed_extension() {
        x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|k| k.0.to_vec()),
        _ => None,
    });
    assert_eq!(found, Some(vec![7; 20]));
}

#[test]
fn a_request_is_signed_and_finished() {
    let root = Maker::root("Root");
    let request = CertificateRequest::new("Keyhatch replica").expect("made");
    assert!(request.csr_pem().starts_with("-----BEGIN CERTIFICATE REQUEST-----") && !request.csr_pem().contains("PRIVATE"));
    let asked = CertificateSigningRequestParams::from_pem(request.csr_pem()).expect("a request");
    let common = asked.params.distinguished_name.get(&DnType::CommonName);
    assert_eq!(common, Some(&rcgen::DnValue::Utf8String("Keyhatch replica".to_owned())));
    assert!(matches!(asked.params.is_ca, IsCa::Ca(BasicConstraints::Constrained(0))));
    let signed = asked.signed_by(&root.issuer()).expect("signed").pem();
    // Vault's chain holds the signer; some versions put the certificate itself before it.
    let chain = format!("{signed}{}", root.own_pem());
    let state = request.finish(&signed, &chain, at(0)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((state.anchors_pem(at(0)), count(&state.anchors_pem(at(0)))), (root.own_pem(), 1));
    let other = CertificateRequest::new("Keyhatch replica").expect("made");
    let e = other.finish(&signed, &chain, at(0)).map(|_| ()).expect_err("another's");
    assert!(e.to_string().contains("private key is not its certificate's"), "{e}");
    let alone = CertificateRequest::new("x").expect("made");
    assert!(alone.finish("", "", at(0)).is_err());
}

#[test]
fn a_short_life_is_renewed_at_two_thirds_and_no_leaf_outlives_the_chain() {
    let root = Maker::root("Root");
    let low = Maker::new("Low");
    let hours = |h: i64| at(0).saturating_add(SignedDuration::from_hours(h)).expect("in range");
    let low_pem = low.signed_by_until(&root, hours(-3), hours(6));
    let state = CaState::from_pem(&format!("{low_pem}{}", root.own_pem()), &secret(&low.key_pem()), at(0)).unwrap_or_else(|e| panic!("{e}"));
    assert!(!state.needs_renewal(hours(2)) && state.needs_renewal(hours(4)));
    assert!((state.renew_at(at(0)).as_second() - hours(3).as_second()).abs() <= 2);
    let minted = state.signing(at(0)).mint(&[], at(0)).expect("mints");
    assert!(minted.not_after <= hours(6) && minted.not_before >= hours(-4));
    // A root that ends before its intermediate ends the leaf.
    let brief = Maker::root("Brief");
    let brief_pem = brief.signed_by_until(&brief, hours(-3), hours(2));
    let state = CaState::from_pem(&format!("{}{brief_pem}", low.signed_by(&brief)), &secret(&low.key_pem()), at(0)).unwrap_or_else(|e| panic!("{e}"));
    assert!(state.signing(at(0)).mint(&[], at(0)).expect("mints").not_after <= hours(2));
}

#[test]
fn an_earlier_one_stays_out_of_the_anchors() {
    let ((first, first_keys), (second, _)) = (intermediate(), intermediate());
    let mut next = second;
    let before = next.own_keys();
    next.remember(&first.own_keys());
    assert!(first_keys.iter().all(|key| next.own_keys().holds(key) && !before.holds(key)));
    next.remember(&first.own_keys());
    assert_eq!(CaState::from_secret(&next.to_secret()).unwrap_or_else(|e| panic!("{e}")).own_keys(), next.own_keys());
}
