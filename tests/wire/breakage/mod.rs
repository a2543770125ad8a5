//! After every kind of breakage the next requests get right answers, and nothing is left behind.

mod by_agents;
mod by_frames;
mod by_origins;
mod refused;

use std::io::{Read as _, Write as _};
use std::time::Duration;

use crate::support::Serve;
use crate::support::wire::{Answer, Ask, Ending, Line, Protocol, WireAgent, until};

/// What a proxy holds open.
struct Watch<'a> {
    serve: &'a Serve,
    descriptors: usize,
}

impl<'a> Watch<'a> {
    /// What it holds now is what it may hold later, and a few pooled connections.
    fn over(serve: &'a Serve) -> Self {
        Self { serve, descriptors: descriptors(serve) }
    }

    /// Waits until no agent's connection is open and the descriptors are as few as before.
    async fn settles(&self, case: &str) {
        let what = format!("{case}: nothing is left behind");
        let most = self.descriptors + 2;
        let settled = || {
            let open = number(self.serve, "keyhatch_client_connections_open") + number(self.serve, "keyhatch_tunnels_open");
            (open == 0 && descriptors(self.serve) <= most).then_some(())
        };
        let start = std::time::Instant::now();
        while settled().is_none() {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{what}: {} client connections, {} tunnels, {} descriptors of {most}",
                number(self.serve, "keyhatch_client_connections_open"),
                number(self.serve, "keyhatch_tunnels_open"),
                descriptors(self.serve)
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn descriptors(serve: &Serve) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", serve.pid())).unwrap().count()
}

/// A number of `/metrics`.
fn number(serve: &Serve, name: &str) -> u64 {
    let mut stream = std::net::TcpStream::connect(serve.admin()).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", serve.admin()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '))).unwrap_or_else(|| panic!("{name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// What an agent that was broken off saw: no whole answer of the origin's, but a reset, a cut, or the proxy's own 502.
#[track_caller]
fn expect_failure(case: &str, answer: &Answer) {
    let own = answer.status == 502 && answer.fields.iter().any(|(name, value)| name == "proxy-status" && value.starts_with(b"keyhatch"));
    assert!(own || answer.ending != Ending::Whole, "{case}: it must not look whole: {answer:?}");
}

/// Requests after a breakage: over the same connection of the agent where it lives, and over another one, each with an answer of its own.
async fn right_answers(case: &str, line: Option<&Line>, agent: &WireAgent, host: &str, protocol: Protocol) {
    let another = agent.open(host, protocol).await;
    for (which, line) in [("the same connection", line), ("another connection", Some(&another))] {
        for text in ["one", "two", "three"] {
            let Some(line) = line else { continue };
            let answer = line.ask(&Ask::post("/echo", text)).await;
            assert_eq!((answer.status, answer.text().as_str(), answer.ending), (200, text, Ending::Whole), "{case}, then {which}: {answer:?}");
        }
    }
    another.vanish();
}

/// Runs every row of a table one after the other, and fails with the names of those that failed.
async fn each<R, T>(rows: impl IntoIterator<Item = (String, R)>, test: impl Fn(R) -> T)
where
    T: Future<Output = ()> + Send + 'static,
{
    let mut failed = Vec::new();
    for (name, row) in rows {
        println!("-- {name}");
        // A task of its own: a failure of one row does not hide the others.
        if tokio::spawn(test(row)).await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Waits until the condition holds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    until(Duration::from_secs(5), what, || holds().then_some(())).await;
}
