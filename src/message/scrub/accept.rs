//! What an injected request may ask for: codings that the scrubber reads, and nothing else.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What stands for `*` in a narrowed list.
const READ: [&str; 4] = ["gzip", "deflate", "br", "zstd"];
/// `Available-Dictionary` (RFC 9842) and `A-IM` (RFC 3229) ask for codings of their own.
const DROPPED: [HeaderName; 2] = [HeaderName::from_static("available-dictionary"), HeaderName::from_static("a-im")];

/// Narrows an `Accept-Encoding` value (RFC 9110 12.5.3) to codings that the scrubber reads: `None` where it may stay as
/// it is. `*` becomes the codings that the list does not name otherwise, with its weight; where nothing is left,
/// `identity` is.
#[must_use]
pub fn narrow_accept_encoding(value: &[u8]) -> Option<Vec<u8>> {
    let members: Vec<&[u8]> = value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()).collect();
    let name = |member: &[u8]| member.split(|&b| b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let names: Vec<Vec<u8>> = members.iter().map(|member| name(member)).collect();
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut changed = false;
    for (member, name) in members.iter().zip(&names) {
        match name.as_slice() {
            b"identity" | b"x-gzip" => kept.push(member.to_vec()),
            known if READ.iter().any(|coding| coding.as_bytes() == known) => kept.push(member.to_vec()),
            // It only forbids, and may.
            b"*" if is_refused(member) => kept.push(member.to_vec()),
            b"*" => {
                let unnamed = READ.iter().filter(|coding| !names.iter().any(|name| name == coding.as_bytes()));
                kept.extend(unnamed.map(|coding| [coding.as_bytes(), &member[1..]].concat()));
                changed = true;
            }
            _ => changed = true,
        }
    }
    let nothing = kept.is_empty() && !members.is_empty();
    changed.then(|| if nothing { b"identity".to_vec() } else { kept.join(&b", "[..]) })
}

/// Whether a member has the weight 0.
fn is_refused(member: &[u8]) -> bool {
    let text = String::from_utf8_lossy(member).to_ascii_lowercase();
    let weight = text.split(';').skip(1).filter_map(|parameter| parameter.trim().strip_prefix("q=")).next();
    weight.is_some_and(|weight| weight.trim().parse() == Ok(0.0))
}

/// Narrows an injected request: every `Accept-Encoding`; `Available-Dictionary` and `A-IM` go, since they ask for
/// codings that the scrubber does not read.
pub fn narrow_request(fields: &mut HeaderMap) {
    for name in DROPPED {
        fields.remove(name);
    }
    if let header::Entry::Occupied(mut entry) = fields.entry(header::ACCEPT_ENCODING) {
        for value in entry.iter_mut() {
            if let Some(narrowed) = narrow_accept_encoding(value.as_bytes()) {
                // It is made of pieces of a field value.
                *value = HeaderValue::from_bytes(&narrowed).unwrap_or_else(|_| HeaderValue::from_static("identity"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowed() {
        let table = [
            ("", None),
            ("gzip, deflate, br, zstd", None),
            ("GZip;q=0.5,  identity; q=0", None),
            ("gzip, *;q=0", None),
            ("gzip, dcb, dcz", Some("gzip")),
            ("compress", Some("identity")),
            ("compress, x-gzip;q=0.1", Some("x-gzip;q=0.1")),
            ("*", Some("gzip, deflate, br, zstd")),
            ("gzip;q=1.0, *;q=0.5", Some("gzip;q=1.0, deflate;q=0.5, br;q=0.5, zstd;q=0.5")),
            ("gzip, \u{e9}", Some("gzip")),
        ];
        for (value, expected) in table {
            assert_eq!(narrow_accept_encoding(value.as_bytes()), expected.map(|e| e.as_bytes().to_vec()), "{value}");
        }
    }

    #[test]
    fn a_request_is_narrowed_in_every_field() {
        let mut fields = HeaderMap::new();
        for value in ["gzip, exi", "lzma"] {
            fields.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        }
        fields.insert("available-dictionary", HeaderValue::from_static(":pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4=:"));
        fields.insert("a-im", HeaderValue::from_static("gzip"));
        fields.insert("accept", HeaderValue::from_static("*/*"));
        narrow_request(&mut fields);
        assert_eq!(fields.get_all(header::ACCEPT_ENCODING).iter().collect::<Vec<_>>(), ["gzip", "identity"]);
        assert_eq!(fields.len(), 3);
    }
}
