//! The corpus: shapes of requests.

use super::shape::{Shape, Step, answer, bulk, length, ok, only, row, unknown};
use crate::support::wire::{Ask, Content, fields};

/// Methods, targets, fields.
pub fn heads() -> Vec<Shape> {
    let get = |target: &str| Ask::get(target);
    vec![
        row("GET", get("/"), ok()),
        row("HEAD with a length", Ask::new("HEAD", "/h"), only(200, "OK", &[("content-length", "1234"), ("etag", "\"a\"")])),
        row("HEAD without a length", Ask::new("HEAD", "/h"), only(200, "OK", &[("x-a", "1")])),
        row("DELETE without a body", Ask::new("DELETE", "/thing/1"), only(204, "No Content", &[])),
        row("DELETE with a body", length("DELETE", "/thing/1", "why"), ok()),
        row("GET with a body", length("GET", "/search", "{\"q\":1}"), ok()),
        row("OPTIONS", Ask::new("OPTIONS", "/o"), answer(200, "OK", &[("allow", "GET, HEAD, OPTIONS")], "")),
        row("OPTIONS *", Ask::new("OPTIONS", "*"), answer(200, "OK", &[("allow", "GET")], "")),
        row("a method of its own", Ask::new("PURGE", "/cache"), ok()),
        row("a method in mixed case", Ask::new("mErGe", "/m"), ok()),
        row("a WebDAV method with a body", length("PROPFIND", "/dav", "<propfind/>").with("depth", "1"), answer(207, "Multi-Status", &[], "<x/>")),
        row("an empty query", get("/a?"), ok()),
        row("a query of questions", get("/a??b=?&c"), ok()),
        row("slashes", get("//a///b//"), ok()),
        row("a semicolon", get("/a;v=1/b;c?d;e=f"), ok()),
        row("escaped dots and slashes", get("/a/%2e%2e/%2E/b%2Fc"), ok()),
        row("dots as they are", get("/a/../b/./c"), ok()),
        row("UTF-8 by percent", get("/caf%C3%A9?na%C3%AFve=%E2%82%AC"), ok()),
        row("percent in the wrong case", get("/%c3%A9?%aF"), ok()),
        row("a star and other marks", get("/*?a=*&b=!$'()+,:@~"), ok()),
        row("a plus and an escaped space", get("/q?a+b=c%20d&&e=&=f"), ok()),
        row("a long target", get(&format!("/long?{}", "abcdefghij".repeat(600))), ok()),
        row("a URL in the query", get("/r?to=https://example.com/x?y=z"), ok()),
        row("an empty value", get("/").with("x-empty", ""), ok()),
        row("a repeated field", get("/").with("x-many", "1").with("x-other", "a").with("x-many", "2").with("x-many", "1"), ok()),
        row("a list in one field and in two", get("/").with("accept", "text/html, */*;q=0.1").with("accept", "image/png"), ok()),
        row("inner spaces", get("/").with("x-spaced", "a  b\tc"), ok()),
        row("obs-text", get("/").with("x-latin", b"caf\xe9 \x80\xff"), ok()),
        row("a value of 16 KiB", get("/").with("x-long", "v".repeat(16 << 10)), ok()),
        row("80 fields", (0..80).fold(get("/"), |ask, n| ask.with(&format!("x-field-{n}"), format!("value {n}"))), ok()),
        row("a name with every mark", get("/").with("x!#$%&'*+-.^_`|~9", "marks"), ok()),
        row("one cookie", Ask { cookies: vec!["a=1".to_owned()], ..get("/") }, ok()),
        row("cookies in crumbs", Ask { cookies: ["a=1", "b=2", "c=\"3\""].map(str::to_owned).to_vec(), ..get("/") }, ok()),
        row("conditions", get("/").with("if-none-match", "\"a\", W/\"b\"").with("if-modified-since", "Sat, 21 Nov 2026 00:00:00 GMT"), ok()),
        row("a range", get("/").with("range", "bytes=0-4,10-"), ok()),
        row("attribution", get("/").with("http-referer", "https://a.test").with("x-title", "A").with("referer", "https://b.test"), ok()),
        row("origin, user agent, language", get("/").with("origin", "null").with("user-agent", "a/1 (b)").with("accept-language", "de;q=0.5"), ok()),
        row("via, forwarded, cache-control", get("/").with("via", "1.1 a").with("forwarded", "for=1.2.3.4").with("cache-control", "no-store"), ok()),
        row("priority", get("/").with("priority", "u=1, i"), ok()),
        row("codings wanted", get("/").with("accept-encoding", "gzip, br;q=0.5, identity"), ok()),
        row("trailers wanted", get("/").with("te", "trailers"), ok()),
    ]
}

