//! The real key is found nowhere: in no output, log line, audit record, metric, error, `--json`, database, WAL or backup;
//! and it does not come back to the agent (CONTRACT 5, point 9).

use std::io::{Read as _, Write as _};

use base64::Engine as _;

use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Home, Origin, Serve, World, fresh_key};

/// The forms in which a key might lie about: as it is, in hex, in base64 at each of its three alignments.
fn forms(key: &str) -> Vec<String> {
    let hex = key.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    let mut out = vec![key.to_owned(), key[9..].to_owned(), hex.clone(), hex.to_uppercase(), key.chars().rev().collect()];
    for shift in 0..3 {
        let padded = [&vec![b'.'; shift], key.as_bytes()].concat();
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(padded);
        // Without the ends, which depend on the neighbours.
        out.push(text[4..text.len() - 2].to_owned());
        out.push(text[4..text.len() - 2].replace('+', "-").replace('/', "_"));
    }
    out.push(format!("{:?}", key.as_bytes()).trim_matches(['[', ']']).to_owned());
    out
}

#[track_caller]
fn expect_clean(keys: &[String], place: &str, bytes: &[u8]) {
    for (n, key) in keys.iter().enumerate() {
        for form in forms(key) {
            assert!(!crate::support::holds(bytes, &form), "key {n} is in {place}");
        }
    }
}

#[test]
fn the_real_key_is_found_in_no_output_file_or_record() {
    let keys = [fresh_key(), fresh_key(), fresh_key()];
    let home = Home::bare("");
    let wanted = format!("Bearer {}", keys[0]);
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.read_body()?;
        match exchange.request.target.as_str() {
            "/api/v1/cut" => {
                exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")?;
                exchange.close();
                Ok(())
            }
            "/api/v1/garbage" => {
                exchange.write("this is no HTTP\r\n\r\n")?;
                exchange.close();
                Ok(())
            }
            _ if exchange.request.values("authorization") == [wanted.as_str()] => exchange.json(200, "{}"),
            _ => exchange.json(401, "{}"),
        }
    });
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = configuration(&home, &origin, "")
        .replace(&format!("\"api.example.com:443\" = \"{}\"", origin.address()), &format!("\"api.example.com:443\" = \"{nobody}\""));
    home.configure(&text);
    home.ok(&["init"]);

    let mut heard = Vec::new();
    let mut hear = |args: &[&str], input: &str| {
        for more in [&[][..], &["--json"]] {
            let said = home.say(&[args, more].concat(), input);
            said.expect_no_panic();
            heard.push((args.join(" "), format!("{}\n{}", said.stdout, said.stderr)));
        }
    };
    hear(&["credential", "add", "openrouter"], &keys[0]);
    hear(&["credential", "add", "down", "--allow", "api.example.com"], &keys[1]);
    hear(&["credential", "add", "nowhere", "--allow", "https://bad"], &keys[1]);
    hear(&["credential", "add", "weird", "--allow", "example.net"], &format!("{}\u{1}", keys[2]));
    hear(&["credential", "add", "twice", "--allow", "example.net", "--type", "basic"], &keys[2]);
    hear(&["credential", "rotate", "nothing"], &keys[2]);
    // A person who puts the key in the wrong place does not see it echoed.
    hear(&["credential", "add", "x", "--allow", "example.net", "--secret", &keys[2]], "");

    let serve = Serve::start_with(&home, &[], &[("KEYHATCH_LOG", "trace"), ("RUST_BACKTRACE", "full")]);
    let agent = Agent::new(&home, &serve);
    let mut answers = Vec::new();
    for target in ["/api/v1/auth/key", "/api/v1/keys", "/api/v1/cut", "/api/v1/garbage", "/"] {
        let mut conn = agent.open("openrouter.ai:443");
        conn.send(format!("GET {target} HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"));
        conn.stream.sock.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        answers.push(format!("{:?}", conn.try_reply()));
    }
    answers.push(format!("{:?}", agent.get("api.example.com", "/")));
    answers.push(format!("{:?}", agent.open("openrouter.ai:443").get("elsewhere.example", "/")));
    assert_eq!(origin.recorded().first().unwrap().values("authorization"), [format!("Bearer {}", keys[0])], "the key was in play");
    // A rotation moves the old version into another column, and through the log.
    hear(&["credential", "rotate", "openrouter"], &keys[2]);
    crate::support::within(std::time::Duration::from_secs(1), "rotated", || (agent.get("openrouter.ai", "/api/v1/x").status == 401).then_some(()));
    let mut stream = std::net::TcpStream::connect(serve.admin()).unwrap();
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", serve.admin()).as_bytes()).unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).unwrap();
    assert!(metrics.contains("injected"), "{metrics}");

    let backup = home.outside().join("backup");
    hear(&["store", "backup", backup.to_str().unwrap()], "");
    for args in [
        &["credential", "list"][..],
        &["credential", "show", "openrouter"],
        &["agent", "list"],
        &["agent", "show", "default"],
        &["policy", "explain", "GET", "https://openrouter.ai/api/v1/models"],
        &["store", "verify"],
        &["audit", "verify"],
        &["audit", "tail"],
        &["env"],
        &["env", "--format", "json"],
        &["run", "--", "env"],
        &["ca", "export"],
        &["doctor"],
    ] {
        hear(args, "");
    }
    let log = serve.log();
    assert!(log.contains("listening"), "{log}");
    expect_clean(&keys, "serve's log at trace", log.as_bytes());
    // While it runs, so that the WAL is there.
    for (path, bytes) in home.files() {
        expect_clean(&keys, &path.display().to_string(), &bytes);
    }
    drop(serve);
    for (path, bytes) in home.files() {
        expect_clean(&keys, &path.display().to_string(), &bytes);
    }
    expect_clean(&keys, "the backup", &std::fs::read(&backup).unwrap());
    expect_clean(&keys, "metrics", metrics.as_bytes());
    expect_clean(&keys, "what the agent saw", answers.join("\n").as_bytes());
    for (command, text) in heard {
        expect_clean(&keys, &command, text.as_bytes());
    }
}

