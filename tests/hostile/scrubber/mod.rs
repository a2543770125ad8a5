//! An origin that sends the secret back, in every form and place that is known, over both versions of HTTP on either side. Each case
//! says what the agent got, what the origin received, and what the audit log says.

mod coded;
mod forms;
mod places;
mod requests;
mod splits;
mod suspension;
mod timing;
mod unread;

use std::sync::Arc;

use serde_json::Value;

use super::audited;
use crate::support::fresh_key;
use crate::support::wire::stage::{add, host};
use crate::support::wire::{Answer, Ask, Ending, Fields, Head, Offer, PAIRINGS, Protocol, Seen, Stage, Turn, fields, run, values};

/// What an origin answers.
#[derive(Clone)]
pub struct Script {
    status: u16,
    reason: String,
    interim: Vec<Fields>,
    fields: Fields,
    /// The body, each piece in a chunk or a frame of its own.
    pieces: Vec<Vec<u8>>,
    trailers: Option<Fields>,
}

impl Script {
    /// 200 with a body in one piece.
    fn body(body: impl Into<Vec<u8>>) -> Self {
        Self::pieces(vec![body.into()])
    }

    fn pieces(pieces: Vec<Vec<u8>>) -> Self {
        Self { status: 200, reason: "OK".to_owned(), interim: Vec::new(), fields: Fields::new(), pieces, trailers: None }
    }

    fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// With its length said beforehand.
    fn sized(self) -> Self {
        let length = self.pieces.concat().len();
        self.with("content-length", length.to_string())
    }

    async fn play(self, turn: &mut Turn) -> Result<(), Ending> {
        for interim in &self.interim {
            turn.interim(103, interim).await?;
        }
        let bodiless = turn.request.method == "HEAD";
        turn.head(&Head { status: self.status, reason: self.reason, fields: self.fields }, bodiless).await?;
        if !bodiless {
            for piece in self.pieces {
                turn.data(piece).await?;
            }
            turn.finish(self.trailers.as_ref()).await?;
        }
        Ok(())
    }
}

/// A stage where every request is answered by the script, which is given the key.
pub struct Scene {
    /// What `credential add` is told beside the host.
    terms: &'static [&'static str],
    key: String,
    ask: Ask,
    script: Arc<dyn Fn(&str) -> Script + Send + Sync>,
}

impl Scene {
    fn new(script: impl Fn(&str) -> Script + Send + Sync + 'static) -> Self {
        Self { terms: &[], key: special_key(), ask: Ask::get(""), script: Arc::new(script) }
    }

    async fn stage(&self) -> Stage {
        let (script, key, terms) = (self.script.clone(), self.key.clone(), self.terms);
        let own = key.clone();
        let dress = move |home: &crate::support::Home| add(home, terms, &own);
        Stage::dressed(Offer::of(Protocol::H2), "", dress, move |mut turn| {
            let (script, key) = (script.clone(), key.clone());
            async move {
                turn.read_all().await?;
                let script = if turn.request.target == "/after" { Script::body("well").sized() } else { script(&key) };
                script.play(&mut turn).await
            }
        })
        .await
    }

    /// Asks once for each pairing of protocols.
    fn play(self, check: impl Fn(&Shown)) {
        run(async {
            let stage = self.stage().await;
            for (agent, origin) in PAIRINGS {
                check(&shown(&stage, &self.ask, agent, origin).await);
            }
            is_well(&stage).await;
        });
    }
}

/// What one exchange came to.
pub struct Shown {
    agent: Protocol,
    origin: Protocol,
    key: String,
    answer: Answer,
    /// What the origin received.
    seen: Seen,
    /// The audit log's record.
    record: Value,
}

impl Shown {
    fn case(&self) -> String {
        format!(
            "{:?} to {:?}: {} {:?} {:?}\n{}",
            self.agent,
            self.origin,
            self.answer.status,
            self.answer.ending,
            self.answer.fields,
            self.answer.text()
        )
    }

