//! CAs that others made, for tests: a root, and what it signs.

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _};

use crate::clock;
use crate::credential::Secret;
use crate::tls::CaState;

/// A CA's name, key and wishes.
pub(in crate::tls) struct Maker {
    params: CertificateParams,
    key: KeyPair,
    own: String,
}

/// `CN = ...`
fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn time(at: Timestamp) -> std::time::SystemTime {
    at.into()
}

impl Maker {
    pub(in crate::tls) fn new(common: &str) -> Self {
        Self::with_key(common, KeyPair::generate().expect("a key"))
    }

    /// One that signed itself.
    pub(in crate::tls) fn root(common: &str) -> Self {
        let mut made = Self::new(common);
        made.own = made.self_signed();
        made
    }

    pub(in crate::tls) fn changed(common: &str, change: fn(&mut CertificateParams)) -> Self {
        let mut made = Self::new(common);
        change(&mut made.params);
        made
    }

    pub(in crate::tls) fn with_key(common: &str, key: KeyPair) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(common);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let day = SignedDuration::from_hours(24);
        params.not_before = time(clock::now().saturating_add(-day * 10).expect("in range")).into();
        params.not_after = time(clock::now().saturating_add(day * 731).expect("in range")).into();
        Self { params, key, own: String::new() }
    }

    pub(in crate::tls) fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    pub(in crate::tls) fn self_signed(&self) -> String {
        self.params.self_signed(&self.key).expect("signed").pem().replace("\r\n", "\n")
    }

    pub(in crate::tls) fn own_pem(&self) -> String {
        self.own.clone()
    }

    pub(in crate::tls) fn signed_by(&self, signer: &Self) -> String {
        self.params.signed_by(&self.key, &signer.issuer()).expect("signed").pem().replace("\r\n", "\n")
    }

    pub(in crate::tls) fn signed_by_until(&self, signer: &Self, begins: Timestamp, ends: Timestamp) -> String {
        let mut params = self.params.clone();
        (params.not_before, params.not_after) = (time(begins).into(), time(ends).into());
        params.signed_by(&self.key, &signer.issuer()).expect("signed").pem().replace("\r\n", "\n")
    }

    pub(in crate::tls) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub(in crate::tls) fn public_key_info(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }
}

/// A root's intermediate, and the public keys of both.
pub(in crate::tls) fn intermediate() -> (CaState, Vec<Vec<u8>>) {
    let (root, low) = (Maker::root("Root"), Maker::changed("Low", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))));
    let all = low.signed_by(&root) + &root.own_pem();
    let state = CaState::from_pem(&all, &Secret::from_opened(low.key_pem().as_bytes()), clock::now()).unwrap_or_else(|e| panic!("{e}"));
    (state, vec![root.public_key_info(), low.public_key_info()])
}
