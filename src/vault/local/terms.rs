//! A credential's terms as bytes: what is authenticated with its secret, and the plain columns of its row.

use sha2::{Digest as _, Sha256};

use crate::credential::{PathRules, Presentation, Source, Terms};
use crate::envelope::{DecodeError, Decoder, Encoder};
use crate::host::HostPattern;
use crate::store::Field;

pub(super) fn encode(out: &mut Encoder, terms: &Terms) {
    let Terms { presentation, allowed_domains, rules, auth_headers, auth_query, provider, scrub, allow_plaintext, enabled } = terms;
    out.text(presentation.kind());
    let (header, prefix) = header_and_prefix(presentation);
    out.text(header).text(prefix);
    out.list(allowed_domains, |e, p| e.text(&p.to_string()));
    for list in [&rules.allow, &rules.deny, &rules.methods, auth_headers, auth_query] {
        out.list(list, |e, text| e.text(text));
    }
    out.option(provider.as_deref(), |e, text| e.text(text));
    out.flag(*scrub).flag(*allow_plaintext).flag(*enabled);
}

/// SHA-256 of the terms: another one wherever anything of them is another, the same in every process.
#[must_use]
pub fn digest(terms: &Terms) -> [u8; 32] {
    let mut out = Encoder::new("terms");
    encode(&mut out, terms);
    Sha256::digest(out.finish()).into()
}

pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Terms, DecodeError> {
    let (kind, header, prefix) = (from.text()?, from.text()?, from.text()?);
    let presentation = match kind {
        "bearer" => Presentation::Bearer,
        "basic" => Presentation::Basic,
        "header" => Presentation::Header { name: header.parse().map_err(|_| DecodeError)?, prefix: prefix.to_owned() },
        _ => return Err(DecodeError),
    };
    let allowed_domains = from.list(|d| HostPattern::parse(d.text()?).map_err(|_| DecodeError))?;
    let mut list = || from.list(|d| d.text().map(str::to_owned));
    let (allow, deny, methods, auth_headers, auth_query) = (list()?, list()?, list()?, list()?, list()?);
    Ok(Terms {
        presentation,
        allowed_domains,
        rules: PathRules { allow, deny, methods },
        auth_headers,
        auth_query,
        provider: from.option(|d| d.text().map(str::to_owned))?,
        scrub: from.flag()?,
        allow_plaintext: from.flag()?,
        enabled: from.flag()?,
    })
}

pub(super) fn encode_source(source: &Source) -> String {
    source.to_string()
}

pub(super) fn decode_source(text: &str) -> Result<Source, DecodeError> {
    // One text for each source: what would be written otherwise is not what was sealed.
    Source::parse(text).filter(|source| source.to_string() == text).ok_or(DecodeError)
}

/// The columns from `type` to `enabled`.
pub(super) fn columns(terms: &Terms) -> Vec<Field> {
    let json = |list: &[String]| Field::text(&serde_json::Value::from(list).to_string());
    let (header, prefix) = header_and_prefix(&terms.presentation);
    let domains: Vec<String> = terms.allowed_domains.iter().map(HostPattern::to_string).collect();
    vec![
        Field::text(terms.presentation.kind()),
        Field::text(header),
        Field::text(prefix),
        json(&domains),
        json(&terms.rules.allow),
        json(&terms.rules.deny),
        json(&terms.rules.methods),
        json(&terms.auth_headers),
        json(&terms.auth_query),
        terms.provider.as_deref().map_or(Field::Null, Field::text),
        Field::Int(terms.scrub.into()),
        Field::Int(terms.allow_plaintext.into()),
        Field::Int(terms.enabled.into()),
    ]
}

fn header_and_prefix(presentation: &Presentation) -> (&str, &str) {
    match presentation {
        Presentation::Header { name, prefix } => (name.as_str(), prefix),
        Presentation::Bearer | Presentation::Basic => ("", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(terms: &Terms) -> Vec<u8> {
        let mut out = Encoder::new("t");
        encode(&mut out, terms);
        out.finish()
    }

    #[test]
    fn every_field_is_in_the_encoding_and_comes_back() {
        let s = |t: &str| vec![t.to_owned()];
        let base = Terms {
            presentation: Presentation::Bearer,
            allowed_domains: vec![HostPattern::parse("*.openrouter.ai").expect("valid"), HostPattern::parse("[::1]:8443").expect("valid")],
            rules: PathRules { allow: s("/api/v1/**"), deny: s("/api/v1/keys/**"), methods: s("GET") },
            auth_headers: s("authorization"),
            auth_query: s("key"),
            provider: Some("openrouter".to_owned()),
            scrub: true,
            allow_plaintext: false,
            enabled: true,
        };
        let header = Presentation::Header { name: http::HeaderName::from_static("x-api-key"), prefix: "Key ".into() };
        let with = |f: &dyn Fn(&mut Terms)| {
            let mut other = base.clone();
            f(&mut other);
            other
        };
        let all = [
            base.clone(),
            with(&|t| t.presentation = Presentation::Basic),
            with(&|t| t.presentation = header.clone()),
            with(&|t| t.allowed_domains.truncate(1)),
            with(&|t| t.allowed_domains[0] = HostPattern::parse("api-*.evil.example:*").expect("valid")),
            with(&|t| t.rules.allow.clear()),
            with(&|t| t.rules.deny.clear()),
            with(&|t| t.rules.methods.clear()),
            with(&|t| t.rules.deny.append(&mut t.rules.methods)),
            with(&|t| t.auth_headers.clear()),
            with(&|t| t.auth_query.clear()),
            with(&|t| t.provider = None),
            with(&|t| t.scrub = false),
            with(&|t| t.allow_plaintext = true),
            with(&|t| t.enabled = false),
        ];
        for (i, terms) in all.iter().enumerate() {
            let encoded = bytes(terms);
            assert!(all[..i].iter().all(|other| bytes(other) != encoded), "{i}");
            assert!(all[..i].iter().all(|other| columns(other) != columns(terms)), "{i}");
            assert!(all[..i].iter().all(|other| digest(other) != digest(terms)), "{i}");
            let mut from = Decoder::new(&encoded, "t").expect("label");
            assert_eq!(decode(&mut from).as_ref(), Ok(terms));
            from.finish().expect("nothing is left");
        }
    }
}
