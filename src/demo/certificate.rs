//! A certificate authority for origins on this machine: it stands for the public ones.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The authority: its key lives as long as the value, and nowhere else.
pub struct OriginAuthority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

impl OriginAuthority {
    /// Makes a new authority, which strict verifiers (Python 3.13) accept too.
    ///
    /// # Errors
    /// Where the key cannot be made.
    pub fn new() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = name("Keyhatch demo: authority of the origins");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) = (date_time_ymd(2024, 1, 1), date_time_ymd(2049, 1, 1));
        let certificate = params.self_signed(&key)?;
        Ok(Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) })
    }

    /// The authority's certificate, for `[upstream] extra_ca_files` and for clients of a blind tunnel.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The same, as an anchor for rustls.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// A certificate for a server with the names (DNS names, wildcards, IP literals), and its key.
    ///
    /// # Errors
    /// Where a name cannot stand in a certificate.
    pub fn leaf(&self, names: &[&str]) -> Result<(Certificate, KeyPair), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name = name("origin of a test");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (params.not_before, params.not_after) = (date_time_ymd(2024, 1, 1), date_time_ymd(2049, 1, 1));
        Ok((params.signed_by(&key, &self.issuer)?, key))
    }

    /// A server's TLS set-up with a leaf for the names, and the protocols it offers by ALPN.
    ///
    /// # Errors
    /// Where a name cannot stand in a certificate.
    pub fn server(&self, names: &[&str], alpn: &[&str]) -> Result<Arc<rustls::ServerConfig>, rcgen::Error> {
        let (leaf, key) = self.leaf(names)?;
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs serves TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], secret)
            .expect("the leaf was made for this key");
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}
