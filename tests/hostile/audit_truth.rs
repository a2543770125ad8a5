//! What an agent does to the audit log: forge records, flood it, have it cut short, confuse who reads it.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::SECOND;
use super::case::{cases, is_well, nothing_was_sent};
use crate::support::raw::read_reply;
use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Home, Origin, Serve, World, fresh_key, skip, within};

/// A record as someone would forge it.
const FORGED: &str = "{\"seq\":1,\"ts\":\"2020-01-01T00:00:00Z\",\"event\":\"forged\"}";

/// A CONNECT with this target, and the agent's own proof.
fn connect(target: &str) -> Vec<u8> {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {{auth}}\r\n\r\n").into_bytes()
}

/// A CONNECT whose proof has this name.
fn user(name: &str) -> Vec<u8> {
    let proof = STANDARD.encode(format!("{name}:khs_forged"));
    format!("CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\nProxy-Authorization: Basic {proof}\r\n\r\n").into_bytes()
}

/// A request in absolute form for this path, with more fields.
fn absolute(method: &str, host: &str, path: &str, fields: &str) -> Vec<u8> {
    let head = format!("{method} http://{host}{path} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: {{auth}}\r\n{fields}Connection: close\r\n\r\n");
    head.into_bytes()
}

fn latin1(mut request: Vec<u8>) -> Vec<u8> {
    request.iter_mut().filter(|b| **b == b'~').for_each(|b| *b = 0xe9);
    request
}

cases! { the_log_stays_true_under {
    a_line_end_in_the_target: connect(&format!("example.net:443\n{FORGED}")),
    a_record_as_the_target: connect(FORGED),
    a_quote_in_the_target: connect("a\",\"decision\":\"injected\",\"x\":\"b:443"),
    an_escape_in_the_target: connect("\u{1b}[2Jexample.net:443"),
    a_bidi_mark_in_the_target: connect("example.net\u{202e}:443"),
    an_osc_in_the_target: connect("\u{9d}0;title\u{9c}:443"),
    latin_1_in_the_target: latin1(connect("ex~mple.net:443")),
    a_long_target: connect(&format!("{}.net:443", "a".repeat(100_000))),
    a_target_of_a_mebibyte: connect(&format!("{}.net:443", "a".repeat(1 << 20))),
    a_target_of_many_labels: connect(&format!("{}net:443", "a.".repeat(20_000))),
    a_line_end_in_the_user: user(&format!("default\n{FORGED}\n")),
    an_escape_in_the_user: user("\u{1b}]0;x\u{7}default"),
    a_bidi_mark_in_the_user: user("\u{202e}tluafed"),
    a_record_as_the_user: user(FORGED),
    a_long_user: user(&"default".repeat(4000)),
    a_user_of_control_characters: user("\u{1}\u{2}\u{8}\u{b}\u{7f}\u{85}"),
    a_quote_in_the_path: absolute("GET", "example.net", "/\",\"agent\":\"other\",\"x\":\"", ""),
    a_backslash_in_the_path: absolute("GET", "example.net", "/\\u001b[2J\\", ""),
    an_escape_in_the_path: absolute("GET", "example.net", "/\u{1b}[2J", ""),
    a_bidi_mark_in_the_path: absolute("GET", "example.net", "/\u{202e}/live", ""),
    an_escaped_line_end_in_the_path: absolute("GET", "example.net", &format!("/%0a{}", "%7b%22seq%22:1%7d"), ""),
    latin_1_in_the_path: latin1(absolute("GET", "example.net", "/~", "")),
    a_path_of_a_mebibyte: absolute("GET", "example.net", &format!("/{}", "p".repeat(1 << 20)), ""),
    a_long_path: absolute("GET", "example.net", &format!("/{}", "p".repeat(7000)), ""),
    a_record_as_the_method: absolute(FORGED, "example.net", "/", ""),
    a_long_method: absolute(&"M".repeat(5000), "example.net", "/", ""),
    an_escape_in_the_host: absolute("GET", "exa\u{1b}mple.net", "/", ""),
    a_host_of_a_mebibyte: absolute("GET", &"h".repeat(1 << 20), "/", ""),
    an_invisible_mark_in_the_host: absolute("GET", "example\u{200b}.net", "/", ""),
    a_record_as_the_user_agent: absolute("GET", "example.net", "/", &format!("User-Agent: {FORGED}\r\n")),
    an_escape_in_the_user_agent: absolute("GET", "example.net", "/", "User-Agent: \u{1b}[2J\u{202e}\r\n"),
    a_forged_id: absolute("GET", "example.net", "/", "X-Request-Id: 0000000000000001\r\nProxy-Status: keyhatch; id=1\r\n"),
    bytes_that_are_no_request: [0xff, 0xfe, 0x1b, b'[', b'2', b'J', b'\n', b'\r', b'\n', b'\r', b'\n'].to_vec(),
    a_record_instead_of_a_request: format!("{FORGED}\r\n\r\n").into_bytes(),
} }

