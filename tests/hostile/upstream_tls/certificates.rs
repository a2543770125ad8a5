//! Certificates with one thing wrong each.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::{Bad, HOST};
use crate::support::package_dir;

type Ca = CertifiedIssuer<'static, KeyPair>;

/// The parameters of an authority that is as it should be.
fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2049, 1, 1));
    params
}

/// The parameters of an origin that is as it should be, but for its names.
fn server(names: &[&str]) -> CertificateParams {
    let name = |name: &&str| match name.parse() {
        Ok(ip) => SanType::IpAddress(ip),
        Err(_) => SanType::DnsName((*name).try_into().unwrap()),
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = common("origin of a test");
    params.subject_alt_names = names.iter().map(name).collect();
    params.serial_number = Some(SerialNumber::from(7));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2049, 1, 1));
    params
}

fn common(name: &str) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    out.push(DnType::CommonName, name);
    out
}

fn root(params: CertificateParams) -> Ca {
    Ca::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn below(params: CertificateParams, above: &Ca) -> Ca {
    Ca::signed_by(params, KeyPair::generate().unwrap(), above).unwrap()
}

/// An origin that presents this chain.
fn presenting(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<ServerConfig> {
    configured(chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
}

fn configured(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Arc<ServerConfig> {
    // Without a look at the certificate, which is not as rustls would have it.
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A leaf by an authority, and the certificates that it is presented with.
fn leaf(params: &CertificateParams, issuer: &Issuer<'static, KeyPair>, between: &[&Ca]) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, issuer).unwrap();
    presenting(std::iter::once(leaf.der().clone()).chain(between.iter().map(|ca| ca.der().clone())).collect(), &key)
}

fn bad(tls: Arc<ServerConfig>, anchors: &[&Ca]) -> Bad {
    Bad { tls, anchors: anchors.iter().map(|ca| ca.pem()).collect(), lists: Vec::new() }
}

/// One that is as it should be.
pub(super) fn good(names: &[&str]) -> Bad {
    by_a_root(&server(names))
}

fn by_a_root(params: &CertificateParams) -> Bad {
    let ca = root(authority("A"));
    bad(leaf(params, &ca, &[]), &[&ca])
}

pub(super) fn named(names: &[&str]) -> Bad {
    good(names)
}

pub(super) fn in_time((from, until): (i32, i32)) -> Bad {
    let mut params = server(&[HOST]);
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
    by_a_root(&params)
}

pub(super) fn expired_intermediate() -> Bad {
    let ca = root(authority("A"));
    let mut params = authority("B");
    params.not_after = date_time_ymd(2025, 1, 1);
    let between = below(params, &ca);
    bad(leaf(&server(&[HOST]), &between, &[&between]), &[&ca])
}

pub(super) fn common_name_alone(name: &str) -> Bad {
    let mut params = server(&[]);
    params.distinguished_name = common(name);
    by_a_root(&params)
}

pub(super) fn address_as_a_name(address: &str) -> Bad {
    let mut params = server(&[]);
    params.subject_alt_names = vec![SanType::DnsName(address.try_into().unwrap())];
    by_a_root(&params)
}

pub(super) fn self_signed() -> Bad {
    let key = KeyPair::generate().unwrap();
    let leaf = server(&[HOST]).self_signed(&key).unwrap();
    bad(presenting(vec![leaf.der().clone()], &key), &[])
}

pub(super) fn untrusted() -> Bad {
    bad(leaf(&server(&[HOST]), &root(authority("A")), &[]), &[])
}

/// By another key than that of the authority which the operator trusts under this name.
pub(super) fn of_a_namesake() -> Bad {
    bad(leaf(&server(&[HOST]), &root(authority("A")), &[]), &[&root(authority("A"))])
}

pub(super) fn without_its_intermediate() -> Bad {
    let ca = root(authority("A"));
    bad(leaf(&server(&[HOST]), &below(authority("B"), &ca), &[]), &[&ca])
}

/// A list that revokes serial 7.
fn list(ca: &Ca, next_update: i32) -> String {
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
    params.signed_by(ca).unwrap().pem().unwrap()
}

pub(super) fn revoked(next_update: i32) -> Bad {
    let ca = root(authority("A"));
    Bad { lists: vec![list(&ca, next_update)], ..bad(leaf(&server(&[HOST]), &ca, &[]), &[&ca]) }
}

pub(super) fn revoked_intermediate() -> Bad {
    let ca = root(authority("A"));
    let mut params = authority("B");
    params.serial_number = Some(SerialNumber::from(7));
    let between = below(params, &ca);
    let mut params = server(&[HOST]);
    params.serial_number = Some(SerialNumber::from(8));
    Bad { lists: vec![list(&ca, 2100)], ..bad(leaf(&params, &between, &[&between]), &[&ca]) }
}

/// A list of another authority's, which names the same serial.
pub(super) fn beside_a_list() -> Bad {
    let (ca, other) = (root(authority("A")), root(authority("B")));
    Bad { lists: vec![list(&other, 2100)], ..bad(leaf(&server(&[HOST]), &ca, &[]), &[&ca, &other]) }
}

pub(super) fn constrained(permits_another: bool) -> Bad {
    let tree = |name: &str| vec![GeneralSubtree::DnsName(name.to_owned())];
    let mut params = authority("A");
    params.name_constraints = Some(match permits_another {
        true => NameConstraints { permitted_subtrees: tree("example.com"), excluded_subtrees: Vec::new() },
        false => NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees: tree("openrouter.ai") },
    });
    let ca = root(authority("R"));
    let between = below(params, &ca);
    bad(leaf(&server(&[HOST]), &between, &[&between]), &[&ca])
}

pub(super) fn below_a_leaf() -> Bad {
    let ca = root(authority("A"));
    let between = below(server(&["api.openrouter.ai"]), &ca);
    bad(leaf(&server(&[HOST]), &between, &[&between]), &[&ca])
}

pub(super) fn too_deep() -> Bad {
    let ca = root(authority("A"));
    let mut params = authority("B");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let first = below(params, &ca);
    let second = below(authority("C"), &first);
    bad(leaf(&server(&[HOST]), &second, &[&second, &first]), &[&ca])
}

pub(super) fn for_clients() -> Bad {
    let mut params = server(&[HOST]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    by_a_root(&params)
}

/// An intermediate that serves by itself.
pub(super) fn authority_itself() -> Bad {
    let ca = root(authority("A"));
    let mut params = server(&[HOST]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    bad(leaf(&params, &ca, &[]), &[&ca])
}

pub(super) fn with_a_strange_extension() -> Bad {
    let mut params = server(&[HOST]);
    let mut strange = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    strange.set_criticality(true);
    params.custom_extensions = vec![strange];
    by_a_root(&params)
}

/// What `tests/hostile/testdata/make` made.
pub(super) fn stored_pem(file: &str) -> String {
    std::fs::read_to_string(package_dir().join("tests/hostile/testdata").join(file)).unwrap()
}

pub(super) fn stored(name: &str) -> Bad {
    let chain = vec![CertificateDer::from_pem_slice(stored_pem(&format!("{name}.pem")).as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(stored_pem(&format!("{name}.key")).as_bytes()).unwrap();
    Bad { tls: configured(chain, key), anchors: vec![stored_pem("ca.pem"), stored_pem("small-ca.pem")], lists: Vec::new() }
}
