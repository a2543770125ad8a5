//! What ends, and when: CAs, sessions, tokens, and keys under a stream.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::support::world::HOSTS;
use crate::support::{Agent, Origin, World, fresh_key, within};

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(20);

/// The certificates of the home's `ca.pem`.
fn anchors(world: &World) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(world.home.path().join("ca.pem")).unwrap().map(Result::unwrap).collect()
}

/// The status of a CONNECT by that proof; 0 where it is cut short, as by a session that ends in its midst.
fn connect_status(agent: &Agent) -> u16 {
    agent.try_connect("example.net:443").map_or(0, |(reply, _)| reply.status)
}

#[test]
fn ca_rotate_lets_the_old_ca_sign_on_and_gives_clients_both() {
    let world = World::agreeable();
    // This agent trusts the CA of now, and no later one.
    let old = world.agent();
    assert!(old.open("openrouter.ai:443").intercepted());
    let before = anchors(&world);
    assert_eq!(before.len(), 1);

    world.home.ok(&["ca", "rotate"]);
    let both = anchors(&world);
    assert_eq!(both.len(), 2);
    assert!(both.contains(&before[0]), "the old CA is still given");
    assert_eq!(world.home.ok(&["ca", "export"]).matches("BEGIN CERTIFICATE").count(), 2);
    // A later change is felt, so the rotation is too.
    world.home.add_key("other", &["example.net"], &fresh_key());
    let mut conn = within(SECOND, "the change after it is felt", || old.try_open("example.net:443").ok().filter(|c| c.intercepted()));
    assert_eq!(conn.get("example.net", "/").status, 200, "a leaf made after the rotation is the old CA's");
    assert_eq!(old.get("api.openrouter.ai", "/").status, 200);
    // `env` gives both as well, since clients are to learn the new one in this time.
    let env = world.serve.env_for(&world.home, "default");
    assert_eq!(std::fs::read_to_string(&env["NODE_EXTRA_CA_CERTS"]).unwrap().matches("BEGIN CERTIFICATE").count(), 2);
}

#[test]
fn ca_rotate_now_signs_with_the_new_ca_within_a_second_and_gives_the_old_one_no_more() {
    let world = World::agreeable();
    let old = world.agent();
    let mut open = old.open("openrouter.ai:443");
    let before = anchors(&world);

    world.home.ok(&["ca", "rotate", "--now"]);
    let after = anchors(&world);
    assert!(after.len() == 1 && after[0] != before[0], "the old CA is given no more");
    let new = Agent::new(&world.home, &world.serve);
    // Also for the host whose leaf was made before.
    for host in ["openrouter.ai", "api.openrouter.ai"] {
        let mut conn = within(SECOND, "a new leaf", || new.try_open(&format!("{host}:443")).ok());
        assert!(conn.intercepted());
        assert_eq!(conn.get(host, "/").status, 200);
        assert!(old.try_open(&format!("{host}:443")).is_err(), "nothing is signed by the old CA");
    }
    assert_eq!(open.get("openrouter.ai", "/").status, 200, "an open connection stays");
}

#[test]
fn a_session_of_one_second_expires() {
    let world = World::agreeable();
    // A slow machine may take the second to ask; then it asks again.
    let agent = within(LIMIT, "a session is good at first", || {
        let env = world.home.json_env(&["--ttl", "1s"]);
        let agent = Agent::from_url(&world.home, &world.serve, env["HTTPS_PROXY"].as_str().unwrap());
        (connect_status(&agent) == 200).then_some(agent)
    });
    within(Duration::from_secs(5), "it is refused after its time", || (connect_status(&agent) == 407).then_some(()));
    assert_eq!(connect_status(&world.agent()), 200, "a session of a day goes on");
}

