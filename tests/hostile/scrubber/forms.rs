//! The forms in which an origin may write the secret into a body or a field.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::super::case::cases;
use super::{Scene, Script, special_key};
use crate::support::fresh_key;

/// How a form is written, and how many of its characters also belong to what stands beside the secret in it.
type Form = (fn(&str) -> String, usize);

fn percent(key: &str, upper: bool, all: bool) -> String {
    let one = |b: u8| match (all || !b.is_ascii_alphanumeric(), upper) {
        (false, _) => char::from(b).to_string(),
        (true, true) => format!("%{b:02X}"),
        (true, false) => format!("%{b:02x}"),
    };
    key.bytes().map(one).collect()
}

fn unicode(key: &str, upper: bool) -> String {
    key.bytes().map(|b| if upper { format!("\\u{b:04X}") } else { format!("\\u{b:04x}") }).collect()
}

fn hex(key: &str) -> String {
    key.bytes().map(|b| format!("{b:02x}")).collect()
}

/// A percent-escape, one of JSON, a letter as it is, and so on.
fn mixed(text: &str) -> String {
    let one = |(at, b): (usize, u8)| match at % 4 {
        0 => format!("%{b:02x}"),
        1 => format!("\\u{b:04X}"),
        2 => format!("%{b:02X}"),
        _ => char::from(b).to_string(),
    };
    text.bytes().enumerate().map(one).collect()
}

fn standard(before: &str, key: &str, after: &str) -> String {
    STANDARD.encode(format!("{before}{key}{after}"))
}

fn url(before: &str, key: &str, after: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{before}{key}{after}"))
}

cases! { is_masked {
    raw: (|key| key.to_owned(), 0),
    standard_base64_at_the_first_alignment: (|key| standard("", key, ""), 2),
    standard_base64_at_the_second_alignment: (|key| standard("?", key, ""), 4),
    standard_base64_at_the_third_alignment: (|key| standard("??", key, ""), 5),
    standard_base64_within_more: (|key| standard("user:", key, " and so on"), 24),
    url_base64_at_the_first_alignment: (|key| url("", key, ""), 2),
    url_base64_at_the_second_alignment: (|key| url("?", key, ""), 4),
    url_base64_at_the_third_alignment: (|key| url("??", key, ""), 5),
    url_base64_within_more: (|key| url("user:", key, " and so on"), 24),
    percent_where_needed_lower_case: (|key| percent(key, false, false), 0),
    percent_where_needed_upper_case: (|key| percent(key, true, false), 0),
    percent_throughout_lower_case: (|key| percent(key, false, true), 0),
    percent_throughout_upper_case: (|key| percent(key, true, true), 0),
    percent_in_both_cases_by_turns: (|key| key.bytes().enumerate().map(|(at, b)| if at % 2 == 0 { format!("%{b:02x}") } else { format!("%{b:02X}") }).collect(), 0),
    json_with_an_escaped_slash: (|key| key.replace('/', "\\/"), 0),
    json_unicode_lower_case: (|key| unicode(key, false), 0),
    json_unicode_upper_case: (|key| unicode(key, true), 0),
    json_as_a_library_writes_it: (|key| serde_json::to_string(key).unwrap().trim_matches('"').to_owned(), 0),
    hexadecimal_lower_case: (hex, 0),
    hexadecimal_upper_case: (|key| hex(key).to_ascii_uppercase(), 0),
    percent_and_json_escapes_mixed: (mixed, 0),
    base64_with_its_signs_percent_escaped: (|key| percent(&standard("", key, ""), true, false), 6),
    base64_with_its_slashes_json_escaped: (|key| standard("", key, "").replace('/', "\\/"), 2),
    base64_escaped_both_ways: (|key| mixed(&url("", key, "")), 8),
    hexadecimal_escaped_both_ways: (|key| mixed(&hex(key)), 0),
} }

