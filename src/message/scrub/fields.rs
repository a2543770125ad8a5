//! The fields of an answer whose body does not go on as it came (RFC 9110 7.7).

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// They speak of the bytes of the coded body, or of ranges of it.
const OF_THE_BYTES: [HeaderName; 6] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::ACCEPT_RANGES,
    HeaderName::from_static("content-md5"),
    // RFC 9530, and what it replaces.
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("digest"),
];
/// A digest of the representation, which is another one when it is decoded (RFC 9530 3.1).
const REPRESENTATION: HeaderName = HeaderName::from_static("repr-digest");

/// Makes the head of a coded answer that of the decoded and masked one: its coding, length, ranges and digests go, and a
/// strong `ETag` becomes a weak one (RFC 9110 8.8.1), since it was made of other bytes. Also for its trailers.
pub fn make_identity(fields: &mut HeaderMap) {
    for name in OF_THE_BYTES.iter().chain([&REPRESENTATION]) {
        fields.remove(name);
    }
    if let Some(tag) = fields.get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")) {
        let weak = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat());
        // What was a field value is one with two letters before it.
        if let Ok(weak) = weak {
            fields.insert(header::ETAG, weak);
        }
    }
}

/// Takes the length off the head of a coded answer: it tells how well what an agent chose compresses beside a secret, which is to
/// find the secret letter by letter (BREACH), whether the body comes or not.
pub fn hide_length(fields: &mut HeaderMap) {
    fields.remove(header::CONTENT_LENGTH);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_decoded_answer() {
        let table = [
            ("content-encoding", "gzip", None),
            ("content-length", "12", None),
            ("accept-ranges", "bytes", None),
            ("content-md5", "Q2hlY2sgSW50ZWdyaXR5IQ==", None),
            ("content-digest", "sha-256=:AAAA:", None),
            ("repr-digest", "sha-256=:AAAA:", None),
            ("digest", "sha-256=AAAA", None),
            ("etag", "\"abc\"", Some("W/\"abc\"")),
            ("etag", "W/\"abc\"", Some("W/\"abc\"")),
            ("etag", "odd", Some("odd")),
            ("vary", "accept-encoding", Some("accept-encoding")),
            ("content-type", "text/plain", Some("text/plain")),
        ];
        for (name, value, expected) in table {
            let mut fields = HeaderMap::new();
            fields.append(name, HeaderValue::from_static(value));
            make_identity(&mut fields);
            assert_eq!(fields.get(name).map(HeaderValue::as_bytes), expected.map(str::as_bytes), "{name}: {value}");
        }
    }
}
