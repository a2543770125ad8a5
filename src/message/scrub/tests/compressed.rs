//! Compressed bodies: exact while clean, cut before a hit.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::oracle::Rng;
use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Coder {
    Gzip,
    Zlib,
    Raw,
    Brotli,
    Zstd,
}

pub(super) const CODERS: [Coder; 5] = [Coder::Gzip, Coder::Zlib, Coder::Raw, Coder::Brotli, Coder::Zstd];

impl Coder {
    pub(super) fn decoding(self) -> Decoding {
        let name = match self {
            Self::Gzip => "GZip",
            Self::Zlib | Self::Raw => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "identity, zstd",
        };
        Decoding::for_content_encoding(name).expect("known").expect("a coding")
    }

    /// The pieces, each flushed so that a decoder can give out all of it.
    pub(super) fn encode(self, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        match self {
            Self::Gzip => encode(flate2::write::GzEncoder::new(vec![], flate2::Compression::default()), pieces, |w| w.get_mut(), |w| w.finish()),
            Self::Zlib => encode(flate2::write::ZlibEncoder::new(vec![], flate2::Compression::best()), pieces, |w| w.get_mut(), |w| w.finish()),
            Self::Raw => encode(flate2::write::DeflateEncoder::new(vec![], flate2::Compression::none()), pieces, |w| w.get_mut(), |w| w.finish()),
            Self::Brotli => encode(brotli::CompressorWriter::new(vec![], 4096, 5, 20), pieces, |w| w.get_mut(), |w| Ok(w.into_inner())),
            Self::Zstd => encode(zstd::stream::write::Encoder::new(vec![], 3).expect("a level"), pieces, |w| w.get_mut(), |w| w.finish()),
        }
    }

    /// All that a decoder can make of the beginning of a body.
    pub(super) fn decoded(self, encoded: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        let mut decoder = self.decoding().decoder();
        decoder
            .feed(encoded, &mut |bytes| {
                out.extend_from_slice(bytes);
                Ok(())
            })
            .expect("the beginning of a body");
        out
    }
}

pub(super) fn encode<W: std::io::Write>(
    mut writer: W,
    pieces: &[&[u8]],
    buffer: impl Fn(&mut W) -> &mut Vec<u8>,
    finish: impl FnOnce(W) -> std::io::Result<Vec<u8>>,
) -> Vec<Vec<u8>> {
    let mut out = vec![];
    for piece in pieces {
        writer.write_all(piece).expect("a vector");
        writer.flush().expect("a vector");
        out.push(std::mem::take(buffer(&mut writer)));
    }
    out.push(finish(writer).expect("a vector"));
    out
}

/// What got through, and how it ended.
fn run_compressed(table: &Arc<ScrubTable>, decoding: &Decoding, pieces: &[&[u8]]) -> (Vec<u8>, Result<(), ScrubError>) {
    let mut scrubber = BodyScrubber::new(table.clone(), false, Some(decoding));
    let mut out = vec![];
    let result = pieces.iter().try_for_each(|piece| scrubber.push(piece, &mut out)).and_then(|()| scrubber.finish(&mut out));
    assert_eq!(scrubber.hits() > 0, result == Err(ScrubError::Hit));
    (out, result)
}

/// Text that compresses, but not to nothing.
pub(super) fn noise(length: usize, rng: &mut Rng) -> Vec<u8> {
    (0..length).map(|_| *rng.pick(b"abcdefghijklmnopqrstuvwxyz .,\n\"\\/%")).collect()
}

#[test]
fn a_clean_compressed_body_passes_exactly() {
    let mut rng = Rng(5);
    let table = table(SECRET);
    for coder in CODERS {
        for length in [0, 1, 100, 70_000, 300_000] {
            let plain = noise(length, &mut rng);
            let encoded = coder.encode(&plain.chunks(50_000).collect::<Vec<_>>()).concat();
            for step in [1, 700, 16_384, usize::MAX] {
                if step == 1 && length > 100 {
                    continue;
                }
                let (out, result) = run_compressed(&table, &coder.decoding(), &encoded.chunks(step.min(encoded.len())).collect::<Vec<_>>());
                assert_eq!(result, Ok(()), "{coder:?} {length} {step}");
                assert!(out == encoded, "{coder:?} {length} {step}");
            }
        }
    }
}

