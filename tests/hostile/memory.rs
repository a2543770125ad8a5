//! Where a key stands in the proxy's memory, read as a debugger would: once, in pages set aside for it, and nowhere once it is
//! rotated or removed.

use std::time::Duration;

use super::case::{cases, is_well};
use super::{SECOND, another_agent, raw};
use crate::support::memory::{Place, places, readable};
use crate::support::wire::{self, Ask, Protocol, WireAgent};
use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Bao, Home, Origin, Serve, World, fresh_key, skip, within};

/// How long buffers may still be in use after the last answer.
const SOON: Duration = Duration::from_secs(5);

/// An origin that answers as the path says.
fn world() -> World {
    let key = fresh_key();
    let echoed = key.clone();
    let origin = Origin::start(&HOSTS, move |exchange| {
        let path = exchange.request.target.clone();
        if path.starts_with("/cut") {
            exchange.close();
            return Ok(());
        }
        exchange.read_body()?;
        match path.as_str() {
            "/close" => {
                exchange.answer(200, "Connection: close\r\n", b"ok")?;
                exchange.close();
                Ok(())
            }
            "/switch" => exchange.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
            "/echo" => exchange.answer(200, &format!("X-Echo: {echoed}\r\n"), echoed.as_bytes()),
            _ => exchange.json(200, "{}"),
        }
    });
    World::with_origin(origin, key)
}

/// Whether this process may read another's memory at all; else the test is named as skipped.
fn may_read(world: &World) -> bool {
    let may = readable(world.serve.pid());
    if !may {
        skip("hostile::memory", "the memory of another process cannot be read here");
    }
    may
}

/// Whether locked pages are to be had in any number that matters here.
fn may_lock() -> bool {
    rustix::process::getrlimit(rustix::process::Resource::Memlock).current.is_none_or(|bytes| bytes >= 1 << 20)
}

