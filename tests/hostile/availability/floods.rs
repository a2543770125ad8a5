//! One agent sends as fast as it can. Each flood says what it is answered; another agent is served all along.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Stage, frame, get, http2_inside};
use crate::hostile::case::{cases, record_of};
use crate::support::Agent;
use crate::support::raw::read_reply;

/// For so long it rains.
const FOR: Duration = Duration::from_millis(600);
/// So many threads of the flooder's.
const THREADS: usize = 6;

/// One round of a flood: the status that it was answered, 0 where that is a closed connection.
type Round = fn(&Stage, usize) -> io::Result<u16>;

struct Flood {
    more: &'static str,
    round: Round,
    /// Each answer is one of these.
    answers: &'static [u16],
    /// What the audit log has of it, if it has.
    reason: Option<&'static str>,
    /// Nothing of it comes to an origin.
    sent: bool,
}

const fn refused(round: Round, answers: &'static [u16], reason: &'static str) -> Flood {
    Flood { more: "", round, answers, reason: Some(reason), sent: false }
}

cases! { is_survived {
    requests: Flood { more: "", round: request, answers: &[200], reason: Some("ok"), sent: true },
    requests_in_absolute_form: Flood { more: "", round: |s, _| absolute(&s.flooder, "http://openrouter.ai/flood"), answers: &[200], reason: Some("ok"), sent: true },
    tunnels_and_handshakes: Flood { more: "", round: handshake, answers: &[200], reason: None, sent: false },
    tunnels_that_are_dropped: Flood { more: "", round: dropped, answers: &[200], reason: None, sent: false },
    random_subdomains: Flood { more: "", round: subdomain, answers: &[200], reason: None, sent: false },
    tries_without_a_proof: refused(|s, _| unproved(&s.flooder), &[407], "proxy_auth_required"),
    tries_with_a_wrong_proof: refused(|s, n| wrong(&s.flooder, n), &[407], "proxy_auth_required"),
    requests_for_another_host: refused(misdirected, &[421], "misdirected"),
    malformed_requests: refused(malformed, &[400], "bad_request"),
    oversized_heads: refused(oversized, &[431], "header_too_large"),
    oversized_targets: refused(oversized_target, &[414, 431], "uri_too_long"),
    private_addresses: refused(|s, _| Ok(s.flooder.try_connect("10.1.2.3:443")?.0.status), &[403], "private_address"),
    ports_that_are_closed: refused(|s, _| Ok(s.flooder.try_connect("example.net:25")?.0.status), &[403], "port_denied"),
    bytes_that_mean_nothing: Flood { more: "", round: garbage, answers: &[400, 431], reason: Some("bad_request"), sent: false },
    tunnels_beyond_the_limit: Flood { more: "[limits.per_agent]\ntunnels = 1\n", round: blind, answers: &[200, 503], reason: Some("overloaded"), sent: false },
    requests_beyond_the_limit: Flood { more: "[limits.per_agent]\nrequests = 1\n", round: request, answers: &[200, 503], reason: Some("overloaded"), sent: true },
    connections_beyond_the_limit: Flood { more: "[limits.per_agent]\nconnections = 2\n", round: dropped, answers: &[200, 503], reason: Some("overloaded"), sent: false },
    streams_that_are_reset_at_once: Flood { more: "", round: resets, answers: &[0], reason: None, sent: true },
    pings_without_end: Flood { more: "", round: pings, answers: &[0], reason: None, sent: false },
    uploads: Flood { more: "", round: upload, answers: &[200], reason: Some("ok"), sent: true },
    names_that_do_not_exist: refused(|s, n| Ok(s.flooder.try_connect(&format!("n{n}.invalid:443"))?.0.status), &[502], "dns_error"),
} }

fn is_survived(case: Flood) {
    let stage = Stage::new(case.more);
    let (over, number, answers) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(BTreeMap::<String, usize>::new()));
    let mut served = 0;
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let answer = match (case.round)(&stage, number.fetch_add(1, Ordering::SeqCst)) {
                        Ok(status) => status.to_string(),
                        Err(error) => error.to_string(),
                    };
                    *answers.lock().unwrap().entry(answer).or_default() += 1;
                }
            });
        }
        // Also where the other agent is not served: the threads must end.
        let stop = Stop(&over);
        let begun = Instant::now();
        while begun.elapsed() < FOR || served < 3 {
            stage.other_is_served();
            served += 1;
        }
        drop(stop);
    });
    let answers = answers.into_inner().unwrap();
    let expected: Vec<_> = case.answers.iter().map(u16::to_string).collect();
    assert!(answers.keys().all(|a| expected.contains(a)), "{answers:?}");
    println!("{answers:?}, and the other agent was served {served} times");
    if let Some(reason) = case.reason {
        record_of(&stage.world, reason);
    }
    if !case.sent {
        stage.nothing_of_the_flooder_was_sent();
    }
    stage.ends_well();
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn inside(stage: &Stage, request: &str) -> io::Result<u16> {
    let mut conn = stage.flooder.try_open("openrouter.ai:443")?;
    conn.try_send(request)?;
    Ok(conn.try_reply()?.status)
}