#[test]
fn a_compressed_body_with_the_secret_is_cut_before_it() {
    let mut rng = Rng(6);
    let table = table(SECRET);
    for coder in CODERS {
        for form in [SECRET.to_vec(), hex(SECRET, false), escape(SECRET, 16, &mut rng), STANDARD.encode(SECRET).into_bytes()] {
            for before in [0, 10, 5_000, 200_000] {
                let plain = [&noise(before, &mut rng)[..], &form, &noise(2_000, &mut rng)].concat();
                let encoded = coder.encode(&[&plain]).concat();
                for step in [3, 1_000, 16_384] {
                    if step == 3 && before > 5_000 {
                        continue;
                    }
                    let (out, result) = run_compressed(&table, &coder.decoding(), &encoded.chunks(step).collect::<Vec<_>>());
                    assert_eq!(result, Err(ScrubError::Hit), "{coder:?} {before} {step}");
                    assert!(encoded.starts_with(&out));
                    let shown = coder.decoded(&out);
                    assert!(shown.len() <= before, "{coder:?} {before} {step}: {} bytes decode", shown.len());
                }
            }
        }
    }
}

#[test]
fn a_pause_lets_go_what_can_be_decoded() {
    let table = table(SECRET);
    for coder in CODERS {
        let plain: [&[u8]; 3] = [b"first part, ", b"second part, sk-or-v1-t?st>", b"/0001~key and the end"];
        let pieces = coder.encode(&plain);
        let mut scrubber = BodyScrubber::new(table.clone(), false, Some(&coder.decoding()));
        let mut out = vec![];
        for count in 1..=2 {
            scrubber.push(&pieces[count - 1], &mut out).expect("clean");
            scrubber.flush_pause(&mut out).expect("clean");
            assert_eq!(scrubber.held(), 0, "{coder:?}");
            assert_eq!(coder.decoded(&out), plain[..count].concat(), "{coder:?}");
        }
        // The match began before the pause.
        assert_eq!(scrubber.push(&pieces[2], &mut out), Err(ScrubError::Hit), "{coder:?}");
        assert_eq!(scrubber.finish(&mut out), Err(ScrubError::Hit));
        assert_eq!(out, pieces[..2].concat());
    }
}

#[test]
fn a_pause_shows_no_half_block() {
    // zstd gives nothing out before a block is whole, though its beginning may hold the secret as it is.
    let table = table(SECRET);
    let plain = [&noise(40_000, &mut Rng(8))[..], SECRET, &noise(40_000, &mut Rng(9))].concat();
    let encoded = Coder::Zstd.encode(&[&plain]).concat();
    let mut scrubber = BodyScrubber::new(table, false, Some(&Coder::Zstd.decoding()));
    let mut out = vec![];
    for piece in encoded.chunks(1_000) {
        let result = scrubber.push(piece, &mut out).and_then(|()| scrubber.flush_pause(&mut out));
        assert!(result.is_ok() || result == Err(ScrubError::Hit));
    }
    assert_eq!(scrubber.finish(&mut out), Err(ScrubError::Hit));
    assert!(out.len() < 20, "{} bytes of a block went", out.len());
}

#[test]
fn compressed_events_go_when_their_blank_line_has_come() {
    let table = table(SECRET);
    for coder in CODERS {
        let events: [&[u8]; 3] = [b"data: one\n\n", b": keep-alive\n\n", b"data: three\r\n\r\n"];
        let pieces = coder.encode(&events);
        let mut scrubber = BodyScrubber::new(table.clone(), true, Some(&coder.decoding()));
        let mut out = vec![];
        for count in 1..=3 {
            scrubber.push(&pieces[count - 1], &mut out).expect("clean");
            assert_eq!(coder.decoded(&out), events[..count].concat(), "{coder:?}");
            assert_eq!(scrubber.held(), 0, "{coder:?}");
        }
    }
}

