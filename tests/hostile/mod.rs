//! What an agent, an origin or a neighbour with bad intentions tries (SECURITY.md). Each case says what the origin received, or
//! that it received nothing.

mod addresses;
mod audit_truth;
mod availability;
mod case;
mod cores;
mod downgrade;
mod floods;
mod framed;
mod limits;
mod lives;
mod memory;
mod names;
mod pauses;
mod quiet;
mod reach;
mod rebinding;
mod requests;
mod reserved;
mod responses;
mod rules;
mod scrubber;
mod upstream_tls;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Agent, Home, World, within};

/// How long a change may take to be felt.
const SECOND: Duration = Duration::from_secs(1);

/// The records of the audit log that hold all of these texts, within five seconds.
#[track_caller]
fn audited(home: &Home, texts: &[&str]) -> Vec<serde_json::Value> {
    within(Duration::from_secs(5), &format!("a record with {texts:?}"), || {
        let log = std::fs::read_to_string(home.path().join("audit.jsonl")).unwrap_or_default();
        let found: Vec<_> = log.lines().filter(|l| texts.iter().all(|t| l.contains(t))).filter_map(|l| serde_json::from_str(l).ok()).collect();
        (!found.is_empty()).then_some(found)
    })
}

/// Agent `name`, added with these grants.
#[track_caller]
fn another_agent(world: &World, name: &str, grants: &[&str]) -> Agent {
    let mut args = vec!["agent", "add", name];
    grants.iter().for_each(|g| args.extend(["--grant", g]));
    world.home.ok(&args);
    Agent::named(&world.home, &world.serve, name)
}

/// All that comes until the other end closes.
fn rest_of(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    String::from_utf8_lossy(&rest).into_owned()
}

/// Sends bytes to the proxy's port and gives all that comes back until it closes. `{auth}` stands for the agent's proof.
fn raw(agent: &Agent, text: &str) -> String {
    let mut stream = agent.dial();
    stream.write_all(text.replace("{auth}", &agent.authorization).as_bytes()).unwrap();
    rest_of(&mut stream)
}
