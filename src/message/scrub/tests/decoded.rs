//! Compressed bodies whose head waits: exact while clean, decoded and masked at a hit until the head has gone.

use super::compressed::{CODERS, Coder, noise};
use super::oracle::Rng;
use super::*;

/// What went out, how it ended, and whether it went on decoded. The head goes as soon as it may.
fn run(table: &Arc<ScrubTable>, coder: Coder, pieces: &[&[u8]], events: bool) -> (Vec<u8>, Result<(), ScrubError>, bool) {
    let mut scrubber = BodyScrubber::with_waiting_head(table.clone(), events, coder.decoding());
    let mut out = vec![];
    let mut result = Ok(());
    for piece in pieces {
        result = scrubber.push(piece, &mut out);
        if result.is_err() {
            break;
        }
        if scrubber.waits_for_head() {
            scrubber.head_goes(&mut out);
        }
    }
    let result = result.and_then(|()| scrubber.finish(&mut out));
    if result.is_ok() {
        scrubber.head_goes(&mut out);
    }
    (out, result, scrubber.is_decoded())
}

#[test]
fn a_clean_body_passes_exactly() {
    let mut rng = Rng(21);
    let table = table(SECRET);
    for coder in CODERS {
        for length in [0, 1, 900, 60_000] {
            let encoded = coder.encode(&[&noise(length, &mut rng)]).concat();
            for step in [7, 1_000, usize::MAX] {
                let got = run(&table, coder, &encoded.chunks(step.min(encoded.len().max(1))).collect::<Vec<_>>(), false);
                assert!(got == (encoded.clone(), Ok(()), false), "{coder:?} {length} {step}");
            }
        }
    }
}

/// Every form of the secret in a short body: decoded and masked just as an identity body is, however it is cut.
#[test]
fn a_hit_in_a_short_body_makes_it_go_on_decoded() {
    let mut rng = Rng(22);
    let table = table(SECRET);
    for coder in CODERS {
        for form in forms(SECRET).into_iter().chain([escape(SECRET, 16, &mut rng)]) {
            let plain = [b"{\"echo\": \"", &form[..], b"\", \"more\": \"", &noise(40, &mut rng), b"\"}"].concat();
            let encoded = coder.encode(&[&plain]).concat();
            let wanted = oracle::scrub(&plain, &[SECRET]);
            for step in [1, 13, usize::MAX] {
                let (out, result, decoded) = run(&table, coder, &encoded.chunks(step.min(encoded.len())).collect::<Vec<_>>(), false);
                assert_eq!((out.escape_ascii().to_string(), result, decoded), (wanted.escape_ascii().to_string(), Ok(()), true), "{coder:?} {step}");
            }
        }
    }
}

/// Against the reference: random bodies, coders and splits. What is whole is either exact or decoded and masked as the reference
/// does it; what was cut shows nothing at or after the first hit.
#[test]
fn differs_from_the_reference_nowhere() {
    let mut rng = Rng(23);
    let table = table(SECRET);
    for round in 0..250 {
        let coder = *rng.pick(&CODERS);
        let before = *rng.pick(&[0, 0, 0, 100, 100, 2_500]);
        let plain = [noise(before, &mut rng), random_body(SECRET, &mut rng), noise(rng.below(600), &mut rng)].concat();
        let cuts = 1 + rng.below(3);
        let encoded = coder.encode(&plain.chunks(plain.len() / cuts + 1).collect::<Vec<_>>()).concat();
        let step = 1 + rng.below(1_500);
        let (out, result, decoded) = run(&table, coder, &encoded.chunks(step).collect::<Vec<_>>(), rng.below(2) == 0);
        let spans = oracle::spans(&plain, &[SECRET]);
        match result {
            Ok(()) if !decoded => assert!(out == encoded && spans.is_empty(), "round {round}"),
            Ok(()) => assert!(out == oracle::scrub(&plain, &[SECRET]) && !spans.is_empty(), "round {round}"),
            Err(error) => {
                assert_eq!(error, ScrubError::Hit, "round {round}");
                let first = spans.iter().map(|span| span.start).min().expect("a hit");
                assert!(coder.decoded(&out).len() <= first, "round {round}");
            }
        }
    }
}

