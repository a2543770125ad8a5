//! What an agent may learn by watching: where frames end, how much is held, and how long it takes, for a right beginning of the key and
//! for one whose last letter is wrong. It chooses all other bytes of the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::super::audited;
use super::super::case::cases;
use super::coded::gzip;
use super::{Protocol, Stage, is_well};
use crate::support::fresh_key;
use crate::support::wire::stage::{add, host};
use crate::support::wire::{Ask, Ending, Head, Offer, PAIRINGS, fields, patiently, run, values};

/// How a body that holds the guess comes: its type and coding, its pieces, and how many bytes of all so far must have come to the agent
/// after each, for a key of that length.
struct Body {
    kind: &'static str,
    coding: &'static str,
    pieces: Vec<Vec<u8>>,
    out: Vec<usize>,
}

type Shape = fn(&str, usize) -> Body;

/// What is held of text: the longest form of the key (each of its bytes in hexadecimal, each digit escaped), less one.
fn held(key: usize) -> usize {
    key * 2 * 6 - 1
}

/// Text without a line end.
fn text(guess: &str, key: usize) -> Body {
    let pad = |count: usize| ".".repeat(count);
    let pieces = [format!("{}{guess}", pad(held(key))), pad(7), format!("{guess}{}", pad(5)), pad(3000), format!("{guess}{guess}")];
    let pieces: Vec<_> = pieces.map(String::into_bytes).into();
    let sums = sums(&pieces);
    Body { kind: "text/plain", coding: "identity", out: sums.iter().map(|sum| sum.saturating_sub(held(key))).collect(), pieces }
}

/// Lines: they go when they are whole, whatever is in them.
fn lines(guess: &str, _: usize) -> Body {
    let pieces: Vec<_> = [format!("{guess}\n"), format!("a{guess}\r\n"), format!("{guess} {guess}\n")].map(String::into_bytes).into();
    Body { kind: "text/plain", coding: "identity", out: sums(&pieces), pieces }
}

fn events(guess: &str, _: usize) -> Body {
    let pieces: Vec<_> = [format!("data: {guess}\n\n"), format!("data: a\ndata: {guess}\n\n: {guess}\n\n")].map(String::into_bytes).into();
    Body { kind: "text/event-stream", coding: "identity", out: sums(&pieces), pieces }
}

/// The same compressed, but so that the length does not depend on the text.
fn compressed_events(guess: &str, key: usize) -> Body {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::none());
    let mut pieces = Vec::new();
    for piece in events(guess, key).pieces {
        encoder.write_all(&piece).unwrap();
        encoder.flush().unwrap();
        pieces.push(std::mem::take(encoder.get_mut()));
    }
    let end = encoder.finish().unwrap();
    pieces.last_mut().unwrap().extend(end);
    Body { kind: "text/event-stream", coding: "gzip", out: sums(&pieces), pieces }
}

fn sums(pieces: &[Vec<u8>]) -> Vec<usize> {
    pieces
        .iter()
        .scan(0, |sum, piece| {
            *sum += piece.len();
            Some(*sum)
        })
        .collect()
}

/// The key up to this length, and the same with its last letter wrong.
fn guesses(key: &str, length: usize) -> [String; 2] {
    let right = key[..length].to_owned();
    let last = if right.ends_with('q') { 'z' } else { 'q' };
    [right.clone(), format!("{}{last}", &right[..length - 1])]
}

cases! { frames_are_the_same {
    of_text: text,
    of_lines: lines,
    of_events: events,
    of_compressed_events: compressed_events,
} }

/// The stage: `/N-W` answers with the guess of length N, right or wrong; each piece waits for the gate.
async fn stage(shape: Shape) -> (Stage, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let (own, key) = (gate.clone(), fresh_key());
    let known = key.clone();
    let stage = Stage::dressed(
        Offer::of(Protocol::H2),
        "",
        move |home| add(home, &[], &key),
        move |mut turn| {
            let (gate, key) = (own.clone(), known.clone());
            async move {
                turn.read_all().await?;
                let Some((length, which)) =
                    turn.request.target[1..].split_once('-').and_then(|(l, w)| Some((l.parse().ok()?, w.parse::<usize>().ok()?)))
                else {
                    return turn.answer(200, "well").await;
                };
                let body = shape(&guesses(&key, length)[which], key.len());
                let fields = fields(&[("content-type", body.kind), ("content-encoding", body.coding)]);
                turn.head(&Head { status: 200, reason: "OK".to_owned(), fields }, false).await?;
                for piece in body.pieces {
                    gate.acquire().await.unwrap().forget();
                    turn.data(piece).await?;
                }
                gate.acquire().await.unwrap().forget();
                turn.finish(None).await
            }
        },
    )
    .await;
    (stage, gate)
}

