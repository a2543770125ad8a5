//! The secret, wherever an origin puts it.

use super::{HOSTS, audited_answer, cases, is_well};
use crate::support::{Exchange, Origin, World, fresh_key, holds};

cases! { does_not_come_back {
    secret_in_an_interim_answer: "interim",
    secret_in_the_reason: "reason",
    secret_in_fields: "field",
    secret_in_a_body: "body",
    secret_in_a_body_until_the_end: "close",
    secret_in_a_chunk_a_letter: "chunks",
    secret_in_a_chunk_extension: "extension",
    secret_in_a_trailer: "trailer",
    secret_in_a_broken_head: "broken",
    secret_but_its_last_letter_in_an_answer_cut_short: "cut",
    secret_in_the_reason_of_a_404: "other",
} }

fn echo(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    exchange.read_body()?;
    let key = exchange.request.value("authorization").replace("Bearer ", "");
    let text = match exchange.request.target.as_str() {
        "/after-the-case" => return exchange.json(200, "{\"ok\":true}"),
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
        _ => format!("HTTP/1.1 404 {key}\r\ncontent-length: 0\r\n\r\n"),
    };
    exchange.write(text)?;
    exchange.close();
    Ok(())
}

fn does_not_come_back(path: &str) {
    let world = World::with_origin(Origin::start(&HOSTS, echo), fresh_key());
    // 24 hexadecimal digits are enough to guess the rest of in no time.
    let part = &world.key[9..33];
    let mut conn = world.agent().open("openrouter.ai:443");
    conn.send(format!("GET /{path} HTTP/1.1\r\nHost: openrouter.ai\r\nConnection: close\r\n\r\n"));
    let all = conn.read_rest();
    assert!(all.starts_with("HTTP/1.1 "), "{all:?}");
    let whole = all.split("\r\n").map(|l| if l.len() == 1 { l.to_owned() } else { format!("{l}\n") }).collect::<String>();
    assert!(!holds(all.as_bytes(), &world.key) && !whole.contains(&world.key), "{all:?}");
    if path != "cut" {
        assert!(!all.contains(part), "{all:?}");
    }
    let record = audited_answer(&world, path);
    assert!(!record.to_string().contains(&world.key), "{record}");
    assert!(!holds(&std::fs::read(world.home.path().join("audit.jsonl")).unwrap(), &world.key));
    is_well(&world);
}
