//! What the scrubber costs on bodies that hold no secret, next to a plain copy of the same bytes.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use keyhatch::credential::{Presentation, Secret};
use keyhatch::message::scrub::{BodyScrubber, InPlaceScrubber, ScrubTable};

const LENGTH: usize = 10 << 20;
const READ: usize = 16 << 10;

fn noise(length: usize, alphabet: &[u8]) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        alphabet[(state >> 33) as usize % alphabet.len()]
    };
    (0..length).map(byte).collect()
}

fn table(length: usize) -> Arc<ScrubTable> {
    let secret = [b"sk-or-v1-", &noise(length - 9, b"0123456789abcdef")[..]].concat();
    Arc::new(ScrubTable::new(&Secret::from_opened(&secret), &Presentation::Bearer))
}

fn clean_bodies(c: &mut Criterion) {
    let every: Vec<u8> = (0..=u8::MAX).collect();
    let bodies = [
        ("bytes", noise(LENGTH, &every)),
        ("hex", noise(LENGTH, b"0123456789abcdef")),
        ("json", br#"{"id":"gen-1","text":"a line\nand a \"quoted\" one, \u20ac 5","n":[1,2,3]},"#.repeat(LENGTH / 75)),
        ("escapes", b"%2Fa%20b%3D".repeat(LENGTH / 11)),
    ];
    let mut group = c.benchmark_group("clean");
    group.sample_size(20);
    for (name, body) in &bodies {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("copy", name), body, |b, body| {
            let mut out = Vec::with_capacity(2 * READ);
            b.iter(|| {
                for piece in body.chunks(READ) {
                    out.clear();
                    out.extend_from_slice(black_box(piece));
                    black_box(&out);
                }
            });
        });
        for length in [16, 40, 73] {
            let table = table(length);
            group.bench_with_input(BenchmarkId::new(format!("push-{length}"), name), body, |b, body| {
                let mut out = Vec::with_capacity(2 * READ);
                b.iter(|| {
                    let mut scrubber = BodyScrubber::new(table.clone(), false, None);
                    for piece in body.chunks(READ) {
                        out.clear();
                        scrubber.push(black_box(piece), &mut out).expect("an identity body");
                        black_box(&out);
                    }
                });
            });
            group.bench_with_input(BenchmarkId::new(format!("in-place-{length}"), name), body, |b, body| {
                let mut pending = Vec::with_capacity(2 * READ);
                b.iter(|| {
                    let mut scrubber = InPlaceScrubber::new(table.clone(), false);
                    pending.clear();
                    for piece in body.chunks(READ) {
                        pending.extend_from_slice(black_box(piece));
                        let going = scrubber.advance(&mut pending);
                        black_box(&pending[..going]);
                        pending.drain(..going);
                    }
                });
            });
        }
    }
    group.finish();
}

/// What an origin could be made to send to keep the scrubber busy: beginnings of the secret, written so that each is looked at.
fn crafted_bodies(c: &mut Criterion) {
    let percent = |text: &[u8]| text.iter().flat_map(|b| format!("%{b:02x}").into_bytes()).collect::<Vec<u8>>();
    let unicode = |text: &[u8]| text.iter().flat_map(|b| format!("\\u{b:04x}").into_bytes()).collect::<Vec<u8>>();
    let (known, base64, hex) = (&b"sk-or-v1-"[..], &b"c2stb3ItdjEt"[..], &b"736b2d6f722d76312d"[..]);
    let bodies = [
        ("raw", known.to_vec()),
        ("base64", base64.to_vec()),
        ("percent", percent(known)),
        ("unicode", unicode(known)),
        ("base64 in percent", percent(base64)),
        ("hex in percent", percent(hex)),
    ];
    let mut group = c.benchmark_group("crafted");
    group.sample_size(10).throughput(Throughput::Bytes(1 << 20));
    let table = table(73);
    for (name, part) in bodies {
        let body: Vec<u8> = part.iter().copied().cycle().take(1 << 20).collect();
        group.bench_with_input(BenchmarkId::new("push-73", name), &body, |b, body| {
            b.iter(|| {
                let (mut scrubber, mut out) = (BodyScrubber::new(table.clone(), false, None), Vec::with_capacity(2 * READ));
                for piece in body.chunks(READ) {
                    out.clear();
                    scrubber.push(black_box(piece), &mut out).expect("an identity body");
                }
            });
        });
    }
    group.finish();
}

fn header_values(c: &mut Criterion) {
    let table = table(73);
    let values: [&[u8]; 4] = [
        b"application/json",
        b"Thu, 01 Jan 2026 00:00:00 GMT",
        b"max-age=31536000; includeSubDomains; preload",
        b"__cf_bm=YmFzZTY0IGlzIGFsbCBhcm91bmQgdXM-1767225600-1.0.1.1-0123456789abcdef; path=/; HttpOnly; Secure; SameSite=None",
    ];
    c.bench_function("header values, 20", |b| b.iter(|| values.iter().cycle().take(20).filter_map(|v| table.scrub_header(black_box(v))).count()));
    c.bench_function("table", |b| b.iter(|| self::table(black_box(73))));
}

criterion_group!(benches, clean_bodies, crafted_bodies, header_values);
criterion_main!(benches);
