//! Compressed answers: exact while they are clean, decoded and masked at a hit as long as the head has not gone, else cut off.

use super::super::case::cases;
use super::{Ask, Protocol, Scene, Script, Shown, fields, stars, values};

/// Compresses pieces, each flushed.
pub type Coder = fn(&[&[u8]]) -> Vec<u8>;

/// Writes the pieces, each flushed.
fn feed<W: std::io::Write>(mut writer: W, pieces: &[&[u8]]) -> W {
    for piece in pieces {
        writer.write_all(piece).unwrap();
        writer.flush().unwrap();
    }
    writer
}

pub fn gzip(pieces: &[&[u8]]) -> Vec<u8> {
    feed(flate2::write::GzEncoder::new(vec![], flate2::Compression::default()), pieces).finish().unwrap()
}

fn gzip_stored(pieces: &[&[u8]]) -> Vec<u8> {
    feed(flate2::write::GzEncoder::new(vec![], flate2::Compression::none()), pieces).finish().unwrap()
}

fn gzip_members(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| gzip(&[piece])).collect()
}

pub fn zlib(pieces: &[&[u8]]) -> Vec<u8> {
    feed(flate2::write::ZlibEncoder::new(vec![], flate2::Compression::default()), pieces).finish().unwrap()
}

pub fn deflate(pieces: &[&[u8]]) -> Vec<u8> {
    feed(flate2::write::DeflateEncoder::new(vec![], flate2::Compression::best()), pieces).finish().unwrap()
}

pub fn brotli(pieces: &[&[u8]]) -> Vec<u8> {
    feed(::brotli::CompressorWriter::new(vec![], 4096, 5, 20), pieces).into_inner()
}

pub fn zstd(pieces: &[&[u8]]) -> Vec<u8> {
    feed(::zstd::stream::write::Encoder::new(vec![], 3).unwrap(), pieces).finish().unwrap()
}

fn zstd_frames(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| zstd(&[piece])).collect()
}

fn gzip_in_brotli(pieces: &[&[u8]]) -> Vec<u8> {
    brotli(&[&gzip(pieces)])
}

fn three(pieces: &[&[u8]]) -> Vec<u8> {
    gzip(&[&zstd(&[&brotli(pieces)])])
}

/// Text that does not compress to nothing.
fn filling(lines: u32) -> String {
    (0..lines).map(|n| format!("line {n}: {:08x}{:08x}\n", n.wrapping_mul(2_654_435_761), n.wrapping_mul(2_246_822_519))).collect()
}

fn page(key: &str) -> [String; 3] {
    [format!("{{\"echo\":\"{}", &key[..20]), format!("{}\",\"again\":\"", &key[20..]), format!("{key}\",\"end\":true}}")]
}

cases! { short_goes_on_decoded {
    in_gzip: ("gzip", gzip),
    in_gzip_by_its_old_name: ("x-gzip", gzip),
    in_gzip_that_only_stores: ("gzip", gzip_stored),
    in_gzip_across_members: ("gzip", gzip_members),
    in_deflate_as_zlib: ("deflate", zlib),
    in_deflate_as_it_should_not_be: ("Deflate", deflate),
    in_brotli: ("br", brotli),
    in_zstd: ("zstd", zstd),
    in_zstd_across_frames: ("identity, zstd", zstd_frames),
    in_two_codings: ("gzip, br", gzip_in_brotli),
    in_three_codings: ("br, zstd, gzip", three),
} }

