//! One certificate authority: its key, its certificate, and the leaves that it signs.
//!
//! What the certificates carry is what the strictest client asks for (RFC 5280; Python 3.13, `openssl -x509_strict`):
//! a key identifier on both, an authority key identifier on the leaf, critical basicConstraints and keyUsage, an empty
//! overlap of their names.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::host::Host;
use crate::random;

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// How long a CA lasts.
const CA_LIFE: SignedDuration = SignedDuration::from_hours(730 * 24);
/// How far its beginning lies back, for clients whose clock is slow; more than a leaf's, which must lie inside it.
const CA_BACK_DATED: SignedDuration = SignedDuration::from_hours(2 * 24);
/// How long a leaf lasts.
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How far its beginning lies back.
const LEAF_BACK_DATED: SignedDuration = DAY;
/// The longest common name (RFC 5280 A.1, `ub-common-name`). A longer host stands in the subject alternative name only.
const COMMON_NAME_MAX: usize = 64;

/// Why a CA cannot be made, read back, or sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// The certificate library refused.
    #[error("a certificate cannot be written: {0}")]
    Write(String),
    /// A stored CA is not what it should be.
    #[error("the stored CA cannot be read: {0}; restore a backup of the store, or make a new CA with `keyhatch ca rotate --now`")]
    Read(&'static str),
    /// The CA's time is over.
    #[error("the CA ended at {0}; make a new one with `keyhatch ca rotate --now`")]
    Ended(Timestamp),
    /// The time of a CA from outside, or of one above it, is over.
    #[error("the CA ended at {0}; it came from outside the store: put a new one in its place there")]
    OutsideEnded(Timestamp),
    /// A CA from outside is not what it should be: what is wrong, and the mend.
    #[error("{0}")]
    Outside(String),
}

impl From<rcgen::Error> for CaError {
    fn from(e: rcgen::Error) -> Self {
        Self::Write(e.to_string())
    }
}

/// A CA that can sign. Its key is wiped on drop and comes out only as [`CertificateAuthority::key_der`].
pub struct CertificateAuthority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, CaKey>,
    /// The CAs above this one, the nearest first; clients trust the last. Empty where they trust this one.
    above: Vec<CertificateDer<'static>>,
    outside: bool,
    public_key: [u8; 32],
    not_before: Timestamp,
    not_after: Timestamp,
}

/// A leaf and its key.
pub(super) struct Minted {
    pub(super) certificate: CertificateDer<'static>,
    /// What is presented after it: every CA between it and the one that clients trust.
    pub(super) between: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl CertificateAuthority {
    /// A new CA with a name of its own: ECDSA P-256, path length 0, from two days before `now` to 730 days after it.
    ///
    /// # Errors
    /// [`CaError::Write`] where key or certificate cannot be made.
    pub fn generate(now: Timestamp) -> Result<Self, CaError> {
        let key = CaKey(Zeroizing::new(KeyPair::generate()?));
        let [a, b, c, d] = random::bytes::<4>();
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(format!("Keyhatch CA {a:02x}{b:02x}{c:02x}{d:02x}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial());
        let (not_before, not_after) = (later(now, -CA_BACK_DATED), later(now, CA_LIFE));
        set_validity(&mut params, not_before, not_after);
        let certificate = params.self_signed(&key)?;
        Self::assemble(certificate.der().clone(), key, Vec::new()).map_err(CaError::Read)
    }

    /// A CA from its certificate and its key: PKCS #8, or SEC 1 or PKCS #1 where it came so from outside.
    ///
    /// # Errors
    /// [`CaError::Read`] where either is malformed, the certificate is no CA's, or the two do not belong together.
    pub fn from_der(certificate: &[u8], key: &[u8]) -> Result<Self, CaError> {
        Self::from_parts(certificate, key, Vec::new())
    }

    /// The same with the CAs above it.
    pub(super) fn from_parts(certificate: &[u8], key: &[u8], above: Vec<CertificateDer<'static>>) -> Result<Self, CaError> {
        let key = KeyPair::try_from(key).map_err(|_| CaError::Read("its key is malformed"))?;
        Self::assemble(CertificateDer::from(certificate.to_vec()), CaKey(Zeroizing::new(key)), above).map_err(CaError::Read)
    }

    fn assemble(certificate: CertificateDer<'static>, key: CaKey, above: Vec<CertificateDer<'static>>) -> Result<Self, &'static str> {
        const MALFORMED: &str = "its certificate is malformed";
        let (rest, parsed) = X509Certificate::from_der(&certificate).map_err(|_| MALFORMED)?;
        if !rest.is_empty() || !parsed.is_ca() {
            return Err(MALFORMED);
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err("its key is not its certificate's");
        }
        // The library below takes a name apart, and takes for granted that each of its parts holds something.
        if parsed.subject().iter().any(|part| part.iter().count() != 1) {
            return Err("its certificate's name has a part of several attributes, which no leaf could repeat");
        }
        let (mut not_before, mut not_after) = validity(&parsed).ok_or(MALFORMED)?;
        for certificate in &above {
            let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| MALFORMED)?;
            let (begins, ends) = validity(&parsed).ok_or(MALFORMED)?;
            (not_before, not_after) = (not_before.max(begins), not_after.min(ends));
        }
        let public_key = Sha256::digest(parsed.public_key().raw).into();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| MALFORMED)?;
        let outside = !above.is_empty();
        Ok(Self { certificate, issuer, above, outside, public_key, not_before, not_after })
    }

