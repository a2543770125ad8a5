//! The CA over time: the one that signs, the one that will, and those that are gone.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::ca::{CaError, CertificateAuthority, later};
use crate::credential::Secret;

/// How long the old CA goes on signing after `ca rotate`, while clients learn the new one.
const OVERLAP: SignedDuration = SignedDuration::from_hours(7 * 24);
/// By how long a rotation is pulled before the old CA's end.
const MARGIN: SignedDuration = SignedDuration::from_hours(24);
const FORMAT: u32 = 1;

/// The CA of a home: what the store seals as one item.
pub struct CaState {
    current: CertificateAuthority,
    next: Option<Next>,
    /// Digests of the public keys of earlier CAs: none of them is ever an anchor for upstream.
    retired: Vec<[u8; 32]>,
}

struct Next {
    ca: CertificateAuthority,
    signs_from: Timestamp,
}

/// Why `ca rotate` does nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// A rotation is under way.
    #[error("a rotation is under way: the new CA signs from {signs_from}; to change at once to another one give --now")]
    Pending {
        /// When the new CA begins to sign.
        signs_from: Timestamp,
    },
    /// The new CA cannot be made.
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// Why a stored state cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Written by a newer Keyhatch.
    #[error("the stored CA has format {0}, which this version of keyhatch does not know; use the version that wrote it")]
    Newer(u32),
    /// One of its CAs is malformed.
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// Digests of the public keys of all CAs that a home has had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnKeys(HashSet<[u8; 32]>);

impl OwnKeys {
    /// Whether a SubjectPublicKeyInfo in DER is an own CA's.
    #[must_use]
    pub fn holds(&self, public_key_info: &[u8]) -> bool {
        self.0.contains::<[u8; 32]>(&Sha256::digest(public_key_info).into())
    }

    /// Those of the certificates in a PEM file that clients are given: for who has the certificates alone.
    #[must_use]
    pub fn of_certificates(pem: &[u8]) -> Self {
        let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
        let digest = |der: CertificateDer<'_>| Some(Sha256::digest(X509Certificate::from_der(&der).ok()?.1.public_key().raw).into());
        Self(certificates.filter_map(digest).collect())
    }
}

impl CaState {
    /// A first CA.
    ///
    /// # Errors
    /// [`CaError::Write`] where it cannot be made.
    pub fn generate(now: Timestamp) -> Result<Self, CaError> {
        Ok(Self { current: CertificateAuthority::generate(now)?, next: None, retired: Vec::new() })
    }

    /// The state of a CA that is not the home's own.
    pub(super) fn of(current: CertificateAuthority) -> Self {
        Self { current, next: None, retired: Vec::new() }
    }

    /// Whether two thirds of the life of the CA that signs are over: time for another one, where a short-lived one can be had.
    #[must_use]
    pub fn needs_renewal(&self, now: Timestamp) -> bool {
        now >= self.renew_at(now)
    }

    /// When two thirds of that life are over.
    #[must_use]
    pub fn renew_at(&self, now: Timestamp) -> Timestamp {
        let ca = self.signing(now);
        let (begins, ends) = (ca.not_before().as_second(), ca.not_after().as_second());
        later(ca.not_before(), SignedDuration::from_secs((ends - begins).max(0) / 3 * 2))
    }

    /// Keeps the keys of another state from being anchors for upstream: of the one that this one follows.
    pub fn remember(&mut self, earlier: &OwnKeys) {
        let known = self.own_keys();
        self.retired.extend(earlier.0.iter().filter(|key| !known.0.contains(*key)));
    }

    /// The CA that signs now.
    #[must_use]
    pub fn signing(&self, now: Timestamp) -> &CertificateAuthority {
        match &self.next {
            Some(next) if now >= next.signs_from => &next.ca,
            _ => &self.current,
        }
    }

    /// The CA that will sign, and from when, while a rotation is under way.
    #[must_use]
    pub fn pending(&self, now: Timestamp) -> Option<(&CertificateAuthority, Timestamp)> {
        self.next.as_ref().filter(|next| now < next.signs_from).map(|next| (&next.ca, next.signs_from))
    }

