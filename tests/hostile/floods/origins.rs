//! Origins that flood: an agent may have one of its own, and so it is the proxy that is attacked, and the other agents.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{PRIORITY, ROOM, cases, resident};
use crate::hostile::framed::block;
use crate::support::holds;
use crate::support::wire::frames::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PING, RawOrigin, RawServer, SETTINGS, WINDOW_UPDATE, answer, frame, reset, text,
};
use crate::support::wire::stage::{agent, serve};
use crate::support::wire::{Ask, Ending, Protocol, patiently, run};

const BAD: &str = "bad.matched.test";
const GOOD: &str = "good.matched.test";

/// The n-th piece of a flood about a stream.
type Piece = fn(u32, u32) -> Vec<u8>;

/// Answers of a host in order, and of another one by a flood of so many pieces, for as long as it is taken.
async fn play(mut peer: RawServer, piece: Piece, most: u32, flooding: Arc<AtomicBool>) -> std::io::Result<()> {
    loop {
        let found = peer.next().await?;
        if found.kind != HEADERS {
            continue;
        }
        flooding.store(true, Ordering::SeqCst);
        for n in 0..most {
            peer.send(&piece(found.stream, n)).await?;
        }
        peer.send(&answer(found.stream, "late")).await?;
    }
}

cases! { ends_that_connection_alone {
    pings: ((|_, _| frame(PING, 0, 0, &[0; 8]).repeat(100)) as Piece, 2_000),
    settings: ((|_, _| frame(SETTINGS, 0, 0, &[]).repeat(100)) as Piece, 2_000),
    windows_to_and_fro: ((|_, n| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, (n % 2) as u8, 0]).repeat(100)) as Piece, 2_000),
    priorities: ((|s, _| frame(PRIORITY, 0, s, &[0, 0, 0, 0, 1]).repeat(100)) as Piece, 2_000),
    window_updates: ((|_, _| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(100)) as Piece, 2_000),
    window_updates_of_nothing: ((|s, _| frame(WINDOW_UPDATE, 0, s, &[0; 4]).repeat(100)) as Piece, 2_000),
    unknown_frames: ((|_, _| frame(0xee, 0, 0, &[]).repeat(100)) as Piece, 2_000),
    alternative_services: ((|s, _| frame(0xa, 0, s, b"\0\0h3=\":443\"").repeat(100)) as Piece, 2_000),
    interim_answers: ((|s, _| frame(HEADERS, END_HEADERS, s, &block(&[(":status", "103"), ("link", "</x>")]))) as Piece, 20_000),
    large_interim_answers: ((|s, _| frame(HEADERS, END_HEADERS, s, &block(&[(":status", "103"), ("link", &"v".repeat(16_000))]))) as Piece, 20_000),
    continuations: (
        (|s, n| if n == 0 { frame(HEADERS, 0, s, &block(&[(":status", "200")])) } else { frame(CONTINUATION, 0, s, &block(&[("x-a", "1")])) }) as Piece,
        20_000,
    ),
    empty_content: ((|s, n| if n == 0 { frame(HEADERS, END_HEADERS, s, &block(&[(":status", "200")])) } else { frame(DATA, 0, s, &[]).repeat(10) }) as Piece, 20_000),
    references_to_one_large_field: (
        (|s, _| frame(HEADERS, END_HEADERS, s, &[block(&[(":status", "200")]), [&[0x40][..], &text("x-a"), &text(&"v".repeat(4_000))].concat(), vec![0xbe; 12_000]].concat())) as Piece,
        1_000,
    ),
    resets: ((|s, _| reset(s, 8).repeat(100)) as Piece, 2_000),
    promises: ((|s, n| frame(5, END_HEADERS, s, &[&(2 * n + 2).to_be_bytes()[..], &block(&[(":method", "GET")])].concat())) as Piece, 2_000),
    farewells: ((|s, _| frame(7, 0, 0, &[s.to_be_bytes(), [0; 4]].concat()).repeat(100)) as Piece, 2_000),
} }

