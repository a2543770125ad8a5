//! What sealing and opening a secret costs (AES-256-GCM), and deriving the key that opens a store (Argon2id, once a start).

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use keyhatch::envelope::{Kdf, Key, NONCE_LEN, open, seal};

fn envelopes(c: &mut Criterion) {
    let key = Key::from_bytes([7; 32]);
    let secret = b"sk-or-v1-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let associated = [3; 64];
    let sealed = seal(&key, [9; NONCE_LEN], &associated, secret);
    c.bench_function("seal", |b| b.iter(|| seal(&key, [9; NONCE_LEN], &associated, black_box(secret))));
    c.bench_function("open", |b| b.iter(|| open(&key, &associated, black_box(&sealed)).expect("it opens")));
    let mut group = c.benchmark_group("derive");
    group.sample_size(10);
    group.bench_function("argon2id", |b| b.iter(|| Kdf::argon2id([1; 16]).derive(black_box(b"correct horse battery staple")).expect("derives")));
    group.bench_function("key-file", |b| b.iter(|| Kdf::hkdf([1; 16]).derive(black_box(&[5; 32])).expect("derives")));
}

criterion_group!(benches, envelopes);
criterion_main!(benches);
