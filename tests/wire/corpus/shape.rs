//! What a row of the corpus is made of.

use crate::support::wire::{Ask, Content, Ending, Fields, Head, Turn, fields};

/// One request and what the origin does with it.
pub struct Shape {
    /// What it is about; unique.
    pub name: &'static str,
    /// The request.
    pub ask: Ask,
    /// Whether the agent waits for the answer's head after the first piece of its body.
    pub gated: bool,
    /// What the origin does, in order.
    pub steps: Vec<Step>,
}

/// What an origin does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Reads the request's body to its end.
    Read,
    /// Reads the first bytes of the body.
    ReadSome,
    /// Sends an interim answer.
    Interim(u16, Fields),
    /// Sends the head.
    Head(Head),
    /// Sends the head, after which nothing comes: over HTTP/2 it ends the stream.
    Only(Head),
    /// Sends a piece of the body.
    Data(Vec<u8>),
    /// Ends the answer.
    End,
    /// Ends the answer with trailers.
    Trailers(Fields),
}

impl Shape {
    /// Does what the steps say.
    pub async fn play(&self, turn: &mut Turn) -> Result<(), Ending> {
        for step in &self.steps {
            match step {
                Step::Read => turn.read_all().await?,
                Step::ReadSome => drop(turn.read().await?),
                Step::Interim(status, fields) => turn.interim(*status, fields).await?,
                Step::Head(head) => turn.head(head, false).await?,
                Step::Only(head) => turn.head(head, true).await?,
                Step::Data(data) => turn.data(data.clone()).await?,
                Step::End => turn.finish(None).await?,
                Step::Trailers(trailers) => turn.finish(Some(trailers)).await?,
            }
        }
        Ok(())
    }

    /// Whether the answer is nothing but a head.
    pub fn head_only(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Only(_)))
    }

    /// Whether the answer says a length of 0 and does not end with that.
    pub fn empty_but_open(&self) -> bool {
        let empty = |head: &Head| head.fields.iter().any(|(name, value)| name == "content-length" && value == b"0");
        self.steps.iter().any(|step| matches!(step, Step::Head(head) if empty(head)))
    }

    /// Whether the answer has trailers beside a length.
    pub fn trailers_beside_length(&self) -> bool {
        let length = |head: &Head| head.fields.iter().any(|(name, _)| name == "content-length");
        self.steps.iter().any(|step| matches!(step, Step::Head(head) if length(head))) && self.steps.iter().any(|s| matches!(s, Step::Trailers(_)))
    }
}

/// A row.
pub fn row(name: &'static str, ask: Ask, steps: Vec<Step>) -> Shape {
    Shape { name, ask, gated: false, steps }
}

/// A head.
pub fn head(status: u16, reason: &str, pairs: &[(&str, &str)]) -> Head {
    Head { status, reason: reason.to_owned(), fields: fields(pairs) }
}

/// Reads all, then answers with a body of known length.
pub fn answer(status: u16, reason: &str, pairs: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Vec<Step> {
    let body = body.into();
    let mut head = head(status, reason, pairs);
    head.fields.push(("content-length".to_owned(), body.len().to_string().into_bytes()));
    vec![Step::Read, Step::Head(head), Step::Data(body), Step::End]
}

/// Reads all, then answers 200 with a little text.
pub fn ok() -> Vec<Step> {
    answer(200, "OK", &[("content-type", "text/plain")], "ok")
}

/// Reads all, then answers 200 in pieces of unknown number.
pub fn pieces(pairs: &[(&str, &str)], pieces: &[&[u8]], end: Step) -> Vec<Step> {
    let mut steps = vec![Step::Read, Step::Head(head(200, "OK", pairs))];
    steps.extend(pieces.iter().map(|piece| Step::Data(piece.to_vec())));
    steps.push(end);
    steps
}

/// Reads all, then answers with a head alone.
pub fn only(status: u16, reason: &str, pairs: &[(&str, &str)]) -> Vec<Step> {
    vec![Step::Read, Step::Only(head(status, reason, pairs))]
}

/// Interim answers, then these steps.
pub fn after(interim: &[(u16, &[(&str, &str)])], steps: Vec<Step>) -> Vec<Step> {
    let interim = interim.iter().map(|(status, pairs)| Step::Interim(*status, fields(pairs)));
    interim.chain(steps).collect()
}

/// A body of that many bytes, of which no two kilobytes are alike.
pub fn bulk(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n / 251 + n % 251) as u8).collect()
}

/// A request with a body in pieces of unknown number.
pub fn unknown(method: &str, target: &str, pieces: &[&[u8]]) -> Ask {
    Ask { content: Content::Unknown(pieces.iter().map(|p| p.to_vec()).collect()), ..Ask::new(method, target) }
}

/// A request with a body of known length.
pub fn length(method: &str, target: &str, body: impl Into<Vec<u8>>) -> Ask {
    Ask { content: Content::Length(body.into()), ..Ask::new(method, target) }
}

/// Bytes by gzip.
pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, data).unwrap();
    encoder.finish().unwrap()
}