/// An echo that was compressed: the agent gets it decoded, masked, without what was true of the coded bytes only.
fn short_goes_on_decoded((name, coder): (&'static str, Coder)) {
    for chunk in [usize::MAX, 1, 50] {
        Scene::new(move |key| {
            let body = coder(&page(key).each_ref().map(String::as_bytes));
            let script = Script::pieces(body.chunks(chunk.min(body.len())).map(<[u8]>::to_vec).collect());
            let script = script.with("content-encoding", name).with("content-type", "application/json");
            // Its length is said where it comes whole.
            if chunk == usize::MAX { described(script).sized() } else { described(script) }
        })
        .play(went_on_decoded);
    }
}

fn described(script: Script) -> Script {
    script
        .with("etag", "\"abc\"")
        .with("accept-ranges", "bytes")
        .with("content-digest", "sha-256=:AAAA:")
        .with("repr-digest", "sha-256=:AAAA:")
        .with("digest", "sha-256=AAAA")
        .with("content-md5", "AAAA")
        .with("vary", "accept-encoding")
}

fn went_on_decoded(shown: &Shown) {
    shown.passed(true);
    assert_eq!(shown.answer.text(), page(&shown.key).concat().replace(&shown.key, &stars(shown.key.len())), "{}", shown.case());
    for gone in ["content-encoding", "content-length", "accept-ranges", "content-digest", "repr-digest", "digest", "content-md5"] {
        assert!(shown.values(gone).is_empty(), "{gone}: {}", shown.case());
    }
    let kept = ["etag", "vary", "content-type"].map(|name| shown.values(name).concat());
    assert_eq!(kept, ["W/\"abc\"", "accept-encoding", "application/json"]);
    shown.shows_nothing_of(&shown.key);
}

#[test]
fn its_trailers_lose_their_digests() {
    let mut scene = Scene::new(|key| Script {
        trailers: Some(fields(&[("content-digest", "sha-256=:AAAA:"), ("x-sum", "7"), ("x-echo", key)])),
        ..Script::body(gzip(&[key.as_bytes()])).with("content-encoding", "gzip")
    });
    scene.ask = Ask::get("").with("te", "trailers");
    scene.play(|shown| {
        shown.passed(true);
        let trailers = shown.answer.trailers.clone().unwrap_or_default();
        assert!(values(&trailers, "content-digest").is_empty(), "{trailers:?}");
        assert_eq!((values(&trailers, "x-sum"), values(&trailers, "x-echo")), (vec![&b"7"[..]], vec![stars(shown.key.len()).as_bytes()]));
    });
}

/// gzip has room for a name, and for a remark: neither is content.
#[test]
fn what_no_decoder_gives_out_vanishes() {
    Scene::new(|key| {
        let named = flate2::GzBuilder::new().filename(key).comment(key).write(vec![], flate2::Compression::default());
        Script::body(feed(named, &[b"clean"]).finish().unwrap()).with("content-encoding", "gzip")
    })
    .play(|shown| {
        shown.passed(true);
        assert_eq!(shown.answer.text(), "clean");
    });
}

#[test]
fn in_compressed_events() {
    Scene::new(|key| {
        let event = format!("data: {key}\n\n");
        Script::body(gzip(&[event.as_bytes(), b"data: [DONE]\n\n"])).with("content-encoding", "gzip").with("content-type", "text/event-stream")
    })
    .play(|shown| {
        shown.passed(true);
        assert_eq!(shown.answer.text(), format!("data: {}\n\ndata: [DONE]\n\n", stars(shown.key.len())));
    });
}

#[test]
fn in_an_error_page() {
    Scene::new(|key| Script { status: 400, ..Script::body(brotli(&[key.as_bytes()])).with("content-encoding", "br").sized() }).play(|shown| {
        assert_eq!((shown.answer.status, shown.answer.text()), (400, stars(shown.key.len())));
        shown.recorded("injected", "scrubbed");
    });
}

cases! { late_is_cut {
    late_in_gzip: ("gzip", gzip),
    late_in_deflate: ("deflate", zlib),
    late_in_brotli: ("br", brotli),
    late_in_zstd: ("zstd", zstd),
} }

/// More than all that may wait for the head comes before the secret: what has gone was clean, and the rest does not come.
fn late_is_cut((name, coder): (&'static str, Coder)) {
    Scene::new(move |key| Script::body(coder(&[filling(40_000).as_bytes(), key.as_bytes(), b"tail"])).with("content-encoding", name).sized()).play(
        move |shown| {
            shown.cut("scrubbed");
            let whole = coder(&[filling(40_000).as_bytes(), shown.key.as_bytes(), b"tail"]);
            assert!(whole.starts_with(&shown.answer.body) && shown.answer.body.len() < whole.len(), "{} of {}", shown.answer.body.len(), whole.len());
            assert!(shown.record["bytes_down"].as_u64().is_some_and(|passed| passed > 0), "{}", shown.record);
            // How long it would have been tells how well the secret compresses beside what an agent chose.
            assert!(shown.values("content-length").is_empty(), "{}", shown.case());
        },
    );
}

cases! { clean_passes_exactly {
    clean_gzip: ("gzip", gzip),
    clean_gzip_across_members: ("gzip", gzip_members),
    clean_deflate_as_zlib: ("deflate", zlib),
    clean_deflate_as_it_should_not_be: ("deflate", deflate),
    clean_brotli: ("br", brotli),
    clean_zstd: ("zstd", zstd),
    clean_zstd_across_frames: ("zstd", zstd_frames),
    clean_in_three_codings: ("br, zstd, gzip", three),
} }

fn clean_passes_exactly((name, coder): (&'static str, Coder)) {
    for lines in [2, 3_000, 40_000] {
        let text = filling(lines);
        let halves = text.split_at(text.len() / 2);
        let body = coder(&[halves.0.as_bytes(), halves.1.as_bytes()]);
        let own = body.clone();
        Scene::new(move |_| described(Script::body(own.clone())).with("content-encoding", name)).play(move |shown| {
            shown.passed(false);
            assert!(shown.answer.body == body, "{lines} lines: every byte");
            let kept = ["content-encoding", "etag", "accept-ranges", "content-digest"].map(|field| shown.values(field).concat());
            assert_eq!(kept, [name, "\"abc\"", "bytes", "sha-256=:AAAA:"]);
        });
    }
}

/// A short one is whole before its head goes: then its length is no secret, and stays. One whose head has to go earlier says none.
#[test]
fn the_length_of_a_clean_one_stays_where_it_tells_nothing() {
    for (lines, stays) in [(3, true), (40_000, false)] {
        let body = gzip(&[filling(lines).as_bytes()]);
        let own = body.clone();
        Scene::new(move |_| Script::body(own.clone()).with("content-encoding", "gzip").sized()).play(move |shown| {
            shown.passed(false);
            assert!(shown.answer.body == body);
            if !stays || shown.origin == Protocol::H1 {
                let wanted = if stays { vec![body.len().to_string()] } else { vec![] };
                assert_eq!(shown.values("content-length"), wanted, "{}", shown.case());
            }
        });
    }
}

/// The length in an answer to HEAD would tell the same without a hit.
#[test]
fn the_length_in_an_answer_to_head_is_not_told() {
    for (coding, told) in [("gzip", false), ("compress", false), ("identity", true)] {
        let mut scene = Scene::new(move |_| Script::body("").with("content-encoding", coding).with("content-length", "1234"));
        scene.ask = Ask::new("HEAD", "");
        scene.play(move |shown| {
            shown.passed(false);
            let wanted = if told { vec!["1234".to_owned()] } else { vec![] };
            assert_eq!(shown.values("content-length"), wanted, "{coding}: {}", shown.case());
        });
    }
}

/// A part of a coded body cannot become a part of the decoded one.
#[test]
fn a_part_of_a_coded_body_that_holds_it_is_refused_or_cut() {
    Scene::new(|key| {
        let body = gzip(&[key.as_bytes()]);
        let range = format!("bytes 0-{}/{}", body.len() - 1, body.len());
        Script { status: 206, ..Script::body(body).with("content-encoding", "gzip").with("content-range", range).sized() }
    })
    .play(|shown| {
        shown.recorded("failed", "scrubbed");
        assert!(shown.answer.status != 206 || shown.answer.body.is_empty(), "{}", shown.case());
        shown.shows_nothing_of(&shown.key);
    });
}

/// Where the operator said so, nothing is decoded.
#[test]
fn with_scrub_off_a_coded_answer_passes_as_it_is() {
    let mut scene = Scene::new(|key| Script::body(gzip(&[key.as_bytes()])).with("content-encoding", "gzip").sized());
    scene.terms = &["--scrub", "off"];
    scene.play(|shown| {
        shown.passed(false);
        let body = gzip(&[shown.key.as_bytes()]);
        assert_eq!((&shown.answer.body, shown.values("content-length")), (&body, vec![body.len().to_string()]));
    });
}
