//! The audit log when its file is full, and when it cannot be written (CONTRACT 8).

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::support::world::HOSTS;
use crate::support::{Home, Origin, World, fresh_key, within};

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_small_log_rotates_and_verifies_under_way_and_at_the_end() {
    const MAX: u64 = 4 << 10;
    let mut world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), "[audit]\nmax_size = \"4KiB\"\nkeep = 3\n");
    let file = |n: u32| world.home.path().join(format!("audit.jsonl.{n}"));
    let mut conn = world.agent().open("openrouter.ai:443");
    for n in 0..60 {
        assert_eq!(conn.get("openrouter.ai", &format!("/{n}")).status, 200);
    }
    within(LIMIT, "what `keep` says has been filled", || file(3).exists().then_some(()));
    world.home.ok(&["audit", "verify"]);
    drop(conn);
    world.serve.stop();
    assert!(!file(4).exists(), "older files go");
    for path in [world.home.path().join("audit.jsonl"), file(1), file(2), file(3)] {
        let size = std::fs::metadata(&path).unwrap().len();
        assert!((1..=MAX).contains(&size), "{}: {size}", path.display());
    }
    world.home.ok(&["audit", "verify"]);
    // The last request is there, and each file goes on from the one before.
    let mut seqs = Vec::new();
    let mut paths = Vec::new();
    for path in [file(3), file(2), file(1), world.home.path().join("audit.jsonl")] {
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            seqs.push(record["seq"].as_u64().unwrap());
            paths.extend(record["path"].as_str().map(str::to_owned));
        }
    }
    assert!(seqs.windows(2).all(|p| p[0] + 1 == p[1]), "{seqs:?}");
    assert!(paths.contains(&"/59".to_owned()) && !paths.contains(&"/0".to_owned()), "{paths:?}");
    // A file from the middle that is gone shows.
    std::fs::remove_file(file(2)).unwrap();
    assert_eq!(world.home.say(&["audit", "verify"], "").code, 1);
}

/// A log that cannot be opened: a directory is in its place, put there in one step.
struct Blocked {
    log: PathBuf,
    other: PathBuf,
}

impl Blocked {
    fn new(home: &Home) -> Self {
        let blocked = Self { log: home.path().join("audit.jsonl"), other: home.path().join("aside") };
        std::fs::create_dir(&blocked.other).unwrap();
        blocked.exchange();
        blocked
    }

    fn exchange(&self) {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        renameat_with(CWD, &self.log, CWD, &self.other, RenameFlags::EXCHANGE).unwrap();
    }

    fn free(self) {
        self.exchange();
        std::fs::remove_dir(self.other).unwrap();
    }
}

fn ready(world: &World) -> u16 {
    let mut stream = std::net::TcpStream::connect(world.serve.admin()).unwrap();
    let host = world.serve.admin();
    stream.write_all(format!("GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn under_deny_injected_requests_stop_while_the_log_cannot_be_written_and_others_go_on() {
    let mut world = World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), "[audit]\non_failure = \"deny\"\n");
    let agent = world.agent();
    let mut open = agent.open("openrouter.ai:443");
    assert_eq!(open.get("openrouter.ai", "/before").status, 200);
    assert_eq!(ready(&world), 200);

    let blocked = Blocked::new(&world.home);
    // The first request after it finds out.
    within(LIMIT, "the failure is felt", || (agent.get("openrouter.ai", "/probe").status == 503).then_some(()));
    world.origin.forget();
    agent.get("openrouter.ai", "/").expect_own(503, "credential_unavailable");
    open.get("openrouter.ai", "/").expect_own(503, "credential_unavailable");
    assert!(world.origin.recorded().is_empty(), "nothing was sent, with the key or without");
    assert_eq!(agent.get("example.net", "/other").status, 200, "what gets no credential goes on");
    assert_eq!(ready(&world), 503);

    blocked.free();
    within(LIMIT, "injected requests go on", || (agent.get("openrouter.ai", "/after").status == 200).then_some(()));
    assert_eq!(world.origin.last().values("authorization"), [world.bearer()]);
    within(LIMIT, "it is ready again", || (ready(&world) == 200).then_some(()));
    world.serve.stop();
    world.home.ok(&["audit", "verify"]);
    let text = std::fs::read_to_string(world.home.path().join("audit.jsonl")).unwrap();
    for part in ["\"/before\"", "\"/after\"", "\"example.net\""] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn under_allow_requests_go_on_while_the_log_cannot_be_written_and_their_records_follow() {
    let mut world = World::agreeable();
    let agent = world.agent();
    assert_eq!(agent.get("openrouter.ai", "/before").status, 200);
    let blocked = Blocked::new(&world.home);
    assert_eq!(agent.get("openrouter.ai", "/first").status, 200);
    within(LIMIT, "the failure is felt", || (ready(&world) != 200).then_some(()));
    assert_eq!(agent.get("openrouter.ai", "/meanwhile").status, 200);
    blocked.free();
    within(LIMIT, "it is ready again", || (ready(&world) == 200).then_some(()));
    world.serve.stop();
    world.home.ok(&["audit", "verify"]);
    let text = std::fs::read_to_string(world.home.path().join("audit.jsonl")).unwrap();
    for path in ["\"/before\"", "\"/first\"", "\"/meanwhile\""] {
        assert!(text.contains(path), "{path} in {text}");
    }
}
