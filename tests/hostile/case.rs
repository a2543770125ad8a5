//! What each case stands on: a test a row, and what is asked when it has ended: what did the origin get, what does the audit
//! log say, is the proxy still well.

use std::time::Duration;

use serde_json::Value;

use crate::support::{World, within};

/// Makes a test of each row: `cases! { check { name: row, } }` has a test `name` that calls `check(row)`.
macro_rules! cases {
    ($check:path { $($name:ident: $row:expr,)+ }) => {
        $(
            #[test]
            fn $name() {
                $check($row);
            }
        )+
    };
}
pub(super) use cases;

/// The record with this reason, once it is written.
#[track_caller]
pub(super) fn record_of(world: &World, reason: &str) -> Value {
    super::audited(&world.home, &[&format!("\"reason\":\"{reason}\"")]).remove(0)
}

/// The audit log has a record of a refusal or a failure with this reason, and with none of the key in it.
#[track_caller]
pub(super) fn audit_says(world: &World, decision: &str, reason: &str) -> Value {
    let record = record_of(world, reason);
    assert_eq!(record["decision"].as_str(), Some(decision), "{record}");
    assert!(!record.to_string().contains(&world.key), "{record}");
    record
}

/// Not one byte of a request came to the origin.
#[track_caller]
pub(super) fn nothing_was_sent(world: &World) {
    let got = world.origin.recorded();
    assert!(got.is_empty(), "the origin got {got:?}");
}

/// After a case the proxy serves on, has not panicked, and its log holds no key.
#[track_caller]
pub(super) fn is_well(world: &World) {
    let reply = world.agent().get("openrouter.ai", "/after-the-case");
    assert_ne!(reply.status, 0);
    let came = within(Duration::from_secs(5), "a request arrives", || world.origin.recorded().pop());
    assert_eq!((came.target.as_str(), came.values("authorization")), ("/after-the-case", vec![world.bearer()]));
    let log = world.serve.log();
    assert!(!log.contains("panicked") && !log.contains(&world.key), "{log}");
}
