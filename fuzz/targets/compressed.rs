//! Compressed bodies: what passes is what came, and nothing that holds the secret passes whole.

use std::io::{Read as _, Write as _};

use keyhatch::message::scrub::{BodyScrubber, Decoding, ScrubError};

use super::input::{Input, pieces};
use super::scrub::spans;
use super::secret::Hidden;

const CODINGS: [&str; 6] = ["gzip", "deflate", "deflate", "br", "zstd", "zstd, gzip"];

/// The input: the coding, how the body comes in pieces, whether it is one of events or has pauses, whether it is to be encoded first,
/// the secret, then the body.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (coding, seed, flags) = (usize::from(input.byte()) % CODINGS.len(), input.byte(), input.byte());
    let (events, pauses) = (flags & 1 != 0, flags & 2 != 0);
    let hidden = Hidden::read(&mut input);
    let (body, plain) = if flags & 4 == 0 {
        (input.rest().to_vec(), None)
    } else {
        let plain = hidden.body(input.rest());
        (encoded(coding, &plain, flags & 8 != 0), Some(plain))
    };

    let decoding = Decoding::for_content_encoding(CODINGS[coding]).expect("known").expect("a coding");
    let mut scrubber = BodyScrubber::new(hidden.table(), events, Some(&decoding));
    let mut out = Vec::new();
    let mut result = pieces(&body, seed).iter().try_for_each(|piece| {
        scrubber.push(piece, &mut out)?;
        if pauses { scrubber.flush_pause(&mut out) } else { Ok(()) }
    });
    result = result.and_then(|()| scrubber.finish(&mut out));
    assert!(body.starts_with(&out), "what passes is what came");
    assert_eq!(scrubber.hits() > 0, result == Err(ScrubError::Hit));
    assert!(result.is_err() || out == body, "a clean body passes whole");
    let parts = hidden.parts();
    // As it came it can hold the secret only by a pause in the middle of it.
    assert!(pauses || spans(&out, &parts).is_empty(), "the secret went in the clear");
    let Some(plain) = plain else {
        // Whatever it is, what a decoder makes of what passed is clean.
        assert!(pauses || spans(&decoded(coding, &out), &parts).is_empty(), "the secret went");
        return;
    };
    match spans(&plain, &parts).iter().map(|span| span.start).min() {
        None => assert_eq!(result, Ok(()), "a clean body of our own"),
        Some(first) => {
            assert_eq!(result, Err(ScrubError::Hit));
            let shown = decoded(coding, &out);
            assert!(plain.starts_with(&shown) && (pauses || shown.len() <= first), "{} bytes of {first} before the secret went", shown.len());
            assert!(spans(&shown, &parts).is_empty(), "the secret went");
        }
    }
}

/// Encoded, with a flush in the middle if asked for.
fn encoded(coding: usize, plain: &[u8], flush: bool) -> Vec<u8> {
    let (one, two) = plain.split_at(if flush { plain.len() / 2 } else { 0 });
    macro_rules! through {
        ($writer:expr, $finish:expr) => {{
            let mut writer = $writer;
            writer.write_all(one).expect("a vector");
            if flush {
                writer.flush().expect("a vector");
            }
            writer.write_all(two).expect("a vector");
            #[allow(clippy::redundant_closure_call, reason = "each coder has its own end")]
            ($finish)(writer)
        }};
    }
    match coding {
        0 => through!(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()), |w: flate2::write::GzEncoder<_>| w
            .finish()
            .expect("a vector")),
        1 => through!(flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best()), |w: flate2::write::ZlibEncoder<_>| w
            .finish()
            .expect("a vector")),
        2 => through!(flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::none()), |w: flate2::write::DeflateEncoder<_>| w
            .finish()
            .expect("a vector")),
        3 => through!(brotli::CompressorWriter::new(Vec::new(), 4096, 4, 16), |w: brotli::CompressorWriter<_>| w.into_inner()),
        4 => through!(zstd::stream::write::Encoder::new(Vec::new(), 1).expect("a level"), |w: zstd::stream::write::Encoder<'_, _>| w
            .finish()
            .expect("a vector")),
        _ => encoded(0, &encoded(4, plain, flush), flush),
    }
}

/// All that decoders of their own make of the beginning of a body, some of it at most.
fn decoded(coding: usize, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let limit = 8 * super::secret::LONGEST_BODY as u64;
    // A body that is cut short, or damaged further on, is an error once its beginning has been read.
    let mut read = |reader: &mut dyn std::io::Read| {
        let mut reader = reader.take(limit);
        let mut byte = [0];
        while matches!(reader.read(&mut byte), Ok(1)) {
            out.push(byte[0]);
        }
    };
    match coding {
        0 => read(&mut flate2::read::MultiGzDecoder::new(body)),
        1 => read(&mut flate2::read::ZlibDecoder::new(body)),
        2 => read(&mut flate2::read::DeflateDecoder::new(body)),
        3 => read(&mut brotli::Decompressor::new(body, 4096)),
        4 => {
            if let Ok(mut decoder) = zstd::stream::read::Decoder::new(body) {
                read(&mut decoder);
            }
        }
        _ => return decoded(4, &decoded(0, body)),
    }
    out
}
