//! The secret does not come back, in any of its forms (CONTRACT 5, point 9), and clean answers are not touched.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::support::raw::Reply;
use crate::support::world::HOSTS;
use crate::support::{Exchange, Origin, World, fresh_key, holds};

/// A key that base64, percent and JSON escaping all change.
fn key() -> String {
    format!("{}/x+y=", fresh_key())
}

fn world(key: &str, answer: impl Fn(&mut Exchange<'_>, &str) -> std::io::Result<()> + Send + Sync + 'static) -> World {
    let own = key.to_owned();
    let origin = Origin::start(&HOSTS, move |exchange| {
        exchange.read_body()?;
        answer(exchange, &own)
    });
    World::with_origin(origin, key.to_owned())
}

fn get(world: &World) -> Reply {
    let reply = world.agent().get("openrouter.ai", "/");
    assert_eq!(world.origin.last().values("authorization"), [world.bearer()], "the request was injected");
    reply
}

#[test]
fn a_secret_split_over_chunks_is_masked_wherever_it_is_split() {
    let key = key();
    let world = world(&key, |exchange, key| {
        exchange.write("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n")?;
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        // Once at each place, and once a byte a chunk.
        for at in 1..key.len() {
            exchange.write(chunk(&format!("<{}", &key[..at])))?;
            exchange.write(chunk(&format!("{}>", &key[at..])))?;
        }
        for byte in key.chars() {
            exchange.write(chunk(&byte.to_string()))?;
        }
        exchange.write("0\r\n\r\n")
    });
    let reply = get(&world);
    let mask = "*".repeat(key.len());
    assert_eq!(reply.text(), format!("<{mask}>").repeat(key.len() - 1) + &mask);
}

#[test]
fn encoded_forms_of_the_secret_are_masked_in_the_body() {
    let key = key();
    let percent = key.replace('/', "%2F").replace('+', "%2b").replace('=', "%3D");
    let every = key.bytes().map(|b| format!("%{b:02x}")).collect::<String>();
    let forms = [
        key.clone(),
        STANDARD.encode(&key),
        URL_SAFE_NO_PAD.encode(&key),
        STANDARD.encode(format!("u:{key}")),
        STANDARD.encode(format!("us:{key} and more")),
        percent,
        every,
        key.replace('/', "\\/"),
        key.bytes().map(|b| format!("\\u{b:04x}")).collect(),
    ];
    for form in forms {
        let body = format!("{{\"echo\":\"{form}\",\"end\":true}}");
        let sent = body.clone();
        let world = world(&key, move |exchange, _| exchange.json(200, &sent));
        let text = get(&world).text();
        assert_eq!(text.len(), body.len(), "{form}: {text}");
        assert!(text.starts_with("{\"echo\":\"") && text.ends_with("\",\"end\":true}"), "the rest stays: {text}");
        // A few characters of a base64 form also belong to its neighbours.
        let left = text.bytes().zip(body.bytes()).filter(|(a, b)| a == b).count() - "{\"echo\":\"\",\"end\":true}".len();
        assert!(left <= 24 && text.contains("****************"), "{form}: {text}");
        let mut decoded = Vec::new();
        let inner = &text["{\"echo\":\"".len()..text.len() - "\",\"end\":true}".len()];
        if let Ok(bytes) = STANDARD.decode(inner) {
            decoded = bytes;
        }
        assert!(!holds(&decoded, &key));
    }
}

#[test]
fn the_secret_is_masked_in_fields_the_reason_and_trailers() {
    let key = key();
    let world = world(&key, |exchange, key| {
        let base64 = STANDARD.encode(format!("user:{key}"));
        let fields = format!("X-Echo: Bearer {key}\r\nX-Basic: Basic {base64}\r\nX-Clean: stays\r\nTrailer: X-End\r\n");
        exchange
            .write(format!("HTTP/1.1 200 Got {key}\r\n{fields}transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-End: {key}\r\nX-Fine: 7\r\n\r\n"))
    });
    let request = "GET / HTTP/1.1\r\nHost: openrouter.ai\r\nTE: trailers\r\nConnection: TE\r\n\r\n";
    let reply = world.agent().open("openrouter.ai:443").ask(request);
    let mask = "*".repeat(key.len());
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
    assert_eq!(reply.values("x-echo"), [format!("Bearer {mask}")]);
    assert_eq!(reply.values("x-clean"), ["stays"]);
    assert_eq!(reply.reason, format!("Got {mask}"));
    let trailer = |name: &str| reply.trailers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
    assert_eq!(trailer("x-end").as_ref(), Some(&mask));
    assert_eq!(trailer("x-fine").as_deref(), Some("7"));
    let all = format!("{reply:?}");
    assert!(!all.contains(&key) && !all.contains(&STANDARD.encode(format!("user:{key}"))[8..40]), "{all}");
}

const CODINGS: [&str; 3] = ["gzip", "br", "zstd"];

fn compress(coding: &str, plain: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
            encoder.write_all(plain).unwrap();
            encoder.into_inner()
        }
        _ => zstd::encode_all(plain, 3).unwrap(),
    }
}