/// Whatever an agent sends: one short record at most, in which nothing could move a terminal's cursor or end a line, and none that
/// says what it does not.
#[track_caller]
fn the_log_stays_true_under(request: Vec<u8>) {
    let world = World::agreeable();
    let agent = world.agent();
    let request = match memchr::memmem::find(&request, b"{auth}") {
        Some(at) => [&request[..at], agent.authorization.as_bytes(), &request[at + 6..]].concat(),
        None => request,
    };
    let mut stream = agent.dial();
    // What is too long is refused before it is all read.
    let _ = stream.write_all(&request);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 5"), "{}", String::from_utf8_lossy(&answer));
    assert!(world.origin.recorded().iter().all(|got| got.values("authorization").is_empty()), "no key was put on");
    world.origin.forget();
    is_well(&world);
    // The last request's record is there, so the others are.
    super::audited(&world.home, &["\"/after-the-case\""]);
    let records = sound(&world.home);
    let own: Vec<&Value> = records.iter().filter(|r| r["id"].is_string() && r["path"] != "/after-the-case" && r["host"] != "openrouter.ai").collect();
    assert!(own.len() <= 1, "one request, one record: {own:?}");
    assert!(records.iter().all(|r| r["event"] != "forged" && r["agent"] != "other"), "{records:?}");
    for args in [&["audit", "tail"][..], &["audit", "tail", "--json"]] {
        is_plain(&args.join(" "), &world.home.ok(args));
    }
    is_plain("the log", &world.serve.log());
}

/// The log verifies, its lines are plain and short, its numbers rise by one; its records.
#[track_caller]
fn sound(home: &Home) -> Vec<Value> {
    home.ok(&["audit", "verify"]);
    let text = std::fs::read_to_string(home.path().join("audit.jsonl")).unwrap();
    is_plain("audit.jsonl", &text);
    let records: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
    let seqs: Vec<u64> = records.iter().map(|r| r["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
    assert!(text.lines().all(|l| l.len() < 16 << 10), "no record is long");
    records
}

#[track_caller]
fn is_plain(place: &str, text: &str) {
    let bad = text.chars().find(|&c| c != '\n' && keyhatch::telemetry::escape::is_unsafe(c));
    assert!(bad.is_none(), "{bad:?} in {place}: {}", text.escape_debug());
}

/// Each of 2,000 requests, over eight connections at once, has one record of its own.
#[test]
fn a_flood_has_one_record_a_request() {
    let world = World::agreeable();
    let agent = world.agent();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let agent = &agent;
            scope.spawn(move || {
                let mut conn = agent.open("openrouter.ai:443");
                for n in 0..250 {
                    assert_eq!(conn.get("openrouter.ai", &format!("/flood/{thread}/{n}")).status, 200);
                }
            });
        }
    });
    within(10 * SECOND, "all are recorded", || {
        let text = std::fs::read_to_string(world.home.path().join("audit.jsonl")).unwrap();
        (text.matches("\"/flood/").count() >= 2000).then_some(())
    });
    let records = sound(&world.home);
    let of: Vec<&Value> = records.iter().filter(|r| r["path"].as_str().is_some_and(|p| p.starts_with("/flood/"))).collect();
    let different = |name: &str| of.iter().map(|r| r[name].to_string()).collect::<HashSet<_>>().len();
    assert_eq!((of.len(), different("id"), different("path"), different("seq")), (2000, 2000, 2000, 2000));
    assert!(of.iter().all(|r| r["decision"] == "injected" && r["agent"] == "default" && r["status"] == 200));
    assert_eq!(world.origin.recorded().len(), 2000);
    is_well(&world);
}

