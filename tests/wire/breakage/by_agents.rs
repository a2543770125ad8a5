//! Agents that break off or break the rules: the origin's connections stay right for whoever comes next.

use std::sync::Arc;

use super::*;
use crate::support::wire::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, PUSH_PROMISE, RawPeer, SETTINGS, WINDOW_UPDATE, field, frame, go_away, read_frame,
    reset,
};
use crate::support::wire::stage::host;
use crate::support::wire::{Content, PAIRINGS, Stage, Turn, patiently, run};

async fn origin(mut turn: Turn) -> Result<(), Ending> {
    turn.read_all().await?;
    let body = String::from_utf8_lossy(&turn.request.body).into_owned();
    turn.answer(200, &body).await
}

/// How an agent leaves an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    Reset(u32),
    Close,
}

#[test]
fn after_an_agent_left_an_upload_the_next_answers_are_right() {
    run(async {
        let stage = Arc::new(Stage::start(origin).await);
        let mut rows = Vec::new();
        for (agent, to) in PAIRINGS {
            for content in ["length", "pieces"] {
                for leaving in [Leaving::Close, Leaving::Reset(8), Leaving::Reset(0), Leaving::Reset(2)] {
                    if agent == Protocol::H2 || leaving == Leaving::Close {
                        rows.push((format!("{agent:?}, {to:?}, {content}, {leaving:?}"), (agent, to, content, leaving)));
                    }
                }
            }
            right_answers("at first", None, &stage.agent(), host(to, true), agent).await;
        }
        each(rows, |(agent, to, content, leaving)| {
            let stage = stage.clone();
            async move { leaves(&stage, agent, to, content == "length", leaving).await }
        })
        .await;
    });
}

async fn leaves(stage: &Stage, agent: Protocol, to: Protocol, length: bool, leaving: Leaving) {
    let case = format!("agent {agent:?}, origin {to:?}, {leaving:?}");
    let watch = Watch::over(&stage.serve);
    stage.origin(to).forget();
    let line = stage.agent().open(host(to, true), agent).await;
    let content = if length { Content::Length(vec![b'u'; 1000]) } else { Content::Unknown(Vec::new()) };
    let (mut up, _down) = line.begin(&Ask { content, ..Ask::new("POST", "/left") }).await.unwrap();
    up.data(vec![b'u'; 500]).await.unwrap();
    eventually("the request arrives", || !stage.origin(to).seen().is_empty()).await;
    match leaving {
        Leaving::Reset(code) => up.reset(code).await,
        Leaving::Close => line.vanish(),
    }
    let ended = || stage.origin(to).seen().first().is_some_and(|seen| !matches!(seen.ending, Ending::Open));
    eventually(&format!("{case}: the origin learns of it"), ended).await;
    let ending = stage.origin(to).seen()[0].ending;
    assert_ne!(ending, Ending::Whole, "{case}: half an upload must not look whole");
    right_answers(&case, (leaving != Leaving::Close).then_some(&line), &stage.agent(), host(to, true), agent).await;
    line.vanish();
    drop(line);
    watch.settles(&case).await;
}

