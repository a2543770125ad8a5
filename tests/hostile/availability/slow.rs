//! Those who take their time: each ends by its limit, with an answer where there is a way to give one, and leaves nothing.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use super::{Stage, get, http2_inside};
use crate::hostile::case::{audit_says, cases};
use crate::support::raw::PATIENCE;
use crate::support::world::HOSTS;
use crate::support::{Agent, Origin, within};

const LIMITS: &str = "[timeouts]\ntls = \"500ms\"\nrequest_head = \"500ms\"\nidle = \"900ms\"\n";
/// No case may take longer, on a machine with other things to do.
const OVER: Duration = Duration::from_secs(8);

/// Where the flooder takes its time.
#[derive(Clone, Copy)]
enum Where {
    /// At the listener.
    Door,
    /// In a tunnel to a host that a credential covers, before any TLS.
    Tunnel,
    /// Inside the TLS of that tunnel.
    Inside,
    /// In a tunnel that is passed unread.
    Blind,
}

struct Slow {
    at: Where,
    /// Said at once; then nothing.
    says: &'static str,
    /// Said byte by byte after that.
    trickles: &'static str,
    /// What the answer begins with; nothing, where there is none.
    answer: &'static str,
    /// What the audit log says, where it has a record of its own.
    audit: Option<(&'static str, &'static str)>,
}

const fn quiet(at: Where, says: &'static str) -> Slow {
    Slow { at, says, trickles: "", answer: "", audit: None }
}

const fn told(at: Where, says: &'static str, trickles: &'static str) -> Slow {
    Slow { at, says, trickles, answer: "HTTP/1.1 408 ", audit: Some(("denied", "request_timeout")) }
}

const fn broken_off(at: Where, says: &'static str) -> Slow {
    Slow { at, says, trickles: "", answer: "HTTP/1.1 504 ", audit: Some(("failed", "upstream_timeout")) }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nX-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// HEADERS without END_HEADERS: `:method GET`. The byte is written as the one that it is.
const HALF_OF_HEADERS: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\u{82}";
/// The head of a record that holds a hello, and the hello's first bytes.
const HALF_A_HELLO: &str = "\x16\x03\x01\x01\0\x01\0\0\x7c\x03\x03";

cases! { ends {
    silence_at_the_door: quiet(Where::Door, ""),
    half_a_head_at_the_door: told(Where::Door, "CONNECT openrouter.ai:443 HTT", ""),
    a_head_byte_by_byte_at_the_door: told(Where::Door, "", GET),
    half_a_preface_at_the_door: quiet(Where::Door, "PRI * HT"),
    a_preface_at_the_door: quiet(Where::Door, PREFACE),
    half_a_head_over_http2_at_the_door: quiet(Where::Door, HALF_OF_HEADERS),
    a_body_in_absolute_form_that_stops: broken_off(Where::Door, "POST http://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {auth}\r\nContent-Length: 100\r\n\r\nabc"),
    silence_after_the_200: quiet(Where::Tunnel, ""),
    half_a_hello_after_the_200: Slow { at: Where::Tunnel, says: HALF_A_HELLO, trickles: "", answer: "", audit: Some(("failed", "agent_tls")) },
    a_hello_byte_by_byte: Slow { at: Where::Tunnel, says: "\x16\x03\x01\x01\0\x01\0", trickles: ZEROS, answer: "", audit: Some(("failed", "agent_tls")) },
    half_a_preface_in_a_tunnel: quiet(Where::Tunnel, "PRI * HT"),
    a_preface_in_a_tunnel: quiet(Where::Tunnel, PREFACE),
    half_a_head_over_http2_in_a_tunnel: quiet(Where::Tunnel, HALF_OF_HEADERS),
    half_a_method_in_a_tunnel: quiet(Where::Tunnel, "GE"),
    half_a_head_in_plaintext: told(Where::Tunnel, "GET / HTTP/1.1\r\nHost: openr", ""),
    a_head_in_plaintext_byte_by_byte: told(Where::Tunnel, "", GET),
    silence_after_the_handshake: quiet(Where::Inside, ""),
    half_a_head: told(Where::Inside, "GET / HTTP/1.1\r\nHost: openr", ""),
    a_head_byte_by_byte: told(Where::Inside, "", GET),
    a_body_that_stops: broken_off(Where::Inside, "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 100\r\n\r\nabc"),
    a_chunk_that_stops: broken_off(Where::Inside, "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
    a_chunks_size_that_stops: broken_off(Where::Inside, "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\n\r\n5"),
    trailers_that_stop: broken_off(Where::Inside, "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n"),
    a_blind_tunnel_that_is_silent: Slow { at: Where::Blind, says: "", trickles: "", answer: "", audit: Some(("tunnelled", "idle")) },
} }

const ZEROS: &str = "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn ends(case: Slow) {
    let stage = Stage::new(LIMITS);
    let begun = Instant::now();
    let all = match case.at {
        Where::Door => drawn_out(&mut stage.flooder.dial(), &stage.flooder, &case),
        Where::Tunnel => drawn_out(&mut stage.flooder.connect("openrouter.ai:443").1, &stage.flooder, &case),
        Where::Inside => {
            let mut conn = stage.flooder.open("openrouter.ai:443");
            drawn_out(&mut conn.stream, &stage.flooder, &case)
        }
        Where::Blind => drawn_out(&mut stage.flooder.connect("example.net:443").1, &stage.flooder, &case),
    };
    assert!(begun.elapsed() < OVER, "it ended after {:?}", begun.elapsed());
    if !case.answer.is_empty() {
        assert!(all.starts_with(case.answer), "{all:?}");
    } else {
        // Over HTTP/2 there are settings, and a farewell.
        assert!(!all.starts_with("HTTP/1.1 "), "{all:?}");
    }
    if let Some((decision, reason)) = case.audit {
        audit_says(&stage.world, decision, reason);
    }
    let whole: Vec<_> = stage.world.origin.recorded().into_iter().filter(|r| r.target != "/other" && r.body.len() > 3).collect();
    assert!(whole.is_empty(), "nothing came whole: {whole:?}");
    stage.ends_well();
}

/// Says it all, and gives what comes until the other end closes.
fn drawn_out(stream: &mut (impl std::io::Read + std::io::Write), agent: &Agent, case: &Slow) -> String {
    let bytes = |text: &str| text.replace("{auth}", &agent.authorization).chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect::<Vec<_>>();
    let _ = stream.write_all(&bytes(case.says)).and_then(|()| stream.flush());
    let begun = Instant::now();
    for byte in bytes(case.trickles) {
        // What is slow is the client: nothing is waited for here. It stops in time to see the answer.
        if begun.elapsed() > Duration::from_millis(700) || stream.write_all(&[byte]).and_then(|()| stream.flush()).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(15));
    }
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

/// Nothing limits a request's total time: a body may trickle, as long as it never stops for `idle`.
#[test]
fn a_body_that_trickles_is_no_fault() {
    let stage = Stage::new(LIMITS);
    let mut conn = stage.flooder.open("openrouter.ai:443");
    conn.send("POST /trickle HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 6\r\n\r\n");
    for byte in b"abcdef" {
        std::thread::sleep(Duration::from_millis(300));
        conn.send([*byte]);
    }
    assert_eq!(conn.reply().status, 200);
    assert_eq!(stage.world.origin.last().body, b"abcdef");
    drop(conn);
    stage.ends_well();
}

/// Who asks on and on and reads none of the answers fills the way back; that has an end.
#[test]
fn refusals_that_are_not_read_end_the_connection() {
    let stage = Stage::new(LIMITS);
    let mut stream = stage.flooder.dial();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let tries = "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n".repeat(200);
    let begun = Instant::now();
    while stream.write_all(tries.as_bytes()).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is never closed");
    }
    assert!(begun.elapsed() < PATIENCE, "it is written to for {:?}", begun.elapsed());
    audit_says(&stage.world, "denied", "proxy_auth_required");
    stage.nothing_of_the_flooder_was_sent();
    drop(stream);
    stage.ends_well();
}

