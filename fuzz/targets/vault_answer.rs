//! What Vault answers, and what names a place in it: read as JSON says, and never quoted.

use std::collections::BTreeMap;

use keyhatch::config::terms::TermsSpec;
use keyhatch::credential::{CredentialName, VaultReference, check_path};
use keyhatch::host::HostPattern;
use keyhatch::vault::hashicorp::{Fields, answers};
use serde_json::Value;

/// Never in a message: whoever could be told it could be told a secret.
const MARKER: &str = "sk-or-v1-test";

/// The input: the body of an answer.
pub fn run(data: &[u8]) {
    let read = answers(data);
    let body: Option<Value> = serde_json::from_slice(data).ok();
    for error in &read.errors {
        let said = error.to_string();
        assert!(!said.contains(MARKER) && !said.contains('\n'), "{said}");
    }
    match (&read.text, &body) {
        (Some(text), Some(Value::String(naive))) => assert_eq!(text.as_str(), naive),
        (None, Some(Value::String(naive))) => panic!("{naive:?} is a text"),
        (Some(text), _) => panic!("{text:?} is no text"),
        (None, _) => {}
    }
    if let Some(body) = &body {
        // Of a name that is there twice the last counts in both, unless it is one of a frame, of which serde takes none.
        let data = &body["data"];
        for (fields, naive) in [(&read.kv2, &data["data"]), (&read.plain, data)] {
            if let Some(fields) = fields {
                same(fields, naive);
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        reference(text);
        hosts(text);
    }
}

fn same(fields: &Fields, naive: &Value) {
    let is_plain = |v: &&Value| v.is_string() || v.is_number() || v.is_boolean();
    let naive: BTreeMap<&str, &Value> = naive.as_object().into_iter().flatten().filter(|(_, v)| is_plain(v)).map(|(n, v)| (n.as_str(), v)).collect();
    assert_eq!(fields.names().collect::<Vec<_>>(), naive.keys().copied().collect::<Vec<_>>());
    for (name, value) in naive {
        let held = fields.get(name).expect("it was named").expose();
        match value {
            Value::String(text) => assert_eq!(held, text.as_bytes(), "{name}"),
            Value::Bool(yes) => assert_eq!(held, yes.to_string().as_bytes(), "{name}"),
            // As it is written: 1.50 stays that.
            number => assert_eq!(serde_json::from_slice::<Value>(held).ok().as_ref(), Some(number), "{name}"),
        }
    }
}

fn reference(text: &str) {
    if let Some(path) = check_path(text) {
        assert!(path.contains('/') && path.split('/').all(|s| !s.is_empty() && s != "." && s != ".."), "{path}");
        assert!(path.bytes().all(|b| b.is_ascii_graphic() && !b"%?#\\\"<>{}|^`".contains(&b)), "{path} is more than a path in a URL");
        assert_eq!(check_path(path), Some(path));
    }
    let Ok(read) = VaultReference::parse(text) else { return };
    assert_eq!(VaultReference::parse(&read.to_string()).as_ref(), Ok(&read), "{text:?}");
    assert_eq!(check_path(read.path()), Some(read.path()));
    assert!(!read.field().is_empty() && !read.field().contains(char::is_control) && read.version() != Some(0), "{text:?}");
}

/// An entry's own words about where its key may go: never wider than they say.
fn hosts(text: &str) {
    let mut lines = text.lines();
    let spec = TermsSpec {
        allow: lines.next().into_iter().flat_map(|l| l.split(' ')).map(str::to_owned).collect(),
        paths: lines.next().map(str::to_owned).into_iter().collect(),
        methods: lines.next().map(str::to_owned).into_iter().collect(),
        ..TermsSpec::default()
    };
    let Ok(terms) = spec.terms(&CredentialName::parse("discovered").expect("a name")) else { return };
    assert!(!terms.allowed_domains.is_empty() && terms.allowed_domains.iter().all(|d| d.breadth().is_none()), "{text:?} is too broad");
    assert!(spec.allow.iter().all(|text| terms.allowed_domains.iter().any(|d| HostPattern::parse(text).as_ref() == Ok(d))));
    assert!(terms.scrub && !terms.allow_plaintext);
}
