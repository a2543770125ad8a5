//! A CA from outside the store: made elsewhere and read as PEM, or an intermediate that another CA signs for a key made here.
//!
//! Whatever would make some client refuse every leaf is found here, and said in words, rather than by each agent in its own.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::ca::{CaError, CaKey, CertificateAuthority, subject, validity, write_pem};
use super::state::CaState;
use crate::credential::Secret;

/// No chain is longer in earnest.
const LONGEST_CHAIN: usize = 8;

impl CaState {
    /// A CA from PEM (RFC 7468): its certificate, those of the CAs above it after it, each signed by the next; and its key, PKCS #8,
    /// SEC 1 or PKCS #1. Agents trust the last certificate. Leaves are presented with all that lie between.
    ///
    /// # Errors
    /// [`CaError::Outside`] says what is wrong with which part, and the mend.
    pub fn from_pem(certificates: &str, private_key: &Secret, now: Timestamp) -> Result<Self, CaError> {
        let key = read_key(private_key.expose())?;
        outside(read_certificates(certificates)?, key, now)
    }
}

/// A new self-signed CA for others to keep: its certificate and its key (PKCS #8) in PEM, as [`CaState::from_pem`] takes them.
///
/// # Errors
/// [`CaError::Write`] where it cannot be made.
pub fn generate_pem(now: Timestamp) -> Result<(String, Secret), CaError> {
    let ca = CertificateAuthority::generate(now)?;
    // Room for all of it, so that no growth leaves a copy of the key behind.
    let mut key = Zeroizing::new(String::with_capacity(ca.key_der().len() * 2 + 128));
    write_pem("PRIVATE KEY", ca.key_der(), |text| key.push_str(text));
    Ok((ca.pem(), Secret::from_opened(key.as_bytes())))
}

/// A new key for an intermediate, and the request that another CA signs it by (PKCS #10, RFC 2986). The key stays in here.
pub struct CertificateRequest {
    key: CaKey,
    pem: String,
}

impl CertificateRequest {
    /// A new key (ECDSA P-256) and a request for a CA of path length 0 with this common name.
    ///
    /// # Errors
    /// [`CaError::Write`] where it cannot be made.
    pub fn new(common_name: &str) -> Result<Self, CaError> {
        let key = CaKey(Zeroizing::new(KeyPair::generate()?));
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(common_name.to_owned());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.serialize_request(&key)?.pem()?;
        Ok(Self { key, pem })
    }

    /// The request in PEM.
    #[must_use]
    pub fn csr_pem(&self) -> &str {
        &self.pem
    }

    /// The CA that its signer made of it: its certificate in PEM, and those of the CAs above, the signer's first. The chain may begin with
    /// the certificate itself.
    ///
    /// # Errors
    /// [`CaError::Outside`] as [`CaState::from_pem`]. The key is gone then; make a new request.
    pub fn finish(self, certificate_pem: &str, chain_pem: &str, now: Timestamp) -> Result<CaState, CaError> {
        let mut all = read_certificates(certificate_pem)?;
        if !chain_pem.trim().is_empty() {
            all.extend(read_certificates(chain_pem)?);
        }
        outside(all, self.key, now)
    }
}

fn fault<T>(why: impl Into<String>) -> Result<T, CaError> {
    Err(CaError::Outside(why.into()))
}

fn read_key(pem: &[u8]) -> Result<CaKey, CaError> {
    let Ok(der) = PrivateKeyDer::from_pem_slice(pem).map(Zeroizing::new) else {
        let encrypted = memchr::memmem::find(pem, b"ENCRYPTED").is_some();
        return fault(if encrypted {
            "the CA's private key is encrypted; put it there without a passphrase"
        } else {
            "the CA's private key is not PEM; it begins with -----BEGIN PRIVATE KEY-----"
        });
    };
    match KeyPair::try_from(&*der) {
        Ok(key) => Ok(CaKey(Zeroizing::new(key))),
        Err(_) => fault("the CA's private key cannot be used; it is ECDSA (P-256, P-384), RSA or Ed25519"),
    }
}

/// The certificates of a PEM text in their order, one that follows itself once.
fn read_certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => fault("the CA's certificate is not PEM; it begins with -----BEGIN CERTIFICATE-----"),
    }
}

/// Certificate 1 is the CA's own, as a person counts.
fn named(at: usize) -> String {
    if at == 0 { "the CA's certificate".to_owned() } else { format!("certificate {} of the CA's chain", at + 1) }
}