    /// A CA from outside; the checks that are said in its owner's words come before.
    pub(super) fn from_outside(certificate: CertificateDer<'static>, key: CaKey, above: Vec<CertificateDer<'static>>) -> Result<Self, CaError> {
        let ca = Self::assemble(certificate, key, above).map_err(|why| CaError::Outside(format!("the CA cannot be used: {why}")))?;
        Ok(Self { outside: true, ..ca })
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The key: PKCS #8, or as it came from outside. For the store's envelope only.
    #[must_use]
    pub fn key_der(&self) -> &[u8] {
        self.issuer.key().0.serialized_der()
    }

    /// The CAs above it, the nearest first.
    pub(super) fn above(&self) -> &[CertificateDer<'static>] {
        &self.above
    }

    /// The certificate in PEM (RFC 7468), with a newline at its end.
    #[must_use]
    pub fn pem(&self) -> String {
        certificate_pem(&self.certificate)
    }

    /// The certificate that clients trust for its sake, in PEM: its root's, or its own.
    #[must_use]
    pub fn anchor_pem(&self) -> String {
        certificate_pem(self.above.last().unwrap_or(&self.certificate))
    }

    /// Whether that certificate is a root, which signs itself. Some clients (OpenSSL by default, Node) trust nothing else.
    #[must_use]
    pub fn anchor_is_root(&self) -> bool {
        X509Certificate::from_der(self.above.last().unwrap_or(&self.certificate)).is_ok_and(|(_, c)| c.subject().as_raw() == c.issuer().as_raw())
    }

    /// SHA-256 of the certificate in hex, as `openssl x509 -fingerprint -sha256` shows it but without colons.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        Sha256::digest(&self.certificate).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// SHA-256 of the public key (SubjectPublicKeyInfo): which CA this is.
    #[must_use]
    pub fn public_key_digest(&self) -> [u8; 32] {
        self.public_key
    }

    /// The same of every CA above it.
    pub(super) fn digests_above(&self) -> impl Iterator<Item = [u8; 32]> {
        let parsed = self.above.iter().filter_map(|c| X509Certificate::from_der(c).ok());
        parsed.map(|(_, c)| Sha256::digest(c.public_key().raw).into())
    }

    /// When it, and every CA above it, has begun.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// When it ends, or a CA above it does.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// A leaf for a server of these names, with a new key: valid from a day before `now` for seven days after it, but
    /// inside the CA's own time. The first name is the common name where it fits.
    pub(super) fn mint(&self, names: &[Host], now: Timestamp) -> Result<Minted, CaError> {
        if now >= self.not_after {
            return Err(if self.outside { CaError::OutsideEnded(self.not_after) } else { CaError::Ended(self.not_after) });
        }
        let key = Zeroizing::new(KeyPair::generate()?);
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(leaf_common_name(names));
        params.subject_alt_names = names.iter().map(alternative_name).collect::<Result<_, _>>()?;
        // Unlike `NoCa` this writes basicConstraints, and with them the subject key identifier.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        let not_before = later(now, -LEAF_BACK_DATED).max(self.not_before);
        let not_after = later(now, LEAF_LIFE).min(self.not_after);
        set_validity(&mut params, not_before, not_after);
        let certificate = params.signed_by(&*key, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialized_der().to_vec()));
        let below_the_anchor = self.above.len().saturating_sub(1);
        let own = (!self.above.is_empty()).then(|| self.certificate.clone());
        let between = own.into_iter().chain(self.above[..below_the_anchor].iter().cloned()).collect();
        Ok(Minted { certificate, between, key, not_before, not_after })
    }
}

