//! Origins that break HTTP, to give one agent's client an answer that was meant for another request, or to end the proxy.

use std::io::Write as _;
use std::time::Duration;

use crate::support::raw::{read_reply, read_reply_head};
use crate::support::world::HOSTS;
use crate::support::{Exchange, Origin, World, fresh_key, holds};

/// An origin that answers `/N` with the bytes of row N and closes, and everything else with 200.
fn scripted(rows: Vec<Vec<u8>>) -> World {
    let answer = move |exchange: &mut Exchange<'_>| {
        exchange.read_body()?;
        match exchange.request.target.trim_start_matches('/').parse::<usize>() {
            Ok(n) => exchange.write(&rows[n]),
            Err(_) => exchange.json(200, "{\"ok\":true}"),
        }
    };
    World::with_origin(Origin::start(&HOSTS, answer), fresh_key())
}

/// What a second answer in the same bytes looks like: nobody may ever receive it.
const SMUGGLED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled";

#[test]
fn answers_that_could_be_framed_in_two_ways_are_502_and_the_connection_is_not_used_again() {
    let table: [(&str, &str); 19] = [
        ("length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 3\r\n\r\n"),
        ("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 0, 0\r\n\r\n"),
        ("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        ("another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n"),
        ("chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        ("a folded field", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
        ("a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"),
        ("a bare CR", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n"),
        ("a NUL", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"),
        ("another version", "HTTP/2 200\r\nContent-Length: 0\r\n\r\n"),
        ("no status", "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n"),
        ("a short status", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
        ("no HTTP", "220 smtp.example ESMTP\r\n\r\n"),
        ("a 101 that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        ("an interim answer with two lengths", "HTTP/1.1 103 Early\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    ];
    let world = scripted(table.iter().map(|(_, bytes)| format!("{bytes}{SMUGGLED}").into_bytes()).collect());
    let agent = world.agent();
    for (n, (case, _)) in table.iter().enumerate() {
        let mut conn = agent.open("openrouter.ai:443");
        let reply = conn.get("openrouter.ai", &format!("/{n}"));
        assert_eq!(reply.status, 502, "{case}: {reply:?}");
        reply.expect_own(502, "upstream_closed");
        let after = agent.get("openrouter.ai", "/after");
        assert_eq!(after.text(), "{\"ok\":true}", "{case}: the next answer is its own");
    }
}

#[test]
fn bytes_after_a_whole_answer_are_nobodys_answer() {
    let table: [(&str, &str, &str, u16, &str); 7] = [
        ("GET", "a second answer", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
        ("GET", "a 204 with a body", "HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\nabcde", 204, ""),
        ("GET", "a 304 with a body", "HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\nabcde", 304, ""),
        ("HEAD", "a HEAD with a body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", 200, ""),
        ("HEAD", "a HEAD with chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 200, ""),
        ("GET", "after the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok"),
        ("GET", "a 204 with chunks", "HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 204, ""),
    ];
    let world = scripted(table.iter().map(|row| format!("{}{SMUGGLED}", row.2).into_bytes()).collect());
    let agent = world.agent();
    for (n, (method, case, _, status, body)) in table.iter().enumerate() {
        let mut conn = agent.open("openrouter.ai:443");
        conn.send(format!("{method} /{n} HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"));
        let reply = read_reply(&mut conn.stream, Some(method)).unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (*status, *body), "{case}: {reply:?}");
        if *status == 204 {
            assert!(reply.values("content-length").is_empty() && reply.values("transfer-encoding").is_empty(), "{case}: {reply:?}");
        }
        for _ in 0..2 {
            let after = conn.get("openrouter.ai", "/after");
            assert_eq!(after.text(), "{\"ok\":true}", "{case}: the next answer is its own");
        }
    }
}

#[test]
fn chunks_that_are_broken_cut_the_answer_short() {
    let table = [
        ("a bad size", "zz\r\nab\r\n0\r\n\r\n"),
        ("a negative size", "-1\r\nab\r\n0\r\n\r\n"),
        ("data longer than its size", "1\r\nab\r\n0\r\n\r\n"),
        ("a bare LF", "2\nab\n0\n\n"),
        ("a size beyond 64 bits", "ffffffffffffffff2\r\nab\r\n0\r\n\r\n"),
        ("a folded trailer", "2\r\nab\r\n0\r\nX: a\r\n b\r\n\r\n"),
    ];
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    let world = scripted(table.iter().map(|(_, rest)| format!("{head}{rest}{SMUGGLED}").into_bytes()).collect());
    for (n, (case, _)) in table.iter().enumerate() {
        let mut conn = world.agent().open("openrouter.ai:443");
        conn.send(format!("GET /{n} HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"));
        let all = conn.read_rest();
        assert!(all.starts_with("HTTP/1.1 200 ") && all.contains("first"), "{case}: what came before arrives: {all:?}");
        assert!(!all.contains("\r\n0\r\n\r\n") && !all.contains("smuggled"), "{case}: and no end of the body: {all:?}");
    }
}

/// A model's last words before its server dies are paid for: they arrive, though they come with the end.
#[test]
fn what_came_before_an_answer_was_cut_short_arrives() {
    let table: [(&str, &str, &str); 3] = [
        ("by length", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ndata: last words\n\n", "data: last words\n\n"),
        ("by chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n12\r\ndata: last words\n\n\r\n", "data: last words\n\n"),
        (
            "events",
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n12\r\ndata: last words\n\n\r\n",
            "data: last words\n\n",
        ),
    ];
    let rows: Vec<_> = table.iter().map(|row| row.1).collect();
    let origin = Origin::start(&HOSTS, move |exchange| {
        let n: usize = exchange.request.target.trim_start_matches('/').parse().unwrap();
        exchange.write(rows[n])?;
        exchange.close();
        Ok(())
    });
    let world = World::with_origin(origin, fresh_key());
    for (n, (case, _, words)) in table.iter().enumerate() {
        for _ in 0..5 {
            let mut conn = world.agent().open("openrouter.ai:443");
            conn.send(format!("GET /{n} HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"));
            let all = conn.read_rest();
            assert!(all.starts_with("HTTP/1.1 200 ") && all.contains(words), "{case}: {all:?}");
            assert!(!all.ends_with("0\r\n\r\n"), "{case}: it is no whole answer: {all:?}");
        }
    }
}

#[test]
fn floods_of_interim_answers_and_endless_heads_end() {
    let table: [(&str, Vec<u8>); 4] = [
        ("interim answers", "HTTP/1.1 102 Processing\r\n\r\n".repeat(10_000).into_bytes()),
        ("one endless field", [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; 1 << 20]].concat()),
        ("endless fields", [b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: a\r\n".repeat(100_000)].concat()),
        ("too many fields", [b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: a\r\n".repeat(500), b"\r\n".to_vec()].concat()),
    ];
    let world = scripted(table.iter().map(|row| row.1.clone()).collect());
    for (n, (case, _)) in table.iter().enumerate() {
        let reply = world.agent().get("openrouter.ai", &format!("/{n}"));
        assert_eq!(reply.status, 502, "{case}");
    }
    assert_eq!(world.agent().get("openrouter.ai", "/after").status, 200);
}

#[test]
fn what_speaks_in_the_proxys_name_or_leads_round_it_is_taken_off() {
    let table = [
        "Proxy-Status: keyhatch; error=egress_denied",
        "proxy-status:KEYHATCH",
        "Proxy-Status: \"keyhatch\"; error=x",
        "Proxy-Status: cdn, keyhatch; error=x",
        "Proxy_Status: keyhatch",
        "Alt-Svc: h3=\":443\"; ma=86400",
        "ALT-SVC: clear",
        "Alt_Svc: h3=\":443\"",
        "Proxy-Authenticate: Basic realm=\"keyhatch\"",
        "Proxy-Connection: keep-alive",
        "Connection: set-cookie, x-a\r\nX-A: 1",
        "Keep-Alive: timeout=5",
        "Upgrade: h2c",
    ];
    let rows = table.iter().map(|field| {
        let field = field.as_bytes();
        let interim = [b"HTTP/1.1 103 Early Hints\r\n", field, b"\r\n\r\n"].concat();
        [&interim, &b"HTTP/1.1 200 OK\r\nX-Kept: 1\r\nTransfer-Encoding: chunked\r\n"[..], field, b"\r\n\r\n0\r\n", field, b"\r\nX-Sum: 7\r\n\r\n"]
            .concat()
    });
    let world = scripted(rows.collect());
    for (n, case) in table.iter().enumerate() {
        let mut conn = world.agent().open("openrouter.ai:443");
        conn.send(format!("GET /{n} HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n"));
        let interim = read_reply_head(&mut conn.stream).unwrap();
        assert_eq!((interim.status, interim.fields.len()), (103, 0), "{case}: {interim:?}");
        let reply = conn.reply();
        let mut names: Vec<_> = reply.fields.iter().map(|(n, _)| n.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["transfer-encoding", "x-kept"], "{case}: {reply:?}");
        assert_eq!(reply.trailers, [("x-sum".to_owned(), "7".to_owned())], "{case}");
    }
}

/// The secret, wherever an origin puts it: in an interim answer, the reason, a field, the body, a trailer, after a 204.
#[test]
fn the_secret_does_not_come_back_by_any_part_of_an_answer() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        let key = exchange.request.value("authorization").replace("Bearer ", "");
        let text = match exchange.request.target.as_str() {
            "/interim" => format!("HTTP/1.1 103 {key}\r\nLink: <{key}>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            "/reason" => format!("HTTP/1.1 500 {key}\r\ncontent-length: 0\r\n\r\n"),
            "/field" => format!("HTTP/1.1 200 OK\r\nX-Echo: a {key} b\r\nSet-Cookie: k={key}\r\nLocation: /{key}\r\ncontent-length: 0\r\n\r\n"),
            "/body" => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{key}", key.len()),
            "/close" => format!("HTTP/1.0 200 OK\r\n\r\nx{key}y"),
            "/chunks" => {
                let chunks: String = key.chars().map(|c| format!("1\r\n{c}\r\n")).collect();
                format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
            }
            "/extension" => format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;{key}\r\nok\r\n0\r\n\r\n"),
            "/trailer" => format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Echo: {key}\r\n\r\n"),
            "/broken" => format!("HTTP/1.1 200 OK\r\nX : {key}\r\n\r\n"),
            "/cut" => format!("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{}", &key[..key.len() - 1]),
            other => format!("HTTP/1.1 404 {other}\r\ncontent-length: 0\r\n\r\n"),
        };
        exchange.write(text)?;
        exchange.close();
        Ok(())
    });
    let world = World::with_origin(origin, fresh_key());
    // 24 hexadecimal digits are enough to guess the rest of in no time.
    let part = &world.key[9..33];
    for path in ["interim", "reason", "field", "body", "close", "chunks", "extension", "trailer", "broken", "cut"] {
        let mut conn = world.agent().open("openrouter.ai:443");
        conn.send(format!("GET /{path} HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: close\r\n\r\n"));
        let all = conn.read_rest();
        assert!(all.starts_with("HTTP/1.1 "), "/{path}: {all:?}");
        let whole = all.split("\r\n").map(|l| if l.len() == 1 { l.to_owned() } else { format!("{l}\n") }).collect::<String>();
        assert!(!holds(all.as_bytes(), &world.key) && !whole.contains(&world.key), "/{path}: {all:?}");
        if path != "cut" {
            assert!(!all.contains(part), "/{path}: {all:?}");
        }
    }
    assert!(!holds(&std::fs::read(world.home.path().join("audit.jsonl")).unwrap(), &world.key));
    assert!(!world.serve.log().contains(&world.key));
}

/// An early answer to an upload ends the exchange in order, and the rest of the upload is never a request.
#[test]
fn an_early_refusal_of_an_upload_reaches_the_agent() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.write("HTTP/1.1 413 Too Large\r\nConnection: close\r\ncontent-length: 3\r\n\r\nbig")?;
        // The rest is not read: the peer's writes will fail.
        exchange.close();
        Ok(())
    });
    let world = World::with_origin(origin, fresh_key());
    for _ in 0..5 {
        let mut conn = world.agent().open("openrouter.ai:443");
        conn.stream.sock.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        conn.send(
            "POST /upload HTTP/1.1\r\nHost: openrouter.ai\r\nContent-Length: 10000000\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n",
        );
        let reply = conn.reply();
        assert_eq!((reply.status, reply.text().as_str()), (413, "big"), "{reply:?}");
        assert_eq!(reply.values("connection"), ["close"], "the agent is told that the connection ends");
        let _ = conn.stream.write_all(b"GET /smuggled HTTP/1.1\r\nHost: openrouter.ai\r\n\r\n");
        assert_eq!(conn.read_rest(), "");
    }
    assert!(world.origin.recorded().iter().all(|r| r.target == "/upload"));
}