/// The fields of a request in HPACK.
fn request(method: &[u8], path: &str, more: &[u8]) -> Vec<u8> {
    let authority = host(Protocol::H2, true);
    let text = |index: u8, text: &str| [&[index, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [method, &[0x87], &text(1, authority), &text(4, path), more].concat()
}

const GET: &[u8] = &[0x82];
const POST: &[u8] = &[0x83];

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The request is refused, by an answer, a reset or the connection's end, and never whole at the origin.
    Refused,
    /// It is answered.
    Answered,
}

/// What an agent sends after its settings; its request is for `/bad` on stream 1.
fn rows() -> Vec<(&'static str, Fate, Vec<u8>)> {
    use Fate::{Answered, Refused};
    let both = END_HEADERS | END_STREAM;
    let get = |more: &[u8]| frame(HEADERS, both, 1, &request(GET, "/bad", more));
    let post = |more: &[u8]| frame(HEADERS, END_HEADERS, 1, &request(POST, "/bad", more));
    let data = |body: &[u8]| frame(DATA, END_STREAM, 1, body);
    let bare = |parts: &[&[u8]]| frame(HEADERS, both, 1, &parts.concat());
    vec![
        ("nothing amiss", Answered, get(&[])),
        (
            "padding and priority",
            Answered,
            frame(HEADERS, both | 8 | 32, 1, &[&[2, 0, 0, 0, 0, 9][..], &request(GET, "/bad", &[]), &[0, 0]].concat()),
        ),
        ("a head in fragments", Answered, {
            let head = request(GET, "/bad", &field("x-a", "1"));
            [frame(HEADERS, END_STREAM, 1, &head[..3]), frame(CONTINUATION, END_HEADERS, 1, &head[3..])].concat()
        }),
        ("unknown settings and frames", Answered, [frame(SETTINGS, 0, 0, &[0xf0, 0xf0, 0, 0, 0, 1]), frame(0xee, 3, 0, b"x"), get(&[])].concat()),
        ("a farewell behind the request", Answered, [get(&[]), go_away(0, 0)].concat()),
        ("less than the length", Refused, [post(&field("content-length", "10")), data(b"short")].concat()),
        ("more than the length", Refused, [post(&field("content-length", "3")), data(b"too long")].concat()),
        ("no content where a length is said", Refused, frame(HEADERS, both, 1, &request(POST, "/bad", &field("content-length", "3")))),
        ("two lengths", Refused, [post(&[field("content-length", "3"), field("content-length", "4")].concat()), data(b"abc")].concat()),
        ("a length that is no number", Refused, [post(&field("content-length", "+3")), data(b"abc")].concat()),
        ("a name in upper case", Refused, get(&field("X-A", "1"))),
        ("transfer-encoding", Refused, [post(&field("transfer-encoding", "chunked")), data(b"0\r\n\r\n")].concat()),
        ("connection", Refused, get(&field("connection", "close"))),
        ("a line break in a value", Refused, get(&field("x-a", "1\r\nx-b: 2"))),
        ("a NUL in a value", Refused, get(&field("x-a", "1\x002"))),
        ("a space in a name", Refused, get(&field("x a", "1"))),
        ("a colon in a name", Refused, get(&field("x:a", "1"))),
        ("an empty name", Refused, get(&field("", "1"))),
        ("a space in the path", Refused, frame(HEADERS, both, 1, &request(GET, "/bad HTTP/1.1", &[]))),
        ("a line break in the path", Refused, frame(HEADERS, both, 1, &request(GET, "/bad\r\nx: y", &[]))),
        ("an empty path", Refused, frame(HEADERS, both, 1, &request(GET, "", &[]))),
        ("another authority", Refused, bare(&[GET, &[0x87], &[1, 8], b"evil.com", &[4, 4], b"/bad"])),
        ("another Host beside the authority", Refused, get(&field("host", "evil.com"))),
        ("user information in the authority", Refused, bare(&[GET, &[0x87], &[1, 20], b"a@two.matched.test:1", &[4, 4], b"/bad"])),
        ("no authority and no Host", Refused, bare(&[GET, &[0x87], &[4, 4], b"/bad"])),
        ("no path", Refused, bare(&[GET, &[0x87], &[1, 16], b"two.matched.test"])),
        ("no method", Refused, bare(&[&[0x87], &[1, 16], b"two.matched.test", &[4, 4], b"/bad"])),
        ("two methods", Refused, frame(HEADERS, both, 1, &request(&[0x82, 0x83], "/bad", &[]))),
        ("a status in a request", Refused, get(&[0x88])),
        ("an unknown pseudo-field", Refused, get(&field(":what", "1"))),
        ("a pseudo-field behind a field", Refused, bare(&[&field("x-a", "1"), &request(GET, "/bad", &[])])),
        ("CONNECT", Refused, bare(&[&field(":method", "CONNECT"), &[1, 16], b"two.matched.test"])),
        ("TRACE", Refused, frame(HEADERS, both, 1, &request(&field(":method", "TRACE"), "/bad", &[]))),
        ("a head that is no HPACK", Refused, frame(HEADERS, both, 1, &[0x80])),
        ("DATA on the connection", Refused, [post(&[]), frame(DATA, 0, 0, b"x")].concat()),
        ("DATA on a stream that nobody opened", Refused, [post(&[]), frame(DATA, 0, 7, b"x")].concat()),
        ("a stream of an even number", Refused, frame(HEADERS, both, 2, &request(GET, "/bad", &[]))),
        ("a promise", Refused, [post(&[]), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])].concat()),
        ("a frame that is too large", Refused, [post(&[]), frame(DATA, 0, 1, &[0; 70_000])].concat()),
        ("a window of more than the most", Refused, [post(&[]), frame(WINDOW_UPDATE, 0, 0, &i32::MAX.to_be_bytes())].concat()),
        ("a window update of nothing", Refused, [post(&[]), frame(WINDOW_UPDATE, 0, 0, &[0; 4])].concat()),
        ("SETTINGS of half a setting", Refused, [post(&[]), frame(SETTINGS, 0, 0, &[0; 5])].concat()),
        ("CONTINUATION of nothing", Refused, [post(&[]), frame(CONTINUATION, END_HEADERS, 1, &[])].concat()),
        ("a head that is interrupted", Refused, [frame(HEADERS, 0, 1, &request(GET, "/bad", &[])), frame(DATA, 0, 1, b"x")].concat()),
        ("a reset of a stream that nobody opened", Refused, [post(&[]), reset(9, 8)].concat()),
        ("trailers without an end", Refused, [post(&[]), frame(DATA, 0, 1, b"x"), frame(HEADERS, END_HEADERS, 1, &field("x-a", "1"))].concat()),
        // `h2` takes it off without a word; it must not harm, that is all.
        ("a pseudo-field in trailers", Answered, [post(&[]), frame(DATA, 0, 1, b"x"), frame(HEADERS, both, 1, &field(":path", "/"))].concat()),
    ]
}

