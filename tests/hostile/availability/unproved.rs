//! Connections on which nobody proves anything: a neighbour opens as many as it can, and says little. They have places of
//! their own, of which the one that has waited longest goes first.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{Stage, is_over};
use crate::hostile::case::{audit_says, cases};
use crate::hostile::rest_of;
use crate::proxy::listeners::tls_address;
use crate::support::raw::{PATIENCE, read_reply};
use crate::support::{Agent, within};

/// Of these, 64 may wait for a proof.
const CONNECTIONS: &str =
    "[proxy]\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\ntls_names = [\"localhost\"]\n[limits]\nconnections = 100\n";
const UNPROVED: usize = 64;
/// How many the neighbour opens.
const OPENED: usize = 150;

/// What the neighbour does with each of its connections.
struct Neighbour {
    /// To `tls_listen`.
    tls: bool,
    says: &'static [u8],
    /// The oldest is told so; else its connection just ends, since there is no way to tell.
    told: bool,
}

const fn plain(says: &'static [u8]) -> Neighbour {
    Neighbour { tls: false, says, told: true }
}

cases! { takes_no_place {
    silence: plain(b""),
    half_a_head: plain(b"CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openr"),
    half_an_http2_preface: plain(b"PRI * HT"),
    an_http2_preface_and_nothing_more: Neighbour { tls: false, says: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", told: false },
    half_a_request_over_http2: Neighbour { tls: false, says: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\x82", told: false },
    a_try_without_a_proof: plain(b"CONNECT openrouter.ai:443 HTTP/1.1\r\n\r\n"),
    tries_without_a_proof_whose_answers_are_not_read: plain(MANY_TRIES),
    silence_on_the_tls_listener: Neighbour { tls: true, says: b"", told: false },
    half_a_hello_on_the_tls_listener: Neighbour { tls: true, says: &[22, 3, 1, 2, 0, 1, 0], told: false },
    a_byte_that_is_no_hello_on_the_tls_listener: Neighbour { tls: true, says: &[23], told: false },
} }

const MANY_TRIES: &[u8] = b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\nGET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n";

fn takes_no_place(case: Neighbour) {
    let stage = Stage::new(CONNECTIONS);
    let agent = stage.world.agent();
    let mut kept = agent.open("openrouter.ai:443");
    let address = if case.tls { tls_address(&stage.world.serve) } else { stage.world.serve.proxy() };
    let held: Vec<TcpStream> = (0..OPENED).map(|_| say(address, case.says)).collect();
    stage.other_is_served();
    assert_eq!(kept.get("openrouter.ai", "/kept").status, 200, "a connection that was there before");
    // An answer to a try is not the end: what is asked is whether the oldest have one.
    let mut oldest = held[0].try_clone().unwrap();
    oldest.set_read_timeout(Some(PATIENCE)).unwrap();
    let all = rest_of(&mut oldest);
    if case.told {
        assert!(all.contains("HTTP/1.1 503 ") && all.contains("\"overloaded\""), "{all:?}");
        audit_says(&stage.world, "failed", "overloaded");
    }
    if case.says.is_empty() {
        within(Duration::from_secs(10), "the oldest have gone, the youngest wait", || {
            let open = held.iter().filter(|stream| !is_over(stream)).count();
            (1..=UNPROVED).contains(&open).then_some(())
        });
    }
    stage.other_is_served();
    drop((held, kept, oldest));
    stage.nothing_of_the_flooder_was_sent();
    stage.ends_well();
}

fn say(address: SocketAddr, what: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    // One that had to go at once is what this is about.
    let _ = stream.write_all(what);
    stream
}

/// Who has proved something stays, however many come after, and however silent it is.
#[test]
fn who_has_proved_something_does_not_go() {
    let stage = Stage::new(CONNECTIONS);
    let agent = stage.world.agent();
    let mut tunnels: Vec<_> = (0..8).map(|_| agent.open("openrouter.ai:443")).collect();
    let held: Vec<_> = (0..OPENED).map(|_| say(stage.world.serve.proxy(), b"")).collect();
    stage.other_is_served();
    for tunnel in &mut tunnels {
        assert_eq!(tunnel.get("openrouter.ai", "/").status, 200);
    }
    drop((tunnels, held));
    stage.ends_well();
}

/// Where even those who have proved something fill all places, whoever comes is told.
#[test]
fn a_full_house_says_so() {
    let stage = Stage::new("[limits]\nconnections = 6\n[limits.per_agent]\nconnections = 6\n");
    let held: Vec<_> = (0..6).map(|_| stage.flooder.connect("openrouter.ai:443")).collect();
    assert!(held.iter().all(|(reply, _)| reply.status == 200));
    for _ in 0..20 {
        let mut stream = say(stage.world.serve.proxy(), b"");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let all = rest_of(&mut stream);
        assert!(all.starts_with("HTTP/1.1 503 ") && all.contains("\"overloaded\""), "{all:?}");
    }
    audit_says(&stage.world, "failed", "overloaded");
    stage.nothing_of_the_flooder_was_sent();
    drop(held);
    within(Duration::from_secs(5), "room again", || (stage.flooder.connect("openrouter.ai:443").0.status == 200).then_some(()));
    stage.ends_well();
}

/// A try without a proof: its status.
pub(super) fn tried(agent: &Agent) -> u16 {
    let mut stream = say(agent.proxy, b"CONNECT openrouter.ai:443 HTTP/1.1\r\n\r\n");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    read_reply(&mut stream, None).unwrap().status
}
