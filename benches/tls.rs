//! What the leaf of a host costs: minted at its first connection, found at every other.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use keyhatch::agent::AgentName;
use keyhatch::host::Host;
use keyhatch::tls::{CaState, LeafCache};

fn leaves(c: &mut Criterion) {
    let authority = CaState::generate(keyhatch::clock::now()).expect("made");
    let cache = LeafCache::new(Arc::new(authority)).expect("made");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let one = AgentName::parse("one").expect("a name");
    let mut number = 0_u64;
    let mut next = || {
        number += 1;
        Host::parse(&format!("host-{number}.example")).expect("a host")
    };
    // The way to the thread that mints, and back, is in it.
    c.bench_function("leaf/mint", |b| b.iter_batched(&mut next, |host| runtime.block_on(cache.get(&one, &host)), criterion::BatchSize::SmallInput));
    let known = next();
    runtime.block_on(cache.get(&one, &known)).expect("minted");
    c.bench_function("leaf/find", |b| b.iter(|| cache.cached(black_box(&one), black_box(&known)).expect("there")));
}

criterion_group!(benches, leaves);
criterion_main!(benches);
