//! Answers over HTTP/2 that HTTP/1.1 must not hear, and the same for agents over HTTP/2.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::cases;
use crate::hostile::framed::block;
use crate::support::wire::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, PUSH_PROMISE, RawOrigin, RawServer, answer, frame};
use crate::support::wire::stage::{agent, serve};
use crate::support::wire::{Ask, Ending, Protocol, patiently, run};
use crate::support::{Serve, holds};

const HOST: &str = "origin.matched.test";

/// What makes a head of an answer and what follows it.
type Bytes = fn(u32) -> Vec<u8>;

fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(fields))
}

cases! { is_no_answer {
    answer_without_a_status: |s| head(s, END_STREAM, &[("x-a", "1")]),
    answer_with_two_statuses: |s| head(s, END_STREAM, &[(":status", "200"), (":status", "204")]),
    answer_with_a_status_of_two_digits: |s| head(s, END_STREAM, &[(":status", "20")]),
    answer_with_a_status_that_is_no_number: |s| head(s, END_STREAM, &[(":status", "2x0")]),
    answer_with_a_status_and_a_reason: |s| head(s, END_STREAM, &[(":status", "200 OK")]),
    answer_with_a_status_with_a_line_break: |s| head(s, END_STREAM, &[(":status", "200\r\n")]),
    answer_that_switches_protocols: |s| head(s, 0, &[(":status", "101")]),
    answer_with_an_unknown_pseudo_field: |s| head(s, END_STREAM, &[(":status", "200"), (":what", "1")]),
    answer_with_a_pseudo_field_behind_a_field: |s| head(s, END_STREAM, &[("x-a", "1"), (":status", "200")]),
    answer_with_a_line_break_in_a_value: |s| head(s, END_STREAM, &[(":status", "200"), ("x-a", "1\r\n\r\nHTTP/1.1 200 OK\r\n\r\nsmuggled")]),
    answer_with_a_bare_lf_in_a_value: |s| head(s, END_STREAM, &[(":status", "200"), ("x-a", "1\nx-b: 2")]),
    answer_with_a_nul_in_a_value: |s| head(s, END_STREAM, &[(":status", "200"), ("x-a", "1\x002")]),
    answer_with_a_line_break_in_a_name: |s| head(s, END_STREAM, &[(":status", "200"), ("x-a: 1\r\nx-b", "2")]),
    answer_with_a_space_in_a_name: |s| head(s, END_STREAM, &[(":status", "200"), ("x a", "1")]),
    answer_with_a_colon_in_a_name: |s| head(s, END_STREAM, &[(":status", "200"), ("x:a", "1")]),
    answer_with_an_empty_name: |s| head(s, END_STREAM, &[(":status", "200"), ("", "1")]),
    answer_with_a_name_in_upper_case: |s| head(s, END_STREAM, &[(":status", "200"), ("X-A", "1")]),
    answer_with_connection: |s| head(s, END_STREAM, &[(":status", "200"), ("connection", "close")]),
    answer_with_keep_alive: |s| head(s, END_STREAM, &[(":status", "200"), ("keep-alive", "timeout=5")]),
    answer_with_proxy_connection: |s| head(s, END_STREAM, &[(":status", "200"), ("proxy-connection", "close")]),
    answer_with_transfer_encoding: |s| [head(s, 0, &[(":status", "200"), ("transfer-encoding", "chunked")]), frame(DATA, END_STREAM, s, b"0\r\n\r\n")].concat(),
    answer_with_upgrade: |s| head(s, END_STREAM, &[(":status", "200"), ("upgrade", "h2c")]),
    answer_with_two_lengths: |s| [head(s, 0, &[(":status", "200"), ("content-length", "3"), ("content-length", "4")]), frame(DATA, END_STREAM, s, b"bad")].concat(),
    answer_with_two_equal_lengths: |s| [head(s, 0, &[(":status", "200"), ("content-length", "3"), ("content-length", "3")]), frame(DATA, END_STREAM, s, b"bad")].concat(),
    answer_with_a_signed_length: |s| [head(s, 0, &[(":status", "200"), ("content-length", "+3")]), frame(DATA, END_STREAM, s, b"bad")].concat(),
    answer_with_less_content_than_its_length: |s| [head(s, 0, &[(":status", "200"), ("content-length", "10")]), frame(DATA, END_STREAM, s, b"short")].concat(),
    answer_with_more_content_than_its_length: |s| {
        [head(s, 0, &[(":status", "200"), ("content-length", "3")]), frame(DATA, END_STREAM, s, b"badHTTP/1.1 200 OK\r\n\r\nsmuggled")].concat()
    },
    answer_without_the_content_of_its_length: |s| head(s, END_STREAM, &[(":status", "200"), ("content-length", "3")]),
    answer_of_content_alone: |s| frame(DATA, END_STREAM, s, b"bad"),
    answer_with_trailers_without_an_end: |s| [head(s, 0, &[(":status", "200")]), frame(DATA, 0, s, b"x"), head(s, 0, &[("x-a", "1")])].concat(),
    answer_with_trailers_in_upper_case: |s| [head(s, 0, &[(":status", "200")]), frame(DATA, 0, s, b"x"), head(s, END_STREAM, &[("X-A", "1")])].concat(),
    answer_with_trailers_with_a_line_break: |s| {
        [head(s, 0, &[(":status", "200")]), frame(DATA, 0, s, b"x"), head(s, END_STREAM, &[("x-a", "1\r\n\r\nHTTP/1.1 200 OK")])].concat()
    },
    answer_with_a_promise: |s| frame(PUSH_PROMISE, END_HEADERS, s, &[&[0, 0, 0, 2][..], &block(&[(":status", "200")])].concat()),
    answer_with_more_fields_than_there_may_be: |s| {
        let fields: Vec<(String, &str)> = (0..500).map(|n| (format!("x-{n}"), "1")).collect();
        let fields: Vec<(&str, &str)> = [(":status", "200")].into_iter().chain(fields.iter().map(|(n, v)| (n.as_str(), *v))).collect();
        head(s, END_STREAM, &fields)
    },
    answer_that_ends_in_an_interim_one: |s| head(s, END_STREAM, &[(":status", "103")]),
} }

