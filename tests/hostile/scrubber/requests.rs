//! What an agent may ask for: codings that the scrubber reads, and nothing else.

use super::super::case::{audit_says, cases, is_well};
use super::{Ask, Scene, Script, values};
use crate::support::World;

/// A field as the agent sends it, and what the origin gets.
type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

cases! { arrives_narrowed {
    codings_that_are_read: ("accept-encoding", &["gzip, deflate, br, zstd"], &["gzip, deflate, br, zstd"]),
    weights_as_they_are: ("accept-encoding", &["GZip;q=0.5,  identity; q=0"], &["GZip;q=0.5,  identity; q=0"]),
    codings_with_dictionaries: ("accept-encoding", &["gzip, br, dcb, dcz, zstd"], &["gzip, br, zstd"]),
    a_coding_that_nobody_reads: ("accept-encoding", &["compress"], &["identity"]),
    any_coding: ("accept-encoding", &["*"], &["gzip, deflate, br, zstd"]),
    any_other_coding: ("accept-encoding", &["gzip;q=1.0, *;q=0.5"], &["gzip;q=1.0, deflate;q=0.5, br;q=0.5, zstd;q=0.5"]),
    several_fields: ("accept-encoding", &["exi", "gzip, pack200-gzip"], &["identity", "gzip"]),
    none_at_all: ("accept-encoding", &[], &[]),
    a_dictionary_at_hand: ("available-dictionary", &[":pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4=:"], &[]),
    instance_manipulations: ("a-im", &["gzip, vcdiff"], &[]),
} }

fn arrives_narrowed((name, sent, got): Row) {
    let mut scene = Scene::new(|_| Script::body("ok"));
    scene.ask = sent.iter().fold(Ask::get(""), |ask, value| ask.with(name, value));
    scene.play(move |shown| {
        shown.passed(false);
        let came: Vec<_> = values(&shown.seen.fields, name).iter().map(|v| String::from_utf8_lossy(v).into_owned()).collect();
        assert_eq!(came, got, "{}", shown.case());
        assert_eq!(shown.seen.value("authorization"), Some(format!("Bearer {}", shown.key)));
    });
}

/// Requests whose answers are not scrubbed ask for what they like.
#[test]
fn with_scrub_off_all_arrives() {
    let mut scene = Scene::new(|_| Script::body("ok"));
    scene.terms = &["--scrub", "off"];
    scene.ask = Ask::get("").with("accept-encoding", "dcb, exi").with("available-dictionary", ":AA==:");
    scene.play(|shown| {
        shown.passed(false);
        let got = ["accept-encoding", "available-dictionary"].map(|name| shown.seen.value(name));
        assert_eq!(got, [Some("dcb, exi".to_owned()), Some(":AA==:".to_owned())]);
    });
}

#[test]
fn without_a_credential_all_arrives_and_nothing_is_masked() {
    let world = World::agreeable();
    let authority = "openrouter.ai";
    let head = format!(
        "GET http://{authority}/bare HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: {{auth}}\r\n\
         Accept-Encoding: dcb, exi\r\nAvailable-Dictionary: :AA==:\r\nA-IM: vcdiff\r\n\r\n"
    );
    let reply = world.agent().absolute(&head);
    assert_eq!((reply.status, reply.text().as_str()), (200, "{\"ok\":true}"));
    let came = world.origin.last();
    assert_eq!(["accept-encoding", "available-dictionary", "a-im"].map(|name| came.value(name)), ["dcb, exi", ":AA==:", "vcdiff"]);
    assert!(came.values("authorization").is_empty());
    assert_eq!(audit_says(&world, "forwarded", "ok")["credential"], serde_json::Value::Null);
    is_well(&world);
}
