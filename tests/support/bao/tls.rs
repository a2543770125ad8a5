//! The certificates of a server over TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// PEM files in the server's directory.
pub(super) struct Files {
    pub(super) ca: PathBuf,
    server: (PathBuf, PathBuf),
    pub(super) client: (PathBuf, PathBuf),
    demanding: bool,
}

impl Files {
    /// Makes a CA, and a leaf by it for each side.
    pub(super) fn write(dir: &Path, demanding: bool) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = parameters("authority of a test's Vault", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = dir.join("ca.pem");
        std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let leaf = |name: &str, names: &[&str], usage: ExtendedKeyUsagePurpose| {
            let key = KeyPair::generate().unwrap();
            let mut params = parameters(name, names);
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![usage];
            params.use_authority_key_identifier_extension = true;
            let files = (dir.join(format!("{name}.pem")), dir.join(format!("{name}-key.pem")));
            std::fs::write(&files.0, params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
            std::fs::write(&files.1, key.serialize_pem()).unwrap();
            files
        };
        let server = leaf("server", &["127.0.0.1", "localhost"], ExtendedKeyUsagePurpose::ServerAuth);
        let client = leaf("client", &[], ExtendedKeyUsagePurpose::ClientAuth);
        Self { ca, server, client, demanding }
    }

    /// The lines of the `listener`.
    pub(super) fn listener(&self) -> String {
        let (certificate, key, ca) = (self.server.0.display(), self.server.1.display(), self.ca.display());
        let demand = self.demanding;
        format!(
            "tls_cert_file = \"{certificate}\"\n  tls_key_file = \"{key}\"\n  tls_client_ca_file = \"{ca}\"\n  tls_require_and_verify_client_cert = {demand}"
        )
    }

    /// A client that trusts this CA only and shows its certificate.
    pub(super) fn client_config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).unwrap()).unwrap();
        let (chain, key) = (vec![CertificateDer::from_pem_file(&self.client.0).unwrap()], PrivateKeyDer::from_pem_file(&self.client.1).unwrap());
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }
}

fn parameters(name: &str, names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2024, 1, 1), date_time_ymd(2049, 1, 1));
    params
}