/// What an origin is asked for `/bad` it answers with these bytes, and with `good` what it is asked else.
async fn play(mut peer: RawServer, bytes: Bytes, asked: Arc<AtomicUsize>, streams: Arc<Mutex<Vec<u32>>>) -> std::io::Result<()> {
    loop {
        let found = peer.next().await?;
        if found.kind != HEADERS {
            continue;
        }
        streams.lock().unwrap().push(found.stream);
        // The first request of each pair is for `/bad`.
        let bad = asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        peer.send(&if bad { bytes(found.stream) } else { answer(found.stream, "good") }).await?;
    }
}

/// The agent gets a failure of ours, or an answer that is broken off and looks so; the next one is right. Over HTTP/1.1 and HTTP/2.
fn is_no_answer(bytes: Bytes) {
    run(async {
        let streams = Arc::<Mutex<Vec<u32>>>::default();
        let (asked, seen) = (Arc::<AtomicUsize>::default(), streams.clone());
        let origin = RawOrigin::start(&[HOST], move |peer| play(peer, bytes, asked.clone(), seen.clone())).await;
        let (home, serve, key) = serve(&[(HOST.to_owned(), origin.address)], "");
        let agent = agent(&home, &serve);
        for protocol in Protocol::BOTH {
            let line = agent.open(HOST, protocol).await;
            let answer = line.ask(&Ask::get("/bad")).await;
            assert!(answer.status == 502 || answer.ending != Ending::Whole, "{protocol:?}: {answer:?}");
            assert!(!format!("{answer:?}").contains("smuggled") || answer.ending != Ending::Whole, "{protocol:?}: {answer:?}");
            let line = agent.open(HOST, protocol).await;
            line.ask(&Ask::get("/next")).await.expect(200, "good");
            line.vanish();
        }
        assert_eq!(streams.lock().unwrap().len(), 4, "each was sent once");
        patiently("two records", async {
            let failed = tokio::task::block_in_place(|| crate::hostile::audited(&home, &["\"path\":\"/bad\""]));
            assert!(failed.iter().all(|r| r["decision"] == "failed" && r["reason"] == "upstream_closed"), "{failed:?}");
            assert!(failed.iter().all(|r| r["credential"] == "real" && !r.to_string().contains(&key)), "{failed:?}");
        })
        .await;
        served_without_harm(&serve, &key);
    });
}

/// No panic, and no key in the log.
#[track_caller]
fn served_without_harm(serve: &Serve, key: &str) {
    let log = serve.log();
    assert!(!log.contains("panicked") && !holds(log.as_bytes(), key), "{log}");
}

cases! { nothing_of_the_content_passes {
    content_of_an_answer_to_head: ("HEAD", "200"),
    content_of_a_204: ("GET", "204"),
    content_of_a_304: ("GET", "304"),
} }

/// What has no content has none, whatever comes.
fn nothing_of_the_content_passes((method, status): (&'static str, &'static str)) {
    run(async {
        let origin = RawOrigin::start(&[HOST], move |mut peer: RawServer| async move {
            loop {
                let found = peer.next().await?;
                if found.kind == HEADERS {
                    let head = head(found.stream, 0, &[(":status", status)]);
                    peer.send(&[head, frame(DATA, END_STREAM, found.stream, b"smuggled")].concat()).await?;
                }
            }
        })
        .await;
        let (home, serve, key) = serve(&[(HOST.to_owned(), origin.address)], "");
        let agent = agent(&home, &serve);
        for protocol in Protocol::BOTH {
            let line = agent.open(HOST, protocol).await;
            for _ in 0..2 {
                let answer = line.ask(&Ask::new(method, "/bad")).await;
                assert!(answer.body.is_empty() && [status, "502"].contains(&answer.status.to_string().as_str()), "{protocol:?}: {answer:?}");
            }
            line.vanish();
        }
        let records = tokio::task::block_in_place(|| crate::hostile::audited(&home, &["\"path\":\"/bad\""]));
        assert!(records.iter().all(|r| r["bytes_down"] == 0), "{records:?}");
        served_without_harm(&serve, &key);
    });
}