/// In a body, sized and in chunks, and in a field: masked by as many bytes as it had.
fn is_masked((form, spared): Form) {
    Scene::new(move |key| {
        let echo = form(key);
        let body = format!("{{\"echo\":\"{echo}\",\"end\":true}}");
        Script::body(body).sized().with("content-type", "application/json").with("x-echo", format!("a {echo} b"))
    })
    .play(|shown| {
        shown.passed(true);
        assert_eq!(shown.seen.value("authorization"), Some(format!("Bearer {}", shown.key)));
        let form = form(&shown.key);
        let text = shown.answer.text();
        let inner = text.strip_prefix("{\"echo\":\"").and_then(|t| t.strip_suffix("\",\"end\":true}"));
        let inner = inner.unwrap_or_else(|| panic!("the rest stays: {}", shown.case()));
        assert_eq!(shown.values("content-length"), [text.len().to_string()], "the length stays true");
        let field = shown.values("x-echo").remove(0);
        let field = field.strip_prefix("a ").and_then(|f| f.strip_suffix(" b")).unwrap_or_else(|| panic!("{field}")).to_owned();
        for masked in [inner.to_owned(), field] {
            assert_eq!(masked.len(), form.len(), "{masked}");
            let left = masked.bytes().zip(form.bytes()).filter(|(m, f)| m == f && *m != b'*').count();
            assert!(left <= spared, "{left} of {form} are left: {masked}");
        }
        shown.shows_nothing_of(&shown.key);
    });
}

/// Of type `basic` the password, the pair, and what is sent of it are secrets; the user alone is none.
#[test]
fn of_basic_the_pair_its_base64_and_the_password() {
    let password = fresh_key();
    let own = password.clone();
    let mut scene = Scene::new(move |pair| {
        let sent = STANDARD.encode(pair);
        Script::body(format!("pair {pair} password {own} sent {sent} user someone hex {}", hex(&own))).with("x-echo", format!("Basic {sent}"))
    });
    scene.terms = &["--type", "basic"];
    scene.key = format!("someone:{password}");
    scene.play(|shown| {
        shown.passed(true);
        let sent = STANDARD.encode(&shown.key);
        assert_eq!(shown.seen.value("authorization"), Some(format!("Basic {sent}")));
        let stars = |text: &str| "*".repeat(text.trim_end_matches('=').len());
        let rest = sent.len() - sent.trim_end_matches('=').len();
        let masked_sent = format!("{}{}", stars(&sent), "=".repeat(rest));
        let wanted = format!(
            "pair {} password {} sent {masked_sent} user someone hex {}",
            stars(&shown.key),
            stars(&password),
            "*".repeat(2 * password.len())
        );
        assert_eq!(shown.answer.text(), wanted);
        assert_eq!(shown.values("x-echo"), [format!("Basic {masked_sent}")]);
    });
}

/// Text that is nearly the secret, or escaped twice over, is no occurrence; what stands beside one stays.
#[test]
fn what_is_not_the_secret_stays() {
    let almost = |key: &str| {
        let end = key.len() - 1;
        format!("{} {} {} {}!", &key[..end], &key[1..], key.to_ascii_uppercase(), percent(&percent(key, true, true), true, false))
    };
    Scene::new(move |key| Script::body(almost(key)).sized().with("x-echo", almost(key))).play(move |shown| {
        shown.passed(false);
        assert_eq!(shown.answer.text(), almost(&shown.key));
        assert_eq!(shown.values("x-echo"), [almost(&shown.key)]);
    });
}

/// Only the credential of the request is looked for: what an agent holds by another grant is not this origin's to know.
#[test]
fn another_credentials_secret_is_not_looked_for() {
    let other = special_key();
    let own = other.clone();
    Scene::new(move |_| Script::body(format!("not mine: {own}"))).play(move |shown| {
        shown.passed(false);
        assert_eq!(shown.answer.text(), format!("not mine: {other}"));
    });
}