/// Without a proof a peer can write one short record a request, and the proxy chooses its words but for the host.
#[test]
fn what_an_unproved_peer_writes_is_bounded() {
    let world = World::agreeable();
    let agent = world.agent();
    let size = || std::fs::metadata(world.home.path().join("audit.jsonl")).unwrap().len();
    let before = size();
    let path = "p".repeat(6000);
    for _ in 0..100 {
        let mut stream = agent.dial();
        let fields = "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(100);
        write!(stream, "GET http://example.net/{path} HTTP/1.1\r\nHost: example.net\r\n{fields}Connection: close\r\n\r\n").unwrap();
        read_reply(&mut stream, None).unwrap().expect_own(407, "proxy_auth_required");
    }
    within(5 * SECOND, "all are recorded", || {
        (sound(&world.home).iter().filter(|r| r["reason"] == "proxy_auth_required").count() == 100).then_some(())
    });
    let each = (size() - before) / 100;
    assert!(each < 2500, "{each} bytes a request");
    assert!(sound(&world.home).iter().filter(|r| r["reason"] == "proxy_auth_required").all(|r| r["agent"].is_null() && r["credential"].is_null()));
    nothing_was_sent(&world);
    is_well(&world);
}

/// A `serve` whose home is on a small file system of its own.
struct Small {
    world: Option<World>,
    place: PathBuf,
}

impl Small {
    fn new(more: &str) -> Option<Self> {
        let mut home = Home::bare("");
        let place = home.path();
        let mount =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"]).arg(&place).stderr(Stdio::null()).status();
        if !mount.is_ok_and(|s| s.success()) {
            return None;
        }
        let mut small = Self { world: None, place };
        let (origin, key) = (Origin::agreeable(&HOSTS), fresh_key());
        let text = configuration(&home, &origin, more);
        home.configure(&text);
        home.init_with_key_file();
        home.add_key("real", &["*.openrouter.ai"], &key);
        let serve = Serve::start(&home);
        small.world = Some(World { serve, origin, home, key });
        Some(small)
    }

    fn world(&self) -> &World {
        self.world.as_ref().unwrap()
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let filler = self.place.join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        for piece in [4096, 1] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
        filler
    }

    /// What the admin listener says.
    fn admin(&self, path: &str) -> String {
        let admin = self.world().serve.admin();
        let mut stream = TcpStream::connect(admin).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").unwrap();
        super::rest_of(&mut stream)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if let Some(world) = &mut self.world {
            world.serve.kill();
        }
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.place).status();
    }
}

