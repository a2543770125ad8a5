//! The corpus: each shape of a request and its answer is sent directly and through every pairing, and arrives the same.

mod answers;
mod picture;
mod requests;
mod shape;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::wire::stage::host;
use crate::support::wire::{Answer, Ask, Content, Ending, Line, Protocol, Seen, Stage, Turn, WireAgent, patiently, run, values};
use picture::{Message, differences, of_answer, of_request};
use shape::Shape;

static SHAPES: LazyLock<Vec<Shape>> =
    LazyLock::new(|| [requests::heads(), requests::bodies(), answers::heads(), answers::bodies()].into_iter().flatten().collect());

/// The origin of all tests here: the request says which shape it is.
async fn play(mut turn: Turn) -> Result<(), Ending> {
    let number: usize = turn.request.value("x-shape").and_then(|v| v.parse().ok()).ok_or(Ending::Cut)?;
    SHAPES[number].play(&mut turn).await
}

/// Sends every shape over connections of one kind.
struct Sender<'a> {
    agent: WireAgent,
    protocol: Protocol,
    stage: &'a Stage,
    origin: Protocol,
    host: &'static str,
    line: Option<Line>,
}

impl<'a> Sender<'a> {
    fn new(stage: &'a Stage, agent: WireAgent, protocol: Protocol, origin: Protocol, matched: bool) -> Self {
        Self { agent, protocol, stage, origin, host: host(origin, matched), line: None }
    }

    /// One exchange: what the origin saw, what came back. Connections are used again while they can be.
    async fn send(&mut self, number: usize) -> (Option<Seen>, Answer) {
        static RUN: AtomicUsize = AtomicUsize::new(0);
        let shape = &SHAPES[number];
        let run = RUN.fetch_add(1, Ordering::SeqCst).to_string();
        let ask = shape.ask.clone().with("x-shape", number.to_string()).with("x-run", &run);
        let line = match self.line.take() {
            Some(line) => line,
            None => self.agent.open(self.host, self.protocol).await,
        };
        let answer = if shape.gated { patiently(shape.name, gated(&line, &ask)).await } else { line.ask(&ask).await };
        let closes = values(&answer.fields, "connection").iter().any(|v| v.eq_ignore_ascii_case(b"close"));
        let unsent = ask.expects() && !answer.interim.iter().any(|head| head.status == 100);
        if answer.ending == Ending::Whole && (self.protocol == Protocol::H2 || !closes && !unsent) {
            self.line = Some(line);
        }
        let origin = self.stage.origin(self.origin);
        // The answer may be here before the record of the request's end.
        let pending = || !unsent && origin.seen_with("x-run", &run).first().is_some_and(|seen| seen.ending == Ending::Open);
        let start = std::time::Instant::now();
        while pending() && start.elapsed() < std::time::Duration::from_secs(2) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        let mut seen = origin.seen_with("x-run", &run);
        assert!(seen.len() < 2, "{}: sent once, arrived {} times", shape.name, seen.len());
        (seen.pop(), answer)
    }
}

/// Sends the first thousand bytes of the body, waits for the answer's head, and sends the rest.
async fn gated(line: &Line, ask: &Ask) -> Answer {
    let body = match &ask.content {
        Content::Length(body) => body.clone(),
        Content::Unknown(pieces) => pieces.concat(),
        Content::None => panic!("a body to send"),
    };
    let mut answer =
        Answer { interim: Vec::new(), status: 0, reason: String::new(), fields: Vec::new(), body: Vec::new(), trailers: None, ending: Ending::Open };
    let ended: Result<(), Ending> = async {
        let (mut up, mut down) = line.begin(ask).await?;
        up.data(body[..1000].to_vec()).await?;
        let head = down.head().await?;
        (answer.status, answer.reason, answer.fields) = (head.status, head.reason, head.fields);
        up.data(body[1000..].to_vec()).await?;
        up.finish(None).await?;
        while let Some(piece) = down.piece().await? {
            answer.body.extend_from_slice(&piece);
        }
        answer.trailers = down.trailers();
        Ok(())
    }
    .await;
    answer.ending = ended.err().unwrap_or(Ending::Whole);
    answer
}