#[test]
fn once_the_head_has_gone_it_is_cut() {
    let table = table(SECRET);
    for coder in CODERS {
        let pieces = coder.encode(&[b"first, ", SECRET]);
        let mut scrubber = BodyScrubber::with_waiting_head(table.clone(), false, coder.decoding());
        let mut out = vec![];
        scrubber.push(&pieces[0], &mut out).expect("clean");
        // A pause: the head goes, and what can be decoded.
        scrubber.head_goes(&mut out);
        scrubber.flush_pause(&mut out).expect("clean");
        assert_eq!(coder.decoded(&out), b"first, ", "{coder:?}");
        let result = pieces[1..].iter().try_for_each(|piece| scrubber.push(piece, &mut out)).and_then(|()| scrubber.finish(&mut out));
        assert_eq!((result, scrubber.is_decoded(), coder.decoded(&out)), (Err(ScrubError::Hit), false, b"first, ".to_vec()), "{coder:?}");
    }
}

/// After a hit the rest streams: events go when they are whole, a pause lets go, and later hits are masked.
#[test]
fn what_goes_on_decoded_still_streams() {
    let table = table(SECRET);
    let secret = String::from_utf8_lossy(SECRET);
    for coder in CODERS {
        let events = [format!("data: {secret}\n\n"), "data: two\n\n".to_owned(), "data: half".to_owned(), format!(" {secret}\n\n")];
        let pieces = coder.encode(&events.iter().map(String::as_bytes).collect::<Vec<_>>());
        let mut scrubber = BodyScrubber::with_waiting_head(table.clone(), true, coder.decoding());
        let mut out = vec![];
        scrubber.push(&pieces[0], &mut out).expect("decoded");
        scrubber.head_goes(&mut out);
        assert_eq!(out, events[0].replace(&*secret, &"*".repeat(SECRET.len())).into_bytes(), "{coder:?}");
        scrubber.push(&pieces[1], &mut out).expect("decoded");
        assert!(out.ends_with(b"data: two\n\n"), "{coder:?}");
        scrubber.push(&pieces[2], &mut out).expect("decoded");
        assert!(out.ends_with(b"data: two\n\n") && scrubber.held() == 10, "{coder:?}");
        scrubber.flush_pause(&mut out).expect("decoded");
        assert!(out.ends_with(b"data: half"), "{coder:?}");
        pieces[3..].iter().try_for_each(|piece| scrubber.push(piece, &mut out)).and_then(|()| scrubber.finish(&mut out)).expect("decoded");
        assert_eq!((String::from_utf8_lossy(&out), scrubber.hits()), (events.concat().replace(&*secret, &"*".repeat(SECRET.len())).into(), 2));
    }
}

/// What no decoder gives out vanishes; what breaks off or grows too much after a hit ends with an error.
#[test]
fn what_follows_a_hit_is_held_to_the_same_rules() {
    let table = table(SECRET);
    let hidden = flate2::GzBuilder::new().filename(SECRET).write(vec![], flate2::Compression::fast());
    let gzip = compressed::encode(hidden, &[b"clean"], |w| w.get_mut(), |w| w.finish()).concat();
    assert_eq!(run(&table, Coder::Gzip, &[&gzip], false), (b"clean".to_vec(), Ok(()), true));
    for coder in CODERS {
        let good = coder.encode(&[SECRET]).concat();
        assert_eq!(run(&table, coder, &[&good[..good.len() - 1]], false).1, Err(ScrubError::Undecodable), "{coder:?} cut");
        assert_eq!(run(&table, coder, &[&good, b"trailing"], false).1, Err(ScrubError::Undecodable), "{coder:?} trailing");
        if coder != Coder::Raw {
            let zeros = vec![0; 2 << 20];
            let bomb = coder.encode(&[SECRET, &zeros]).concat();
            assert_eq!(run(&table, coder, &[&bomb], false).1, Err(ScrubError::Expansion), "{coder:?} bomb");
        }
    }
}

/// A skippable frame gives nothing out, whatever its length: it is not kept for ever.
#[test]
fn what_is_held_of_a_compressed_body_is_bounded() {
    let head = [&b"\x50\x2a\x4d\x18"[..], &u32::MAX.to_le_bytes()].concat();
    let mut scrubber = BodyScrubber::new(table(SECRET), false, Some(&Coder::Zstd.decoding()));
    let mut out = vec![];
    scrubber.push(&head, &mut out).expect("a frame's head");
    let ended = (0..1_000).find_map(|_| scrubber.push(&[b'.'; 16 << 10], &mut out).err().map(|error| (error, scrubber.held())));
    let (error, held) = ended.expect("it ends");
    assert!(error == ScrubError::Expansion && held < 2 << 20, "{error:?} {held}");
}
