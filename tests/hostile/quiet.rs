//! A key is in no table that outlives its request, no log, no variable: HPACK's, the libraries' logs, what a panic could print.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::case::cases;
use crate::support::memory::{places, readable};
use crate::support::wire::frames::{CONTINUATION, END_HEADERS, HEADERS, RawOrigin, answer};
use crate::support::wire::stage::{agent, serve_with};
use crate::support::wire::{self, Ask, Offer, Protocol, WireOrigin};
use crate::support::{fresh_key, holds};

/// One field of an HPACK block (RFC 7541 6).
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// `indexed`, `added`, `plain` or `never`: how a decoder is to treat it.
    kind: &'static str,
    /// The name's place in the tables, 0 for a name of its own.
    index: usize,
    /// Its own name, as it stands there: in Huffman's code or not.
    name: Vec<u8>,
    /// Its value, likewise.
    value: Vec<u8>,
}

/// The fields of a block, in order.
fn lines(mut block: &[u8]) -> Vec<Line> {
    let mut out = Vec::new();
    while let Some(&first) = block.first() {
        let (kind, prefix) = match first {
            0x80.. => ("indexed", 7),
            0x40.. => ("added", 6),
            0x20.. => ("size", 5),
            0x10.. => ("never", 4),
            _ => ("plain", 4),
        };
        let index = number(&mut block, prefix);
        let (mut name, mut value) = (Vec::new(), Vec::new());
        if !["indexed", "size"].contains(&kind) {
            if index == 0 {
                name = text(&mut block);
            }
            value = text(&mut block);
        }
        if kind != "size" {
            out.push(Line { kind, index, name, value });
        }
    }
    out
}