#[test]
fn agent_rotate_ends_the_sessions_and_the_token_before() {
    let world = World::agreeable();
    world.home.ok(&["agent", "add", "other", "--grant", "real"]);
    let session = world.agent();
    let rotate = || {
        let token = world.home.ok(&["agent", "rotate", "default"]);
        Agent::from_url(&world.home, &world.serve, &format!("http://default:{}@proxy", token.trim()))
    };
    let first = rotate();
    within(SECOND, "the session is dead", || (connect_status(&session) == 407).then_some(()));
    assert_eq!(connect_status(&first), 200);
    let session = world.serve.env_for(&world.home, "default");
    let session = Agent::from_url(&world.home, &world.serve, &session["HTTPS_PROXY"]);
    assert_eq!(connect_status(&session), 200, "a new session is good");
    let second = rotate();
    within(SECOND, "token and session are dead", || (connect_status(&first) == 407 && connect_status(&session) == 407).then_some(()));
    assert_eq!(connect_status(&second), 200);
    let other = Agent::named(&world.home, &world.serve, "other");
    assert_eq!(connect_status(&other), 200, "another agent's goes on");
}

/// `run` beside a serve with a command that prints its proxy and waits for the end of its input.
fn run_that_waits(world: &World) -> (Child, Agent) {
    let mut command = world.home.command(&["run", "--", "sh", "-c", "echo \"$HTTPS_PROXY\"; exec cat >/dev/null"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let agent = Agent::from_url(&world.home, &world.serve, line.trim());
    (child, agent)
}

#[test]
fn the_token_of_run_is_dead_once_its_command_has_ended() {
    let world = World::agreeable();
    let (mut child, agent) = run_that_waits(&world);
    assert_eq!(connect_status(&agent), 200);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    within(SECOND, "it is dead", || (connect_status(&agent) == 407).then_some(()));
    assert_eq!(connect_status(&world.agent()), 200);
}

#[test]
fn the_token_of_run_is_dead_once_run_was_killed() {
    let world = World::agreeable();
    let (mut child, agent) = run_that_waits(&world);
    // Its command sees the end of its input only when the test ends: it lives on, without a token.
    let _input = child.stdin.take();
    assert_eq!(connect_status(&agent), 200);
    child.kill().unwrap();
    child.wait().unwrap();
    within(SECOND, "it is dead", || (connect_status(&agent) == 407).then_some(()));
    assert_eq!(connect_status(&world.agent()), 200);
}

#[test]
fn a_stream_goes_on_when_its_key_is_rotated_and_is_scrubbed_of_that_key_still() {
    let (key, next) = (fresh_key(), fresh_key());
    let (go, wait) = mpsc::channel::<()>();
    let (wait, old) = (Mutex::new(wait), key.clone());
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.read_body()?;
        if exchange.request.target != "/stream" {
            return exchange.json(200, "{}");
        }
        let event = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        exchange.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")?;
        exchange.write(event("data: first\n\n"))?;
        for n in 0..3 {
            wait.lock().unwrap().recv_timeout(LIMIT).map_err(std::io::Error::other)?;
            exchange.write(event(&format!("data: {old}\n\ndata: after-{n}\n\n")))?;
        }
        exchange.write("0\r\n\r\n")
    });
    let world = World::with_origin(origin, key.clone());
    let agent = world.agent();
    let mut stream = agent.open("openrouter.ai:443");
    stream.send("GET /stream HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    stream.read_until("data: first\n\n");

    world.home.ok_with(&["credential", "rotate", "real"], &next);
    within(SECOND, "the new key is used", || {
        assert_eq!(agent.get("openrouter.ai", "/").status, 200);
        (world.origin.last().values("authorization") == [format!("Bearer {next}")]).then_some(())
    });
    let mut seen = String::new();
    for n in 0..3 {
        go.send(()).unwrap();
        seen = stream.read_until(&format!("data: after-{n}\n\n"));
        assert!(!seen.contains(&key), "{seen}");
    }
    // And the connection serves on, with the new key.
    if !seen.ends_with("0\r\n\r\n") {
        stream.read_until("0\r\n\r\n");
    }
    assert_eq!(stream.get("openrouter.ai", "/").status, 200);
    assert_eq!(world.origin.last().values("authorization"), [format!("Bearer {next}")]);
}