#[test]
fn a_response_that_carries_the_secret_is_scrubbed_in_head_and_body() {
    let key = fresh_key();
    let echoed = key.clone();
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.read_body()?;
        let base64 = base64::engine::general_purpose::STANDARD.encode(&echoed);
        let percent = echoed.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
        let json = echoed.replace('-', "\\u002d");
        match exchange.request.target.as_str() {
            "/head" => exchange.answer(200, &format!("X-Echo: Bearer {echoed}\r\nX-Base: {base64}\r\n"), b"ok"),
            "/body" => exchange.answer(200, "content-type: text/plain\r\n", format!("before Bearer {echoed} after").as_bytes()),
            "/base64" => exchange.answer(200, "", format!("before {base64} after").as_bytes()),
            "/percent" => exchange.answer(200, "", format!("before {percent} after").as_bytes()),
            "/json" => exchange.answer(200, "content-type: application/json\r\n", format!("{{\"k\":\"{json}\"}}").as_bytes()),
            _ => {
                // Split between chunks, at every place of the key.
                exchange.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                for byte in format!("before {echoed} after").bytes() {
                    exchange.write(format!("1\r\n{}\r\n", char::from(byte)))?;
                }
                exchange.write("0\r\n\r\n")
            }
        }
    });
    let world = World::with_origin(origin, key.clone());
    for target in ["/head", "/body", "/base64", "/percent", "/json", "/chunks"] {
        let reply = world.agent().get("openrouter.ai", target);
        assert_eq!(reply.status, 200, "{target}: {reply:?}");
        let head = reply.fields.iter().map(|(n, v)| format!("{n}: {v}\n")).collect::<String>();
        expect_clean(std::slice::from_ref(&key), target, head.as_bytes());
        expect_clean(std::slice::from_ref(&key), target, &reply.body);
        let percent = key.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
        assert!(!reply.text().contains(&percent) && !reply.text().contains(&key.replace('-', "\\u002d")), "{target}: {}", reply.text());
        if target == "/body" || target == "/chunks" {
            assert!(reply.text().starts_with("before ") && reply.text().ends_with(" after"), "{target}: the rest passes: {}", reply.text());
        }
    }
}

#[test]
fn a_clean_response_passes_byte_for_byte() {
    let noise = |seed: u32| -> Vec<u8> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(300_000)
        .collect()
    };
    let body = noise(7);
    let sent = body.clone();
    let key = fresh_key();
    // A body full of beginnings of the key is no key.
    let nearly = key[..key.len() - 1].repeat(200);
    let sent_nearly = nearly.clone();
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.read_body()?;
        match exchange.request.target.as_str() {
            "/noise" => exchange.answer(200, "content-type: application/octet-stream\r\n", &sent),
            _ => exchange.answer(200, "", sent_nearly.as_bytes()),
        }
    });
    let world = World::with_origin(origin, key);
    let mut conn = world.agent().open("openrouter.ai:443");
    assert!(conn.get("openrouter.ai", "/noise").body == body);
    assert!(conn.get("openrouter.ai", "/nearly").body == nearly.as_bytes());
}

#[test]
fn with_scrub_off_the_response_passes_as_it_is() {
    let key = fresh_key();
    let echoed = key.clone();
    let home = Home::bare("");
    let origin = Origin::start(&HOSTS, move |exchange| exchange.answer(200, "", echoed.as_bytes()));
    home.configure(&configuration(&home, &origin, ""));
    home.ok(&["init"]);
    home.ok_with(&["credential", "add", "echo", "--allow", "openrouter.ai", "--scrub", "off"], &key);
    let serve = Serve::start(&home);
    assert_eq!(Agent::new(&home, &serve).get("openrouter.ai", "/").text(), key);
}
