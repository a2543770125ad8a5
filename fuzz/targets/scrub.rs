//! The scrubber, held against an oracle that decodes whole bodies from every place.

use std::ops::Range;
use std::sync::Arc;

use keyhatch::message::scrub::{BodyScrubber, InPlaceScrubber, ScrubTable};

use super::input::{Chance, Input, pieces};
use super::secret::{Hidden, table};

#[allow(dead_code, reason = "it has a generator for the unit tests, which it is shared with")]
#[path = "../../src/message/scrub/tests/oracle.rs"]
mod oracle;

/// Long enough for bytes to go before the end, and no longer: the reference is slow.
const LONGEST: usize = 600;

/// Where a body holds a form of a part.
pub fn spans(body: &[u8], parts: &[&[u8]]) -> Vec<Range<usize>> {
    oracle::spans(body, parts)
}

/// The input: how the body comes in pieces, whether it is one of events, whether there are pauses, the secret, then the body.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (seed, flags) = (input.byte(), input.byte());
    let (events, pauses) = (flags & 1 != 0, flags & 2 != 0);
    let hidden = Hidden::read(&mut input);
    let mut body = hidden.body(input.rest());
    body.truncate(LONGEST);
    let pieces = pieces(&body, seed);
    let spans = spans(&body, &hidden.parts());
    let wanted = oracle::scrub(&body, &hidden.parts());
    assert_eq!(spans.is_empty(), wanted == body);

    let own = hidden.table();
    let (out, sizes, paused, hits) = through(&own, events, pauses.then_some(seed), &pieces);
    if pauses {
        after_pauses(&body, &out, &spans, &paused);
    } else {
        equal(&out, &wanted, &body);
        assert_eq!(hits > 0, !spans.is_empty());
        equal(&in_place(&own, events, &pieces), &wanted, &body);
    }
    let masked = own.scrub_header(&body);
    // A field hides weak parts, too, which the oracle was not asked about.
    assert!(masked.is_some() || spans.is_empty());
    if hidden.parts().len() == usize::from(hidden.basic && hidden.whole.contains(&b':')) + 1 {
        equal(masked.as_deref().unwrap_or(&body), &wanted, &body);
    }

    // Nothing but the length of the secret, and the body's own line ends, says when bytes go.
    let other: Vec<u8> = hidden.whole.iter().map(|b| if *b == b':' { b':' } else { b'q' }).collect();
    assert_eq!(through(&table(&other, hidden.basic), events, pauses.then_some(seed), &pieces).1, sizes, "frames depend on the secret");
}

/// What came out, how much at each step, where pauses let go of everything, and how many places were masked.
fn through(table: &Arc<ScrubTable>, events: bool, pauses: Option<u8>, pieces: &[&[u8]]) -> (Vec<u8>, Vec<usize>, Vec<usize>, u64) {
    let mut scrubber = BodyScrubber::new(Arc::clone(table), events, None);
    let mut chance = pauses.map(Chance::new);
    let (mut out, mut sizes, mut paused) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        scrubber.push(piece, &mut out).expect("identity");
        sizes.push(out.len());
        if chance.as_mut().is_some_and(|c| c.below(3) == 0) {
            scrubber.flush_pause(&mut out).expect("identity");
            assert_eq!(scrubber.held(), 0);
            paused.push(out.len());
        }
    }
    scrubber.finish(&mut out).expect("identity");
    (out, sizes, paused, scrubber.hits())
}

fn in_place(table: &Arc<ScrubTable>, events: bool, pieces: &[&[u8]]) -> Vec<u8> {
    let mut scrubber = InPlaceScrubber::new(Arc::clone(table), events);
    let (mut out, mut pending) = (Vec::new(), Vec::new());
    for piece in pieces {
        pending.extend_from_slice(piece);
        let going = scrubber.advance(&mut pending);
        out.extend(pending.drain(..going));
        assert!(pending.len() <= scrubber.hold_back(), "more is held than the longest form");
    }
    let going = scrubber.finish(&mut pending);
    out.extend(pending.drain(..going));
    out
}

/// What a pause let go before a match was whole may stay; all else of it is masked, and nothing else is.
fn after_pauses(body: &[u8], out: &[u8], spans: &[Range<usize>], paused: &[usize]) {
    assert_eq!(out.len(), body.len());
    for (at, (got, was)) in out.iter().zip(body).enumerate() {
        let inside = spans.iter().filter(|span| span.contains(&at)).collect::<Vec<_>>();
        let shown = |span: &&Range<usize>| paused.iter().filter(|p| **p < span.end).max().copied().unwrap_or(0);
        let due = inside.iter().any(|span| at >= shown(span) || shown(span) <= span.start);
        assert!(!due || *got == b'*', "byte {at} of {:?} is shown: {:?}", body.escape_ascii().to_string(), out.escape_ascii().to_string());
        assert!(got == was || (*got == b'*' && !inside.is_empty()), "byte {at} of {:?} was changed", body.escape_ascii().to_string());
    }
}

fn equal(got: &[u8], wanted: &[u8], body: &[u8]) {
    assert!(
        got == wanted,
        "of {:?}\ncame {:?}\n not {:?}",
        body.escape_ascii().to_string(),
        got.escape_ascii().to_string(),
        wanted.escape_ascii().to_string()
    );
}
