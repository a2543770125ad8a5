//! What goes onto a request: one header field, made once per credential version.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::{Presentation, Secret};
use crate::message::scrub::ScrubTable;

/// The header field that carries a secret, ready to be put on requests, and what the scrubber looks for.
/// Its memory is wiped when the last user drops it; clones of the value share that memory.
pub struct Material {
    name: HeaderName,
    value: HeaderValue,
    scrub: Arc<ScrubTable>,
}

/// Why a secret does not fit the way it is presented. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InjectionError {
    /// Type `basic` needs a colon between user and password (RFC 7617).
    #[error("a secret of type basic has the form user:password")]
    NoColon,
    /// A byte that no header field carries.
    #[error("the secret holds a byte that no header field carries")]
    Field,
}

/// Owns the bytes of a header value, and wipes them.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Material {
    /// Lays the secret out as `presentation` says (RFC 6750, RFC 7617).
    ///
    /// # Errors
    /// [`InjectionError`] where the secret does not fit the type.
    pub fn new(presentation: &Presentation, secret: Secret) -> Result<Self, InjectionError> {
        let plain = secret.expose();
        let mut value = Zeroizing::new(Vec::with_capacity(plain.len() * 4 / 3 + 64));
        match presentation {
            Presentation::Bearer => {
                value.extend_from_slice(b"Bearer ");
                value.extend_from_slice(plain);
            }
            Presentation::Basic => {
                if !plain.contains(&b':') {
                    return Err(InjectionError::NoColon);
                }
                value.extend_from_slice(b"Basic ");
                value.extend_from_slice(Zeroizing::new(STANDARD.encode(plain)).as_bytes());
            }
            Presentation::Header { prefix, .. } => {
                value.extend_from_slice(prefix.as_bytes());
                value.extend_from_slice(plain);
            }
        }
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(Wiped(value))).map_err(|_| InjectionError::Field)?;
        value.set_sensitive(true);
        let scrub = Arc::new(ScrubTable::new(&secret, presentation));
        Ok(Self { name: presentation.field().clone(), value, scrub })
    }

    /// The field's name.
    #[must_use]
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The field's value, marked sensitive.
    #[must_use]
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// What the scrubber looks for.
    #[must_use]
    pub fn scrub_table(&self) -> &Arc<ScrubTable> {
        &self.scrub
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(presentation: &Presentation, secret: &str) -> String {
        let material = Material::new(presentation, Secret::from_opened(secret.as_bytes())).expect("fits");
        assert!(material.value().is_sensitive());
        material.value().to_str().expect("ascii").to_owned()
    }

    #[test]
    fn the_three_types() {
        assert_eq!(value(&Presentation::Bearer, "sk-or-v1-test"), "Bearer sk-or-v1-test");
        assert_eq!(value(&Presentation::Basic, "u:p"), "Basic dTpw");
        let header = Presentation::Header { name: HeaderName::from_static("x-api-key"), prefix: "Key ".into() };
        assert_eq!(value(&header, "sk-or-v1-test"), "Key sk-or-v1-test");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let material = |p: &Presentation, s: &str| Material::new(p, Secret::from_opened(s.as_bytes())).err();
        assert_eq!(material(&Presentation::Basic, "no-colon"), Some(InjectionError::NoColon));
        assert_eq!(material(&Presentation::Bearer, "a\nb"), Some(InjectionError::Field));
    }
}
