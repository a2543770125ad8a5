//! The corpus: shapes of answers.

use super::shape::{Shape, Step, after, answer, bulk, gzip, head, length, ok, only, pieces, row, unknown};
use crate::support::wire::{Ask, fields};

/// Statuses and heads.
pub fn heads() -> Vec<Shape> {
    let get = || Ask::get("/");
    let cookies = [("set-cookie", "a=1; Path=/"), ("x-between", "x"), ("set-cookie", "b=2; Secure, c"), ("set-cookie", "a=1; Path=/")];
    let own = [("server", "nginx/1"), ("date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("via", "1.1 cdn"), ("x-powered-by", "a"), ("age", "7")];
    let head_of = |bytes: &[u8]| {
        let mut answer = ok();
        let Step::Head(head) = &mut answer[1] else { unreachable!("a head follows the reading") };
        head.fields.push(("x-odd".to_owned(), bytes.to_vec()));
        answer
    };
    vec![
        row("201 with a location", Ask::post("/", "x"), answer(201, "Created", &[("location", "/thing/1")], "")),
        row("202 without a reason", Ask::post("/", "x"), answer(202, "", &[], "later")),
        row("204", get(), only(204, "No Content", &[("x-a", "1")])),
        row("205", get(), answer(205, "Reset Content", &[], "")),
        row("206", get().with("range", "bytes=2-4"), answer(206, "Partial Content", &[("content-range", "bytes 2-4/10")], "abc")),
        row("299", get(), answer(299, "Hm", &[], "299")),
        row("301", get(), answer(301, "Moved Permanently", &[("location", "https://elsewhere.test/")], "")),
        row("302", get(), answer(302, "Found", &[("location", "//elsewhere.test/a?b#c")], "gone")),
        row("303 after a POST", Ask::post("/", "x"), answer(303, "See Other", &[("location", "/done")], "")),
        row("307", Ask::post("/", "x"), answer(307, "Temporary Redirect", &[("location", "/again")], "")),
        row("304", get().with("if-none-match", "\"a\""), only(304, "Not Modified", &[("etag", "\"a\"")])),
        row("304 with a length", get().with("if-none-match", "\"a\""), only(304, "Not Modified", &[("etag", "\"a\""), ("content-length", "77")])),
        row("400", get(), answer(400, "Bad Request", &[], "{\"error\":1}")),
        row("401", get(), answer(401, "Unauthorized", &[("www-authenticate", "Bearer realm=\"a\""), ("www-authenticate", "Basic")], "{}")),
        row("402", get(), answer(402, "Payment Required", &[("content-type", "application/json")], "{\"error\":{\"code\":402}}")),
        row("403", get(), answer(403, "Forbidden", &[], "no")),
        row("404 in pieces", get(), vec![Step::Read, Step::Head(head(404, "Not Found", &[])), Step::Data(b"no".to_vec()), Step::End]),
        row("418", get(), answer(418, "I'm a teapot", &[], "short and stout")),
        row("429", get(), answer(429, "Too Many Requests", &[("retry-after", "7"), ("x-ratelimit-remaining", "0")], "{}")),
        row("500 without a body", get(), only(500, "Internal Server Error", &[])),
        row("502 of the origin's own", get(), answer(502, "Bad Gateway", &[("proxy-status", "cdn; error=dns_error")], "cdn")),
        row("503", get(), answer(503, "Service Unavailable", &[("retry-after", "Sat, 21 Nov 2026 00:00:00 GMT")], "x")),
        row("599", get(), answer(599, "Odd", &[], "599")),
        row("a reason with spaces and marks", get(), answer(200, "It's (all) \"fine\" / 100%", &[], "ok")),
        row("several cookies", get(), answer(200, "OK", &cookies, "ok")),
        row("Server, Date, Via", get(), answer(200, "OK", &own, "ok")),
        row("Alt-Svc goes", get(), answer(200, "OK", &[("alt-svc", "h3=\":443\""), ("x-a", "1")], "ok")),
        row("an empty value back", get(), answer(200, "OK", &[("x-empty", "")], "ok")),
        row("obs-text back", get(), head_of(b"caf\xe9\xff\x80")),
        row("a value of 16 KiB back", get(), head_of(&[b'v'; 16 << 10])),
        row(
            "caching",
            get(),
            answer(200, "OK", &[("etag", "W/\"x\""), ("vary", "accept"), ("vary", "origin"), ("cache-control", "max-age=0")], "ok"),
        ),
        row("103 early hints", get(), after(&[(103, &[("link", "</a.css>; rel=preload"), ("link", "</b.js>")])], ok())),
        row(
            "several interim answers",
            get(),
            after(&[(102, &[]), (103, &[("link", "</a>")]), (103, &[("link", "</b>")]), (199, &[("x-a", "1")])], ok()),
        ),
        row("an interim answer before a body is read", Ask::post("/", bulk(100_000)), after(&[(102, &[])], ok())),
    ]
}

/// Bodies and trailers.
pub fn bodies() -> Vec<Shape> {
    let get = || Ask::get("/");
    let sse = [("content-type", "text/event-stream"), ("cache-control", "no-cache")];
    let events: [&[u8]; 4] =
        [b": OPENROUTER PROCESSING\n\n", b"data: {\"a\":1}\n\n", b"event: x\nid: 7\ndata: two\ndata: lines\n\n", b"data: [DONE]\n\n"];
    let sum = fields(&[("x-sum", "7"), ("x-two", "a"), ("x-two", "b")]);
    let grpc = Ask::post("/pkg.Service/Call", b"\0\0\0\0\x02hi".to_vec()).with("content-type", "application/grpc").with("te", "trailers");
    let wanted = || get().with("te", "trailers");
    let status = Step::Trailers(fields(&[("grpc-status", "0"), ("grpc-message", "")]));
    let all_bytes: Vec<u8> = (0..=255).collect();
    vec![
        row("length 0", get(), answer(200, "OK", &[], "")),
        row("no pieces", get(), pieces(&[], &[], Step::End)),
        row("1 byte", get(), answer(200, "OK", &[], "x")),
        row("1 MiB of known length", get(), answer(200, "OK", &[("content-type", "application/octet-stream")], bulk(1 << 20))),
        row("1 MiB in pieces", get(), pieces(&[], &[&bulk(1 << 18), &bulk(1 << 18), &bulk(1 << 19)], Step::End)),
        row("40 pieces of one byte", get(), pieces(&[], &[b"p".as_slice(); 40], Step::End)),
        row("every byte", get(), answer(200, "OK", &[], all_bytes)),
        row("until the connection ends", get(), pieces(&[("connection", "close")], &[b"until ", b"the end"], Step::End)),
        row("gzip", get(), answer(200, "OK", &[("content-encoding", "gzip")], gzip(b"a clean answer"))),
        row("gzip in pieces", get(), pieces(&[("content-encoding", "gzip")], &[&gzip(&bulk(50_000))], Step::End)),
        row("a body that looks like an answer", get(), answer(200, "OK", &[], "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")),
        row("events", get().with("accept", "text/event-stream"), pieces(&sse, &events, Step::End)),
        row("events after a POST", Ask::post("/chat", "{\"stream\":true}"), pieces(&sse, &events, Step::End)),
        row("trailers back", wanted(), pieces(&[("trailer", "x-sum, x-two")], &[b"body"], Step::Trailers(sum.clone()))),
        row("trailers back, unannounced", wanted(), pieces(&[], &[b"body"], Step::Trailers(sum.clone()))),
        row("trailers back after nothing", wanted(), pieces(&[("trailer", "x-sum, x-two")], &[], Step::Trailers(sum.clone()))),
        row(
            "trailers back beside a length",
            wanted(),
            pieces(&[("content-length", "4"), ("trailer", "x-sum")], &[b"body"], Step::Trailers(sum.clone())),
        ),
        row("trailers back to one who did not ask", get(), pieces(&[("trailer", "x-sum, x-two")], &[b"body"], Step::Trailers(sum))),
        row("gRPC", grpc.clone(), pieces(&[("content-type", "application/grpc")], &[b"\0\0\0\0\x02ho"], status)),
        row(
            "gRPC, trailers only",
            grpc,
            only(200, "OK", &[("content-type", "application/grpc"), ("grpc-status", "12"), ("grpc-message", "no%20such")]),
        ),
        row("an echo of pieces", unknown("POST", "/", &[b"a", b"b", b"c"]), pieces(&[], &[b"a", b"b", b"c"], Step::End)),
        row("a large body both ways", length("POST", "/", bulk(1 << 20)), answer(200, "OK", &[], bulk(1 << 20))),
    ]
}