    /// The answer is whole, it was injected, and recorded as scrubbed or not.
    fn passed(&self, scrubbed: bool) {
        assert_eq!((self.answer.status, self.answer.ending), (200, Ending::Whole), "{}", self.case());
        self.recorded("injected", if scrubbed { "scrubbed" } else { "ok" });
    }

    /// Nothing of the origin's answer went on: the proxy says so itself.
    fn refused(&self, reason: &str) {
        assert_eq!((self.answer.status, self.answer.ending), (502, Ending::Whole), "{}", self.case());
        let own: Value = serde_json::from_slice(&self.answer.body).unwrap_or_else(|e| panic!("{e}: {}", self.case()));
        assert_eq!(own["error"]["code"], "upstream_closed", "{}", self.case());
        self.recorded("failed", reason);
    }

    /// The answer was cut off in its midst.
    fn cut(&self, reason: &str) {
        assert_eq!(self.answer.status, 200, "{}", self.case());
        assert!(matches!(self.answer.ending, Ending::Cut | Ending::Reset(_)), "{}", self.case());
        self.recorded("failed", reason);
    }

    fn recorded(&self, decision: &str, reason: &str) {
        let record = &self.record;
        assert_eq!((record["decision"].as_str(), record["reason"].as_str()), (Some(decision), Some(reason)), "{record}\n{}", self.case());
        assert_eq!(record["credential"], "real", "{record}");
    }

    fn values(&self, name: &str) -> Vec<String> {
        values(&self.answer.fields, name).iter().map(|v| String::from_utf8_lossy(v).into_owned()).collect()
    }

    /// Neither the key nor a part of it that is worth having is anywhere in the answer.
    fn shows_nothing_of(&self, secret: &str) {
        let all = [format!("{:?}", self.answer).into_bytes(), self.answer.body.clone()].concat();
        for at in 0..secret.len().saturating_sub(12) {
            assert!(!crate::support::holds(&all, &secret[at..at + 12]), "a piece of the key: {}", self.case());
        }
    }
}

/// One exchange, with a connection of its own.
async fn shown(stage: &Stage, ask: &Ask, agent: Protocol, origin: Protocol) -> Shown {
    let target = format!("/{agent:?}-{origin:?}{}", ask.target);
    let line = stage.agent().open(host(origin, true), agent).await;
    let answer = line.ask(&Ask { target: target.clone(), ..ask.clone() }).await;
    let seen = stage.origin(origin).seen().into_iter().rfind(|seen| seen.target == target).expect("the origin received it");
    let path = target.split('?').next().unwrap_or_default();
    let mut records = audited(&stage.home, &[&format!("\"path\":\"{path}\"")]);
    let record = records.pop().expect("a record");
    assert!(!record.to_string().contains(&stage.key), "{record}");
    Shown { agent, origin, key: stage.key.clone(), answer, seen, record }
}

/// After a case the proxy serves on, has not panicked, and neither its log nor the audit log holds the key.
async fn is_well(stage: &Stage) {
    for (agent, origin) in [PAIRINGS[0], PAIRINGS[3]] {
        let line = stage.agent().open(host(origin, true), agent).await;
        line.ask(&Ask::get("/after")).await.expect(200, "well");
        assert!(stage.origin(origin).seen_with("authorization", &stage.bearer()).len() + basic(stage, origin) > 0);
    }
    let log = stage.serve.log();
    assert!(!log.contains("panicked") && !log.contains(&stage.key), "{log}");
    let audit = std::fs::read(stage.home.path().join("audit.jsonl")).unwrap();
    assert!(!crate::support::holds(&audit, &stage.key));
}

fn basic(stage: &Stage, origin: Protocol) -> usize {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(&stage.key);
    stage.origin(origin).seen_with("authorization", &format!("Basic {pair}")).len()
}

/// A key that base64, percent and JSON escaping all change.
fn special_key() -> String {
    format!("{}/x+y=", fresh_key())
}

fn stars(count: usize) -> String {
    "*".repeat(count)
}
