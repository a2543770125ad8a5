//! Answers that the scrubber cannot read: none of them goes on, and the audit log says why.

use super::super::case::cases;
use super::coded::{brotli, deflate, gzip, zlib, zstd};
use super::{Ending, Scene, Script, stars};

/// A `Content-Encoding`, a body that holds the key, and the reason recorded.
type Row = (&'static str, fn(&str) -> Vec<u8>, &'static str);

fn cut_by(count: usize, mut body: Vec<u8>) -> Vec<u8> {
    body.truncate(body.len() - count);
    body
}

fn and(mut body: Vec<u8>, more: &[u8]) -> Vec<u8> {
    body.extend_from_slice(more);
    body
}

fn flipped(mut body: Vec<u8>, from_the_end: usize) -> Vec<u8> {
    let at = body.len() - from_the_end;
    body[at] ^= 1;
    body
}

cases! { is_refused {
    gzip_cut_short: ("gzip", |key| cut_by(1, gzip(&[b"clean", &key.as_bytes()[..5]])), "undecodable"),
    deflate_cut_short: ("deflate", |_| cut_by(1, zlib(&[b"clean"])), "undecodable"),
    raw_deflate_cut_short: ("deflate", |_| cut_by(1, deflate(&[b"clean"])), "undecodable"),
    brotli_cut_short: ("br", |_| cut_by(1, brotli(&[b"clean"])), "undecodable"),
    zstd_cut_short: ("zstd", |_| cut_by(1, zstd(&[b"clean"])), "undecodable"),
    cut_short_after_a_hit: ("gzip", |key| cut_by(1, gzip(&[key.as_bytes()])), "scrubbed"),
    garbage_after_gzip: ("gzip", |_| and(gzip(&[b"clean"]), b"more"), "undecodable"),
    the_secret_after_gzip: ("gzip", |key| and(gzip(&[b"clean"]), key.as_bytes()), "scrubbed"),
    garbage_after_deflate: ("deflate", |_| and(zlib(&[b"clean"]), b"more"), "undecodable"),
    garbage_after_brotli: ("br", |_| and(brotli(&[b"clean"]), b"more"), "undecodable"),
    garbage_after_zstd: ("zstd", |_| and(zstd(&[b"clean"]), b"more"), "undecodable"),
    a_wrong_checksum: ("gzip", |_| flipped(gzip(&[b"clean"]), 5), "undecodable"),
    a_wrong_length: ("gzip", |_| flipped(gzip(&[b"clean"]), 1), "undecodable"),
    text_that_says_gzip: ("gzip", |_| b"no gzip at all".to_vec(), "undecodable"),
    brotli_that_says_zstd: ("zstd", |_| brotli(&[b"clean"]), "undecodable"),
    codings_in_the_wrong_order: ("gzip, br", |_| gzip(&[&brotli(&[b"clean"])]), "undecodable"),
    an_unknown_coding: ("compress", |key| key.as_bytes().to_vec(), "unknown_coding"),
    an_unknown_coding_among_known: ("gzip, exi", |_| gzip(&[b"clean"]), "unknown_coding"),
    a_dictionary_of_brotli: ("dcb", |_| b"\xff\x44\x43\x42".to_vec(), "unknown_coding"),
    a_dictionary_of_zstd: ("dcz", |_| b"\x5e\x2a\x4d\x18".to_vec(), "unknown_coding"),
    a_zstd_frame_that_needs_a_dictionary: ("zstd", |_| b"\x28\xb5\x2f\xfd\x01\x00\x07\x01\x00\x00".to_vec(), "undecodable"),
    a_window_that_nobody_may_ask_for: ("zstd", |_| b"\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00".to_vec(), "undecodable"),
    four_codings: ("gzip, gzip, gzip, gzip", |_| (0..4).fold(b"clean".to_vec(), |body, _| gzip(&[&body])), "unknown_coding"),
    a_coding_with_a_parameter: ("gzip;q=1", |_| gzip(&[b"clean"]), "unknown_coding"),
    a_coding_that_is_no_text: ("gz\u{ef}p", |_| gzip(&[b"clean"]), "unknown_coding"),
    a_bomb: ("gzip", |_| gzip(&[&vec![0; 20 << 20]]), "expands_too_much"),
    a_bomb_in_a_bomb: ("br, gzip", |_| gzip(&[&brotli(&[&vec![0; 40 << 20]])]), "expands_too_much"),
    a_bomb_after_a_hit: ("zstd", |key| zstd(&[key.as_bytes(), &vec![0; 20 << 20]]), "scrubbed"),
} }

fn is_refused((coding, body, reason): Row) {
    Scene::new(move |key| Script::body(body(key)).with("content-encoding", coding).sized()).play(move |shown| {
        if shown.answer.status == 200 {
            // Of a long one the head, and bytes that were clean, may have gone.
            assert_ne!(shown.answer.ending, Ending::Whole, "{}", shown.case());
            shown.recorded("failed", reason);
        } else {
            shown.refused(reason);
        }
        shown.shows_nothing_of(&shown.key);
    });
}

/// A head that a client could read as another coding than the scrubber did: both fields count.
#[test]
fn two_fields_count_as_one_list() {
    Scene::new(|key| Script::body(gzip(&[&brotli(&[key.as_bytes()])])).with("content-encoding", "br").with("content-encoding", "gzip")).play(
        |shown| {
            shown.passed(true);
            assert_eq!((shown.answer.text(), shown.values("content-encoding")), (stars(shown.key.len()), vec![]));
        },
    );
}

/// No body at all is not taken for one that was cut short.
#[test]
fn an_empty_body_needs_no_decoding() {
    Scene::new(|_| Script::pieces(vec![]).with("content-encoding", "gzip").with("content-length", "0")).play(|shown| {
        shown.passed(false);
        assert!(shown.answer.body.is_empty());
    });
}

/// A weak secret is not looked for in bodies, so nothing is decoded for it.
#[test]
fn for_a_weak_secret_no_body_is_decoded() {
    let mut scene = Scene::new(|_| Script::body("whatever").with("content-encoding", "compress"));
    scene.key = "hunter2-hunter2".to_owned();
    scene.terms = &["--allow-weak"];
    scene.play(|shown| {
        shown.passed(false);
        assert_eq!(shown.answer.text(), "whatever");
    });
}