fn text(key: &str) -> String {
    format!("{}{key}{}", filling(3000), filling(3000))
}

/// Text that does not compress to nothing.
fn filling(lines: u32) -> String {
    (0..lines).map(|n| format!("line {n}: {:08x}\n", n.wrapping_mul(2_654_435_761))).collect()
}

#[test]
fn a_compressed_answer_that_holds_the_secret_goes_on_decoded_or_is_cut() {
    for coding in CODINGS {
        for chunked in [false, true] {
            let key = key();
            let world = world(&key, move |exchange, key| {
                let body = compress(coding, text(key).as_bytes());
                let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\n");
                if !chunked {
                    exchange.write(format!("{head}content-length: {}\r\n\r\n", body.len()))?;
                    return exchange.write(body);
                }
                exchange.write(format!("{head}transfer-encoding: chunked\r\n\r\n"))?;
                for part in body.chunks(1000) {
                    exchange.write(format!("{:x}\r\n", part.len()))?;
                    exchange.write([part, b"\r\n"].concat())?;
                }
                exchange.write("0\r\n\r\n")
            });
            let mut conn = world.agent().open("openrouter.ai:443");
            conn.send("GET / HTTP/1.1\r\nHost: openrouter.ai\r\nAccept-Encoding: gzip, br, zstd\r\n\r\n");
            match conn.try_reply() {
                // Found before the head had gone out.
                Ok(reply) => {
                    assert_eq!((reply.status, reply.values("content-encoding").len()), (200, 0), "{coding} {chunked}");
                    assert!(reply.text() == text(&"*".repeat(key.len())), "{coding} {chunked}");
                }
                Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::UnexpectedEof, "{coding} {chunked}: {e}"),
            }
        }
    }
}

#[test]
fn clean_answers_pass_byte_for_byte_compressed_or_not() {
    for coding in CODINGS {
        let world = world(&key(), move |exchange, _| {
            exchange.answer(200, &format!("content-encoding: {coding}\r\n"), &compress(coding, filling(5000).as_bytes()))
        });
        let reply = world.agent().open("openrouter.ai:443").ask("GET / HTTP/1.1\r\nHost: openrouter.ai\r\nAccept-Encoding: gzip, br, zstd\r\n\r\n");
        assert_eq!((reply.status, reply.values("content-encoding")), (200, vec![coding]));
        assert!(reply.body == compress(coding, filling(5000).as_bytes()), "{coding}: every byte");
    }
    // All bytes, and beginnings of the key that do not go on.
    let world = world(&key(), |exchange, key| exchange.answer(200, "", &almost(key)));
    let reply = get(&world);
    assert_eq!(reply.values("content-length"), [almost(&world.key).len().to_string()]);
    assert!(reply.body == almost(&world.key), "every byte");
}

fn almost(key: &str) -> Vec<u8> {
    let mut out = (0..=255).cycle().take(4096).collect::<Vec<u8>>();
    out.extend_from_slice(format!("{}!{}", &key[..10], &key[..8]).as_bytes());
    out
}

/// A weak secret may stand in any text by chance: it is masked in fields, and bodies pass as they are.
#[test]
fn a_weak_secret_is_masked_in_fields_and_bodies_pass() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        exchange.answer(200, "x-echo: hunter2!\r\n", b"the word hunter2! in a text")
    });
    let world = World::with_origin(origin, fresh_key());
    let add = ["credential", "add", "weak", "--type", "bearer", "--allow", "example.net"];
    world.home.say(&add, "hunter2!").expect_error(2);
    world.home.ok_with(&[&add[..], &["--allow-weak"]].concat(), "hunter2!");
    let agent = world.agent();
    let mut conn = crate::support::within(std::time::Duration::from_secs(1), "it is felt", || {
        agent.try_open("example.net:443").ok().filter(crate::support::raw::Conn::intercepted)
    });
    let reply = conn.get("example.net", "/");
    assert_eq!(world.origin.last().values("authorization"), ["Bearer hunter2!"]);
    assert_eq!(reply.values("x-echo"), ["********"]);
    assert_eq!(reply.text(), "the word hunter2! in a text");
}
