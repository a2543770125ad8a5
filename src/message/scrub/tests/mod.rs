//! The scrubber against its reference, over every split, and against what it must not show.

mod compressed;
mod decoded;
mod oracle;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use self::oracle::Rng;
use super::*;

const SECRET: &[u8] = b"sk-or-v1-t?st>/0001~key";

fn table(secret: &[u8]) -> Arc<ScrubTable> {
    Arc::new(ScrubTable::new(&Secret::from_opened(secret), &Presentation::Bearer))
}

fn run(table: &Arc<ScrubTable>, pieces: &[&[u8]]) -> (Vec<u8>, u64) {
    let mut scrubber = BodyScrubber::new(table.clone(), false, None);
    let mut out = vec![];
    for piece in pieces {
        scrubber.push(piece, &mut out).expect("identity");
    }
    scrubber.finish(&mut out).expect("identity");
    (out, scrubber.hits())
}

fn hex(bytes: &[u8], upper: bool) -> Vec<u8> {
    bytes.iter().map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") }).collect::<String>().into_bytes()
}

/// Escapes some of the bytes, by chance: `of` in 16, each as a percent-escape or as one of JSON.
fn escape(plain: &[u8], of: usize, rng: &mut Rng) -> Vec<u8> {
    let one = |byte: u8, rng: &mut Rng| match rng.below(5) {
        0 => format!("%{byte:02x}"),
        1 => format!("%{byte:02X}"),
        2 => format!("\\u{byte:04x}"),
        3 => format!("\\u{byte:04X}"),
        _ if byte == b'/' => "\\/".to_owned(),
        _ => char::from(byte).to_string(),
    };
    plain.iter().flat_map(|&byte| if rng.below(16) < of { one(byte, rng).into_bytes() } else { vec![byte] }).collect()
}

/// Each form of the secret, unescaped.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.to_vec(), hex(secret, false), hex(secret, true)];
    for before in ["", "x", "yz"] {
        for after in ["", "!", "!!"] {
            let whole = [before.as_bytes(), secret, after.as_bytes()].concat();
            forms.push(STANDARD.encode(&whole).into_bytes());
            forms.push(URL_SAFE_NO_PAD.encode(&whole).into_bytes());
        }
    }
    forms
}

#[test]
fn every_form_at_every_split() {
    let mut rng = Rng(7);
    let table = table(SECRET);
    for form in forms(SECRET) {
        for escaped in [0, 3, 16] {
            let body = [b"{\"echo\":\"", &escape(&form, escaped, &mut rng)[..], b"\",\"n\":1}"].concat();
            let wanted = oracle::scrub(&body, &[SECRET]);
            assert!(wanted.contains(&b'*'), "{}", body.escape_ascii());
            for split in 0..=body.len() {
                let (out, hits) = run(&table, &[&body[..split], &body[split..]]);
                assert_eq!(out.escape_ascii().to_string(), wanted.escape_ascii().to_string(), "{} at {split}", body.escape_ascii());
                assert_eq!(hits, 1);
            }
            assert_eq!(run(&table, &body.chunks(1).collect::<Vec<_>>()), (wanted.clone(), 1));
            assert_eq!(table.scrub_header(&body), Some(wanted));
        }
    }
}

/// Bodies made of pieces of forms, whole forms and noise of the same alphabet.
fn random_body(secret: &[u8], rng: &mut Rng) -> Vec<u8> {
    let forms = forms(secret);
    let mut body = vec![];
    for _ in 0..rng.below(12) {
        match rng.below(6) {
            0 => body.extend_from_slice(rng.pick::<Vec<u8>>(&forms)),
            1 | 2 => {
                let form = rng.pick(&forms);
                let from = rng.below(form.len());
                body.extend_from_slice(&form[from..from + rng.below(form.len() - from + 1)]);
            }
            3 => body.extend((0..rng.below(40)).map(|_| *rng.pick(b"sk-or-v1%\\u0027\"/=\n"))),
            4 => body.extend((0..rng.below(200)).map(|_| rng.next() as u8)),
            _ => {
                let of = rng.below(17);
                let form = rng.pick(&forms).clone();
                body.extend(escape(&form, of, rng));
            }
        }
    }
    body
}

