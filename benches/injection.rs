//! What becomes of a request's head on its way: read, stripped, given its credential, written. A typical one, as SDKs send it.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use keyhatch::credential::{Material, Presentation, Secret};
use keyhatch::message::h1::{RequestHead, Target, parse_request, write_request};
use keyhatch::message::{hop_by_hop, scrub};

const HEAD: &[u8] = b"POST /api/v1/chat/completions HTTP/1.1\r\n\
    Host: openrouter.ai\r\n\
    Connection: keep-alive\r\n\
    Accept: application/json\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Content-Type: application/json\r\n\
    User-Agent: OpenAI/Python 2.8.1\r\n\
    X-Stainless-Lang: python\r\n\
    X-Stainless-OS: Linux\r\n\
    X-Stainless-Runtime: CPython\r\n\
    Authorization: Bearer sk-or-keyhatch-placeholder-openrouter\r\n\
    Content-Length: 1024\r\n\r\n";
const AUTH_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

fn inject(headers: &mut HeaderMap, material: &Material) {
    hop_by_hop::strip_request(headers);
    headers.remove(http::header::CONTENT_LENGTH);
    hop_by_hop::drop_agent_auth(headers, &AUTH_HEADERS, material.name());
    scrub::narrow_request(headers);
    hop_by_hop::drop_placeholders(headers);
    headers.insert(material.name().clone(), material.value().clone());
}

fn path(head: &RequestHead) -> String {
    let Target::Origin(uri) = &head.target else { unreachable!("it is in origin form") };
    Target::path_and_query(uri)
}

fn heads(c: &mut Criterion) {
    let secret = Secret::from_opened(b"sk-or-v1-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    let material = Material::new(&Presentation::Bearer, secret).expect("it fits");
    let head = Bytes::from_static(HEAD);
    let parsed = parse_request(head.clone()).expect("a head");
    c.bench_function("head/read", |b| b.iter(|| parse_request(black_box(head.clone()))));
    c.bench_function("head/inject", |b| {
        b.iter_batched_ref(|| parsed.headers.clone(), |headers| inject(headers, &material), criterion::BatchSize::SmallInput);
    });
    c.bench_function("head/read-inject-write", |b| {
        b.iter(|| {
            let mut head = parse_request(black_box(head.clone())).expect("a head");
            inject(&mut head.headers, &material);
            let mut out = Vec::new();
            write_request(&mut out, &head.method, &path(&head), &head.headers, head.framing);
            out
        });
    });
}

criterion_group!(benches, heads);
criterion_main!(benches);
