//! Origins that break the rules of HTTP/2, frame by frame.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::support::Home;
use crate::support::wire::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PUSH_PROMISE, RawOrigin, RawServer, SETTINGS, STATUS_200, WINDOW_UPDATE, answer, field,
    frame, go_away, reset,
};
use crate::support::wire::run;
use crate::support::wire::stage::{agent, serve};

/// What the agent must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// No whole answer.
    Failure,
    /// The request was not processed, so it went again: `retried`.
    Retried,
    /// A whole answer of the first connection: `good`.
    Good,
}

struct Row {
    name: &'static str,
    /// The bytes that answer a request on this stream.
    bytes: fn(u32) -> Vec<u8>,
    /// Whether the TCP connection ends after them.
    cut: bool,
    seen: Seen,
}

fn row(name: &'static str, cut: bool, seen: Seen, bytes: fn(u32) -> Vec<u8>) -> Row {
    Row { name, bytes, cut, seen }
}

fn head(stream: u32, flags: u8, more: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags, stream, &[STATUS_200, more].concat())
}

fn rows() -> Vec<Row> {
    use Seen::{Failure, Good, Retried};
    vec![
        row("GOAWAY below the request", false, Retried, |s| go_away(s - 2, 0)),
        row("GOAWAY below the request, and the end", true, Retried, |s| go_away(s - 2, 0)),
        row("GOAWAY below the request with ENHANCE_YOUR_CALM", true, Retried, |s| go_away(s - 2, 11)),
        row("GOAWAY above, then the answer", false, Good, |s| [go_away(s, 0), answer(s, "good")].concat()),
        row("GOAWAY twice, then the answer", false, Good, |s| [go_away(i32::MAX.cast_unsigned(), 0), go_away(s, 0), answer(s, "good")].concat()),
        row("GOAWAY above, and the end", true, Failure, |s| go_away(s, 0)),
        row("REFUSED_STREAM", false, Retried, |s| reset(s, 7)),
        row("the end without a word", true, Failure, |_| Vec::new()),
        row("a frame cut in two", true, Failure, |s| head(s, END_HEADERS, &[])[..7].to_vec()),
        row("an answer, then NO_ERROR", false, Good, |s| [answer(s, "good"), reset(s, 0)].concat()),
        row("an unknown frame, then the answer", false, Good, |s| [frame(0xbe, 0xff, s, b"what"), answer(s, "good")].concat()),
        row("padding", false, Good, |s| [head(s, END_HEADERS, &[]), frame(DATA, 8 | END_STREAM, s, b"\x03good\0\0\0")].concat()),
        row("a head in fragments", false, Good, |s| {
            let rest = field("x-a", "1");
            let head = frame(HEADERS, 0, s, STATUS_200);
            [head, frame(CONTINUATION, 0, s, &rest[..2]), frame(CONTINUATION, END_HEADERS, s, &rest[2..]), frame(DATA, 1, s, b"good")].concat()
        }),
        row("DATA before the head", false, Failure, |s| frame(DATA, END_STREAM, s, b"bad")),
        row("DATA on the connection", false, Failure, |_| frame(DATA, 0, 0, b"bad")),
        row("DATA on a stream that nobody opened", false, Failure, |s| frame(DATA, 0, s + 100, b"bad")),
        row("DATA after the end", false, Good, |s| [answer(s, "good"), frame(DATA, END_STREAM, s, b"bad")].concat()),
        row("a head that is no HPACK", false, Failure, |s| frame(HEADERS, END_HEADERS | END_STREAM, s, &[0x80])),
        row("a head without a status", false, Failure, |s| frame(HEADERS, END_HEADERS | END_STREAM, s, &field("x-a", "1"))),
        row("a name in upper case", false, Failure, |s| head(s, END_HEADERS | END_STREAM, &field("X-A", "1"))),
        row("a field of the connection", false, Failure, |s| head(s, END_HEADERS | END_STREAM, &field("transfer-encoding", "chunked"))),
        row("a frame that is too large", false, Failure, |s| [head(s, END_HEADERS, &[]), frame(DATA, 0, s, &[0; 70_000])].concat()),
        row("less than the length", false, Failure, |s| {
            [head(s, END_HEADERS, &field("content-length", "10")), frame(DATA, END_STREAM, s, b"short")].concat()
        }),
        row("more than the length", false, Failure, |s| {
            [head(s, END_HEADERS, &field("content-length", "3")), frame(DATA, END_STREAM, s, b"too long")].concat()
        }),
        row("no content where a length is said", false, Failure, |s| head(s, END_HEADERS | END_STREAM, &field("content-length", "3"))),
        row("a second head without an end", false, Failure, |s| {
            [head(s, END_HEADERS, &[]), frame(DATA, 0, s, b"x"), head(s, END_HEADERS, &[])].concat()
        }),
        row("a window of more than the most", false, Failure, |_| frame(WINDOW_UPDATE, 0, 0, &i32::MAX.to_be_bytes())),
        row("a window update of nothing", false, Failure, |_| frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        row("a window that is no number", false, Failure, |_| frame(WINDOW_UPDATE, 0, 0, &[0; 3])),
        row("SETTINGS of half a setting", false, Failure, |_| frame(SETTINGS, 0, 0, &[0; 5])),
        row("SETTINGS with a window too large", false, Failure, |_| frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        row("CONTINUATION of nothing", false, Failure, |s| frame(CONTINUATION, END_HEADERS, s, &[])),
        row("a head that is interrupted", false, Failure, |s| [frame(HEADERS, 0, s, STATUS_200), frame(DATA, 0, s, b"x")].concat()),
        row("a promise", false, Failure, |s| frame(PUSH_PROMISE, END_HEADERS, s, &[&[0, 0, 0, 2][..], STATUS_200].concat())),
        row("HTTP/1.1", true, Failure, |_| b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec()),
    ]
}

/// On the first connection after the warm one, the row's bytes; else every request is echoed as `good`, or `retried` after the breakage.
async fn play(mut peer: RawServer, row: Arc<Row>, broken: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut body = Vec::new();
    let mut breaks = false;
    loop {
        let found = peer.next().await?;
        if found.kind == HEADERS {
            breaks = body.is_empty() && found.payload.len() > MARK;
        } else if found.kind == DATA {
            body.extend_from_slice(&found.payload);
        }
        if !matches!(found.kind, HEADERS | DATA) || found.flags & END_STREAM == 0 {
            continue;
        }
        let text = String::from_utf8(std::mem::take(&mut body)).unwrap();
        if breaks && !broken.swap(true, SeqCst) {
            peer.send(&(row.bytes)(found.stream)).await?;
            if row.cut {
                // Nothing of what was sent may be lost with the connection.
                tokio::io::AsyncWriteExt::shutdown(&mut peer.io).await?;
                return Ok(());
            }
        } else {
            peer.send(&answer(found.stream, if breaks { "retried" } else { &text })).await?;
        }
    }
}

/// A request to be broken has a head longer than this, in bytes of HPACK.
const MARK: usize = 2000;

fn marked() -> Ask {
    // No character is coded in less than five bits, and no table holds a field of that length.
    Ask::post("/", "x").with("x-mark", "m".repeat(8000))
}

/// A proxy with a host for each row.
struct Rows {
    agent: WireAgent,
    serve: Serve,
    origins: Vec<RawOrigin>,
    _home: Home,
}

fn host(number: usize) -> String {
    format!("row{number}.matched.test")
}

async fn breaks(all: &Rows, number: usize, row: &Row, protocol: Protocol) {
    let case = format!("agent {protocol:?}, {}", row.name);
    let host = host(number);
    let watch = Watch::over(&all.serve);
    let line = all.agent.open(&host, protocol).await;
    line.ask(&Ask::post("/echo", "before")).await.expect(200, "before");
    let answer = line.ask(&marked()).await;
    let got = (answer.status, answer.text(), answer.ending);
    match row.seen {
        Seen::Failure => expect_failure(&case, &answer),
        Seen::Retried => assert_eq!(got, (200, "retried".to_owned(), Ending::Whole), "{case}"),
        Seen::Good => assert_eq!(got, (200, "good".to_owned(), Ending::Whole), "{case}"),
    }
    right_answers(&case, (protocol == Protocol::H2).then_some(&line), &all.agent, &host, protocol).await;
    // One broken connection, and one more at most.
    assert!(all.origins[number].accepted() <= 2, "{case}: {} connections", all.origins[number].accepted());
    line.vanish();
    drop(line);
    watch.settles(&case).await;
}

fn all(protocol: Protocol) {
    run(async {
        let rows = rows().into_iter().map(Arc::new).collect::<Vec<_>>();
        let mut origins = Vec::new();
        for row in &rows {
            let (row, broken) = (row.clone(), Arc::<AtomicBool>::default());
            origins.push(RawOrigin::start(&["*.matched.test"], move |peer| play(peer, row.clone(), broken.clone())).await);
        }
        let hosts = origins.iter().enumerate().map(|(number, origin)| (host(number), origin.address)).collect::<Vec<_>>();
        let (home, serve, _key) = serve(&hosts, "");
        let all = Arc::new(Rows { agent: agent(&home, &serve), serve, origins, _home: home });
        each(rows.iter().enumerate().map(|(number, row)| (format!("{protocol:?}, {}", row.name), (number, row.clone()))), |(number, row)| {
            let all = all.clone();
            async move { breaks(&all, number, &row, protocol).await }
        })
        .await;
    });
}

#[test]
fn frames_that_break_the_rules_leave_right_answers_after_them_for_agents_over_h1() {
    all(Protocol::H1);
}

#[test]
fn frames_that_break_the_rules_leave_right_answers_after_them_for_agents_over_h2() {
    all(Protocol::H2);
}
