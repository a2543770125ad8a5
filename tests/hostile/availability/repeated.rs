//! The same flood again and again: memory does not grow with it.

use super::{Stage, unproved};
use crate::hostile::case::cases;

/// What a flood may leave behind that the one before did not, in KiB: the allocator's own ways.
const ROOM: u64 = 4 << 10;

type Round = fn(&Stage, usize);

cases! { costs_no_memory {
    refused_tries: |stage, _| (0..150).for_each(|_| assert_eq!(unproved::tried(&stage.flooder), 407)),
    tunnels: |stage, _| (0..60).for_each(|_| drop(stage.flooder.open("openrouter.ai:443"))),
    requests: |stage, _| (0..40).for_each(|_| assert_eq!(stage.flooder.get("openrouter.ai", "/flood").status, 200)),
    new_names: |stage, n| (0..60).for_each(|m| drop(stage.flooder.open(&format!("m{n}-{m}.openrouter.ai:443")))),
    silent_connections: |stage, _| {
        let held: Vec<_> = (0..150).map(|_| stage.flooder.dial()).collect();
        stage.other_is_served();
        drop(held);
    },
} }

fn costs_no_memory(round: Round) {
    // Names are few enough to be kept all: what is asked is whether anything else grows.
    let stage = Stage::new("[limits]\nconnections = 100\n");
    (0..3).for_each(|n| round(&stage, n));
    let settled = stage.world.serve.memory().0;
    (0..3).for_each(|n| round(&stage, n));
    let after = stage.world.serve.memory().0;
    println!("{settled} KiB, then {after} KiB");
    assert!(after < settled + ROOM, "it grows: {settled} KiB, then {after} KiB");
    stage.ends_well();
}