#[test]
fn differs_from_the_reference_nowhere() {
    let mut rng = Rng(0x5eed);
    let secrets: [&[u8]; 6] = [SECRET, b"33333333333333333", b"aaaaaaaaaaaaaaaaa", b"abababababababababab", b"0000000000000000", &[0xfb; 90]];
    for secret in secrets {
        let table = table(secret);
        for round in 0..300 {
            let body = random_body(secret, &mut rng);
            let wanted = oracle::scrub(&body, &[secret]);
            let mut pieces = vec![];
            let mut rest = &body[..];
            while !rest.is_empty() {
                let longest = 1 + rng.below(300);
                let (piece, after) = rest.split_at(1 + rng.below(rest.len().min(longest)));
                pieces.push(piece);
                rest = after;
            }
            let (out, hits) = run(&table, &pieces);
            assert_eq!(out.escape_ascii().to_string(), wanted.escape_ascii().to_string(), "round {round}: {}", body.escape_ascii());
            assert_eq!(hits > 0, out != body, "round {round}");
        }
    }
}

/// Bodies as the secret's own bytes may be read twice: these the reference does not know.
#[test]
fn secrets_with_escapes_and_letters_of_their_own() {
    let secrets = ["100%41-%25-\\u0041-\\\\-\\", "pa\\ss/wörd-€uro-😀-key", "😀😀😀😀😀", "%%%%%%%%%%%%%%%%%%", "\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\"];
    for secret in secrets {
        let table = table(secret.as_bytes());
        let json = serde_json::to_string(secret).expect("a string");
        let ascii: String = secret.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let latin: String = secret.bytes().map(|b| format!("\\u{b:04X}")).collect();
        let percent: String =
            secret.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
        for written in [secret, json.trim_matches('"'), &ascii, &latin, &percent] {
            for padding in 0..70 {
                let body = format!("{}\"{written}\", 1]", " ".repeat(padding));
                let wanted = format!("{}\"{}\", 1]", " ".repeat(padding), "*".repeat(written.len()));
                let (out, _) = run(&table, &[&body.as_bytes()[..padding + 7], &body.as_bytes()[padding + 7..]]);
                assert_eq!(String::from_utf8_lossy(&out), wanted, "{body}");
            }
        }
    }
}

#[test]
fn basic_hides_the_pair_and_the_password() {
    let pair = b"someone:correct-horse-battery";
    let table = Arc::new(ScrubTable::new(&Secret::from_opened(pair), &Presentation::Basic));
    let parts: [&[u8]; 2] = [pair, &pair[8..]];
    for part in parts {
        for form in forms(part) {
            let body = [b"<", &form[..], b">"].concat();
            assert_eq!(run(&table, &[&body]).0, oracle::scrub(&body, &parts));
        }
    }
    assert_eq!(run(&table, &[b"user someone, not correct-horse"]), (b"user someone, not correct-horse".to_vec(), 0));
    assert_eq!(table.scrub_header(b"Basic c29tZW9uZTpjb3JyZWN0LWhvcnNlLWJhdHRlcnk="), Some(format!("Basic {}=", "*".repeat(39)).into_bytes()));
    // The user is the key where the password is empty.
    let table = ScrubTable::new(&Secret::from_opened(b"sk_test_0123456789:"), &Presentation::Basic);
    assert_eq!(table.scrub_header(b"user sk_test_0123456789"), Some(b"user ******************".to_vec()));
}

#[test]
fn a_weak_secret_is_scrubbed_from_fields_only() {
    let weak = table(b"hunter2-hunter2");
    assert!(!weak.scrubs_bodies());
    assert_eq!(run(&weak, &[b"hunter2-hunter2"]), (b"hunter2-hunter2".to_vec(), 0));
    assert_eq!(weak.scrub_header(b"a=hunter2%2dhunter2; b"), Some(b"a=*****************; b".to_vec()));
    assert_eq!(weak.scrub_header(b"68756E746572322d68756e74657232"), Some(vec![b'*'; 30]));
    // A strong pair with a weak password.
    let basic = Arc::new(ScrubTable::new(&Secret::from_opened(b"administrator:hunter2"), &Presentation::Basic));
    assert_eq!(run(&basic, &[b"hunter2 administrator:hunter2"]).0, b"hunter2 *********************");
    assert_eq!(basic.scrub_header(b"hunter2"), Some(b"*******".to_vec()));
    // Under four bytes it is found in everything.
    assert_eq!(table(b"abc").scrub_header(b"abc"), None);
}

#[test]
fn every_field_value_is_scrubbed() {
    let mut fields = HeaderMap::new();
    for value in ["a=sk-or-v1-t?st>/0001~key; Path=/", "clean", "b=sk-or-v1-t%3Fst%3E%2F0001~key"] {
        fields.append(header::SET_COOKIE, HeaderValue::from_static(value));
    }
    fields.insert(header::LOCATION, HeaderValue::from_static("/?k=c2stb3ItdjEtdD9zdD4vMDAwMX5rZXk"));
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from_static("23"));
    assert_eq!(table(SECRET).scrub_headers(&mut fields), 3);
    let cookies: Vec<_> = fields.get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(cookies, ["a=***********************; Path=/", "clean", "b=*****************************"]);
    assert_eq!(fields[header::LOCATION], "/?k=*******************************");
}

