//! What goes onto a request: one header field, made once per credential version.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::{Presentation, Secret};
use crate::locked::Locked;
use crate::message::scrub::ScrubTable;

/// The header field that carries a secret, ready to be put on requests, and what the scrubber looks for.
/// Its memory is locked, and wiped when the last user drops it; clones of the value share that memory.
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

impl Material {
    /// Lays the secret out as `presentation` says (RFC 6750, RFC 7617).
    ///
    /// # Errors
    /// [`InjectionError`] where the secret does not fit the type.
    pub fn new(presentation: &Presentation, secret: Secret) -> Result<Self, InjectionError> {
        let plain = secret.expose();
        let value = match presentation {
            Presentation::Bearer => Locked::concat(&[b"Bearer ", plain]),
            Presentation::Basic if plain.contains(&b':') => basic(plain),
            Presentation::Basic => return Err(InjectionError::NoColon),
            Presentation::Header { prefix, .. } => Locked::concat(&[prefix.as_bytes(), plain]),
        };
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(value)).map_err(|_| InjectionError::Field)?;
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

/// The pair in base64, written where it stays.
fn basic(pair: &[u8]) -> Locked {
    const SCHEME: &[u8] = b"Basic ";
    let mut value = Locked::zeroed(SCHEME.len() + pair.len().div_ceil(3) * 4);
    let (scheme, encoded) = value.split_at_mut(SCHEME.len());
    scheme.copy_from_slice(SCHEME);
    STANDARD.encode_slice(pair, encoded).expect("four characters for three bytes or fewer");
    value
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
