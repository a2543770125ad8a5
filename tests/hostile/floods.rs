//! HTTP/2 that makes the other end work for nothing: from agents, and from origins towards agents.

mod origins;
mod stalls;

use std::time::Duration;

use super::case::{audit_says, cases, is_well, record_of};
use super::framed::{Ended, Framed, block, get, open, request};
use crate::support::wire::frames::{CONTINUATION, DATA, END_HEADERS, HEADERS, PING, SETTINGS, WINDOW_UPDATE, frame, reset, text};
use crate::support::{Serve, World};

/// `PRIORITY`.
const PRIORITY: u8 = 2;

/// What is resident may grow by so much while a flood passes, in KiB.
const ROOM: u64 = 24 << 10;

/// What is resident now. What a flood may add to it is the caller's to say.
fn resident(serve: &Serve) -> u64 {
    serve.memory().0
}

/// The n-th piece of a flood.
type Piece = fn(u32) -> Vec<u8>;

/// The number of the n-th stream.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

fn whole(n: u32) -> Vec<u8> {
    get(stream(n), &request("GET", "/flood", &[]))
}

fn upload(n: u32) -> Vec<u8> {
    open(stream(n), &request("POST", "/flood", &[]))
}

/// Sends the flood until the other end hangs up, at most so many pieces. Says how many went out.
fn pour(framed: &mut Framed, piece: Piece, most: u32) -> u32 {
    framed.patience(Duration::from_secs(20));
    (0..most).find(|n| !framed.send(&piece(*n))).unwrap_or(most)
}

cases! { ends_the_connection {
    rapid_reset: ((|n| [whole(n), reset(stream(n), 8)].concat()) as Piece, 20_000),
    rapid_reset_in_one_write: ((|n| (0..500).flat_map(|m| [whole(500 * n + m), reset(stream(500 * n + m), 8)].concat()).collect()) as Piece, 20),
    rapid_reset_of_uploads: ((|n| [upload(n), reset(stream(n), 8)].concat()) as Piece, 20_000),
    resets_provoked_by_a_window_update_of_nothing: ((|n| [upload(n), frame(WINDOW_UPDATE, 0, stream(n), &[0; 4])].concat()) as Piece, 5_000),
    resets_provoked_by_a_window_beyond_the_most: ((|n| [upload(n), frame(WINDOW_UPDATE, 0, stream(n), &i32::MAX.to_be_bytes())].concat()) as Piece, 5_000),
    resets_provoked_by_content_after_the_end: ((|n| [whole(n), frame(DATA, 0, stream(n), b"x")].concat()) as Piece, 5_000),
    resets_provoked_by_content_beyond_the_length: (
        (|n| [open(stream(n), &request("POST", "/flood", &[("content-length", "0")])), frame(DATA, 0, stream(n), b"x")].concat()) as Piece,
        5_000,
    ),
    resets_provoked_by_a_stream_that_depends_on_itself: ((|n| [upload(n), frame(PRIORITY, 0, stream(n), &[&stream(n).to_be_bytes()[..], &[1]].concat())].concat()) as Piece, 5_000),
    resets_provoked_by_malformed_heads: ((|n| get(stream(n), &request("GET", "/flood", &[("connection", "close")]))) as Piece, 5_000),
    continuations_without_end: (
        (|n| if n == 0 { frame(HEADERS, 0, 1, &block(&request("GET", "/flood", &[]))) } else { frame(CONTINUATION, 0, 1, &block(&[("x-a", "1")])) }) as Piece,
        20_000,
    ),
    empty_continuations_without_end: (
        (|n| if n == 0 { frame(HEADERS, 0, 1, &block(&request("GET", "/flood", &[]))) } else { frame(CONTINUATION, 0, 1, &[]) }) as Piece,
        20_000,
    ),
    large_continuations_without_end: (
        (|n| if n == 0 { frame(HEADERS, 0, 1, &block(&request("GET", "/flood", &[]))) } else { frame(CONTINUATION, 0, 1, &block(&[("x-a", &"v".repeat(16_000))])) }) as Piece,
        1_000,
    ),
    one_endless_value_in_continuations: (
        (|n| if n == 0 { frame(HEADERS, 0, 1, &[0, 3, b'x', b'-', b'a', 0x7f, 0xff, 0xff, 0xff, 0x7f]) } else { frame(CONTINUATION, 0, 1, &[b'v'; 16_000]) }) as Piece,
        1_000,
    ),
    settings: ((|_| frame(SETTINGS, 0, 0, &[]).repeat(100)) as Piece, 2_000),
    settings_of_many_values: ((|_| frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0].repeat(1000)).repeat(10)) as Piece, 5_000),
    windows_to_and_fro: ((|n| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, (n % 2) as u8, 0]).repeat(100)) as Piece, 2_000),
    pings: ((|_| frame(PING, 0, 0, &[0; 8]).repeat(100)) as Piece, 2_000),
    acknowledged_pings: ((|_| frame(PING, 1, 0, &[0; 8]).repeat(100)) as Piece, 2_000),
    priorities: ((|n| (0..100).flat_map(|m| frame(PRIORITY, 0, stream(100 * n + m), &[0, 0, 0, 0, 1])).collect()) as Piece, 2_000),
    window_updates: ((|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(100)) as Piece, 2_000),
    unknown_frames: ((|_| frame(0xee, 0, 0, &[]).repeat(100)) as Piece, 2_000),
    empty_content: ((|n| if n == 0 { upload(0) } else { frame(DATA, 0, 1, &[]).repeat(100) }) as Piece, 2_000),
    a_table_larger_than_was_allowed: ((|n| frame(HEADERS, END_HEADERS, stream(n), &[0x3f, 0xe1, 0xff, 0x7f])) as Piece, 1),
    many_table_sizes_in_one_head: ((|n| frame(HEADERS, END_HEADERS, stream(n), &[0x20, 0x3f, 0xe1, 0x1f].repeat(4_000))) as Piece, 5_000),
    a_number_without_end: ((|n| frame(HEADERS, END_HEADERS, stream(n), &[0xff].repeat(16_000))) as Piece, 5_000),
    references_to_one_large_field: ((|n| bomb(stream(n))) as Piece, 5_000),
    streams_that_stay_open: ((|n| upload(n)) as Piece, 5_000),
    promises: ((|n| frame(5, END_HEADERS, 1, &[&(2 * n + 2).to_be_bytes()[..], &block(&request("GET", "/flood", &[]))].concat())) as Piece, 5_000),
} }