/// The sizes of the frames that came after each piece, and how long each took to come.
async fn watch(
    stage: &Stage,
    gate: &Semaphore,
    shape: Shape,
    pairing: (Protocol, Protocol),
    length: usize,
    which: usize,
) -> (Vec<Vec<usize>>, Duration) {
    let body = shape(&guesses(&stage.key, length)[which], stage.key.len());
    let line = stage.agent().open(host(pairing.1, true), pairing.0).await;
    let (mut up, mut down) = line.begin(&Ask::get(&format!("/{length}-{which}"))).await.unwrap();
    up.finish(None).await.unwrap();
    let (mut frames, mut sum, mut took) = (Vec::new(), 0, Duration::ZERO);
    let mut begun = false;
    for out in body.out {
        let start = Instant::now();
        gate.add_permits(1);
        let mut came = Vec::new();
        if !begun && (body.coding == "identity" || out > 0) {
            let head = patiently("a head", down.head()).await.unwrap();
            assert_eq!(head.status, 200);
            begun = true;
        }
        while sum < out {
            let piece = patiently("what must come", down.piece()).await.unwrap().expect("more");
            sum += piece.len();
            came.push(piece.len());
        }
        took += start.elapsed();
        assert_eq!(sum, out, "no more than that");
        frames.push(came);
    }
    gate.add_permits(1);
    let mut rest = Vec::new();
    while let Some(piece) = patiently("the end", down.piece()).await.unwrap_or_else(|ending: Ending| panic!("{ending:?}")) {
        rest.push(piece.len());
    }
    frames.push(rest);
    (frames, took)
}

/// Of every length: the right beginning and the wrong one come in the same frames.
fn frames_are_the_same(shape: Shape) {
    run(async {
        let (stage, gate) = stage(shape).await;
        for (n, pairing) in PAIRINGS.into_iter().enumerate() {
            // Every length, but each by another pairing, and the telling ones by all.
            let telling = |length: &usize| [1, 3, 15, 16, stage.key.len() - 1].contains(length);
            for length in (1..stage.key.len()).filter(|length| length % 4 == n || telling(length)) {
                let right = watch(&stage, &gate, shape, pairing, length, 0).await.0;
                let wrong = watch(&stage, &gate, shape, pairing, length, 1).await.0;
                assert_eq!(right, wrong, "{pairing:?}: {length}");
            }
        }
        is_well_here(&stage).await;
    });
}

/// By turns, many times: the medians differ by no more than noise. A held frame would wait for half a second.
#[test]
fn times_are_the_same() {
    run(async {
        for shape in [text as Shape, events] {
            let (stage, gate) = stage(shape).await;
            for length in [16, stage.key.len() - 1] {
                let mut took = [Vec::new(), Vec::new()];
                for _ in 0..15 {
                    for which in [0, 1] {
                        took[which].push(watch(&stage, &gate, shape, PAIRINGS[0], length, which).await.1);
                    }
                }
                let [right, wrong] = took.map(|mut all| {
                    all.sort();
                    all[all.len() / 2]
                });
                let close = |a: Duration, b: Duration| a <= 3 * b + Duration::from_millis(60);
                assert!(close(right, wrong) && close(wrong, right), "{length}: {right:?} and {wrong:?}");
            }
            is_well_here(&stage).await;
        }
    });
}

/// The head of a coded answer waits for the first of its body, but no longer than a pause; what comes after that is cut at a hit.
#[test]
fn the_head_of_a_coded_answer_waits_no_longer_than_a_pause() {
    run(async {
        let gate = Arc::new(Semaphore::new(0));
        let own = gate.clone();
        let stage = Stage::start(move |mut turn| {
            let gate = own.clone();
            async move {
                turn.read_all().await?;
                if turn.request.target == "/after" {
                    return turn.answer(200, "well").await;
                }
                let key = turn.request.value("authorization").unwrap_or_default();
                let fields = fields(&[("content-encoding", "gzip")]);
                turn.head(&Head { status: 200, reason: "OK".to_owned(), fields }, false).await?;
                // Until the agent has the head.
                gate.acquire().await.unwrap().forget();
                turn.data(gzip(&[key.as_bytes()])).await?;
                turn.finish(None).await
            }
        })
        .await;
        for (agent, origin) in PAIRINGS {
            let line = stage.agent().open(host(origin, true), agent).await;
            let target = format!("/{agent:?}-{origin:?}");
            let (mut up, mut down) = line.begin(&Ask::get(&target)).await.unwrap();
            up.finish(None).await.unwrap();
            let head = patiently("a head", down.head()).await.unwrap();
            assert_eq!((head.status, values(&head.fields, "content-encoding")), (200, vec![&b"gzip"[..]]));
            gate.add_permits(1);
            let end = patiently("its end", down.piece()).await;
            assert!(matches!(end, Err(Ending::Cut | Ending::Reset(_))), "{end:?}");
            let record = audited(&stage.home, &[&format!("\"path\":\"{target}\"")]).remove(0);
            assert_eq!((record["decision"].as_str(), record["reason"].as_str()), (Some("failed"), Some("scrubbed")), "{record}");
            assert_eq!(stage.origin(origin).seen_with("authorization", &stage.bearer()).len(), stage.origin(origin).seen().len());
        }
        is_well(&stage).await;
    });
}

async fn is_well_here(stage: &Stage) {
    is_well(stage).await;
    let audit = std::fs::read_to_string(stage.home.path().join("audit.jsonl")).unwrap();
    assert!(!audit.contains("\"reason\":\"scrubbed\""), "no guess was the key");
}