/// Sends all shapes both ways and lists what differs.
async fn compare(stage: &Stage, agent: Protocol, origin: Protocol, matched: bool) -> Vec<String> {
    let mut through = Sender::new(stage, stage.agent(), agent, origin, matched);
    let mut by_origin = Sender::new(stage, stage.direct(origin), origin, origin, matched);
    let mut by_agent = Sender::new(stage, stage.direct(agent), agent, agent, matched);
    let mut failures = Vec::new();
    for (number, shape) in SHAPES.iter().enumerate() {
        let (wanted_seen, same_answer) = by_origin.send(number).await;
        let wanted_answer = if agent == origin { same_answer } else { by_agent.send(number).await.1 };
        let (seen, answer) = through.send(number).await;
        let mut found = differences(Message::Answer, shape, agent, origin, &of_answer(&wanted_answer), &of_answer(&answer));
        match (wanted_seen, seen) {
            (Some(wanted), Some(seen)) => {
                found.extend(differences(Message::Request, shape, agent, origin, &of_request(&wanted), &of_request(&seen)));
                let credential = if matched { vec![stage.bearer().into_bytes()] } else { Vec::new() };
                if values(&seen.fields, "authorization") != credential {
                    found.push("the credential is not as it should be".to_owned());
                }
            }
            (_, None) => found.push("nothing arrived".to_owned()),
            (None, _) => found.push("nothing arrived directly".to_owned()),
        }
        failures.extend(found.into_iter().map(|f| format!("{}: {f}", shape.name)));
    }
    failures
}

fn arrives_the_same(agent: Protocol, origin: Protocol, matched: bool) {
    run(async {
        let stage = Stage::start(play).await;
        let failures = compare(&stage, agent, origin, matched).await;
        let first = failures.iter().take(60).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(failures.is_empty(), "{} differences, agent {agent:?}, origin {origin:?}:\n{first}", failures.len());
    });
}

#[test]
fn the_corpus_has_enough_shapes_and_each_a_name_of_its_own() {
    let names = SHAPES.iter().map(|shape| shape.name).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(names.len(), SHAPES.len());
    assert!(names.len() >= 60, "{}", names.len());
}

#[test]
fn the_corpus_arrives_the_same_from_h1_to_h1() {
    arrives_the_same(Protocol::H1, Protocol::H1, true);
}

#[test]
fn the_corpus_arrives_the_same_from_h1_to_h2() {
    arrives_the_same(Protocol::H1, Protocol::H2, true);
}

#[test]
fn the_corpus_arrives_the_same_from_h2_to_h1() {
    arrives_the_same(Protocol::H2, Protocol::H1, true);
}

#[test]
fn the_corpus_arrives_the_same_from_h2_to_h2() {
    arrives_the_same(Protocol::H2, Protocol::H2, true);
}

#[test]
fn the_corpus_arrives_the_same_in_blind_tunnels() {
    arrives_the_same(Protocol::H1, Protocol::H1, false);
    arrives_the_same(Protocol::H2, Protocol::H2, false);
}

/// What tells that the comparison can fail: an origin that changes one thing is found out.
#[test]
fn a_difference_is_seen() {
    run(async {
        let stage = Stage::start(play).await;
        let mut sender = Sender::new(&stage, stage.direct(Protocol::H1), Protocol::H1, Protocol::H1, true);
        let (seen, answer) = sender.send(0).await;
        let (mut other_seen, mut other_answer) = (seen.clone().unwrap(), answer.clone());
        other_seen.fields.push(("x-new".to_owned(), b"1".to_vec()));
        other_answer.trailers = Some(vec![("x-new".to_owned(), b"1".to_vec())]);
        let of = |message, wanted: &_, got: &_| differences(message, &SHAPES[0], Protocol::H1, Protocol::H1, wanted, got).len();
        assert_eq!(of(Message::Request, &of_request(&seen.unwrap()), &of_request(&other_seen)), 1);
        assert_eq!(of(Message::Answer, &of_answer(&answer), &of_answer(&other_answer)), 1);
    });
}