/// RFC 7541 5.1.
fn number(block: &mut &[u8], prefix: u32) -> usize {
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(block[0]) & most;
    *block = &block[1..];
    if value < most {
        return value;
    }
    for shift in (0..).step_by(7) {
        let byte = block[0];
        *block = &block[1..];
        value += usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// RFC 7541 5.2, as it stands.
fn text(block: &mut &[u8]) -> Vec<u8> {
    let length = number(block, 7);
    let (text, rest) = block.split_at(length);
    *block = rest;
    text.to_vec()
}

cases! { the_field_is_never_indexed {
    a_bearer_key: (&["--type", "bearer"], Some(23)),
    a_pair: (&["--type", "basic"], Some(23)),
    a_field_of_its_own: (&["--type", "header", "--header", "X-Own-Key"], None),
} }

/// On a connection's second request, too: `index` is that of `authorization` in the static table.
#[track_caller]
fn the_field_is_never_indexed((kind, index): (&[&str], Option<usize>)) {
    wire::run(async {
        let blocks = Arc::new(Mutex::new(Vec::<Vec<u8>>::new()));
        let seen = Arc::clone(&blocks);
        let origin = RawOrigin::start(&["*.blind.test"], move |mut peer| {
            let seen = Arc::clone(&seen);
            async move {
                loop {
                    let first = peer.next().await?;
                    if first.kind != HEADERS {
                        continue;
                    }
                    let (mut block, mut flags) = (first.payload, first.flags);
                    while flags & END_HEADERS == 0 {
                        let more = peer.next().await?;
                        assert_eq!(more.kind, CONTINUATION);
                        block.extend(more.payload);
                        flags = more.flags;
                    }
                    seen.lock().unwrap().push(block);
                    peer.send(&answer(first.stream, "ok")).await?;
                }
            }
        })
        .await;
        let (home, serve, _) = serve_with(&[("a.blind.test".to_owned(), origin.address)], "", &[]);
        let key = format!("user:{}", fresh_key());
        home.ok_with(&[&["credential", "add", "own", "--allow", "*.blind.test"], kind].concat(), &key);
        for protocol in Protocol::BOTH {
            let line = agent(&home, &serve).open("a.blind.test", protocol).await;
            for n in 0..2 {
                let ask = Ask::get(&format!("/{n}")).with("proxy-authorization", "Basic own").with("x-agents-own", "v");
                line.ask(&ask).await.expect(200, "ok");
            }
        }
        assert_eq!(origin.accepted(), 1, "all on one connection");
        let blocks = blocks.lock().unwrap();
        assert_eq!(blocks.len(), 4);
        for block in blocks.iter() {
            let lines = lines(block);
            let own: Vec<&Line> = lines.iter().filter(|line| line.kind == "never").collect();
            assert_eq!(own.len(), 1, "{lines:?}");
            assert_eq!(own[0].index, index.unwrap_or(own[0].index), "{lines:?}");
            assert!(index.is_some() || !own[0].name.is_empty() || own[0].index > 61, "{lines:?}");
            // 48 is `proxy-authorization`.
            assert!(lines.iter().all(|line| line.index != 48), "{lines:?}");
            // No other `authorization`, and not as an entry of the tables.
            assert!(lines.iter().filter(|line| line.kind != "never").all(|line| line.index != 23), "{lines:?}");
        }
        // What h2 wrote is in its buffers until something is written over it; no table keeps one for each request.
        let value = lines(&blocks[0]).into_iter().find(|line| line.kind == "never").unwrap().value;
        if readable(serve.pid()) {
            let left = places(serve.pid(), &value);
            eprintln!("in HPACK's form: {left:#?}");
            assert!(left.len() <= 4, "{left:#?}");
        }
        let log = serve.log();
        assert!(!log.contains("panicked") && !log.contains(&key), "{log}");
        let records = super::audited(&home, &["\"injected\""]);
        assert!(!serde_json::to_string(&records).unwrap().contains(&key));
    });
}

/// As it is, in hex, in base64 at each alignment.
fn forms(key: &str) -> Vec<String> {
    let mut out = vec![key.to_owned(), key.bytes().map(|b| format!("{b:02x}")).collect()];
    for shift in 0..3 {
        let coded = STANDARD_NO_PAD.encode([&vec![b'.'; shift], key.as_bytes()].concat());
        out.push(coded[4..coded.len() - 2].to_owned());
    }
    out
}

/// With everything logged that can be, over each pairing of protocols, well and badly ended.
#[test]
fn at_the_highest_level_nothing_of_a_key_is_logged() {
    wire::run(async {
        let handler = |mut turn: wire::Turn| async move {
            turn.read_all().await?;
            turn.answer(200, "ok").await
        };
        let h1 = WireOrigin::start(&["*.matched.test"], Offer::of(Protocol::H1), handler).await;
        let h2 = WireOrigin::start(&["*.matched.test"], Offer::of(Protocol::H2), handler).await;
        let hosts = [("one.matched.test".to_owned(), h1.address()), ("two.matched.test".to_owned(), h2.address())];
        let variables = [("KEYHATCH_LOG", "trace"), ("RUST_LOG", "trace"), ("RUST_BACKTRACE", "full"), ("SSLKEYLOGFILE", "/dev/stderr")];
        let (home, serve, key) = serve_with(&hosts, "", &variables);
        for (host, protocol) in [("one", Protocol::H1), ("one", Protocol::H2), ("two", Protocol::H1), ("two", Protocol::H2)] {
            let line = agent(&home, &serve).open(&format!("{host}.matched.test"), protocol).await;
            line.ask(&Ask::post("/", "body")).await.expect(200, "ok");
            line.ask(&Ask::get("/").with("x-placeholder", "sk-or-keyhatch-placeholder-real")).await.expect(200, "ok");
        }
        assert!(h1.seen().iter().chain(&h2.seen()).all(|seen| seen.value("authorization") == Some(format!("Bearer {key}"))));
        let token = agent(&home, &serve).authorization.unwrap();
        let proc = |file: &str| std::fs::read(format!("/proc/{}/{file}", serve.pid())).unwrap();
        let admin = {
            use std::io::Write as _;
            let mut stream = std::net::TcpStream::connect(serve.admin()).unwrap();
            write!(stream, "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", serve.admin()).unwrap();
            super::rest_of(&mut stream)
        };
        assert!(admin.contains("keyhatch_"), "{admin}");
        let places = [
            ("the log", serve.log().into_bytes()),
            ("the audit log", std::fs::read(home.path().join("audit.jsonl")).unwrap()),
            ("the metrics", admin.into_bytes()),
            ("the environment", proc("environ")),
            ("the command line", proc("cmdline")),
        ];
        for (place, bytes) in places {
            for form in forms(&key) {
                assert!(!holds(&bytes, &form), "{place}: {form}");
            }
            assert!(!holds(&bytes, token.trim_start_matches("Basic ")), "{place}: the agent's proof");
            assert!(!holds(&bytes, "CLIENT_HANDSHAKE_TRAFFIC_SECRET") && !holds(&bytes, "panicked"), "{place}");
        }
    });
}

/// Whether a type can be printed, copied or written out. An inherent constant comes before a trait's, and is there only for the
/// types that can.
macro_rules! cannot {
    ($type:ty, $($ability:path),+) => {
        $({
            trait Without {
                const CAN: bool = false;
            }
            impl<T: ?Sized> Without for T {}
            struct Asked<T: ?Sized>(std::marker::PhantomData<T>);
            #[allow(dead_code, reason = "there for the types that have the ability, of which there is to be none")]
            impl<T: ?Sized + $ability> Asked<T> {
                const CAN: bool = true;
            }
            const { assert!(!<Asked<$type>>::CAN, concat!(stringify!($type), ": ", stringify!($ability))) };
        })+
    };
}

/// What holds a secret cannot be printed, not by a panic either, nor copied or serialized. This test is done by the compiler.
#[test]
fn what_holds_a_secret_has_no_way_to_be_shown() {
    macro_rules! none_of_them {
        ($($type:ty),+ $(,)?) => {
            $(cannot!($type, std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize);)+
        };
    }
    none_of_them!(
        keyhatch::locked::Locked,
        keyhatch::credential::Secret,
        keyhatch::credential::Material,
        keyhatch::message::scrub::ScrubTable,
        keyhatch::envelope::Key,
        keyhatch::envelope::UnlockKey,
        keyhatch::session::SessionKey,
        keyhatch::telemetry::audit_log::AuditKey,
        keyhatch::agent::AgentToken,
        keyhatch::admin::http::AdminToken,
    );
}