#[test]
fn codings_may_be_stacked() {
    let table = table(SECRET);
    let decoding = Decoding::for_content_encoding("zstd, br, gzip").expect("known").expect("some");
    let stack = |plain: &[u8]| [Coder::Zstd, Coder::Brotli, Coder::Gzip].iter().fold(plain.to_vec(), |body, coder| coder.encode(&[&body]).concat());
    let clean = stack(&noise(100_000, &mut Rng(1)));
    assert_eq!(run_compressed(&table, &decoding, &clean.chunks(900).collect::<Vec<_>>()), (clean.clone(), Ok(())));
    let dirty = stack(&[&noise(1_000, &mut Rng(1))[..], SECRET].concat());
    assert_eq!(run_compressed(&table, &decoding, &dirty.chunks(90).collect::<Vec<_>>()), (vec![], Err(ScrubError::Hit)));
}

#[test]
fn content_encodings() {
    let table = [
        ("", Ok(0)),
        ("identity", Ok(0)),
        ("gzip", Ok(1)),
        ("X-GZIP", Ok(1)),
        ("br ,\tzstd", Ok(2)),
        ("gzip,gzip,gzip", Ok(3)),
        ("gzip,gzip,gzip,gzip", Err(ScrubError::Coding)),
        ("compress", Err(ScrubError::Coding)),
        ("gzip, dcb", Err(ScrubError::Coding)),
        ("gzip;q=1", Err(ScrubError::Coding)),
    ];
    for (value, expected) in table {
        let mut fields = HeaderMap::new();
        fields.append(header::CONTENT_ENCODING, HeaderValue::from_str(value).expect("a value"));
        let layers = |d: Result<Option<Decoding>, ScrubError>| d.map(|d| d.map_or(0, |d| format!("{d:?}").split(", ").count()));
        assert_eq!(layers(Decoding::of(&fields)), expected, "{value}");
        assert_eq!(layers(Decoding::for_content_encoding(value)), expected, "{value}");
    }
    let mut fields = HeaderMap::new();
    fields.append(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    fields.append(header::CONTENT_ENCODING, HeaderValue::from_static("exi"));
    assert_eq!(Decoding::of(&fields), Err(ScrubError::Coding));
}

#[test]
fn what_cannot_be_decoded_is_an_error() {
    let table = table(SECRET);
    for coder in CODERS {
        let good = coder.encode(&[b"a good body, a good body"]).concat();
        let decoding = coder.decoding();
        for end in 1..good.len() {
            assert_eq!(run_compressed(&table, &decoding, &[&good[..end]]).1, Err(ScrubError::Undecodable), "{coder:?} cut at {end}");
        }
        let trailing = [&good[..], b"trailing"].concat();
        assert_eq!(run_compressed(&table, &decoding, &[&trailing]).1, Err(ScrubError::Undecodable), "{coder:?} trailing");
        assert_eq!(run_compressed(&table, &decoding, &[&[0xff; 600]]).1, Err(ScrubError::Undecodable), "{coder:?} noise");
        assert_eq!(run_compressed(&table, &decoding, &[]), (vec![], Ok(())), "{coder:?} no body");
    }
}

#[test]
fn members_and_frames_may_follow_one_another() {
    let table = table(SECRET);
    for coder in [Coder::Gzip, Coder::Zstd] {
        let two = [coder.encode(&[b"first"]).concat(), coder.encode(&[b"second"]).concat()].concat();
        assert_eq!(run_compressed(&table, &coder.decoding(), &[&two]), (two.clone(), Ok(())), "{coder:?}");
        let hit = [coder.encode(&[b"first sk-or-v1-t?st"]).concat(), coder.encode(&[b">/0001~key"]).concat()].concat();
        assert_eq!(run_compressed(&table, &coder.decoding(), &[&hit]).1, Err(ScrubError::Hit), "{coder:?}");
    }
}

#[test]
fn what_no_decoder_gives_out_is_scanned_too() {
    let table = table(SECRET);
    let named = flate2::GzBuilder::new().filename(SECRET).write(vec![], flate2::Compression::fast());
    let gzip = encode(named, &[b"clean"], |w| w.get_mut(), |w| w.finish()).concat();
    assert_eq!(run_compressed(&table, &Coder::Gzip.decoding(), &[&gzip]), (vec![], Err(ScrubError::Hit)));
    let skippable = [b"\x50\x2a\x4d\x18", &(SECRET.len() as u32).to_le_bytes()[..], SECRET].concat();
    assert_eq!(run_compressed(&table, &Coder::Zstd.decoding(), &skippable.chunks(1).collect::<Vec<_>>()), (vec![], Err(ScrubError::Hit)));
}

#[test]
fn a_bomb_is_an_error() {
    let table = table(SECRET);
    let zeros = vec![0; 1 << 20];
    for coder in [Coder::Gzip, Coder::Zlib, Coder::Brotli, Coder::Zstd] {
        let small = coder.encode(&[&zeros]).concat();
        assert_eq!(run_compressed(&table, &coder.decoding(), &[&small]).1, Ok(()), "{coder:?}: under the free size any ratio is good");
        let bomb = coder.encode(&[&zeros[..]; 20]).concat();
        assert_eq!(run_compressed(&table, &coder.decoding(), &[&bomb]).1, Err(ScrubError::Expansion), "{coder:?}");
    }
}

#[test]
fn brotli_with_a_large_window_is_no_brotli() {
    let mut encoded = vec![];
    let parameters = brotli::enc::BrotliEncoderParams { large_window: true, lgwin: 26, ..Default::default() };
    brotli::BrotliCompress(&mut &b"text"[..], &mut encoded, &parameters).expect("a vector");
    assert_eq!(run_compressed(&table(SECRET), &Coder::Brotli.decoding(), &[&encoded]).1, Err(ScrubError::Undecodable));
}

#[test]
fn a_damaged_body_neither_panics_nor_shows_the_secret() {
    let mut rng = Rng(12);
    let table = table(SECRET);
    for coder in CODERS {
        let plain = [&noise(3_000, &mut rng)[..], SECRET, &noise(3_000, &mut rng)].concat();
        let good = coder.encode(&plain.chunks(1_500).collect::<Vec<_>>()).concat();
        for _ in 0..200 {
            let mut bad = good.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bad.len());
                bad[at] = rng.next() as u8;
            }
            let (out, _) = run_compressed(&table, &coder.decoding(), &bad.chunks(1 + rng.below(2_000)).collect::<Vec<_>>());
            assert!(bad.starts_with(&out));
            assert!(!out.windows(SECRET.len()).any(|window| window == SECRET));
        }
    }
}

/// zstd gives nothing out before a block is whole, and a slice seldom ends where a block does: what is held stays a block or two.
#[test]
fn of_a_long_body_only_the_constant_and_a_block_are_held() {
    let table = table(SECRET);
    let plain = noise(1 << 20, &mut Rng(14));
    for coder in CODERS {
        let encoded = coder.encode(&[&plain]).concat();
        let mut scrubber = BodyScrubber::new(table.clone(), false, Some(&coder.decoding()));
        let (mut out, mut most) = (vec![], 0);
        for piece in encoded.chunks(10_000) {
            scrubber.push(piece, &mut out).unwrap_or_else(|e| panic!("{coder:?}: {e} with {} held, {} out", scrubber.held(), out.len()));
            most = most.max(scrubber.held());
        }
        assert!(most <= if coder == Coder::Zstd { 260 << 10 } else { 8 << 10 }, "{coder:?}: {most}");
        scrubber.finish(&mut out).expect("clean");
        assert!(out == encoded, "{coder:?}");
    }
}
