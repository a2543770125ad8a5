//! Events of an event stream: where each ends, and that nothing of a finished one is held.

use keyhatch::message::scrub::{BodyScrubber, Events};

use super::input::{Input, pieces};
use super::secret::table;

/// The input: how the stream comes in pieces, then the stream.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.byte();
    let stream = input.rest();
    let stream = &stream[..stream.len().min(1000)];
    let (mut events, mut at) = (Events::new(), 0);
    let mut scrubber = BodyScrubber::new(table(b"sk-or-v1-test-0001", false), true, None);
    let hold_back = 18 * 2 * 6 - 1;
    let (mut out, mut last) = (Vec::new(), 0);
    for piece in pieces(stream, seed) {
        let end = at + piece.len();
        let wanted = (at + 1..=end).rev().find(|end| ends_here(&stream[..*end]));
        assert_eq!(events.last_end(piece).map(|e| at + e), wanted, "in {:?} from {at} to {end}", stream.escape_ascii().to_string());
        scrubber.push(piece, &mut out).expect("identity");
        last = wanted.unwrap_or(last);
        assert_eq!(out.len(), last.max(out.len().min(end.saturating_sub(hold_back))).max(end.saturating_sub(hold_back)), "what is held at {end}");
        at = end;
    }
    scrubber.finish(&mut out).expect("identity");
    assert_eq!(out.len(), stream.len());
}

/// WHATWG HTML 9.2.5: lines end with CR LF, LF or CR; a blank one ends an event. A CR that a LF may follow ends it as well.
fn ends_here(stream: &[u8]) -> bool {
    let (mut at, mut line, mut blank) = (0, 0, false);
    while at < stream.len() {
        let len = match (stream[at], stream.get(at + 1)) {
            (b'\r', Some(b'\n')) => 2,
            (b'\r' | b'\n', _) => 1,
            _ => 0,
        };
        blank = len > 0 && line == at;
        at += len.max(1);
        if len > 0 {
            line = at;
        }
    }
    blank
}
