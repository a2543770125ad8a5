//! The secret in pieces: chunks, frames, events, and gaps between them.

use super::super::case::cases;
use super::{Scene, Script, stars};

/// How a body of these bytes comes.
type Split = fn(&str) -> Vec<Vec<u8>>;

fn owned(pieces: &[&str]) -> Vec<Vec<u8>> {
    pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect()
}

fn hex(key: &str) -> String {
    key.bytes().map(|b| format!("{b:02x}")).collect()
}

cases! { masked_across {
    one_byte_a_piece: |key| key.bytes().map(|b| vec![b]).collect(),
    each_place_once: |key| (1..key.len()).flat_map(|at| owned(&[&format!("<{}", &key[..at]), &format!("{}>", &key[at..])])).collect(),
    three_pieces: |key| owned(&["before ", &key[..10], &key[10..20], &key[20..], " after"]),
    after_a_long_clean_piece: |key| owned(&[&"clean ".repeat(20_000), &key[..9], &key[9..], "end"]),
    at_the_very_end: |key| owned(&["text ", &key[..key.len() - 1], &key[key.len() - 1..]]),
    at_the_very_beginning: |key| owned(&[&key[..1], &key[1..], " text"]),
    back_to_back: |key| owned(&[&key[..7], &format!("{}{key}{}", &key[7..], &key[..30]), &key[30..]]),
    hexadecimal_between_the_digits_of_a_byte: |key| {
        let hex = hex(key);
        owned(&[&hex[..1], &hex[1..21], &hex[21..]])
    },
    an_escape_in_two: |key| owned(&["%7", &format!("3{}", &key[1..5]), &key[5..]]),
    a_json_escape_in_two: |key| owned(&["\\u00", &format!("73{}", &key[1..20]), &key[20..]]),
} }

/// As text of unknown and of known length: the same text comes out, with stars in its place.
fn masked_across(split: Split) {
    for sized in [false, true] {
        Scene::new(move |key| {
            let script = Script::pieces(split(key)).with("content-type", "text/plain");
            if sized { script.sized() } else { script }
        })
        .play(move |shown| {
            shown.passed(true);
            let whole = String::from_utf8(split(&shown.key).concat()).unwrap();
            let forms = [shown.key.clone(), hex(&shown.key), format!("%73{}", &shown.key[1..]), format!("\\u0073{}", &shown.key[1..])];
            let wanted = forms.iter().fold(whole, |text, form| text.replace(form, &stars(form.len())));
            assert!(shown.answer.text() == wanted, "{}", shown.case());
            let length = if sized { vec![wanted.len().to_string()] } else { vec![] };
            assert_eq!(shown.values("content-length"), length);
        });
    }
}

cases! { masked_in_events {
    an_event_in_one_piece: |key| owned(&[&format!("data: {key}\n\n"), "data: [DONE]\n\n"]),
    an_event_in_two_pieces: |key| owned(&[&format!("data: {}", &key[..20]), &format!("{}\n\n", &key[20..]), "data: [DONE]\n\n"]),
    an_event_a_byte_a_piece: |key| format!(": hi\n\ndata: {key}\r\n\r\ndata: [DONE]\n\n").bytes().map(|b| vec![b]).collect(),
    a_field_name_and_an_id: |key| owned(&[&format!("id: {key}\nevent: {key}\n{key}: {key}\n\n")]),
    an_unfinished_event_at_the_end: |key| owned(&["data: one\n\n", &format!("data: {}", &key[..30]), &key[30..]]),
    a_blank_line_in_the_midst: |key| owned(&[&format!("data: {}", &key[..20]), "\n\n", &format!("data: {key}\n\n")]),
} }

fn masked_in_events(split: Split) {
    Scene::new(move |key| Script::pieces(split(key)).with("content-type", "text/event-stream")).play(move |shown| {
        shown.passed(true);
        let whole = String::from_utf8(split(&shown.key).concat()).unwrap();
        assert_eq!(shown.answer.text(), whole.replace(&shown.key, &stars(shown.key.len())), "{}", shown.case());
    });
}
