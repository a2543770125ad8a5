//! The places of an answer other than its body.

use super::super::case::cases;
use super::{Ask, Fields, Protocol, Scene, Script, fields, stars, values};

/// Fields of an answer, with the key in place of `{}`.
type Row = &'static [(&'static str, &'static str)];

fn filled(row: Row, with: &str) -> Fields {
    row.iter().map(|(name, value)| ((*name).to_owned(), value.replace("{}", with).into_bytes())).collect()
}

cases! { field_is_masked {
    a_field_of_its_own: &[("x-echo", "{}"), ("x-clean", "stays")],
    a_field_with_more_in_it: &[("x-echo", "Authorization: Bearer {}; rest")],
    twice_in_one_field: &[("x-echo", "{} and {}")],
    each_of_several_fields_of_a_name: &[("x-echo", "one {}"), ("x-echo", "clean"), ("x-echo", "{}")],
    a_cookie: &[("set-cookie", "session={}; Path=/; HttpOnly"), ("set-cookie", "theme=dark"), ("set-cookie", "k={}")],
    a_redirect: &[("location", "https://evil.example/?k={}")],
    a_link: &[("link", "</style.css?{}>; rel=preload"), ("refresh", "0; url=/{}")],
    an_entity_tag: &[("etag", "\"{}\""), ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")],
    a_challenge: &[("www-authenticate", "Bearer realm=\"{}\", error=\"invalid_token\"")],
    a_content_type: &[("content-type", "text/plain; key={}")],
    server_timing: &[("server", "{}"), ("server-timing", "db;desc=\"{}\";dur=1"), ("x-request-id", "{}")],
    a_proxy_status_of_another_proxy: &[("proxy-status", "cdn; details=\"{}\"")],
    cors: &[("access-control-allow-origin", "https://{}"), ("access-control-expose-headers", "x-{}")],
} }

/// In the head, in an interim one, and in the trailers.
fn field_is_masked(row: Row) {
    Scene::new(move |key| Script { fields: filled(row, key), ..Script::body("ok") }).play(move |shown| {
        shown.passed(true);
        for (name, value) in filled(row, &stars(shown.key.len())) {
            assert!(values(&shown.answer.fields, &name).contains(&&value[..]), "{name}: {}", shown.case());
        }
        shown.shows_nothing_of(&shown.key);
    });
    if row.iter().any(|(name, _)| *name == "content-type") {
        return;
    }
    let mut scene = Scene::new(move |key| Script { interim: vec![filled(row, key)], trailers: Some(filled(row, key)), ..Script::body("ok") });
    scene.ask = Ask::get("").with("te", "trailers");
    scene.play(move |shown| {
        shown.passed(true);
        let (interim, trailers) = (&shown.answer.interim[0].fields, shown.answer.trailers.clone().unwrap_or_default());
        for (name, value) in filled(row, &stars(shown.key.len())) {
            // No trailer: it speaks of one connection's proxies.
            assert!(values(interim, &name).contains(&&value[..]), "{name}: {interim:?}");
            assert!(values(&trailers, &name).contains(&&value[..]), "{name}: {trailers:?}");
        }
        shown.shows_nothing_of(&shown.key);
    });
}

#[test]
fn the_reason_phrase() {
    Scene::new(|key| Script { reason: format!("Got {key} there"), ..Script::body("ok") }).play(|shown| {
        if shown.origin == Protocol::H1 {
            shown.passed(true);
        } else {
            shown.passed(false);
        }
        if (shown.agent, shown.origin) == (Protocol::H1, Protocol::H1) {
            assert_eq!(shown.answer.reason, format!("Got {} there", stars(shown.key.len())));
        }
        shown.shows_nothing_of(&shown.key);
    });
}

/// Many interim answers, one of which carries it.
#[test]
fn one_of_many_interim_answers() {
    let interim = |n: usize, key: &str| fields(&[("link", format!("</{n}?{}>", if n == 2 { key } else { "" }).as_str())]);
    Scene::new(move |key| Script { interim: (0..4).map(|n| interim(n, key)).collect(), ..Script::body("ok") }).play(move |shown| {
        shown.passed(true);
        let got: Vec<_> = shown.answer.interim.iter().map(|head| head.fields.clone()).collect();
        assert_eq!(got, (0..4).map(|n| interim(n, &stars(shown.key.len()))).collect::<Vec<_>>());
    });
}

/// Answers that have no body at all.
#[test]
fn the_head_of_an_answer_to_head() {
    let mut scene = Scene::new(|key| Script::body("").with("x-echo", key).with("content-length", "40"));
    scene.ask = Ask::new("HEAD", "");
    scene.play(|shown| {
        shown.passed(true);
        assert_eq!((shown.values("x-echo"), shown.values("content-length")), (vec![stars(shown.key.len())], vec!["40".to_owned()]));
    });
}

#[test]
fn the_head_of_a_304() {
    Scene::new(|key| Script { status: 304, ..Script::pieces(vec![]).with("etag", format!("\"{key}\"")) }).play(|shown| {
        assert_eq!(shown.answer.status, 304, "{}", shown.case());
        shown.recorded("injected", "scrubbed");
        assert_eq!(shown.values("etag"), [format!("\"{}\"", stars(shown.key.len()))]);
    });
}

/// An error of the origin's own is scrubbed as any other answer, and stays its own.
#[test]
fn an_error_page() {
    Scene::new(|key| Script { status: 401, ..Script::body(format!("bad key: {key}")).sized().with("x-echo", key) }).play(|shown| {
        assert_eq!(shown.answer.status, 401, "{}", shown.case());
        shown.recorded("injected", "scrubbed");
        assert_eq!(shown.answer.text(), format!("bad key: {}", stars(shown.key.len())));
        assert_eq!(shown.record["status"], 401);
    });
}

/// A weak secret is masked in fields, where nobody can guess much; bodies pass.
#[test]
fn a_weak_secret_is_masked_in_fields_only() {
    let mut scene =
        Scene::new(|key| Script { trailers: Some(fields(&[("x-end", key)])), ..Script::body(format!("the word {key}")).with("x-echo", key) });
    scene.key = "hunter2-hunter2".to_owned();
    scene.terms = &["--allow-weak"];
    scene.play(|shown| {
        shown.passed(true);
        assert_eq!(shown.answer.text(), "the word hunter2-hunter2");
        assert_eq!(shown.values("x-echo"), [stars(15)]);
    });
}

/// The operator said so.
#[test]
fn with_scrub_off_all_passes() {
    let mut scene = Scene::new(|key| Script::body(format!("the key {key}")).with("x-echo", key).with("content-type", "text/plain").sized());
    scene.terms = &["--scrub", "off"];
    scene.play(|shown| {
        shown.passed(false);
        assert_eq!((shown.answer.text(), shown.values("x-echo")), (format!("the key {}", shown.key), vec![shown.key.clone()]));
    });
}