/// A head of one field that fills the table, and references to it: 16 KiB that mean 60 MiB.
fn bomb(stream: u32) -> Vec<u8> {
    let large = [&[0x40][..], &text("x-a"), &text(&"v".repeat(4_000))].concat();
    frame(HEADERS, END_HEADERS | 1, stream, &[block(&request("GET", "/flood", &[])), large, vec![0xbe; 12_000]].concat())
}

/// The connection ends, by GOAWAY where that is not lost with it, long before the flood does; memory stays as it was, the agent's name
/// is in a record, and another agent is served all the while.
fn ends_the_connection((piece, most): (Piece, u32)) {
    let world = World::agreeable();
    let second = super::another_agent(&world, "second", &["real"]);
    let mut other = super::within(super::SECOND, "the grant is felt", || Some(second.open("openrouter.ai:443")).filter(|c| c.intercepted()));
    assert_eq!(other.get("openrouter.ai", "/other").status, 200);
    let mut framed = Framed::in_tunnel(&world, "openrouter.ai");
    let before = resident(&world.serve);
    let poured = pour(&mut framed, piece, most);
    assert_eq!(other.get("openrouter.ai", "/other").status, 200, "another agent is served");
    let ended = framed.end();
    assert!(ended.is_of_connection(), "after {poured} pieces: {ended:?}");
    assert!(matches!(ended, Ended::Closed | Ended::Farewell(1 | 3 | 5 | 6 | 9 | 11)), "after {poured} pieces: {ended:?}");
    let after = resident(&world.serve);
    assert!(after < before + ROOM, "{before} KiB, then {after} KiB");
    let record = audit_says(&world, "denied", "bad_request");
    assert_eq!((record["agent"].as_str(), record["host"].as_str()), (Some("default"), Some("openrouter.ai")), "{record}");
    is_well(&world);
}

cases! { ends_it_for_nobody_too {
    pings_of_nobody: ((|_| frame(PING, 0, 0, &[0; 8]).repeat(100)) as Piece, 2_000),
    rapid_reset_of_nobody: ((|n| [whole(n), reset(stream(n), 8)].concat()) as Piece, 20_000),
    continuations_of_nobody: (
        (|n| if n == 0 { frame(HEADERS, 0, 1, &block(&request("GET", "/flood", &[]))) } else { frame(CONTINUATION, 0, 1, &[]) }) as Piece,
        20_000,
    ),
    tunnels_that_nobody_may_open: ((|n| get(stream(n), &[(":method", "CONNECT"), (":authority", "openrouter.ai:443")])) as Piece, 20_000),
} }

/// To the listener, from whoever has proved nothing.
fn ends_it_for_nobody_too((piece, most): (Piece, u32)) {
    let world = World::agreeable();
    let mut framed = Framed::to_listener(&world.agent());
    let before = resident(&world.serve);
    let poured = pour(&mut framed, piece, most);
    // Requests that are each refused are no flood of frames.
    if poured < most || piece(1) != get(3, &[(":method", "CONNECT"), (":authority", "openrouter.ai:443")]) {
        assert!(framed.end().is_of_connection(), "after {poured} pieces");
    }
    let after = resident(&world.serve);
    assert!(after < before + ROOM, "{before} KiB, then {after} KiB");
    let log = super::audited(&world.home, &["\"decision\":\"denied\""]);
    assert!(log.iter().all(|r| r["agent"].is_null()), "{:?}", log[0]);
    super::case::nothing_was_sent(&world);
    is_well(&world);
}

