use super::*;

fn covers(pattern: &str, target: &str) -> bool {
    HostPattern::parse(pattern).expect(pattern).matches(&Authority::parse(target, Some(443)).expect(target), &[443])
}

#[test]
fn the_table_of_the_contract() {
    for target in ["openrouter.ai", "api.openrouter.ai", "a.b.openrouter.ai", "OPENROUTER.AI", "openrouter.ai."] {
        assert!(covers("*.openrouter.ai", target), "{target}");
    }
    for target in ["evilopenrouter.ai", "openrouter.ai.evil.com", "openrouter.aix", "openrouter.ai:8443", "ai", "127.0.0.1"] {
        assert!(!covers("*.openrouter.ai", target), "{target}");
    }
    assert!(covers("openrouter.ai", "openrouter.ai") && !covers("openrouter.ai", "api.openrouter.ai"));
    assert!(covers("api-*.example.com", "api-eu.example.com"));
    assert!(!covers("api-*.example.com", "api-eu.x.example.com") && !covers("api-*.example.com", "example.com"));
    assert!(covers("h:8443", "h:8443") && !covers("h:8443", "h:443") && covers("h:*", "h:1"));
    assert!(covers("*.BÜCHER.example", "x.xn--bcher-kva.example"));
    assert!(covers("127.0.0.1", "0x7f.1"));
}

#[test]
fn breadth_is_seen() {
    for (text, broad) in
        [("*", true), ("*.com", true), ("*.co.uk", true), ("a*.com", true), ("*.openrouter.ai", false), ("com", false), ("*.github.io", true)]
    {
        assert_eq!(HostPattern::parse(text).expect(text).breadth().is_some(), broad, "{text}");
    }
}

#[test]
fn a_fault_has_its_place() {
    for (text, at) in [
        ("https://h", 6),
        ("a.*.b", 3),
        ("*a*.b", 3),
        ("h:x", 3),
        ("a b", 2),
        ("*x", 3),
        ("*.", 3),
        ("a..b", 3),
        ("x.{a,b}.c", 3),
        ("a.256.1.1.1", 11),
        ("::1", 1),
        ("ü.a b", 4),
    ] {
        assert_eq!(HostPattern::parse(text).expect_err(text).at, at, "{text}");
    }
}

#[test]
fn a_fault_is_told_in_one_line() {
    let said = HostPattern::parse("open\nrouter\u{1b}[2J.ai").expect_err("bad").to_string();
    assert!(said.starts_with("pattern `open\\nrouter\\u{1b}[2J.ai`, at character 5: ") && !said.contains(char::is_control), "{said}");
}

#[test]
fn what_lies_within() {
    let p = |t: &str| HostPattern::parse(t).expect(t);
    for (inner, cap) in [
        ("a.corp.example", "*.corp.example"),
        ("*.a.corp.example", "*.corp.example"),
        ("*.corp.example", "*.corp.example"),
        ("x-*.corp.example", "*.corp.example"),
        ("x-*.corp.example", "x-*.corp.example"),
        ("x-1.corp.example", "x-*.corp.example"),
        ("a.example:8443", "*.example:*"),
        ("a.example:443", "a.example"),
        ("127.0.0.1", "*"),
    ] {
        assert!(p(inner).within(&p(cap)), "{inner} {cap}");
    }
    for (inner, cap) in [
        ("*.corp.example", "corp.example"),
        ("*.corp.example", "*.a.corp.example"),
        ("evilcorp.example", "*.corp.example"),
        ("*", "*.example"),
        ("*.example", "x-*.example"),
        ("x*.example", "x-*.example"),
        ("a.example:8443", "*.example"),
        ("a.example:*", "*.example"),
        ("127.0.0.1", "*.example"),
    ] {
        assert!(!p(inner).within(&p(cap)), "{inner} {cap}");
    }
}

#[test]
fn what_overlaps() {
    let p = |text: &str| HostPattern::parse(text).expect(text);
    for (a, b, both) in [
        ("a.example", "a.example", true),
        ("a.example", "b.example", false),
        ("a.example", "*.example", true),
        ("*.b.example", "*.example", true),
        ("*.b.example", "*.a.example", false),
        ("a.example", "*", true),
        ("[::1]", "*", true),
        ("[::1]", "*.example", false),
        ("api-*.example", "api-eu.example", true),
        ("api-*.example", "www.example", false),
        ("api-*.example", "*.example", true),
        ("api-*.example", "*.api-eu.example", true),
        ("api-*.example", "*.www.example", false),
        ("a*.example", "*b.example", true),
        ("a*.example", "ab*.example", true),
        ("a*.example", "b*.example", false),
        ("a*.example", "a*.b.example", false),
        ("*.example", "a.example:*", true),
        ("*.example:443", "a.example", true),
        ("*.example:8443", "a.example", false),
        ("*.example:*", "a.example:80", true),
    ] {
        assert_eq!((p(a).overlaps(&p(b)), p(b).overlaps(&p(a))), (both, both), "{a} {b}");
    }
}

#[test]
fn narrower_wins() {
    let s = |t: &str| HostPattern::parse(t).expect(t).specificity();
    assert!(s("a.b.c") > s("x*.b.c") && s("x*.b.c") > s("*.a.b.c") && s("*.b.c") > s("*.c") && s("*.c") > s("*"));
}