    /// When the last CA that is known ends: `doctor` warns before it.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.next.as_ref().map_or(&self.current, |next| &next.ca).not_after()
    }

    /// What `ca.pem` holds, which agents trust: the CA that signs now, or its root, and those of the one that soon will.
    #[must_use]
    pub fn anchors_pem(&self, now: Timestamp) -> String {
        let next = self.pending(now).map(|(ca, _)| ca.anchor_pem());
        self.signing(now).anchor_pem() + &next.unwrap_or_default()
    }

    /// The keys that are never anchors for upstream: of CAs that sign or did, and of those above them.
    #[must_use]
    pub fn own_keys(&self) -> OwnKeys {
        let live = std::iter::once(&self.current).chain(self.next.as_ref().map(|next| &next.ca));
        let of_live = live.flat_map(|ca| std::iter::once(ca.public_key_digest()).chain(ca.digests_above()));
        OwnKeys(self.retired.iter().copied().chain(of_live).collect())
    }

    /// Makes a new CA. The old one signs for seven more days (fewer where it ends before); `immediately` the new one
    /// signs at once, and neither the old one nor one that was waiting is used again: either may be in a thief's hands.
    ///
    /// # Errors
    /// [`RotateError::Pending`] where a rotation is under way and `immediately` is off.
    pub fn rotate(&mut self, now: Timestamp, immediately: bool) -> Result<(), RotateError> {
        self.settle(now);
        if let (Some(next), false) = (&self.next, immediately) {
            return Err(RotateError::Pending { signs_from: next.signs_from });
        }
        let ca = CertificateAuthority::generate(now)?;
        if immediately {
            self.retired.extend(self.next.take().map(|next| next.ca.public_key_digest()));
            self.replace_current(ca);
        } else {
            let before_the_end = later(self.current.not_after(), -MARGIN);
            self.next = Some(Next { ca, signs_from: later(now, OVERLAP).min(before_the_end).max(now) });
        }
        Ok(())
    }

    /// Drops the old CA's key once the new one signs. True where that changed the state, which is then to be stored.
    pub fn settle(&mut self, now: Timestamp) -> bool {
        let Some(next) = self.next.take_if(|next| now >= next.signs_from) else { return false };
        self.replace_current(next.ca);
        true
    }

    fn replace_current(&mut self, ca: CertificateAuthority) {
        let old = std::mem::replace(&mut self.current, ca);
        self.retired.extend(std::iter::once(old.public_key_digest()).chain(old.digests_above()));
    }

    /// The state as one secret, for the store.
    #[must_use]
    pub fn to_secret(&self) -> Secret {
        let current = Encoded::of(&self.current);
        let next = self.next.as_ref().map(|next| (Encoded::of(&next.ca), next.signs_from.as_second()));
        let stored = Stored {
            format: FORMAT,
            current: current.stored(),
            next: next.as_ref().map(|(ca, signs_from)| StoredNext { ca: ca.stored(), signs_from: *signs_from }),
            retired: self.retired.iter().map(|digest| STANDARD.encode(digest)).collect(),
        };
        // Room for all of it, so that no growth leaves a copy of a key behind.
        let room = 1024 + 64 * self.retired.len() + current.len() + next.as_ref().map_or(0, |(ca, _)| ca.len());
        let mut out = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *out, &stored).expect("plain strings and numbers go into a buffer");
        Secret::from_opened(&out)
    }

    /// The state from what [`CaState::to_secret`] made.
    ///
    /// # Errors
    /// [`StateError`] where it is malformed or of a newer format.
    pub fn from_secret(secret: &Secret) -> Result<Self, StateError> {
        let malformed = CaError::Read("it is malformed");
        let Format { format } = serde_json::from_slice(secret.expose()).map_err(|_| malformed.clone())?;
        if format != FORMAT {
            return Err(StateError::Newer(format));
        }
        let stored: Stored<'_> = serde_json::from_slice(secret.expose()).map_err(|_| malformed.clone())?;
        let next = match stored.next {
            None => None,
            Some(next) => {
                let signs_from = Timestamp::from_second(next.signs_from).map_err(|_| malformed.clone())?;
                Some(Next { ca: next.ca.read()?, signs_from })
            }
        };
        let digest = |text: &String| STANDARD.decode(text).ok().and_then(|d| d.try_into().ok());
        let retired = stored.retired.iter().map(digest).collect::<Option<_>>().ok_or(malformed)?;
        Ok(Self { current: stored.current.read()?, next, retired })
    }
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    format: u32,
    #[serde(borrow)]
    current: StoredCa<'a>,
    next: Option<StoredNext<'a>>,
    retired: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredNext<'a> {
    #[serde(borrow)]
    ca: StoredCa<'a>,
    /// Seconds since 1970.
    signs_from: i64,
}

/// Both in base64, which JSON never escapes: they are read as slices of the secret's own memory.
#[derive(Serialize, Deserialize)]
struct StoredCa<'a> {
    certificate: &'a str,
    key: &'a str,
    /// Those above it, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    above: Vec<String>,
}

impl StoredCa<'_> {
    fn read(&self) -> Result<CertificateAuthority, CaError> {
        let decode = |text: &str| STANDARD.decode(text).map(Zeroizing::new).map_err(|_| CaError::Read("it is malformed"));
        let above = self.above.iter().map(|c| decode(c).map(|der| der.to_vec().into())).collect::<Result<_, _>>()?;
        CertificateAuthority::from_parts(&decode(self.certificate)?, &decode(self.key)?, above)
    }
}

/// A CA's two parts in base64, the key wiped on drop.
struct Encoded {
    certificate: String,
    key: Zeroizing<String>,
    above: Vec<String>,
}

impl Encoded {
    fn of(ca: &CertificateAuthority) -> Self {
        let above = ca.above().iter().map(|c| STANDARD.encode(c)).collect();
        Self { certificate: STANDARD.encode(ca.certificate()), key: Zeroizing::new(STANDARD.encode(ca.key_der())), above }
    }

