//! Whom the proxy believes when it connects to an origin.
//!
//! The system's anchors and the operator's, read once at start. `SSL_CERT_FILE` and its like are not looked at: a shell
//! that has eval'd `keyhatch env` points them at the own CA. Nor is the own CA ever an anchor, whatever file it is in:
//! an agent that had its key could else stand in for any origin.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::{Resumption, VerifierBuilderError, WebPkiServerVerifier};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::{ClientConfig, RootCertStore};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::describe::describe_crl_error;
use super::state::OwnKeys;
use crate::environment;

/// How many origins' sessions are kept for resumption.
const SESSIONS: usize = 256;

/// Where the system keeps its anchors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemStore {
    /// A PEM bundle.
    pub bundle: Option<PathBuf>,
    /// Directories of PEM files.
    pub directories: Vec<PathBuf>,
}

/// What the operator adds.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrustFiles<'a> {
    /// `extra_ca_files`: PEM, one or more certificates each.
    pub extra_ca: &'a [PathBuf],
    /// `crl_files`: PEM or DER.
    pub crl: &'a [PathBuf],
}

/// Why the anchors cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// A file cannot be read.
    #[error("{file} cannot be read: {reason}; see extra_ca_files and crl_files in [upstream]")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A file holds nothing of the kind.
    #[error("{file} holds no {wanted}; it must be PEM")]
    Empty {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// An entry of a file is malformed.
    #[error("{file}: {what} {number} cannot be used: {reason}")]
    Entry {
        /// The file.
        file: PathBuf,
        /// Certificate or revocation list.
        what: &'static str,
        /// Which one in the file, from 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// No anchor at all.
    #[error("there are no trust anchors, so no origin could be verified: install the system's ca-certificates, or set extra_ca_files in [upstream]")]
    NoAnchors,
    /// rustls refuses.
    #[error("certificates of origins cannot be verified: {0}")]
    Tls(String),
}

impl TrustError {
    /// The file at fault, where it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Read { file, .. } | Self::Empty { file, .. } | Self::Entry { file, .. } => Some(file),
            Self::NoAnchors | Self::Tls(_) => None,
        }
    }
}

/// How TLS is spoken to origins: 1.2 and 1.3, no early data, certificates always verified. The two differ in what they
/// offer by ALPN (RFC 7301), and each remembers sessions of its own: one made for HTTP/2 is not resumed for HTTP/1.1.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// Offers [`super::ALPN`]: HTTP/2 where the origin has it, else HTTP/1.1.
    pub any: Arc<ClientConfig>,
    /// Offers HTTP/1.1 alone.
    pub http1: Arc<ClientConfig>,
}

/// How origins are verified, and what was found on the way there.
#[derive(Debug, Clone)]
pub struct UpstreamTrust {
    /// For every connection to an origin.
    pub client: ClientTls,
    /// How many anchors came from the system.
    pub system_anchors: usize,
    /// How many came from `extra_ca_files`.
    pub extra_anchors: usize,
    /// What the operator should know, one line each: an own CA that was left out, a stale revocation list, ...
    pub warnings: Vec<String>,
}

impl SystemStore {
    /// The places of this system, by their usual names alone.
    #[must_use]
    pub fn here() -> Self {
        let (bundle, directories) = environment::trust_anchors();
        Self { bundle, directories }
    }

    /// Its certificates. What cannot be read is a warning: one bad file must not take the others away.
    pub fn certificates(&self, warnings: &mut Vec<String>) -> Vec<CertificateDer<'static>> {
        let mut all = Vec::new();
        let bundle = self.bundle.as_deref().map(|file| rustls_native_certs::load_certs_from_paths(Some(file), None));
        let directories = self.directories.iter().map(|dir| rustls_native_certs::load_certs_from_paths(None, Some(dir)));
        for found in bundle.into_iter().chain(directories) {
            all.extend(found.certs);
            warnings.extend(found.errors.iter().map(|e| format!("a trust anchor of the system is left out: {e}")));
        }
        // Bundle and directories hold the same ones.
        all.sort_unstable_by(|a: &CertificateDer<'_>, b| a.as_ref().cmp(b.as_ref()));
        all.dedup();
        all
    }
}

impl UpstreamTrust {
    /// Reads the anchors and the revocation lists.
    ///
    /// A revocation list counts also when its time is over, with a warning: it is read at start, and a proxy that ran
    /// past its end would refuse every origin of that CA. Where no list covers a certificate it passes.
    ///
    /// # Errors
    /// [`TrustError`] names the file at fault.
    pub fn load(system: &SystemStore, files: TrustFiles<'_>, own: &OwnKeys, now: Timestamp) -> Result<Self, TrustError> {
        let mut anchors = Anchors { own, store: RootCertStore::empty(), warnings: Vec::new() };
        let system = system.certificates(&mut anchors.warnings);
        for certificate in system {
            anchors.add_from_system(certificate);
        }
        let system_anchors = anchors.store.len();
        for file in files.extra_ca {
            anchors.add_file(file)?;
        }
        let Anchors { store, mut warnings, .. } = anchors;
        if store.is_empty() {
            return Err(TrustError::NoAnchors);
        }
        let extra_anchors = store.len() - system_anchors;
        let store = Arc::new(store);
        let lists = read_lists(files.crl, &store, now, &mut warnings)?;
        let client = client_tls(store, lists)?;
        Ok(Self { client, system_anchors, extra_anchors, warnings })
    }
}