fn outside(mut certificates: Vec<CertificateDer<'static>>, key: CaKey, now: Timestamp) -> Result<CaState, CaError> {
    certificates.dedup();
    if certificates.len() > LONGEST_CHAIN {
        return fault(format!("the CA's chain has more than {LONGEST_CHAIN} certificates; leave out what does not belong to it"));
    }
    check_chain(&certificates, &key, now)?;
    let above = certificates.split_off(1);
    let own = certificates.remove(0);
    let ca = CertificateAuthority::from_outside(own, key, above)?;
    check_leaf(&ca, now)?;
    Ok(CaState::of(ca))
}

fn check_chain(certificates: &[CertificateDer<'static>], key: &CaKey, now: Timestamp) -> Result<(), CaError> {
    let mut parsed: Vec<X509Certificate<'_>> = Vec::with_capacity(certificates.len());
    for (at, der) in certificates.iter().enumerate() {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => parsed.push(certificate),
            _ => return fault(format!("{} is malformed", named(at))),
        }
    }
    for (at, certificate) in parsed.iter().enumerate() {
        check_authority(certificate, at, now)?;
    }
    if parsed.first().is_some_and(|own| own.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(key)) {
        return fault("the CA's private key is not its certificate's; the certificate of that key comes first");
    }
    for (at, pair) in parsed.windows(2).enumerate() {
        let (below, signer) = (&pair[0], &pair[1]);
        let named_so = below.issuer().as_raw() == signer.subject().as_raw();
        if !named_so || below.verify_signature(Some(signer.public_key())).is_err() {
            return fault(format!("{} is not signed by the one after it; put them in order, each followed by the one that signs it", named(at)));
        }
    }
    Ok(())
}

/// What any CA must be, `at` places above the one whose key is here (RFC 5280 4.2.1.3, 4.2.1.9).
fn check_authority(certificate: &X509Certificate<'_>, at: usize, now: Timestamp) -> Result<(), CaError> {
    let name = named(at);
    let basic = certificate.basic_constraints().ok().flatten().map(|b| b.value);
    let Some(basic) = basic.filter(|b| b.ca) else {
        return fault(format!("{name} is no CA's (its basicConstraints do not say CA:TRUE)"));
    };
    if !certificate.key_usage().ok().flatten().is_some_and(|u| u.value.key_cert_sign()) {
        return fault(format!("{name} may not sign others: its keyUsage lacks keyCertSign"));
    }
    if basic.path_len_constraint.is_some_and(|longest| usize::try_from(longest).is_ok_and(|longest| longest < at)) {
        return fault(format!("{name} allows fewer CAs below it than there are (its path length is too short)"));
    }
    let Some((begins, ends)) = validity(certificate) else { return fault(format!("{name} is malformed")) };
    if now < begins {
        return fault(format!("{name} is not valid before {begins}; is the clock right?"));
    }
    if now >= ends {
        return fault(format!("{name} ended at {ends}; put a new one in its place"));
    }
    Ok(())
}

/// Whether a client would take a leaf of it; its names aside, which a CA may be bound to.
fn check_leaf(ca: &CertificateAuthority, now: Timestamp) -> Result<(), CaError> {
    let minted = ca.mint(&[], now)?;
    let issuer_is_named = match (X509Certificate::from_der(&minted.certificate), X509Certificate::from_der(ca.certificate())) {
        (Ok((_, leaf)), Ok((_, own))) => leaf.issuer().as_raw() == own.subject().as_raw(),
        _ => false,
    };
    if !issuer_is_named {
        return fault(
            "the CA's name has a form that a leaf cannot repeat, such as the same part twice; issue it under a plain name, as in CN=Keyhatch",
        );
    }
    let mut anchors = RootCertStore::empty();
    let refused = |e: &dyn std::fmt::Display| CaError::Outside(format!("clients would refuse every leaf of the CA: {e}"));
    anchors.add(ca.above().last().unwrap_or(ca.certificate()).clone()).map_err(|e| refused(&e))?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), super::provider()).build().map_err(|e| refused(&e))?;
    let name = ServerName::try_from("leaf.invalid").expect("a name");
    let at = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().max(0).unsigned_abs()));
    match verifier.verify_server_cert(&minted.certificate, &minted.between, &name, &[], at) {
        // The path holds; the leaf that was tried has no name.
        Ok(_) | Err(Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => Ok(()),
        Err(e) => Err(refused(&e)),
    }
}

#[cfg(test)]
mod tests;
