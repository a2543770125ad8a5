//! What is compared: a request as the origin saw it and an answer as the agent got it, aspect by aspect.

use std::collections::BTreeMap;

use super::shape::Shape;
use crate::support::wire::{Answer, Content, Fields, Protocol, Seen};

/// Aspects of a message, each as a text.
pub type Picture = BTreeMap<String, String>;

/// Fields that nobody compares: those of one connection (RFC 9110 7.6.1), what leads round a proxy, what the test itself adds.
/// `TE: trailers` is compared, since it is made anew.
const NOT_COMPARED: [&str; 7] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "alt-svc", "x-run"];

/// Which message of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// As the origin saw it.
    Request,
    /// As the agent got it.
    Answer,
}

/// Something that a pairing cannot carry.
struct Loss {
    /// The aspects that are not compared, by the beginnings of their names.
    aspects: &'static [&'static str],
    message: Message,
    agent: Option<Protocol>,
    origin: Option<Protocol>,
    /// For which shapes.
    when: fn(&Shape) -> bool,
    /// For whoever reads this table.
    _why: &'static str,
}

/// All that a pairing cannot carry. The request is compared with that of a client who speaks the origin's protocol directly,
/// the answer with what a client gets who speaks the agent's protocol directly.
const LOSSES: [Loss; 6] = [
    Loss {
        aspects: &["reason"],
        message: Message::Answer,
        agent: Some(Protocol::H1),
        origin: Some(Protocol::H2),
        when: |_| true,
        _why: "HTTP/2 has no reason phrases (RFC 9113 8.3.2)",
    },
    Loss {
        aspects: &["field content-length"],
        message: Message::Request,
        agent: Some(Protocol::H2),
        origin: Some(Protocol::H1),
        when: |shape| shape.ask.content == Content::None,
        _why: "HTTP/2 ends a request with its head; towards HTTP/1.1 a length of 0 may be said (RFC 9110 8.6)",
    },
    Loss {
        aspects: &["field content-length", "trailer "],
        message: Message::Request,
        agent: None,
        origin: None,
        when: |shape| shape.ask.trailers.is_some() && matches!(shape.ask.content, Content::Length(_)),
        _why: "HTTP/1.1 has either a length or trailers (RFC 9112 7.1.2), HTTP/2 both",
    },
    Loss {
        aspects: &["field content-length"],
        message: Message::Answer,
        agent: None,
        origin: None,
        when: Shape::head_only,
        _why: "where HTTP/2 ends an answer with its head, HTTP/1.1 says a length of 0 or no chunks",
    },
    Loss {
        aspects: &["field content-length"],
        message: Message::Answer,
        agent: Some(Protocol::H1),
        origin: Some(Protocol::H2),
        when: Shape::empty_but_open,
        _why: "a length of 0 without the stream's end may be followed by trailers, which HTTP/1.1 has after chunks only",
    },
    Loss {
        aspects: &["field content-length", "trailer "],
        message: Message::Answer,
        agent: None,
        origin: None,
        when: Shape::trailers_beside_length,
        _why: "HTTP/1.1 has either a length or trailers (RFC 9112 7.1.2), HTTP/2 both",
    },
];

/// A request as the origin saw it, but for the credential.
pub fn of_request(seen: &Seen) -> Picture {
    let mut picture = Picture::from([
        ("method".to_owned(), seen.method.clone()),
        ("scheme".to_owned(), seen.scheme.clone()),
        ("authority".to_owned(), seen.authority.clone()),
        ("target".to_owned(), seen.target.clone()),
        ("body".to_owned(), shown(&seen.body)),
        ("ending".to_owned(), format!("{:?}", seen.ending)),
    ]);
    let compared: Fields = seen.fields.iter().filter(|(name, _)| name != "authorization").cloned().collect();
    add(&mut picture, "field", &compared);
    add(&mut picture, "trailer", seen.trailers.as_ref().unwrap_or(&Fields::new()));
    // Crumbs and one field mean the same to HTTP/2 (RFC 9113 8.2.3); HTTP/1.1 knows one field only.
    if let (Protocol::H2, Some(cookies)) = (seen.protocol, picture.get_mut("field cookie")) {
        *cookies = cookies.replace(" | ", "; ");
    }
    picture
}

/// An answer as the agent got it.
pub fn of_answer(answer: &Answer) -> Picture {
    let mut picture = Picture::from([
        ("status".to_owned(), answer.status.to_string()),
        ("reason".to_owned(), answer.reason.clone()),
        ("body".to_owned(), shown(&answer.body)),
        ("ending".to_owned(), format!("{:?}", answer.ending)),
    ]);
    for (number, head) in answer.interim.iter().enumerate() {
        picture.insert(format!("interim {number}"), format!("{} {:?}", head.status, texts(&head.fields)));
    }
    add(&mut picture, "field", &answer.fields);
    add(&mut picture, "trailer", answer.trailers.as_ref().unwrap_or(&Fields::new()));
    picture
}

/// The fields by name, the values of each in order.
fn texts(fields: &Fields) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::<String, String>::new();
    for (name, value) in fields.iter().filter(|(name, _)| !NOT_COMPARED.contains(&name.as_str())) {
        let value = if value.len() > 200 { shown(value) } else { value.escape_ascii().to_string() };
        texts.entry(name.clone()).and_modify(|v| *v = format!("{v} | {value}")).or_insert(value);
    }
    texts
}

fn add(picture: &mut Picture, kind: &str, fields: &Fields) {
    picture.extend(texts(fields).into_iter().map(|(name, values)| (format!("{kind} {name}"), values)));
}

/// Short bytes as they are, long ones by length and hash.
fn shown(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    if bytes.len() <= 200 {
        return bytes.escape_ascii().to_string();
    }
    let hash = sha2::Sha256::digest(bytes);
    format!("{} bytes, {:02x?}", bytes.len(), &hash[..8])
}

/// Where two pictures differ, but for what this pairing cannot carry.
pub fn differences(message: Message, shape: &Shape, agent: Protocol, origin: Protocol, wanted: &Picture, got: &Picture) -> Vec<String> {
    let losses = LOSSES.iter().filter(|loss| {
        loss.message == message
            && agent != origin
            && loss.agent.is_none_or(|p| p == agent)
            && loss.origin.is_none_or(|p| p == origin)
            && (loss.when)(shape)
    });
    let lost = losses.flat_map(|loss| loss.aspects).collect::<Vec<_>>();
    let names = wanted.keys().chain(got.keys()).collect::<std::collections::BTreeSet<_>>();
    let compared = names.into_iter().filter(|name| !lost.iter().any(|lost| name.starts_with(**lost)));
    let differing = compared.filter(|name| wanted.get(*name) != got.get(*name));
    differing.map(|name| format!("{message:?}, {name}: directly {:?}, here {:?}", wanted.get(name), got.get(name))).collect()
}