/// The text stands in the process's memory once, in pages that are set aside for secrets.
#[track_caller]
fn stands_once(pid: u32, text: &str) {
    let mut last = Vec::new();
    let start = std::time::Instant::now();
    while start.elapsed() < SOON {
        last = places(pid, text.as_bytes());
        if let [Place { undumped: true, locked, .. }] = last.as_slice() {
            assert!(*locked || !may_lock(), "{last:#?}");
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("not once and set aside: {last:#?}");
}

/// It stands nowhere.
#[track_caller]
fn stands_nowhere(pid: u32, text: &str) {
    let mut last = Vec::new();
    let start = std::time::Instant::now();
    while start.elapsed() < SOON {
        last = places(pid, text.as_bytes());
        if last.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it is still there: {last:#?}");
}

fn ask(world: &World, request: &str) {
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send(request);
    let _ = conn.try_reply();
}

fn over_http2(world: &World) -> WireAgent {
    let authorization = Some(world.agent().authorization);
    WireAgent { to: world.serve.proxy(), authorization, ca: world.home.path().join("ca.pem"), window: 256 << 10 }
}

cases! { one_copy_is_left_by {
    a_request: |w| ask(w, "GET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"),
    a_hundred_requests_on_one_connection: |w| {
        let mut conn = w.agent().open("openrouter.ai:443");
        (0..100).for_each(|n| assert_eq!(conn.get("openrouter.ai", &format!("/{n}")).status, 200));
    },
    twenty_connections: |w| (0..20).for_each(|_| ask(w, "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: close\r\n\r\n")),
    many_at_once: |w| std::thread::scope(|scope| {
        (0..16).for_each(|_| drop(scope.spawn(|| ask(w, "GET / HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"))));
    }),
    two_agents: |w| {
        let second = another_agent(w, "second", &["real"]);
        for agent in [&w.agent(), &second] {
            (0..5).for_each(|_| assert_eq!(agent.get("openrouter.ai", "/").status, 200));
        }
    },
    a_short_body: |w| ask(w, "POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 5\r\n\r\nhello"),
    a_body_of_a_mebibyte: |w| {
        ask(w, &format!("POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: {}\r\n\r\n{}", 1 << 20, "b".repeat(1 << 20)));
    },
    a_body_in_chunks: |w| {
        let chunks = format!("1000\r\n{}\r\n", "c".repeat(0x1000)).repeat(40);
        ask(w, &format!("POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"));
    },
    a_body_with_trailers: |w| {
        let trailers = (0..40).map(|n| format!("X-Sum-{n}: {}\r\n", "0123456789".repeat(9))).collect::<String>();
        ask(w, &format!("POST / HTTP/1.1\r\nHost: openrouter.ai\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n{trailers}\r\n"));
    },
    a_long_head: |w| ask(w, &format!("GET / HTTP/1.1\r\nHost: openrouter.ai\r\n{}\r\n", "X-Long: 0123456789abcdef0123456789abcdef\r\n".repeat(80))),
    a_long_target: |w| ask(w, &format!("GET /{} HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n", "t".repeat(6000))),
    a_head_request: |w| ask(w, "HEAD / HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: close\r\n\r\n"),
    a_placeholder: |w| ask(w, "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nAuthorization: Bearer sk-or-keyhatch-placeholder-real\r\n\r\n"),
    an_upgrade: |w| ask(w, "GET /switch HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"),
    an_origin_that_breaks_off: |w| (0..3).for_each(|_| ask(w, "GET /cut HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n")),
    an_origin_that_breaks_off_in_a_body: |w| {
        ask(w, &format!("POST /cut HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: {}\r\n\r\n{}", 1 << 20, "b".repeat(1 << 20)));
    },
    an_origin_that_closes: |w| (0..3).for_each(|_| ask(w, "GET /close HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n")),
    an_agent_that_goes_away: |w| {
        let mut conn = w.agent().open("openrouter.ai:443");
        conn.send("POST / HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 1000\r\n\r\nhalf");
        within(SOON, "the head arrives", || (!w.origin.recorded().is_empty()).then_some(()));
    },
    an_agent_over_http2: |w| wire::run(async {
        let line = over_http2(w).open("openrouter.ai", Protocol::H2).await;
        for n in 0..20 {
            line.ask(&Ask::post(&format!("/{n}"), vec![b'b'; 5000])).await.expect(200, "{}");
        }
    }),
    absolute_form: |w| drop(raw(&w.agent(), "GET https://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {auth}\r\nConnection: close\r\n\r\n")),
} }

#[track_caller]
fn one_copy_is_left_by(act: fn(&World)) {
    let world = world();
    if !may_read(&world) {
        return;
    }
    let pid = world.serve.pid();
    stands_nowhere(pid, &world.key);
    act(&world);
    assert!(world.origin.recorded().iter().any(|got| got.values("authorization") == [world.bearer()]), "the key was in play");
    stands_once(pid, &world.key);
    is_well(&world);
    stands_once(pid, &world.key);
}

/// Nothing is opened before it is needed, nor for what gets no credential.
#[test]
fn before_its_first_use_a_key_is_nowhere() {
    let world = world();
    if !may_read(&world) {
        return;
    }
    let pid = world.serve.pid();
    let stranger = another_agent(&world, "stranger", &[]);
    let _ = stranger.connect("openrouter.ai:443");
    assert_eq!(world.agent().get("example.net", "/").status, 200);
    world.agent().open("openrouter.ai:443").ask("GET / HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n").expect_own(421, "misdirected");
    world.home.ok(&["credential", "list"]);
    stands_nowhere(pid, &world.key);
    // Nor what unlocks the store.
    let file = std::fs::read_to_string(world.home.outside().join("key-file")).unwrap();
    stands_nowhere(pid, file.trim_end().rsplit(':').next().unwrap());
    world.origin.forget();
    is_well(&world);
    stands_once(pid, &world.key);
}

cases! { the_old_key_is_gone_after {
    a_rotate: &["credential", "rotate", "real"],
    a_remove: &["credential", "remove", "real"],
    a_disable: &["credential", "disable", "real"],
} }

#[track_caller]
fn the_old_key_is_gone_after(change: &[&str]) {
    let mut world = world();
    if !may_read(&world) {
        return;
    }
    let pid = world.serve.pid();
    let mut conn = world.agent().open("openrouter.ai:443");
    for n in 0..20 {
        assert_eq!(conn.ask(format!("POST /{n} HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 3\r\n\r\nabc")).status, 200);
    }
    stands_once(pid, &world.key);
    let new = fresh_key();
    world.home.ok_with(change, &new);
    stands_nowhere(pid, &world.key);
    // Of the presentations that the key has, the header's value was one and the tables another.
    stands_nowhere(pid, &world.key[9..]);
    let old = std::mem::replace(&mut world.key, new);
    match change[1] {
        "rotate" => {}
        "remove" => world.home.add_key("real", &["*.openrouter.ai"], &world.key),
        _ => {
            world.home.ok(&["credential", "enable", "real"]);
            world.key.clone_from(&old);
        }
    }
    within(SOON, "the change is felt", || {
        conn = world.agent().open("openrouter.ai:443");
        let _ = conn.get("openrouter.ai", "/");
        (world.origin.last().values("authorization") == [world.bearer()]).then_some(())
    });
    is_well(&world);
    stands_once(pid, &world.key);
    if old != world.key {
        stands_nowhere(pid, &old);
    }
    assert!(super::audited(&world.home, &[&format!("credential.{}", change[1])]).len() == 1);
}

/// A request in flight keeps its version's key, and takes it along.
#[test]
fn a_key_goes_with_the_last_request_that_uses_it() {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let key = fresh_key();
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.read_body()?;
        if exchange.request.target == "/slow" {
            exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nha")?;
            let _ = held.lock().unwrap().recv();
            return exchange.write("lf.");
        }
        exchange.json(200, "{}")
    });
    let mut world = World::with_origin(origin, key);
    if !may_read(&world) {
        return;
    }
    let pid = world.serve.pid();
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send("GET /slow HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
    within(SOON, "it is under way", || (!world.origin.recorded().is_empty()).then_some(()));
    let new = fresh_key();
    world.home.ok_with(&["credential", "rotate", "real"], &new);
    let old = std::mem::replace(&mut world.key, new);
    within(SOON, "the rotation is felt", || {
        world.agent().get("openrouter.ai", "/");
        (world.origin.last().values("authorization") == [world.bearer()]).then_some(())
    });
    hold.send(()).unwrap();
    assert_eq!(conn.reply().text(), "half.");
    stands_nowhere(pid, &old);
    stands_once(pid, &world.key);
    is_well(&world);
}

/// Of type `basic` the pair stands nowhere as it is: its base64 does, once. With a prefix the field's value stands once.
#[test]
fn other_presentations_stand_once_too() {
    let world = world();
    if !may_read(&world) {
        return;
    }
    let pid = world.serve.pid();
    let (password, token) = (fresh_key(), fresh_key());
    world.home.ok_with(&["credential", "add", "pair", "--type", "basic", "--allow", "example.net"], &format!("user:{password}"));
    world
        .home
        .ok_with(&["credential", "add", "field", "--type", "header", "--header", "X-Own", "--prefix", "Key ", "--allow", "api.example.com"], &token);
    let agent = world.agent();
    within(SOON, "they are felt", || agent.open("api.example.com:443").intercepted().then_some(()));
    for host in ["example.net", "api.example.com"] {
        assert_eq!(agent.get(host, "/").status, 200);
    }
    let sent = world.origin.recorded();
    let basic = sent[0].value("authorization");
    assert_eq!(sent[1].value("x-own"), format!("Key {token}"));
    stands_nowhere(pid, &password);
    stands_once(pid, basic.trim_start_matches("Basic "));
    stands_once(pid, &token);
    is_well(&world);
}

/// Towards an HTTP/2 origin the same holds, but for HPACK's form of the field: it stays in h2's buffer until the next frames
/// are written over it, or its memory is.
#[test]
fn over_http2_it_stands_once_as_itself() {
    wire::run(async {
        let stage = wire::Stage::start(|mut turn: wire::Turn| async move {
            turn.read_all().await?;
            turn.answer(200, "ok").await
        })
        .await;
        let pid = stage.serve.pid();
        if !readable(pid) {
            return skip("over_http2_it_stands_once_as_itself", "the memory of another process cannot be read here");
        }
        for protocol in Protocol::BOTH {
            let line = stage.agent().open("two.matched.test", protocol).await;
            for n in 0..20 {
                line.ask(&Ask::post(&format!("/{n}"), "body")).await.expect(200, "ok");
            }
        }
        assert!(stage.h2.seen().iter().all(|seen| seen.value("authorization") == Some(stage.bearer())));
        stands_once(pid, &stage.key);
        stage.home.ok(&["credential", "remove", "real"]);
        stands_nowhere(pid, &stage.key);
        let log = stage.serve.log();
        assert!(!log.contains("panicked") && !log.contains(&stage.key), "{log}");
    });
}

/// A value of Vault's comes through the buffers of an HTTP client, which are not ours to wipe; what is kept of it is set aside.
#[test]
fn a_value_of_vaults_is_kept_in_one_place() {
    let test = "hostile::memory::a_value_of_vaults_is_kept_in_one_place";
    let Some(bao) = Bao::dev(test) else { return };
    let (first, next) = (fresh_key(), fresh_key());
    bao.put("secret/openrouter", &[("api_key", &first)]);
    let (home, origin) = (Home::with_key_file(""), Origin::agreeable(&HOSTS));
    home.configure(&configuration(&home, &origin, &format!("[vault]\naddress = \"{}\"\nrefresh = \"1s\"\n", bao.addr())));
    home.ok(&["credential", "add", "real", "--type", "bearer", "--allow", "*.openrouter.ai", "--vault", "secret/openrouter#api_key"]);
    let token = bao.root_token().to_owned();
    let serve = Serve::start_with(&home, &[], &[("VAULT_TOKEN", &token), ("KEYHATCH_LOG", "trace")]);
    let pid = serve.pid();
    let agent = Agent::new(&home, &serve);
    assert_eq!(agent.get("openrouter.ai", "/").status, 200);
    assert_eq!(origin.last().values("authorization"), [format!("Bearer {first}")]);
    if !readable(pid) {
        return skip(test, "the memory of another process cannot be read here");
    }
    let kept = |key: &str| places(pid, key.as_bytes()).iter().filter(|place| place.undumped).count();
    assert_eq!(kept(&first), 1, "{:#?}", places(pid, first.as_bytes()));
    eprintln!("of Vault's value: {:#?}", places(pid, first.as_bytes()));
    bao.put("secret/openrouter", &[("api_key", &next)]);
    within(4 * SOON, "the new value is read", || {
        agent.get("openrouter.ai", "/");
        (origin.last().values("authorization") == [format!("Bearer {next}")]).then_some(())
    });
    within(SOON, "the old one is dropped", || (kept(&first) == 0).then_some(()));
    assert_eq!(kept(&next), 1);
    eprintln!("of Vault's old value: {:#?}", places(pid, first.as_bytes()));
    let log = serve.log();
    assert!(!log.contains(&first) && !log.contains(&next) && !log.contains(&token) && !log.contains("panicked"), "{log}");
}

/// A `serve` that is started by way of another program: what of its memory is locked, in KiB, and what it said. `None` where that
/// program does not start it.
fn locked_under(way: &[&str]) -> Option<(u64, String)> {
    let (home, origin) = (Home::with_key_file(""), Origin::agreeable(&HOSTS));
    home.configure(&configuration(&home, &origin, ""));
    home.add_key("real", &["*.openrouter.ai"], &fresh_key());
    let mut command = std::process::Command::new(way[0]);
    command.args(&way[1..]).arg(crate::support::binary()).arg("serve");
    home.dress(&mut command);
    let said = home.outside().join("said.log");
    let log = std::fs::File::create(&said).unwrap();
    let mut child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().ok()?;
    let serves = within(20 * SECOND, "it answers, or ends", || {
        let ended = child.try_wait().unwrap().is_some();
        (ended || home.say(&["env"], "").code == 0).then_some(!ended)
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let _ = child.kill();
    let _ = child.wait();
    let kib = status.lines().find_map(|l| l.strip_prefix("VmLck:")).and_then(|l| l.trim().split(' ').next()?.parse().ok());
    serves.then(|| (kib.unwrap_or(0), std::fs::read_to_string(said).unwrap()))
}

const REFUSED: &str = "memory for secrets is not kept from the swap";

#[test]
fn under_a_limit_what_is_secret_is_locked() {
    let Some((kib, said)) = locked_under(&["prlimit", "--memlock=1048576:1048576"]) else {
        return skip("under_a_limit_what_is_secret_is_locked", "no prlimit");
    };
    assert!((1..=1024).contains(&kib) && !said.contains(REFUSED), "{kib} KiB: {said}");
}

/// It serves all the same, and says so once.
#[test]
fn where_nothing_may_be_locked_it_says_so() {
    let none: &[&str] = match rustix::process::geteuid().is_root() {
        // Root may lock beyond any limit, by this capability.
        true => &["setpriv", "--bounding-set=-ipc_lock", "prlimit", "--memlock=0:0"],
        false => &["prlimit", "--memlock=0:0"],
    };
    let Some((kib, said)) = locked_under(none) else {
        return skip("where_nothing_may_be_locked_it_says_so", "no prlimit or setpriv");
    };
    assert_eq!((kib, said.matches(REFUSED).count()), (0, 1), "{said}");
}

#[test]
fn without_a_limit_all_memory_is_locked() {
    let Some((kib, said)) = locked_under(&["prlimit", "--memlock=unlimited:unlimited"]) else {
        return skip("without_a_limit_all_memory_is_locked", "no prlimit, or the limit cannot be raised");
    };
    assert!(kib > 4096, "{kib} KiB: {said}");
}

/// A key on its way out does not come back by an answer that repeats it; and what the origin sent is no longer there.
#[test]
fn an_echo_is_masked_and_leaves_no_more_than_its_buffers() {
    let world = world();
    if !may_read(&world) {
        return;
    }
    let reply = world.agent().get("openrouter.ai", "/echo");
    assert!(!reply.text().contains(&world.key) && !reply.values("x-echo").concat().contains(&world.key), "{reply:?}");
    assert_eq!(reply.body.len(), world.key.len());
    let after = places(world.serve.pid(), world.key.as_bytes());
    eprintln!("after an echo: {after:#?}");
    assert_eq!(after.iter().filter(|place| place.undumped).count(), 1, "{after:#?}");
    assert!(after.len() <= 12, "{after:#?}");
    assert!(!serde_json::to_string(&super::audited(&world.home, &["\"/echo\""])).unwrap().contains(&world.key));
    world.origin.forget();
    is_well(&world);
}

/// A key that was never granted to anybody is never opened, however much an agent asks.
#[test]
fn a_key_that_nobody_may_use_is_nowhere() {
    let world = world();
    if !may_read(&world) {
        return;
    }
    let unused = fresh_key();
    world.home.ok_with(&["credential", "add", "unused", "--allow", "example.net"], &unused);
    world.home.ok(&["agent", "revoke", "default", "unused"]);
    let agent = world.agent();
    within(SOON, "felt", || {
        let said = world.home.json(&["policy", "explain", "GET", "https://example.net/"]);
        (said["credential"] != "unused").then_some(())
    });
    world.origin.forget();
    for field in ["", "Authorization: Bearer keyhatch-placeholder-unused\r\n", "Authorization: keyhatch:unused\r\n"] {
        let mut conn = agent.open("example.net:443");
        conn.send(format!("GET / HTTP/1.1\r\nHost: example.net\r\n{field}\r\n"));
        let _ = conn.try_reply();
    }
    assert!(world.origin.recorded().iter().all(|got| !crate::support::holds(&got.head, &unused)));
    stands_nowhere(world.serve.pid(), &unused);
    world.origin.forget();
    is_well(&world);
}