/// An origin that sends more than all buffers hold.
fn large() -> Origin {
    Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        if exchange.request.target.starts_with("/large") {
            exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\nconnection: close\r\n\r\n")?;
            return (0..1024).try_for_each(|_| exchange.write([b'x'; 65_536]));
        }
        exchange.answer(200, "connection: close\r\n", b"{\"ok\":true}")?;
        exchange.close();
        Ok(())
    })
}

#[test]
fn an_answer_that_is_not_read_ends() {
    let stage = Stage::with_origin(large(), LIMITS);
    let mut conn = stage.flooder.open("openrouter.ai:443");
    conn.send("GET /large HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    assert_eq!(audit_says(&stage.world, "failed", "upstream_timeout")["status"], 200);
    stage.other_is_served();
    let mut all = Vec::new();
    let _ = conn.stream.read_to_end(&mut all);
    assert!(all.len() < 67_108_864, "it was cut off");
    drop(conn);
    stage.ends_well();
}

#[test]
fn a_blind_answer_that_is_not_read_ends() {
    let stage = Stage::with_origin(large(), LIMITS);
    let mut conn = stage.flooder.open("example.net:443");
    conn.send("GET /large HTTP/1.1\r\nHost: example.net\r\n\r\n");
    audit_says(&stage.world, "tunnelled", "idle");
    stage.other_is_served();
    drop(conn);
    stage.ends_well();
}

/// An agent that gives an answer no window, whether the answer is small enough to be handed over whole or not.
#[test]
fn an_answer_without_a_window_ends() {
    for target in ["/small", "/large"] {
        let stage = Stage::with_origin(large(), LIMITS);
        let mut stream = http2_inside(&stage, &[(4, 0)]);
        let begun = Instant::now();
        stream.write_all(&get(1, target)).unwrap();
        within(OVER, "the request arrives", || stage.world.origin.recorded().into_iter().find(|r| r.target == target));
        let _ = stream.read_to_end(&mut Vec::new());
        assert!(begun.elapsed() < OVER, "{target}: it ended after {:?}", begun.elapsed());
        drop(stream);
        stage.ends_well();
    }
}