fn request(stage: &Stage, _: usize) -> io::Result<u16> {
    inside(stage, "GET /flood HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n")
}

pub(super) fn misdirected(stage: &Stage, _: usize) -> io::Result<u16> {
    inside(stage, "GET /flood HTTP/1.1\r\nHost: evil.example\r\n\r\n")
}

fn malformed(stage: &Stage, _: usize) -> io::Result<u16> {
    inside(stage, "GET /flood HTTP/1.1\r\nHost : openrouter.ai\r\n\r\n")
}

fn oversized(stage: &Stage, _: usize) -> io::Result<u16> {
    inside(stage, &format!("GET /flood HTTP/1.1\r\nHost: openrouter.ai\r\nX: {}\r\n\r\n", "x".repeat(66 << 10)))
}

fn oversized_target(stage: &Stage, _: usize) -> io::Result<u16> {
    inside(stage, &format!("GET /{} HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n", "x".repeat(66 << 10)))
}

pub(super) fn upload(stage: &Stage, _: usize) -> io::Result<u16> {
    let body = "x".repeat(256 << 10);
    inside(stage, &format!("POST /flood HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

pub(super) fn handshake(stage: &Stage, _: usize) -> io::Result<u16> {
    stage.flooder.try_open("openrouter.ai:443").map(|_| 200)
}

fn dropped(stage: &Stage, _: usize) -> io::Result<u16> {
    Ok(stage.flooder.try_connect("openrouter.ai:443")?.0.status)
}

fn blind(stage: &Stage, _: usize) -> io::Result<u16> {
    Ok(stage.flooder.try_connect("example.net:443")?.0.status)
}

pub(super) fn subdomain(stage: &Stage, number: usize) -> io::Result<u16> {
    stage.flooder.try_open(&format!("r{number}.openrouter.ai:443")).map(|_| 200)
}

fn said_to_the_door(agent: &Agent, text: &str) -> io::Result<u16> {
    let mut stream = agent.dial();
    stream.write_all(text.as_bytes())?;
    Ok(read_reply(&mut stream, None)?.status)
}

fn absolute(agent: &Agent, uri: &str) -> io::Result<u16> {
    said_to_the_door(agent, &format!("GET {uri} HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {}\r\n\r\n", agent.authorization))
}

pub(super) fn unproved(agent: &Agent) -> io::Result<u16> {
    said_to_the_door(agent, "CONNECT openrouter.ai:443 HTTP/1.1\r\n\r\n")
}

fn wrong(agent: &Agent, number: usize) -> io::Result<u16> {
    said_to_the_door(agent, &format!("CONNECT openrouter.ai:443 HTTP/1.1\r\nProxy-Authorization: Bearer kha_{number:043}\r\n\r\n"))
}

fn garbage(stage: &Stage, number: usize) -> io::Result<u16> {
    said_to_the_door(&stage.flooder, &format!("{number}\u{1}\u{2} nothing that means anything\r\n\r\n"))
}

/// Requests, each taken back as soon as it is made, until the proxy has had enough.
pub(super) fn resets(stage: &Stage, _: usize) -> io::Result<u16> {
    let mut stream = http2_inside(stage, &[]);
    for n in 0..200 {
        let both = [get(2 * n + 1, "/flood"), frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes())].concat();
        if stream.write_all(&both).is_err() {
            break;
        }
    }
    Ok(0)
}

/// Pings, each of which wants an answer that nobody reads.
fn pings(stage: &Stage, _: usize) -> io::Result<u16> {
    let mut stream = http2_inside(stage, &[]);
    let many = frame(6, 0, 0, b"pingping").repeat(500);
    let _ = stream.write_all(&many);
    let _ = stream.sock.set_read_timeout(Some(Duration::from_millis(50)));
    let _ = stream.read(&mut [0; 1]);
    Ok(0)
}