async fn sends(stage: &Stage, to: Protocol, name: &str, fate: Fate, bytes: &[u8]) {
    let case = format!("origin {to:?}, {name}");
    let watch = Watch::over(&stage.serve);
    let origin = stage.origin(to);
    origin.forget();
    let (io, socket) = stage.agent().stream(host(to, true), &[Protocol::H2]).await.unwrap();
    let mut peer = RawPeer { io, socket };
    // Both hosts' names are of one length, so that one table serves both.
    let name_of = |text: &[u8]| {
        let (from, to) = (host(Protocol::H2, true).as_bytes(), host(to, true).as_bytes());
        assert_eq!(from.len(), to.len());
        let mut out = text.to_vec();
        while let Some(at) = memchr::memmem::find(&out, from).filter(|_| from != to) {
            out[at..at + to.len()].copy_from_slice(to);
        }
        out
    };
    // The other end may hang up before it has read all.
    let _ = peer.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &name_of(bytes)].concat()).await;
    // Until the stream is over, or the connection is.
    let over = async {
        loop {
            let Ok(found) = read_frame(&mut peer.io).await else { return "the end" };
            match (found.kind, found.flags & END_STREAM) {
                (HEADERS | DATA, END_STREAM) => return "an answer",
                (3, _) => return "a reset",
                (7, _) if found.payload[4..8] != [0; 4] => return "a farewell with an error",
                _ => {}
            }
        }
    };
    let how = patiently(&case, over).await;
    peer.socket.cut();
    drop(peer);
    let arrived = || origin.seen().iter().any(|seen| seen.target == "/bad" && seen.ending == Ending::Whole);
    if fate == Fate::Answered {
        assert!(arrived() && how == "an answer", "{case}: {how}");
    }
    right_answers(&case, None, &stage.agent(), host(to, true), Protocol::H2).await;
    right_answers(&case, None, &stage.agent(), host(to, true), Protocol::H1).await;
    if fate == Fate::Refused {
        assert!(!arrived(), "{case}: it must not arrive whole ({how}): {:?}", origin.seen().first());
    }
    assert!(origin.seen().iter().all(|seen| seen.target == "/bad" || seen.target == "/echo"), "{case}: {:?}", origin.seen());
    watch.settles(&case).await;
}

#[test]
fn agents_that_break_the_rules_of_http2_reach_no_origin_and_harm_nobody() {
    run(async {
        let stage = Arc::new(Stage::start(origin).await);
        for to in Protocol::BOTH {
            for agent in Protocol::BOTH {
                right_answers("at first", None, &stage.agent(), host(to, true), agent).await;
            }
            each(rows().into_iter().map(|(name, fate, bytes)| (format!("{to:?}, {name}"), (name, fate, bytes))), |(name, fate, bytes)| {
                let stage = stage.clone();
                async move { sends(&stage, to, name, fate, &bytes).await }
            })
            .await;
        }
    });
}