/// Bodies, trailers, expectations.
pub fn bodies() -> Vec<Shape> {
    let trailers = Some(fields(&[("x-sum", "7"), ("x-two", "a"), ("x-two", "b")]));
    let expecting = |ask: Ask| ask.with("expect", "100-continue");
    let go = |steps: Vec<Step>| [vec![Step::Interim(100, Vec::new())], steps].concat();
    let refusal = |status, reason| {
        let mut steps = answer(status, reason, &[], "no");
        steps.remove(0);
        steps
    };
    let mut rows = vec![
        row("POST of nothing", Ask::new("POST", "/"), ok()),
        row("POST of length 0", Ask::post("/", ""), ok()),
        row("POST of no pieces", unknown("POST", "/", &[]), ok()),
        row("POST of 5 bytes", Ask::post("/", "hello").with("content-type", "text/plain"), ok()),
        row("POST of one piece", unknown("POST", "/", &[b"hello"]), ok()),
        row("POST of many pieces", unknown("POST", "/", &[b"h".as_slice(); 40]), ok()),
        row("PUT of 1 MiB", length("PUT", "/big", bulk(1 << 20)), ok()),
        row("PUT of 1 MiB in pieces", unknown("PUT", "/big", &[&bulk(1 << 19), &bulk(1 << 19)]), ok()),
        row("PATCH", length("PATCH", "/p", "[]").with("content-type", "application/json-patch+json"), ok()),
        row("a body that looks like chunks", Ask::post("/", "5\r\nhello\r\n0\r\n\r\n"), ok()),
        row("a body that looks like a request", Ask::post("/", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"), ok()),
        row("a body by gzip", Ask::post("/", super::shape::gzip(b"hello")).with("content-encoding", "gzip"), ok()),
        row("a body of every byte", Ask::post("/", (0..=255).collect::<Vec<u8>>()), ok()),
        row("multipart", Ask::post("/", "--b\r\n\r\nx\r\n--b--\r\n").with("content-type", "multipart/form-data; boundary=b"), ok()),
        row("trailers", Ask { trailers: trailers.clone(), ..unknown("POST", "/", &[b"body"]) }.with("trailer", "x-sum, x-two"), ok()),
        row("trailers unannounced", Ask { trailers: trailers.clone(), ..unknown("POST", "/", &[b"body"]) }, ok()),
        row("trailers after nothing", Ask { trailers: trailers.clone(), ..unknown("POST", "/", &[]) }.with("trailer", "x-sum, x-two"), ok()),
        row("trailers beside a length", Ask { trailers, ..Ask::post("/", "body") }.with("trailer", "x-sum, x-two"), ok()),
        row("an expectation met", expecting(Ask::post("/", "hello")), go(ok())),
        row("an expectation met, in pieces", expecting(unknown("POST", "/", &[b"he", b"llo"])), go(ok())),
        row("an expectation refused with 417", expecting(Ask::post("/", "hello")), refusal(417, "Expectation Failed")),
        row("an expectation refused with 401", expecting(Ask::post("/", bulk(300_000))), refusal(401, "Unauthorized")),
        row("an expectation refused, in pieces", expecting(unknown("POST", "/", &[b"hello"])), refusal(413, "Content Too Large")),
    ];
    let halves = || Ask { content: Content::Unknown(vec![bulk(1000), bulk(200_000)]), ..Ask::new("POST", "/early") };
    let mut early = answer(200, "OK", &[], "early");
    early[0] = Step::ReadSome;
    early.insert(3, Step::Read);
    rows.push(Shape { gated: true, ..row("an answer before the body is whole", halves(), early.clone()) });
    let mut known = row("an answer before a body of known length is whole", Ask::post("/early", bulk(201_000)), early);
    known.gated = true;
    rows.push(known);
    let mut turns = super::shape::pieces(&[], &[b"first", b"second"], Step::End);
    turns[0] = Step::ReadSome;
    turns.insert(3, Step::Read);
    rows.push(Shape { gated: true, ..row("an answer in pieces round the body", halves(), turns) });
    rows
}
