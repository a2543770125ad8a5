//! gRPC: a real server (grpcio) and real clients (grpcio, grpc-js).

use std::time::Duration;

use super::stage::{Peer, write_leaf};
use super::{Key, RealKey, Stage};
use crate::support::clients::Client;
use crate::support::{Said, skip, target_dir, within};

/// A server, and a proxy before it.
struct Calls {
    stage: Stage,
    server: Peer,
    key: RealKey,
    _certificates: tempfile::TempDir,
}

impl Calls {
    /// With more arguments for `credential add`.
    fn with(more: &[&str]) -> Option<Self> {
        let key = RealKey::new(Key::Bearer);
        let dir = tempfile::TempDir::new().unwrap();
        let (certificate, secret) = write_leaf(dir.path());
        let server = Peer::python("grpc", "grpc", include_str!("peers/grpc_server.py"), &[&certificate, &secret, &key.shown()])?;
        let stage = Stage::with(server.address, &key, more);
        Some(Self { stage, server, key, _certificates: dir })
    }

    /// Runs a case of the client in Python, which must end well.
    #[track_caller]
    fn python(&self, case: &str) -> Said {
        let said = Client::Python.run("grpc", self.stage.env(), &["-c", include_str!("peers/grpc_client.py"), case]).unwrap();
        assert_eq!(said.code, 0, "{case}: {said:?}");
        said
    }

    /// Fails unless every call reached the server with the real key alone, over HTTP/2 on both sides.
    #[track_caller]
    fn expect_key(&self, method: &str) {
        let calls = self.server.told().into_iter().filter(|t| t["fields"].is_object()).collect::<Vec<_>>();
        assert!(!calls.is_empty(), "a call reached the server");
        for call in calls {
            assert_eq!(call["fields"]["authorization"], serde_json::json!([self.key.shown()]), "{call}");
        }
        self.stage.expect_spoken(&format!("/probe.Probe/{method}"), 2, 2);
    }

    /// Waits, for a second, until the server has seen the call's end as a cancellation.
    #[track_caller]
    fn expect_cancelled(&self, method: &str) {
        let ended = within(Duration::from_secs(1), &format!("the server sees that {method} ended"), || {
            self.server.told().into_iter().find(|t| t["ended"] == method)
        });
        assert_eq!(ended["cancelled"], true, "{ended}");
    }
}

/// A case that prints this; the server's method in it.
#[track_caller]
fn case(name: &str, method: &str, prints: &str) -> Option<Calls> {
    case_with(&[], name, method, prints)
}

/// The same, with more arguments for `credential add`.
#[track_caller]
fn case_with(more: &[&str], case: &str, method: &str, prints: &str) -> Option<Calls> {
    let calls = Calls::with(more)?;
    let said = calls.python(case);
    assert_eq!(said.stdout.trim_end(), prints, "{said:?}");
    calls.expect_key(method);
    Some(calls)
}

#[test]
fn a_unary_call_passes_with_metadata_and_trailing_metadata() {
    let prints = "hello ['one', 'two'] [('x-trailing', 'three'), ('x-trailing-bin', b'\\x00\\xff\\x10')] OK\n0";
    let Some(calls) = case("unary", "Unary", prints) else { return };
    let call = &calls.server.told()[0];
    assert_eq!((&call["fields"]["x-title"], &call["fields"]["x-raw-bin"]), (&serde_json::json!(["My app"]), &serde_json::json!(["00fe"])), "{call}");
}

#[test]
fn a_message_of_four_mebibytes_passes_both_ways() {
    case("large", "Unary", "True 4194304");
}

#[test]
fn compressed_messages_pass() {
    case("gzip", "Unary", "True");
}

#[test]
fn a_status_passes_with_its_message_and_trailing_metadata() {
    case("fail", "Fail", "FAILED_PRECONDITION not so: Grüße ☃ 100% why\nUNIMPLEMENTED Method not found!");
}

#[test]
fn a_server_streams() {
    case("down", "Down", "True");
}

#[test]
fn a_stream_that_fails_after_its_first_message_fails_so_for_the_client() {
    case("late_failure", "LateFailure", "first\nDATA_LOSS after the first late");
}

#[test]
fn a_client_streams() {
    case("up", "Up", "1000 499500\n0 0");
}

/// Without the scrubber, which keeps the end of what has come until it pauses.
const UNSCRUBBED: [&str; 2] = ["--scrub", "off"];

#[test]
fn both_stream_and_each_message_is_sent_only_after_the_answer_to_the_last() {
    case_with(&UNSCRUBBED, "both", "Both", "True");
}

#[test]
#[ignore = "each message waits half a second for the scrubber's pause"]
fn both_stream_as_fast_with_the_scrubber() {
    case("both", "Both", "True");
}

#[test]
fn fifty_conversations_go_on_side_by_side() {
    case_with(&UNSCRUBBED, "many", "Both", "True");
}

#[test]
fn a_stream_that_nobody_reads_holds_back_no_other_call() {
    case("beside_an_unread_stream", "Unary", "True");
}

#[test]
fn a_deadline_reaches_the_server_and_ends_the_call_there() {
    let Some(calls) = case("deadline", "Slow", "DEADLINE_EXCEEDED") else { return };
    calls.expect_cancelled("slow");
    let told = calls.server.told();
    let remaining = told.iter().find(|t| t["method"] == "slow").unwrap()["remaining"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&remaining), "the server knows the deadline: {remaining}");
}

#[test]
fn a_cancelled_call_is_cancelled_at_the_server_and_the_channel_goes_on() {
    let Some(calls) = case("cancel", "SlowStream", "first\nCANCELLED\nstill here") else { return };
    calls.expect_cancelled("slow_stream");
}

#[test]
fn grpc_js_makes_calls_of_all_four_kinds() {
    let module = target_dir().join("node/node_modules/@grpc/grpc-js/build/src/index.js");
    if !module.exists() {
        return skip("grpc-js", "npm could not install it");
    }
    let Some(calls) = Calls::with(&UNSCRUBBED) else { return };
    let script = format!("import grpc from '{}';\n{}", module.display(), include_str!("peers/grpc_client.mjs"));
    let Some(said) = Client::Node.script("grpc-js", calls.stage.env(), &script) else { return };
    let prints = "hello\nthree\n9 not so: Grüße ☃ 100% why\n0 500\n500 124750\n0 100\n1";
    assert_eq!((said.code, said.stdout.trim_end()), (0, prints), "{said:?}");
    calls.expect_cancelled("slow_stream");
    calls.expect_key("Both");
}
