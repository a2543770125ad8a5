//! The response scrubber: takes the secret of a request's own credential out of what goes back to the agent.
//!
//! A secret is found as it is, in base64 (standard or URL alphabet, at each alignment) and in hex (either case), each
//! of them also percent-escaped, JSON-escaped or any mixture, and is replaced by a mark of the same length, so that
//! lengths stay true. Escapes are read once, not twice over: `%2541` is no `A`.
//!
//! **What is held back never depends on content.** An agent that can make an origin return bytes of its choice next to
//! the secret would otherwise find it letter by letter, by watching where frames end. A [`BodyScrubber`] holds a
//! constant number of bytes, the longest form less one, until there is more input, the end, or a pause that its owner
//! calls after a short fixed time; the match goes on past a pause. A secret holds no control character, so
//! no occurrence spans a line end, and of an event stream only the unfinished event is held.
//!
//! A compressed body is scanned as decoded and goes on as it came. Where a hit comes before its head has gone, it goes on
//! decoded and masked; later it ends with an error.
//!
//! A part under [`WEAK_BELOW`] bytes is scrubbed from header fields only, since masking it in a body would confirm guesses;
//! one under four bytes not at all, since it is found in everything.

mod accept;
mod body;
mod compressed;
mod decode;
mod escape;
mod events;
mod fields;
mod form;
mod identity;
mod matcher;
mod scan;
#[cfg(test)]
mod tests;

use http::{HeaderMap, HeaderValue, header};

pub use accept::{narrow_accept_encoding, narrow_request};
pub use body::{BodyScrubber, InPlaceScrubber};
pub use decode::Decoding;
// For the fuzz targets, which are no part of the crate.
#[doc(hidden)]
pub use events::Events;
pub use fields::{hide_length, make_identity};

use self::matcher::Matcher;
use crate::credential::{Presentation, Secret, WEAK_BELOW};

/// A part of fewer bytes is not scrubbed at all.
const SHORTEST: usize = 4;

/// Why a body cannot go on. The owner ends it with an error towards the agent; nothing more of it may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScrubError {
    /// `Content-Encoding` names a coding that the scrubber does not read, or too many.
    #[error("the response's Content-Encoding is not one that the scrubber reads")]
    Coding,
    /// The body is not what its `Content-Encoding` says, or is cut short.
    #[error("the response's body cannot be decoded as its Content-Encoding says")]
    Undecodable,
    /// The body grows too much when it is decoded.
    #[error("the response's body grows beyond the limit when decoded")]
    Expansion,
    /// A compressed body holds the secret, and some of it has gone already.
    #[error("the response's compressed body holds the credential's secret")]
    Hit,
}

/// The forms of one version of a credential's secret. Built once and shared; its memory is wiped on drop.
/// It has no `Debug`, for it holds the secret.
pub struct ScrubTable {
    /// For header fields and bodies.
    strong: Option<Matcher>,
    /// For header fields only.
    weak: Option<Matcher>,
}

impl ScrubTable {
    /// The table of a secret as it is presented. Of type `basic` the whole pair and the password alone are secrets (with
    /// an empty password, as some services have it, the user).
    #[must_use]
    pub fn new(secret: &Secret, presentation: &Presentation) -> Self {
        let whole = secret.expose();
        let inner = match presentation {
            Presentation::Basic => match whole.iter().position(|&b| b == b':') {
                Some(colon) if colon + 1 < whole.len() => &whole[colon + 1..],
                Some(colon) => &whole[..colon],
                None => &[],
            },
            Presentation::Bearer | Presentation::Header { .. } => &[],
        };
        let of = |lengths: std::ops::Range<usize>| {
            let parts: Vec<&[u8]> = [whole, inner].into_iter().filter(|part| lengths.contains(&part.len())).collect();
            (!parts.is_empty()).then(|| Matcher::new(&parts))
        };
        Self { strong: of(WEAK_BELOW..usize::MAX), weak: of(SHORTEST..WEAK_BELOW) }
    }

    /// Whether bodies are scrubbed; a weak secret is scrubbed from header fields only.
    #[must_use]
    pub fn scrubs_bodies(&self) -> bool {
        self.strong.is_some()
    }

    /// Scrubs one field value (or reason phrase): `None` where it is clean, else the masked value, of the same length.
    #[must_use]
    pub fn scrub_header(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut masked = None;
        for matcher in self.strong.iter().chain(&self.weak) {
            matcher.scan(value, 0, true, &mut |start, end| {
                masked.get_or_insert_with(|| value.to_vec())[start..end].fill(scan::MARK);
            });
        }
        masked
    }

    /// Scrubs every value of a response's header or trailer fields (`Content-Length` aside, which frames and is digits
    /// only), and returns how many were masked.
    pub fn scrub_headers(&self, fields: &mut HeaderMap) -> usize {
        let mut hits = 0;
        for (name, value) in fields.iter_mut() {
            if name == header::CONTENT_LENGTH {
                continue;
            }
            if let Some(masked) = self.scrub_header(value.as_bytes()) {
                // What was a field value stays one when bytes of it become `*`.
                *value = HeaderValue::from_bytes(&masked).unwrap_or_else(|_| HeaderValue::from_static("*"));
                hits += 1;
            }
        }
        hits
    }
}