/// Anchors as they are gathered, without the own CA's.
struct Anchors<'a> {
    own: &'a OwnKeys,
    store: RootCertStore,
    warnings: Vec<String>,
}

impl Anchors<'_> {
    /// Lenient: systems ship odd certificates, which simply anchor nothing.
    fn add_from_system(&mut self, certificate: CertificateDer<'static>) {
        if self.is_own(&certificate) {
            self.warnings.push("the system trusts the CA of keyhatch; for origins it is left out".to_owned());
        } else {
            self.store.add_parsable_certificates([certificate]);
        }
    }

    /// Strict: the operator named the file, and means all of it.
    fn add_file(&mut self, file: &Path) -> Result<(), TrustError> {
        let bytes = read(file)?;
        let entry = |number, reason: &dyn Display| TrustError::Entry { file: file.into(), what: "certificate", number, reason: reason.to_string() };
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(&bytes) {
            count += 1;
            let certificate = certificate.map_err(|e| entry(count, &pem_fault(&e)))?;
            if self.is_own(&certificate) {
                self.warnings.push(format!("{} holds the CA of keyhatch; for origins it is left out", file.display()));
                continue;
            }
            self.store.add(certificate).map_err(|e| entry(count, &e))?;
        }
        if count == 0 {
            return Err(TrustError::Empty { file: file.into(), wanted: "certificate" });
        }
        Ok(())
    }

    fn is_own(&self, certificate: &CertificateDer<'_>) -> bool {
        X509Certificate::from_der(certificate).is_ok_and(|(_, c)| self.own.holds(c.public_key().raw))
    }
}

/// The lists of all files, PEM or DER. The anchors only let the verifier have its say on each list while its file is known.
fn read_lists(
    files: &[PathBuf],
    anchors: &Arc<RootCertStore>,
    now: Timestamp,
    warnings: &mut Vec<String>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TrustError> {
    let mut lists = Vec::new();
    for file in files {
        let bytes = read(file)?;
        let entry =
            |number, reason: &dyn Display| TrustError::Entry { file: file.into(), what: "revocation list", number, reason: reason.to_string() };
        let mut found: Vec<CertificateRevocationListDer<'static>> = CertificateRevocationListDer::pem_slice_iter(&bytes)
            .enumerate()
            .map(|(i, list)| list.map_err(|e| entry(i + 1, &pem_fault(&e))))
            .collect::<Result<_, _>>()?;
        if found.is_empty() && CertificateRevocationList::from_der(&bytes).is_ok() {
            found.push(bytes.into());
        }
        if found.is_empty() {
            return Err(TrustError::Empty { file: file.clone(), wanted: "revocation list" });
        }
        for (i, list) in found.iter().enumerate() {
            let (_, parsed) = CertificateRevocationList::from_der(list).map_err(|_| entry(i + 1, &"it is malformed"))?;
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(anchors), super::provider()).with_crls([list.clone()]);
            if let Err(VerifierBuilderError::InvalidCrl(e)) = verifier.build() {
                return Err(entry(i + 1, &describe_crl_error(&e)));
            }
            if parsed.next_update().is_some_and(|t| t.timestamp() < now.as_second()) {
                warnings.push(format!("{}: revocation list {} is out of date; fetch it anew and restart keyhatch", file.display(), i + 1));
            }
        }
        lists.extend(found);
    }
    Ok(lists)
}

fn client_tls(anchors: Arc<RootCertStore>, lists: Vec<CertificateRevocationListDer<'static>>) -> Result<ClientTls, TrustError> {
    let mut verifier = WebPkiServerVerifier::builder_with_provider(anchors, super::provider());
    if !lists.is_empty() {
        verifier = verifier.with_crls(lists).allow_unknown_revocation_status();
    }
    let verifier = verifier.build().map_err(|e| match e {
        VerifierBuilderError::NoRootAnchors => TrustError::NoAnchors,
        VerifierBuilderError::InvalidCrl(e) => TrustError::Tls(describe_crl_error(&e)),
        other => TrustError::Tls(other.to_string()),
    })?;
    let mut config = ClientConfig::builder_with_provider(super::provider())
        .with_protocol_versions(super::VERSIONS)
        .map_err(|e| TrustError::Tls(e.to_string()))?
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    config.enable_early_data = false;
    let offering = |names: &[&[u8]]| {
        let mut config = config.clone();
        config.alpn_protocols = super::protocols(names);
        // A clone would share its sessions.
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Arc::new(config)
    };
    Ok(ClientTls { any: offering(super::ALPN), http1: offering(&[b"http/1.1"]) })
}

fn read(file: &Path) -> Result<Vec<u8>, TrustError> {
    std::fs::read(file).map_err(|e| TrustError::Read { file: file.into(), reason: e.to_string() })
}

/// What is wrong with a PEM section, without repeating any of it.
fn pem_fault(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "its END line is missing",
        pem::Error::IllegalSectionStart { .. } => "its BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "its base64 is malformed",
        _ => "it is malformed",
    }
}

#[cfg(test)]
mod tests;