/// The request fails in time, long before the flood is over; another agent's requests to another host are answered meanwhile; memory stays small.
fn ends_that_connection_alone((piece, most): (Piece, u32)) {
    run(async {
        let flooding = Arc::<AtomicBool>::default();
        let seen = flooding.clone();
        let bad = RawOrigin::start(&[BAD], move |peer| play(peer, piece, most, seen.clone())).await;
        let good = RawOrigin::start(&[GOOD], |mut peer: RawServer| async move {
            loop {
                let found = peer.next().await?;
                if found.kind == HEADERS {
                    peer.send(&answer(found.stream, "good")).await?;
                }
            }
        })
        .await;
        let (home, serve, key) = serve(&[(BAD.to_owned(), bad.address), (GOOD.to_owned(), good.address)], "");
        let (victim, other) = (agent(&home, &serve), agent(&home, &serve));
        let line = other.open(GOOD, Protocol::H1).await;
        line.ask(&Ask::get("/")).await.expect(200, "good");
        for protocol in Protocol::BOTH {
            let bad = victim.open(BAD, protocol).await;
            let before = resident(&serve);
            flooding.store(false, Ordering::SeqCst);
            let asking = tokio::spawn(async move { bad.ask(&Ask::get("/flooded")).await });
            // It may also be sent on the connection that is flooded already, and fail with that.
            let begun = || (flooding.load(Ordering::SeqCst) || asking.is_finished()).then_some(());
            crate::support::wire::until(Duration::from_secs(10), "the flood begins", begun).await;
            line.ask(&Ask::get("/")).await.expect(200, "good");
            let answer = patiently("the flooded request ends", asking).await.unwrap();
            assert!(answer.status == 502 || answer.ending != Ending::Whole, "{answer:?}");
            let after = resident(&serve);
            assert!(after < before + ROOM, "{protocol:?}: {before} KiB, then {after} KiB");
        }
        line.ask(&Ask::get("/")).await.expect(200, "good");
        let records = tokio::task::block_in_place(|| crate::hostile::audited(&home, &["\"path\":\"/flooded\""]));
        assert!(records.iter().all(|r| r["host"] == BAD && r["reason"] == "upstream_closed"), "{records:?}");
        let log = serve.log();
        assert!(!log.contains("panicked") && !holds(log.as_bytes(), &key), "{log}");
    });
}

/// An agent that reads nothing, and an origin of its own that sends interim answers without end: nothing piles up between them.
#[test]
fn interim_answers_to_an_agent_that_reads_nothing_do_not_pile_up() {
    run(async {
        // A few of these, and no socket's buffer has room for more.
        let large: Piece = |s, _| {
            let part = |name: &str| block(&[(name, &"v".repeat(60_000))]);
            let head = [block(&[(":status", "103")]), part("x-a")].concat();
            [frame(HEADERS, 0, s, &head), frame(CONTINUATION, 0, s, &part("x-b")), frame(CONTINUATION, END_HEADERS, s, &part("x-c"))].concat()
        };
        let origin = RawOrigin::start(&[BAD], move |peer| play(peer, large, 2_000, Arc::default())).await;
        let (home, serve, key) = serve(&[(BAD.to_owned(), origin.address)], "");
        let agent = agent(&home, &serve);
        let before = resident(&serve);
        let (mut stream, socket) = agent.stream(BAD, &[Protocol::H1]).await.unwrap();
        {
            use tokio::io::AsyncWriteExt as _;
            socket2::SockRef::from(stream.get_ref().0).set_recv_buffer_size(4096).unwrap();
            stream.write_all(format!("GET /stalled HTTP/1.1\r\nHost: {BAD}\r\n\r\n").as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
        let records = tokio::task::block_in_place(|| crate::hostile::audited(&home, &["\"path\":\"/stalled\""]));
        assert_eq!(records[0]["reason"], "upstream_closed", "{records:?}");
        let after = resident(&serve);
        assert!(after < before + ROOM, "{before} KiB, then {after} KiB");
        socket.cut();
        let log = serve.log();
        assert!(!log.contains("panicked") && !holds(log.as_bytes(), &key), "{log}");
    });
}