/// The sizes that each push lets go.
fn sizes(table: &Arc<ScrubTable>, events: bool, decoding: Option<&Decoding>, pieces: &[&[u8]]) -> Vec<usize> {
    let mut scrubber = BodyScrubber::new(table.clone(), events, decoding);
    let mut sizes = vec![];
    for piece in pieces {
        let mut out = vec![];
        scrubber.push(piece, &mut out).expect("clean or identity");
        sizes.push(out.len());
    }
    sizes
}

#[test]
fn frames_tell_nothing_of_a_right_prefix() {
    let table = table(SECRET);
    let hold = BodyScrubber::new(table.clone(), false, None);
    assert_eq!(hold.held(), 0);
    for length in 1..=SECRET.len() {
        let right = &SECRET[..length];
        let wrong: Vec<u8> = right.iter().enumerate().map(|(i, &b)| if i + 1 == length { b ^ 1 } else { b }).collect();
        for padding in [0, 5, 4000] {
            let frames = |guess: &[u8], events: bool| {
                let body = [&vec![b'.'; padding][..], guess, b"\n\nmore", &vec![b'.'; padding][..], guess].concat();
                sizes(&table, events, None, &body.chunks(97).collect::<Vec<_>>())
            };
            assert_eq!(frames(right, false), frames(&wrong, false));
            assert_eq!(frames(right, true), frames(&wrong, true));
        }
    }
}

/// What is held of a compressed body depends on how much came and was made, and not on what.
#[test]
fn compressed_frames_tell_nothing_of_a_right_prefix() {
    use self::compressed::encode;
    let table = table(SECRET);
    for length in 1..SECRET.len() {
        let mut wrong = SECRET[..length].to_vec();
        wrong[length - 1] ^= 1;
        let frames = |guess: &[u8], events: bool| {
            let pad = vec![b'.'; 900];
            // Stored, so that the bytes that came are as many.
            let stored = flate2::write::GzEncoder::new(vec![], flate2::Compression::none());
            let pieces: [&[u8]; 6] = [&pad, guess, b"\n\n", &pad, guess, &pad];
            let encoded = encode(stored, &pieces, |w| w.get_mut(), |w| w.finish());
            let gzip = Decoding::for_content_encoding("gzip").expect("known").expect("a coding");
            sizes(&table, events, Some(&gzip), &encoded.iter().flat_map(|piece| piece.chunks(97)).collect::<Vec<_>>())
        };
        for events in [false, true] {
            assert_eq!(frames(&SECRET[..length], events), frames(&wrong, events), "{length} {events}");
        }
    }
}

