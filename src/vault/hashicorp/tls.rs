//! TLS towards Vault: rustls on aws-lc-rs, as everywhere in this program, verified against the CA given or the system's.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::error::VaultError;
use super::settings::VaultSettings;
use crate::environment;

/// The set-up of the client. The files are read here, once.
///
/// # Errors
/// [`VaultError`] of kind `Settings` where a file cannot be used, or where there is nothing to verify against.
pub(super) fn client_config(settings: &VaultSettings, https: bool) -> Result<ClientConfig, VaultError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let unusable = |e: rustls::Error| VaultError::settings(format!("TLS to Vault cannot be set up: {e}"));
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12]);
    let builder = builder.map_err(unusable)?;
    let builder = if settings.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(settings, https)?)
    };
    let Some((certificate, key)) = &settings.client_cert else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate, "VAULT_CLIENT_CERT")?;
    let key_of = |e: rustls::pki_types::pem::Error| {
        VaultError::settings(format!("{} holds no private key that can be read (VAULT_CLIENT_KEY): {}", key.display(), pem_reason(&e)))
    };
    let key = PrivateKeyDer::from_pem_file(key).map_err(key_of)?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|e| VaultError::settings(format!("the client's certificate and key for Vault do not go together: {e}")))
}

/// The anchors: those of the file and no others, else the system's.
fn roots(settings: &VaultSettings, https: bool) -> Result<RootCertStore, VaultError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &settings.ca_file {
        for certificate in certificates(file, "VAULT_CACERT")? {
            let added = roots.add(certificate);
            added.map_err(|e| VaultError::settings(format!("{} holds a certificate that cannot be used (VAULT_CACERT): {e}", file.display())))?;
        }
        return Ok(roots);
    }
    if !https {
        return Ok(roots);
    }
    // As for origins, `SSL_CERT_FILE` is not looked at: a shell that has eval'd `keyhatch env` points it at the own CA, whose key would then pose as Vault.
    let found = load_system();
    roots.add_parsable_certificates(found);
    if roots.is_empty() {
        return Err(VaultError::settings("there are no trust anchors to verify Vault against: give its CA's certificate (VAULT_CACERT)"));
    }
    Ok(roots)
}

/// Those that can be read: one bad file must not take the others away.
fn load_system() -> Vec<CertificateDer<'static>> {
    let (bundle, directories) = environment::trust_anchors();
    let of_bundle = bundle.iter().map(|file| rustls_native_certs::load_certs_from_paths(Some(file), None));
    let of_directories = directories.iter().map(|directory| rustls_native_certs::load_certs_from_paths(None, Some(directory)));
    of_bundle.chain(of_directories).flat_map(|found| found.certs).collect()
}

fn certificates(file: &Path, variable: &str) -> Result<Vec<CertificateDer<'static>>, VaultError> {
    let unreadable = |e: rustls::pki_types::pem::Error| {
        VaultError::settings(format!("{} cannot be read as PEM certificates ({variable}): {}", file.display(), pem_reason(&e)))
    };
    let all = CertificateDer::pem_file_iter(file).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if all.is_empty() {
        return Err(VaultError::settings(format!("{} holds no PEM certificate ({variable})", file.display())));
    }
    Ok(all)
}

/// What is wrong with a PEM file, without any of its text.
fn pem_reason(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(e) => e.to_string(),
        rustls::pki_types::pem::Error::NoItemsFound => "nothing of the kind is in it".to_owned(),
        _ => "its PEM is malformed".to_owned(),
    }
}

/// `skip_verify`: takes any certificate, but still asks that the server has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