    fn stored(&self) -> StoredCa<'_> {
        StoredCa { certificate: &self.certificate, key: &self.key, above: self.above.clone() }
    }

    fn len(&self) -> usize {
        self.certificate.len() + self.key.len() + self.above.iter().map(|c| c.len() + 16).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn at(days: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + days * 86_400).expect("in range")
    }

    fn count(pem: &str) -> usize {
        pem.matches("-----BEGIN CERTIFICATE-----\n").count()
    }

    #[test]
    fn an_orderly_rotation_overlaps_for_seven_days() {
        let mut state = CaState::generate(at(0)).expect("made");
        let old = state.signing(at(0)).public_key_digest();
        state.rotate(at(100), false).expect("rotates");
        let (new, from) = state.pending(at(100)).expect("pending");
        let new = new.public_key_digest();
        assert_eq!(from, at(107));
        assert_ne!(old, new);
        assert_eq!(count(&state.anchors_pem(at(100))), 2);
        let just_before = at(107).saturating_add(SignedDuration::from_secs(-1)).expect("in range");
        assert_eq!(state.signing(just_before).public_key_digest(), old);
        assert_eq!(state.signing(at(107)).public_key_digest(), new);
        assert_eq!(count(&state.anchors_pem(at(107))), 1);
        assert_eq!(state.rotate(at(101), false), Err(RotateError::Pending { signs_from: at(107) }));
        assert!(!state.settle(just_before));
        assert!(state.settle(at(107)) && !state.settle(at(107)));
        assert_eq!(state.signing(at(107)).public_key_digest(), new);
        assert_eq!(state.own_keys(), OwnKeys(HashSet::from([old, new])));
        state.rotate(at(108), false).expect("the next rotation may begin");
    }

    #[test]
    fn after_theft_neither_old_nor_waiting_ca_signs_again() {
        let mut state = CaState::generate(at(0)).expect("made");
        let first = state.signing(at(0)).public_key_digest();
        state.rotate(at(1), false).expect("rotates");
        let waiting = state.pending(at(1)).expect("pending").0.public_key_digest();
        state.rotate(at(2), true).expect("rotates at once");
        let new = state.signing(at(2)).public_key_digest();
        assert!(new != first && new != waiting);
        assert!(state.pending(at(2)).is_none());
        assert_eq!(count(&state.anchors_pem(at(2))), 1);
        assert_eq!(state.own_keys(), OwnKeys(HashSet::from([first, waiting, new])));
        for later in [at(8), at(9), at(200)] {
            assert_eq!(state.signing(later).public_key_digest(), new);
        }
    }

    #[test]
    fn a_rotation_ends_before_the_old_ca_does() {
        let mut state = CaState::generate(at(0)).expect("made");
        let end = state.expires_at();
        assert_eq!(end, at(730));
        state.rotate(at(727), false).expect("rotates");
        assert_eq!(state.pending(at(727)).expect("pending").1, end.saturating_add(-DAY).expect("in range"));
        assert_eq!(state.expires_at(), at(727 + 730));
        let mut ended = CaState::generate(at(0)).expect("made");
        ended.rotate(at(800), false).expect("rotates");
        assert!(ended.pending(at(800)).is_none());
        assert_eq!(ended.signing(at(800)).not_after(), at(1530));
    }

    #[test]
    fn the_stored_form_comes_back() {
        let mut state = CaState::generate(at(0)).expect("made");
        state.rotate(at(0), true).expect("rotates");
        state.rotate(at(1), false).expect("rotates");
        let back = CaState::from_secret(&state.to_secret()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(back.anchors_pem(at(1)), state.anchors_pem(at(1)));
        assert_eq!(back.own_keys(), state.own_keys());
        assert_eq!(back.own_keys().0.len(), 3);
        assert_eq!(back.pending(at(1)).expect("pending").1, at(8));
        assert_eq!(back.signing(at(1)).key_der(), state.signing(at(1)).key_der());
    }

    #[test]
    fn a_broken_stored_form_is_an_error_without_the_key() {
        let state = CaState::generate(at(0)).expect("made");
        let good = String::from_utf8(state.to_secret().expose().to_vec()).expect("text");
        let other = CaState::generate(at(0)).expect("made");
        let swapped = good.replace(&STANDARD.encode(state.signing(at(0)).key_der()), &STANDARD.encode(other.signing(at(0)).key_der()));
        let newer = good.replace("\"format\":1", "\"format\":2");
        let error = |text: &str| CaState::from_secret(&Secret::from_opened(text.as_bytes())).err();
        assert_eq!(error(&newer), Some(StateError::Newer(2)));
        assert_eq!(error(&swapped), Some(StateError::Ca(CaError::Read("its key is not its certificate's"))));
        for text in ["", "{}", &good[..good.len() - 1], &good.replace("MII", "mII")] {
            assert!(matches!(error(text), Some(StateError::Ca(CaError::Read(_)))), "{}", text.len());
        }
    }
}
