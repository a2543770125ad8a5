//! What an agent, or a neighbour, can reach of the proxy's own: its admin listener, its socket, its files, the proofs of others.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::case::{audit_says, cases, is_well, nothing_was_sent, record_of};
use super::{SECOND, another_agent, raw};
use crate::support::over_h2::{code, over, run, told};
use crate::support::world::HOSTS;
use crate::support::{Agent, Home, Origin, Serve, World, fresh_key, skip, within};

/// A world whose operator lets agents reach private addresses: what is refused then is refused for being the proxy's own.
fn open_world() -> World {
    let more = "[egress]\nprivate_addresses = \"allow\"\nallow_hosts = [\"*:*\"]\n";
    World::with_configuration(Origin::agreeable(&HOSTS), fresh_key(), more)
}

cases! { the_admin_listener_is_not_reached_by {
    admin_by_its_address: "127.0.0.1",
    admin_by_a_short_address: "127.1",
    admin_by_a_number: "2130706433",
    admin_in_hexadecimal: "0x7f000001",
    admin_in_octal: "0177.0.0.1",
    admin_by_a_mixed_address: "0x7f.1",
    admin_by_a_trailing_dot: "127.0.0.1.",
    admin_by_localhost: "localhost",
    admin_by_localhost_in_capitals: "LocalHost.",
    admin_by_any_address: "0.0.0.0",
    admin_by_zero: "0",
    admin_by_a_mapped_address: "[::ffff:127.0.0.1]",
    admin_by_a_mapped_address_in_hexadecimal: "[::ffff:7f00:1]",
    admin_by_a_long_mapped_address: "[0:0:0:0:0:FFFF:7F00:0001]",
} }

/// By CONNECT, in absolute form, and both over HTTP/2.
#[track_caller]
fn the_admin_listener_is_not_reached_by(host: &str) {
    let world = open_world();
    let agent = world.agent();
    let port = world.serve.admin().port();
    agent.connect(&format!("{host}:{port}")).0.expect_own(403, "private_address");
    let record = audit_says(&world, "denied", "private_address");
    assert_eq!((record["method"].as_str(), record["port"].as_u64()), (Some("CONNECT"), Some(port.into())), "{record}");
    let absolute = format!("GET http://{host}:{port}/metrics HTTP/1.1\r\nHost: {host}:{port}\r\nProxy-Authorization: {{auth}}\r\n\r\n");
    agent.absolute(&absolute).expect_own(403, "private_address");
    run(async {
        let proxy = over(tokio::net::TcpStream::connect(agent.proxy).await.unwrap(), agent.authorization.clone()).await;
        let (answer, _) = proxy.connect_as(&format!("{host}:{port}"), Some(&proxy.proof)).await;
        assert_eq!(code(&told(answer).await), (403, "private_address"));
        assert_eq!(code(&proxy.get(&format!("http://{host}:{port}/metrics"), &[]).await), (403, "private_address"));
    });
    nothing_was_sent(&world);
    is_well(&world);
}

/// Bytes to the admin listener, and all that it answers.
fn to_admin(admin: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(10 * SECOND)).unwrap();
    stream.write_all(request.replace("{own}", &admin.to_string()).as_bytes()).unwrap();
    super::rest_of(&mut stream)
}

