//! The envelope: one encoding for each value, and nothing opens but what was sealed.

use std::sync::LazyLock;

use keyhatch::credential::Secret;
use keyhatch::envelope::{Decoder, Encoder, Header, Key, NONCE_LEN, UnlockKey, key_file_text, open, parse_key_file, seal, unlock};
use sha2::{Digest as _, Sha256};

use super::input::Input;

static HEADERS: LazyLock<Vec<(Vec<u8>, UnlockKey)>> = LazyLock::new(|| {
    let keys = [
        UnlockKey::KeyFile { text: key_file_text(&[5; 32]), path: "/k".into() },
        UnlockKey::Transit { key: "transit/k".into(), ciphertext: "vault:v1:AAAA".into(), plain: Secret::from_opened(&[5; 32]) },
    ];
    let wrap = |key: &UnlockKey| Header::wrap([1; 16], &Key::from_bytes([2; 32]), key, [3; 16], [4; NONCE_LEN]).expect("wraps").encode();
    keys.into_iter().map(|key| (wrap(&key), key)).collect()
});

/// The input: what is looked at, then its bytes.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 5 {
        0 => header(input.rest()),
        1 => forged(input),
        2 => sealed(input),
        3 => values(input),
        _ => {
            let text = input.rest();
            if let Ok(key) = parse_key_file(&Secret::from_opened(text)) {
                let again = key_file_text(key.bytes());
                assert!(parse_key_file(&again).is_ok_and(|k| k.bytes() == key.bytes()));
                assert!(text.len() >= 43, "32 bytes take 43 characters");
            }
        }
    }
}

/// Any bytes as a header, with the checksum that they should have.
fn header(body: &[u8]) {
    assert!(Header::decode(body).is_err() || Sha256::digest(&body[..body.len() - 32])[..] == body[body.len() - 32..]);
    let record = [body, &Sha256::digest(body)[..]].concat();
    if let Ok(header) = Header::decode(&record) {
        assert_eq!(header.encode(), record, "one header has one encoding");
    }
}

/// A genuine header of which some bytes are others, and the checksum right: it opens under no key, or is what it was.
fn forged(mut input: Input<'_>) {
    let (genuine, key) = &HEADERS[usize::from(input.byte()) % HEADERS.len()];
    let mut body = genuine[..genuine.len() - 32].to_vec();
    for patch in input.rest().chunks_exact(2).take(8) {
        let at = usize::from(patch[0]) % body.len();
        body[at] ^= patch[1];
    }
    let changed = body != genuine[..body.len()];
    let record = [&body[..], &Sha256::digest(&body)[..]].concat();
    match Header::decode(&record) {
        Ok(header) => assert_eq!(unlock(&header, key).is_ok(), !changed),
        Err(_) => assert!(changed),
    }
}

fn sealed(mut input: Input<'_>) {
    let key = Key::from_bytes([input.byte(); 32]);
    let (at, mask, cut) = (usize::from(input.byte()), input.byte(), usize::from(input.byte()));
    let len = usize::from(input.byte());
    let associated = input.take(len);
    let plain = input.rest();
    let made = seal(&key, [mask; NONCE_LEN], associated, plain);
    assert!(open(&key, associated, &made).is_ok_and(|p| p.as_slice() == plain));
    let mut other = made.clone();
    let place = at % other.len();
    other[place] ^= mask | 1;
    assert!(open(&key, associated, &other).is_err(), "a changed byte");
    assert!(open(&key, associated, &made[..made.len() - 1 - cut % made.len()]).is_err(), "cut");
    assert!(open(&key, &[associated, &[mask]].concat(), &made).is_err(), "other terms");
    assert!(open(&Key::from_bytes([mask; 32]), associated, &made).is_ok() == (*key.bytes() == [mask; 32]), "another key");
    assert!(open(&key, associated, plain).is_err(), "what was never sealed");
}

/// Any bytes as a list of values, whose kinds the input chooses: what is read is written as the same bytes.
fn values(mut input: Input<'_>) {
    let kinds = input.take(8);
    let bytes = [&Encoder::new("t").finish()[..], input.rest()].concat();
    let Ok(mut from) = Decoder::new(&bytes, "t") else { panic!("the label is there") };
    let mut out = Encoder::new("t");
    for kind in kinds {
        let read = match kind % 8 {
            0 => from.byte().map(|v| out.byte(v)),
            1 => from.flag().map(|v| out.flag(v)),
            2 => from.number().map(|v| out.number(v)),
            3 => from.signed().map(|v| out.signed(v)),
            4 => from.bytes().map(|v| out.bytes(v)),
            5 => from.text().map(|v| out.text(v)),
            6 => from.list(|d| d.text().map(str::to_owned)).map(|v| out.list(&v, |e, text| e.text(text))),
            _ => from.option(Decoder::number).map(|v| out.option(v, |e, n| e.number(n))),
        };
        if read.is_err() {
            return;
        }
    }
    let written = out.finish();
    assert!(bytes.starts_with(&written), "one value has one encoding");
    assert_eq!(from.finish().is_ok(), written.len() == bytes.len());
}
