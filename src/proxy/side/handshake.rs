//! The WebSocket handshake's key and its proof (RFC 6455 4.2.2), which HTTP/2 does without (RFC 8441 5).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use sha1::{Digest, Sha1};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What an origin must answer to this key.
pub(super) fn accept(key: &[u8]) -> HeaderValue {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    HeaderValue::try_from(STANDARD.encode(digest)).expect("base64 is a field's value")
}

/// Puts a key on a handshake that came without one, and gives the proof to expect. `None` where the agent sent its own.
pub(super) fn add_key(headers: &mut HeaderMap) -> Option<HeaderValue> {
    if headers.contains_key(SEC_WEBSOCKET_KEY) {
        return None;
    }
    let key = HeaderValue::try_from(STANDARD.encode(crate::random::bytes::<16>())).expect("base64 is a field's value");
    let proof = accept(key.as_bytes());
    headers.insert(SEC_WEBSOCKET_KEY, key);
    Some(proof)
}

/// Whether an answer carries the proof, which is taken off.
pub(super) fn is_proved(headers: &mut HeaderMap, proof: &HeaderValue) -> bool {
    headers.remove(SEC_WEBSOCKET_ACCEPT).is_some_and(|given| given == *proof)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_of_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_added_once() {
        let mut headers = HeaderMap::new();
        let proof = add_key(&mut headers).expect("none was there");
        assert_eq!(proof, accept(headers[SEC_WEBSOCKET_KEY].as_bytes()));
        assert_eq!(add_key(&mut headers), None);
        headers.insert(SEC_WEBSOCKET_ACCEPT, proof.clone());
        assert!(is_proved(&mut headers, &proof) && !is_proved(&mut headers, &proof));
    }
}