cases! { the_admin_listener_answers {
    a_rebound_name: (421, "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
    a_rebound_name_with_its_port: (421, "GET /metrics HTTP/1.1\r\nHost: evil.example:8879\r\n\r\n"),
    a_name_that_begins_as_its_address: (421, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n"),
    a_name_that_begins_as_localhost: (421, "GET /metrics HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n"),
    a_name_of_an_origin: (421, "GET /metrics HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"),
    another_machine: (421, "GET /metrics HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"),
    an_unreadable_host: (421, "GET /metrics HTTP/1.1\r\nHost: \u{e9}\r\n\r\n"),
    an_empty_host: (421, "GET /metrics HTTP/1.1\r\nHost: \r\n\r\n"),
    a_foreign_target: (421, "GET http://evil.example/metrics HTTP/1.1\r\nHost: {own}\r\n\r\n"),
    a_foreign_host_beside_an_own_target: (421, "GET http://{own}/metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
    two_hosts: (400, "GET /metrics HTTP/1.1\r\nHost: {own}\r\nHost: evil.example\r\n\r\n"),
    no_host: (400, "GET /metrics HTTP/1.1\r\n\r\n"),
    a_post: (405, "POST /metrics HTTP/1.1\r\nHost: {own}\r\nContent-Length: 0\r\n\r\n"),
    a_put: (405, "PUT /healthz HTTP/1.1\r\nHost: {own}\r\nContent-Length: 0\r\n\r\n"),
    a_delete: (405, "DELETE /readyz HTTP/1.1\r\nHost: {own}\r\n\r\n"),
    options: (405, "OPTIONS /metrics HTTP/1.1\r\nHost: {own}\r\nOrigin: https://evil.example\r\n\r\n"),
    a_trace: (405, "TRACE /metrics HTTP/1.1\r\nHost: {own}\r\n\r\n"),
    a_connect: (405, "CONNECT {own} HTTP/1.1\r\nHost: {own}\r\n\r\n"),
    another_path: (404, "GET /../metrics HTTP/1.1\r\nHost: {own}\r\n\r\n"),
    its_socket_by_name: (404, "GET /admin.sock HTTP/1.1\r\nHost: {own}\r\n\r\n"),
} }

#[track_caller]
fn the_admin_listener_answers((status, request): (u16, &str)) {
    let world = World::agreeable();
    let answer = to_admin(world.serve.admin(), request);
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    let low = answer.to_ascii_lowercase();
    assert!(!low.contains("keyhatch_") && !low.contains("access-control") && !low.contains("openrouter"), "{answer}");
    nothing_was_sent(&world);
    is_well(&world);
}

#[test]
fn without_the_token_the_admin_listener_tells_no_names() {
    let key = fresh_key();
    let home = Home::bare("");
    let token = home.outside().join("admin-token");
    std::fs::write(&token, "an-admin-token-of-the-operator").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let more = format!("[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"{}\"\n", token.display());
    let world = World::with_configuration(Origin::agreeable(&HOSTS), key, &more);
    another_agent(&world, "quiet-agent", &["real"]).get("openrouter.ai", "/");
    let ask = |path: &str, field: &str| to_admin(world.serve.admin(), &format!("GET {path} HTTP/1.1\r\nHost: {{own}}\r\n{field}\r\n"));
    let good = "Authorization: Bearer an-admin-token-of-the-operator\r\n";
    within(5 * SECOND, "the token opens it", || ask("/metrics", good).contains("quiet-agent").then_some(()));
    for bad in [
        "",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer an-admin-token-of-the-operato\r\n",
        "Authorization: Bearer an-admin-token-of-the-operatorr\r\n",
        "Authorization: Basic an-admin-token-of-the-operator\r\n",
        "Authorization: Bearer AN-ADMIN-TOKEN-OF-THE-OPERATOR\r\n",
        "Proxy-Authorization: Bearer an-admin-token-of-the-operator\r\n",
        "Cookie: token=an-admin-token-of-the-operator\r\n",
        "Authorization: Bearer x\r\nAuthorization: Bearer an-admin-token-of-the-operator\r\n",
    ] {
        let metrics = ask("/metrics", bad);
        assert!(metrics.starts_with("HTTP/1.1 401 ") && !metrics.contains("quiet-agent") && !metrics.contains("keyhatch_"), "{bad}: {metrics}");
        let ready = ask("/readyz", bad);
        assert!(ready.starts_with("HTTP/1.1 200 ") && !ready.contains("problems") && !ready.contains("quiet-agent"), "{bad}: {ready}");
        assert!(ask("/healthz", bad).starts_with("HTTP/1.1 200 "), "{bad}");
    }
    world.origin.forget();
    is_well(&world);
}

/// The admin socket with its mode and its home's thrown open by mistake: the peer's user is asked for all the same.
#[test]
fn another_user_gets_no_answer_from_the_admin_socket() {
    let test = "another_user_gets_no_answer_from_the_admin_socket";
    if !rustix::process::geteuid().is_root() {
        return skip(test, "not root: no other user can be taken on");
    }
    let world = World::agreeable();
    let socket = world.home.path().join("admin.sock");
    for (path, mode) in [(world.home.outside(), 0o755), (&world.home.path(), 0o755), (&socket, 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let ask = r#"$s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "closed: $!"; print $s "{\"op\":\"session\",\"agent\":\"default\",\"ttl_seconds\":60,\"kind\":\"env\"}\n"; $s->flush; print "got:", scalar <$s>;"#;
    let as_user = |id: &str| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", id, "--regid", id, "--clear-groups", "perl", "-MIO::Socket::UNIX", "-e", ask]).arg(&socket);
        command.output().map(|o| format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr)))
    };
    let Ok(own) = as_user("0") else { return skip(test, "no setpriv or perl") };
    if own.contains("Can't locate") {
        return skip(test, "perl has no IO::Socket::UNIX");
    }
    assert!(own.contains("token"), "the operator is answered: {own}");
    let other = as_user("65534").unwrap();
    assert!(!other.contains("token") && !other.contains("expires"), "{other}");
    assert!(["", "got:"].contains(&other.as_str()) || other.contains("closed:") || other.contains("\"not_allowed\""), "{other}");
    nothing_was_sent(&world);
    is_well(&world);
}

#[test]
fn the_files_of_the_home_are_the_operators_alone() {
    let world = World::agreeable();
    world.agent().get("openrouter.ai", "/");
    let mut found = Vec::new();
    let owner = std::fs::metadata(world.home.path()).unwrap();
    assert_eq!(owner.mode() & 0o777, 0o700);
    let mut todo = vec![world.home.path()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                todo.push(entry.path());
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            // What is public, and what the test itself wrote.
            if !name.ends_with(".pem") && name != "keyhatch.toml" {
                assert_eq!(meta.mode() & 0o077, 0, "{}: {:o}", entry.path().display(), meta.mode());
            }
            assert_eq!((meta.mode() & 0o022, meta.uid()), (0, owner.uid()), "{}: {:o}", entry.path().display(), meta.mode());
            found.push(name);
        }
    }
    for name in ["store.db", "audit.jsonl", "admin.sock"] {
        assert!(found.iter().any(|n| n == name), "{name} in {found:?}");
    }
    let key = world.home.outside().join("key-file");
    assert_eq!(std::fs::metadata(key).unwrap().mode() & 0o077, 0);
    world.origin.forget();
    is_well(&world);
}

/// What the command of `run` says of itself, beside a `serve` and with a proxy of `run`'s own.
const TELL: &str = "ls -l /proc/$$/fd; echo; env; echo; tr '\\0' '\\n' </proc/$$/environ; tr '\\0' ' ' </proc/$PPID/cmdline";

#[test]
fn the_command_of_run_inherits_nothing_of_ours() {
    let mut world = World::agreeable();
    for (name, value) in [
        ("KEYHATCH_PASSPHRASE", "a-passphrase-of-the-operator"),
        ("VAULT_TOKEN", "hvs.a-token-of-the-operator"),
        ("BAO_TOKEN", "s.another-token-of-the-operator"),
        ("VAULT_ADDR", "http://127.0.0.1:9"),
        ("KEYHATCH_LOG", "debug"),
    ] {
        world.home.set(name, Some(value));
    }
    let key = world.key.clone();
    let mut look = |own: bool| {
        let said = world.home.say(&["run", "--", "sh", "-c", TELL], "");
        assert_eq!(said.code, 0, "{own}: {said:?}");
        let (descriptors, rest) = said.stdout.split_once("\n\n").unwrap();
        for line in descriptors.lines().filter(|l| l.contains("->")) {
            let (number, target) = line.rsplit_once(" -> ").unwrap();
            let number: u32 = number.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(number <= 2 && !target.contains("store.db") && !target.contains("admin.sock"), "{own}: {line}");
        }
        for word in ["of-the-operator", "KEYHATCH_PASSPHRASE", "KEYHATCH_HOME", "VAULT_", "BAO_", key.as_str()] {
            assert!(!rest.contains(word), "{own}: {word} in {rest}");
        }
        assert!(rest.contains("HTTPS_PROXY="), "{rest}");
        if !own {
            is_well(&world);
            world.serve.stop();
            // This store's is a key file; a passphrase beside it would be refused.
            world.home.set("KEYHATCH_PASSPHRASE", None);
        }
    };
    look(false);
    look(true);
}

fn basic(name: &str, token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{token}")))
}

cases! { a_proof_is_not_taken {
    a_name_in_capitals: |_, t| basic("DEFAULT", t),
    a_name_with_a_space: |_, t| basic("default ", t),
    a_percent_encoded_name: |_, t| basic("%64efault", t),
    a_name_with_a_nul: |_, t| basic("default\0", t),
    a_name_with_a_look_alike: |_, t| basic("d\u{435}fault", t),
    a_name_with_an_invisible_mark: |_, t| basic("default\u{200b}", t),
    a_name_with_a_line_end: |_, t| basic("default\r\nX: y", t),
    an_empty_name: |_, t| basic("", t),
    another_agents_name: |_, t| basic("second", t),
    a_name_that_is_nobodys: |_, t| basic("nobody", t),
    a_token_cut_by_one: |_, t| basic("default", &t[..t.len() - 1]),
    a_token_one_longer: |_, t| basic("default", &format!("{t}A")),
    a_token_with_padding: |_, t| basic("default", &format!("{t}=")),
    a_token_with_a_space: |_, t| basic("default", &format!("{t} ")),
    a_token_twice: |_, t| basic("default", &format!("{t}{t}")),
    a_token_in_other_case: |_, t| basic("default", &t.chars().map(flip).collect::<String>()),
    a_token_with_another_first_letter: |_, t| basic("default", &altered(t, 4)),
    a_token_with_another_claim: |_, t| basic("default", &altered(t, 8)),
    a_token_with_another_expiry: |_, t| basic("default", &altered(t, 20)),
    a_token_with_another_mac: |_, t| basic("default", &altered(t, t.len() - 3)),
    a_token_with_other_last_bits: |_, t| basic("default", &altered(t, t.len() - 1)),
    a_token_under_the_other_prefix: |_, t| basic("default", &t.replacen("khs_", "kha_", 1)),
    a_token_without_its_prefix: |_, t| basic("default", t.trim_start_matches("khs_")),
    only_a_prefix: |_, _| basic("default", "khs_"),
    no_token: |_, _| basic("default", ""),
    no_colon: |_, t| format!("Basic {}", STANDARD.encode(t)),
    the_token_in_the_names_place: |_, t| basic(t, "default"),
    a_long_token: |_, t| basic("default", &t.repeat(100)),
    another_scheme: |_, t| format!("Digest {t}"),
    a_bearer_with_the_name: |_, t| format!("Bearer default:{t}"),
    two_proofs: |_, t| format!("{}\r\nProxy-Authorization: {}", basic("default", t), basic("default", t)),
    a_token_of_another_home: |w, _| of_another_home(w),
    a_token_replayed_after_rotate: |w, t| { w.home.ok(&["agent", "rotate", "default"]); basic("default", t) },
    a_token_of_a_removed_agent: |w, _| {
        let second = Agent::named(&w.home, &w.serve, "second");
        w.home.ok(&["agent", "remove", "second"]);
        second.authorization
    },
    a_token_of_an_agent_that_came_again: |w, _| {
        let second = Agent::named(&w.home, &w.serve, "second");
        w.home.ok(&["agent", "remove", "second"]);
        w.home.ok(&["agent", "add", "second", "--grant", "real"]);
        second.authorization
    },
} }

fn flip(c: char) -> char {
    if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
}

/// The text with another letter at this place.
fn altered(text: &str, at: usize) -> String {
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

fn of_another_home(world: &World) -> String {
    let home = Home::with_key_file("");
    let serve = Serve::start(&home);
    let other = Agent::new(&home, &serve).authorization;
    assert_ne!(other, world.agent().authorization);
    other
}

#[track_caller]
fn a_proof_is_not_taken(make: fn(&World, &str) -> String) {
    let mut world = World::agreeable();
    world.home.ok(&["agent", "add", "second", "--grant", "real"]);
    let own = world.agent();
    let pair = STANDARD.decode(own.authorization.trim_start_matches("Basic ")).unwrap();
    let token = String::from_utf8(pair).unwrap().split_once(':').unwrap().1.to_owned();
    let mut forged = own;
    forged.authorization = make(&world, &token);
    let reply = within(5 * SECOND, "what was changed is felt", || {
        let reply = forged.connect("openrouter.ai:443").0;
        (reply.status != 200).then_some(reply)
    });
    reply.expect_own(407, "proxy_auth_required");
    let absolute =
        raw(&forged, "GET http://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {auth}\r\nConnection: close\r\n\r\n");
    assert!(absolute.starts_with("HTTP/1.1 407 "), "{absolute}");
    let record = record_of(&world, "proxy_auth_required");
    assert!(record["agent"].is_null() && record["credential"].is_null() && record["decision"] == "denied", "{record}");
    nothing_was_sent(&world);
    // The present one, for what follows.
    world.serve.env = world.serve.env_for(&world.home, "default");
    is_well(&world);
}

/// An agent's connections go with the agent: neither another agent nor a later one of its name is served on them.
#[test]
fn upstream_connections_over_http1_are_nobody_elses() {
    let world = World::agreeable();
    let used = |agent: &Agent| {
        assert_eq!(agent.get("openrouter.ai", "/").status, 200);
        world.origin.last().connection
    };
    let (ours, second) = (world.agent(), another_agent(&world, "second", &["real"]));
    let (first, theirs) = (used(&ours), used(&second));
    assert_ne!(first, theirs, "two agents");
    assert_eq!(used(&second), theirs, "one agent's connection is kept for its next request");
    world.home.ok(&["agent", "remove", "second"]);
    let again = another_agent(&world, "second", &["real"]);
    let later = used(&again);
    assert!(later != theirs && later != first, "a later agent of the same name");
    world.home.ok(&["agent", "rotate", "second"]);
    let rotated = within(5 * SECOND, "felt", || {
        (again.connect("openrouter.ai:443").0.status == 407).then(|| Agent::named(&world.home, &world.serve, "second"))
    });
    assert!(![first, theirs, later].contains(&used(&rotated)), "after a rotate");
    assert_eq!(used(&ours), first, "the others keep theirs");
    assert!(super::audited(&world.home, &["agent.remove"]).len() == 1);
    world.origin.forget();
    is_well(&world);
}

#[test]
fn upstream_connections_over_http2_are_nobody_elses() {
    use crate::support::wire::{self, Ask, Protocol, WireAgent};
    wire::run(async {
        let stage = wire::Stage::start(|mut turn: wire::Turn| async move { turn.answer(200, "ok").await }).await;
        let named = |name: &str| {
            let authorization = Some(crate::support::raw::authorization(&stage.serve.env_for(&stage.home, name)["HTTPS_PROXY"]));
            WireAgent { authorization, ..stage.agent() }
        };
        let used = async |agent: &WireAgent| {
            let answer = agent.open("two.matched.test", Protocol::H1).await.ask(&Ask::get("/")).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            stage.h2.seen().last().unwrap().connection
        };
        stage.home.ok(&["agent", "add", "second", "--grant", "real"]);
        let (first, theirs) = (used(&stage.agent()).await, used(&named("second")).await);
        assert_ne!(first, theirs, "two agents");
        assert_eq!(used(&named("second")).await, theirs, "one agent's connection is shared by its requests");
        stage.home.ok(&["agent", "remove", "second"]);
        stage.home.ok(&["agent", "add", "second", "--grant", "real"]);
        let later = used(&named("second")).await;
        assert!(later != theirs && later != first, "a later agent of the same name: {later}");
        let log = stage.serve.log();
        assert!(!log.contains("panicked") && !log.contains(&stage.key), "{log}");
    });
}

/// The rest of a request whose head was refused for its proof is nobody's request.
#[test]
fn a_request_behind_a_refused_proof_is_not_answered() {
    let world = World::agreeable();
    let mut stream = world.agent().dial();
    let head = "CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\nContent-Length: 400\r\n\r\n";
    let absolute =
        format!("GET http://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {}\r\n\r\n", world.agent().authorization);
    stream.write_all(format!("{head}{absolute}").as_bytes()).unwrap();
    stream.set_read_timeout(Some(5 * SECOND)).unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let all = String::from_utf8_lossy(&all);
    assert!(all.starts_with("HTTP/1.1 4") && all.matches("HTTP/1.1 ").count() == 1, "{all}");
    nothing_was_sent(&world);
    is_well(&world);
}