#[test]
fn on_a_full_disk_under_allow_what_is_lost_is_counted_and_said() {
    let Some(small) = Small::new("") else { return skip("on_a_full_disk_under_allow", "this machine lets nobody mount a file system") };
    let (world, agent) = (small.world(), small.world().agent());
    assert_eq!(agent.get("openrouter.ai", "/before").status, 200);
    super::audited(&world.home, &["\"/before\""]);
    let filler = small.fill();
    // More than the queue holds: each without a proof, and refused.
    let flood = || {
        let mut stream = agent.dial();
        let head = "GET http://example.net/flooding HTTP/1.1\r\nHost: example.net\r\n\r\n";
        for _ in 0..50 {
            stream.write_all(head.as_bytes()).unwrap();
            assert_eq!(read_reply(&mut stream, None).unwrap().status, 407);
        }
    };
    within(60 * SECOND, "records are lost and counted", || {
        std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(flood))));
        let metrics = small.admin("/metrics");
        let line = metrics.lines().find(|l| l.starts_with("keyhatch_audit_records_lost_total")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().is_ok_and(|n| n > 0).then_some(())
    });
    assert!(small.admin("/readyz").starts_with("HTTP/1.1 503 "), "it says that it is not well");
    world.origin.forget();
    assert_eq!(agent.get("openrouter.ai", "/meanwhile").status, 200, "under allow requests go on");
    assert_eq!(world.origin.last().values("authorization"), [world.bearer()]);
    std::fs::remove_file(filler).unwrap();
    within(10 * SECOND, "it is ready again", || small.admin("/readyz").starts_with("HTTP/1.1 200 ").then_some(()));
    let lost = super::audited(&world.home, &["audit.lost"]);
    let count: u64 = lost.iter().map(|r| r["count"].as_u64().unwrap()).sum();
    let metrics = small.admin("/metrics");
    assert!(metrics.contains(&format!("keyhatch_audit_records_lost_total {count}\n")), "{count}: {metrics}");
    sound(&world.home);
    is_well(world);
}

#[test]
fn on_a_full_disk_under_deny_injected_requests_stop_until_there_is_room() {
    let Some(small) = Small::new("[audit]\non_failure = \"deny\"\n") else {
        return skip("on_a_full_disk_under_deny", "this machine lets nobody mount a file system");
    };
    let (world, agent) = (small.world(), small.world().agent());
    assert_eq!(agent.get("openrouter.ai", "/before").status, 200);
    super::audited(&world.home, &["\"/before\""]);
    let filler = small.fill();
    within(10 * SECOND, "the failure is felt", || (agent.get("openrouter.ai", "/probe").status == 503).then_some(()));
    world.origin.forget();
    agent.get("openrouter.ai", "/").expect_own(503, "credential_unavailable");
    nothing_was_sent(world);
    assert!(small.admin("/readyz").starts_with("HTTP/1.1 503 "));
    std::fs::remove_file(filler).unwrap();
    within(10 * SECOND, "they go on", || (agent.get("openrouter.ai", "/after").status == 200).then_some(()));
    within(10 * SECOND, "it is ready again", || small.admin("/readyz").starts_with("HTTP/1.1 200 ").then_some(()));
    let records = within(5 * SECOND, "what was refused is recorded", || {
        let records = sound(&world.home);
        records.iter().any(|r| r["path"] == "/after").then_some(records)
    });
    assert!(records.iter().any(|r| r["reason"] == "credential_unavailable"), "{records:?}");
    is_well(world);
}

/// What the agent cannot touch: the file is the operator's, and a record that is cut or changed shows.
#[test]
fn a_record_that_is_cut_out_shows() {
    let mut world = World::agreeable();
    let agent: Agent = world.agent();
    for n in 0..3 {
        agent.get("openrouter.ai", &format!("/{n}"));
    }
    super::audited(&world.home, &["\"/2\""]);
    is_well(&world);
    world.serve.stop();
    let file = world.home.path().join("audit.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let without: String = text.lines().filter(|l| !l.contains("\"/1\"")).map(|l| format!("{l}\n")).collect();
    for (case, forged) in [("cut out", without), ("changed", text.replace("\"/1\"", "\"/9\"")), ("added", format!("{text}{FORGED}\n"))] {
        std::fs::write(&file, forged).unwrap();
        assert_eq!(world.home.say(&["audit", "verify"], "").code, 1, "{case}");
    }
}