/// The CA's key pair, wiped on drop.
pub(super) struct CaKey(pub(super) Zeroizing<KeyPair>);

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&*self.0)
    }
}

impl SigningKey for CaKey {
    fn sign(&self, msg: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(msg)
    }
}

/// From when until when a certificate holds.
pub(super) fn validity(certificate: &X509Certificate<'_>) -> Option<(Timestamp, Timestamp)> {
    let time = |t: x509_parser::time::ASN1Time| Timestamp::from_second(t.timestamp()).ok();
    Some((time(certificate.validity().not_before)?, time(certificate.validity().not_after)?))
}

/// A PEM section (RFC 7468), with a newline at its end.
pub(super) fn write_pem(label: &str, der: &[u8], mut write: impl FnMut(&str)) {
    let body = Zeroizing::new(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der));
    write(&format!("-----BEGIN {label}-----\n"));
    for at in (0..body.len()).step_by(64) {
        write(&body[at..body.len().min(at + 64)]);
        write("\n");
    }
    write(&format!("-----END {label}-----\n"));
}

fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    let mut out = String::new();
    write_pem("CERTIFICATE", certificate, |text| out.push_str(text));
    out
}

/// `O = Keyhatch, CN = ...`.
pub(super) fn subject(common_name: String) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Keyhatch");
    name.push(DnType::CommonName, common_name);
    name
}

/// The first name, or where it is too long one with spaces in it, which no client takes for a host. Never the CA's.
fn leaf_common_name(names: &[Host]) -> String {
    let first = match names.first() {
        Some(Host::Ip(ip)) => ip.to_string(),
        Some(Host::Dns(name)) => name.to_string(),
        None => String::new(),
    };
    if !first.is_empty() && first.len() <= COMMON_NAME_MAX {
        return first;
    }
    let [a, b, c, d] = random::bytes::<4>();
    format!("Keyhatch leaf {a:02x}{b:02x}{c:02x}{d:02x}")
}

fn alternative_name(host: &Host) -> Result<SanType, CaError> {
    Ok(match host {
        Host::Ip(ip) => SanType::IpAddress(*ip),
        Host::Dns(name) => SanType::DnsName(rcgen::string::Ia5String::try_from(name.to_string())?),
    })
}

/// 128 random bits, positive and never shorter (RFC 5280 4.1.2.2: at most 20 octets).
fn serial() -> SerialNumber {
    let mut bytes = random::bytes::<16>();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// A time plus a span; at the ends of the calendar it stops there.
pub(super) fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(at)
}

/// Writes both times in whole seconds, which is what a certificate holds.
fn set_validity(params: &mut CertificateParams, not_before: Timestamp, not_after: Timestamp) {
    let seconds = |t: Timestamp| Duration::from_secs(t.as_second().max(0).unsigned_abs());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + seconds(not_before);
    params.not_after = epoch + seconds(not_after);
}

#[cfg(test)]
mod tests;