#[test]
fn the_hold_back_is_the_longest_form_less_one() {
    let table = table(SECRET);
    let longest = SECRET.len() * 2 * 6;
    let sizes = sizes(&table, false, None, &[&vec![b'.'; longest - 1], b".", &[b'.'; 100], b""]);
    assert_eq!(sizes, [0, 1, 100, 0]);
}

#[test]
fn after_a_pause_the_match_goes_on() {
    let table = table(SECRET);
    for form in [SECRET.to_vec(), hex(SECRET, true), escape(SECRET, 16, &mut Rng(3)), STANDARD.encode(SECRET).into_bytes()] {
        let body = [b"<", &form[..], b"> and more"].concat();
        let wanted = oracle::scrub(&body, &[SECRET]);
        for first in 0..body.len() {
            for second in first..body.len() {
                let mut scrubber = BodyScrubber::new(table.clone(), false, None);
                let mut out = vec![];
                for piece in [&body[..first], &body[first..second]] {
                    scrubber.push(piece, &mut out).expect("identity");
                    scrubber.flush_pause(&mut out).expect("identity");
                    assert_eq!(scrubber.held(), 0);
                }
                assert_eq!(out.len(), second);
                scrubber.push(&body[second..], &mut out).expect("identity");
                scrubber.finish(&mut out).expect("identity");
                // What the pauses let go before the match was whole stays; all else is masked.
                let end = 1 + form.iter().take_while(|&&b| b != b'=').count();
                let shown = if second < end {
                    second
                } else if first < end {
                    first
                } else {
                    0
                };
                let wanted = [&body[..shown], &wanted[shown..]].concat();
                assert_eq!(out.escape_ascii().to_string(), wanted.escape_ascii().to_string(), "{first} {second}");
                assert_eq!(scrubber.hits(), 1);
            }
        }
    }
}

#[test]
fn of_an_event_stream_only_the_unfinished_event_is_held() {
    let table = table(SECRET);
    let secret = String::from_utf8_lossy(SECRET);
    let body = format!(": hello\n\ndata: {secret}\n\ndata: a\r\n\r\ndata: {secret}\r\r\n\ndata: rest {secret}");
    let wanted = body.replace(&*secret, &"*".repeat(SECRET.len()));
    let mut scrubber = BodyScrubber::new(table, true, None);
    let mut out = vec![];
    for at in 0..body.len() {
        scrubber.push(&body.as_bytes()[at..=at], &mut out).expect("identity");
        let so_far = &body[..=at];
        let end = ["\n\n", "\r\n\r\n", "\r\r", "\r\r\n"].iter().filter_map(|mark| so_far.rfind(mark).map(|found| found + mark.len())).max();
        let whole = so_far.ends_with("\r\n\r") || so_far.ends_with("\r\r");
        assert_eq!(out.len(), if whole { at + 1 } else { end.unwrap_or(0) }, "at {at}");
    }
    scrubber.finish(&mut out).expect("identity");
    assert_eq!(String::from_utf8_lossy(&out), wanted);
    assert_eq!(scrubber.hits(), 3);
}

#[test]
fn in_place_it_is_the_same() {
    let mut rng = Rng(11);
    let table = table(SECRET);
    for events in [false, true] {
        for _ in 0..100 {
            let body = random_body(SECRET, &mut rng);
            let mut scrubber = InPlaceScrubber::new(table.clone(), events);
            let (mut out, mut pending) = (vec![], vec![]);
            for piece in body.chunks(1 + rng.below(400)) {
                pending.extend_from_slice(piece);
                let going = scrubber.advance(&mut pending);
                out.extend(pending.drain(..going));
                assert!(pending.len() <= scrubber.hold_back());
            }
            let going = scrubber.finish(&mut pending);
            out.extend(pending.drain(..going));
            assert_eq!(out, oracle::scrub(&body, &[SECRET]));
        }
    }
}