/// One stream too many is refused, and the others are none the worse.
#[test]
fn more_streams_than_there_may_be_are_refused_one_by_one() {
    let world = World::agreeable();
    let mut framed = Framed::in_tunnel(&world, "openrouter.ai");
    for n in 0..128 {
        framed.send(&upload(n));
    }
    framed.send(&upload(128));
    assert_eq!(framed.ended(stream(128)), Ended::Reset(7), "REFUSED_STREAM");
    assert_eq!(audit_says(&world, "failed", "overloaded")["agent"].as_str(), Some("default"));
    for n in 0..128 {
        framed.send(&frame(DATA, 1, stream(n), b"x"));
    }
    assert!(matches!(framed.ended(stream(127)), Ended::Answered(_, body) if body == "{\"ok\":true}"));
    framed.send(&whole(129));
    assert!(matches!(framed.ended(stream(129)), Ended::Answered(_, body) if body == "{\"ok\":true}"));
    is_well(&world);
}

cases! { is_431 {
    a_head_of_200_kib_that_table_references_make: bomb(1),
    a_thousand_short_fields: {
        let fields: Vec<String> = (0..1_000).map(|n| format!("x{n}")).collect();
        let fields: Vec<(&str, &str)> = fields.iter().map(|n| (n.as_str(), "1")).collect();
        get(1, &request("GET", "/x", &fields))
    },
    two_hundred_fields_of_one_name: get(1, &request("GET", "/x", &[("x-a", "1"); 200])),
    a_head_of_70_kib: {
        let head = block(&request("GET", "/x", &[("x-a", "v".repeat(70 << 10).as_str())]));
        let parts: Vec<&[u8]> = head.chunks(16_000).collect();
        let frames = parts.iter().enumerate().map(|(n, part)| {
            let end = if n + 1 == parts.len() { END_HEADERS } else { 0 };
            if n == 0 { frame(HEADERS, end | 1, 1, part) } else { frame(CONTINUATION, end, 1, part) }
        });
        frames.collect::<Vec<_>>().concat()
    },
} }

/// Too large a head is 431, by whoever finds it first, with a record; the connection serves on, or has ended.
fn is_431(bytes: Vec<u8>) {
    let world = World::agreeable();
    let mut framed = Framed::in_tunnel(&world, "openrouter.ai");
    let before = resident(&world.serve);
    framed.send(&bytes);
    match framed.ended(1) {
        // `:status: 431` as h2 writes it, by Huffman's code.
        Ended::Answered(head, body) => {
            assert!(
                memchr::memmem::find(&head, &[0x69, 0x90, 0xff]).is_some() && (body.is_empty() || body.contains("header_too_large")),
                "{head:?} {body}"
            );
            let record = audit_says(&world, "denied", "header_too_large");
            assert_eq!((record["agent"].as_str(), record["status"].as_u64()), (Some("default"), Some(431)), "{record}");
            framed.send(&get(3, &request("GET", "/next", &[])));
            assert!(matches!(framed.ended(3), Ended::Answered(_, body) if body == "{\"ok\":true}"));
            world.origin.forget();
        }
        ended => {
            assert!(ended.is_of_connection(), "{ended:?}");
            audit_says(&world, "denied", "bad_request");
        }
    }
    super::case::nothing_was_sent(&world);
    assert!(resident(&world.serve) < before + ROOM);
    is_well(&world);
}

/// A client that does much on one connection, and takes its answers in small steps, is no flood.
#[test]
fn a_busy_client_is_no_flood() {
    let world = World::with_origin(
        crate::support::Origin::start(&crate::support::world::HOSTS, |exchange| {
            exchange.read_body()?;
            exchange.answer(200, "", &vec![b'x'; if exchange.request.target == "/large" { 4 << 20 } else { 2 }])
        }),
        crate::support::fresh_key(),
    );
    let mut framed = Framed::in_tunnel(&world, "openrouter.ai");
    framed.send(&get(1, &request("GET", "/large", &[])));
    let mut taken = 0;
    while taken < 4 << 20 {
        let found = framed.frame().unwrap();
        if found.kind == DATA {
            // Room for each two KiB, of the stream and of the connection, and a question how long that takes.
            let step = 2048_u32.to_be_bytes();
            for _ in 0..found.payload.len().div_ceil(2048) {
                framed.send(&[frame(WINDOW_UPDATE, 0, 1, &step), frame(WINDOW_UPDATE, 0, 0, &step)].concat());
            }
            framed.send(&frame(PING, 0, 0, &[1; 8]));
            taken += found.payload.len();
        }
    }
    // Three hundred that are given up at once, as by a person who leaves a page.
    for n in 1..300 {
        framed.send(&whole(n));
        framed.ended(stream(n));
    }
    for n in 300..400 {
        framed.send(&upload(n));
        framed.send(&reset(stream(n), 8));
        // Each is seen before the next one comes.
        framed.send(&frame(PING, 0, 0, &[2; 8]));
        while framed.frame().unwrap().kind != PING {}
    }
    framed.send(&whole(400));
    assert!(matches!(framed.ended(stream(400)), Ended::Answered(_, body) if body == "xx"));
    assert_eq!(record_of(&world, "ok")["decision"].as_str(), Some("injected"));
    is_well(&world);
}
