//! `admin.sock`: a request is what it says, and nothing else.

use keyhatch::admin::protocol::{Reply, Request, line};

/// The input: a line.
pub fn run(data: &[u8]) {
    if let Some(request) = Request::parse(data) {
        let written = line(&request);
        let one_line = written.ends_with(b"\n") && written.iter().filter(|b| **b == b'\n').count() == 1;
        assert!(one_line, "a message is one line");
        let again = Request::parse(&written).expect("what was written is read");
        assert_eq!(line(&again), written);
        let op = serde_json::from_slice::<serde_json::Value>(data).ok().and_then(|v| v["op"].as_str().map(str::to_owned));
        assert!(op.is_some_and(|op| ["session", "info", "reload", "hold"].contains(&op.as_str())), "an operation that is none");
    }
    if let Ok(reply) = serde_json::from_slice::<Reply>(data) {
        let written = line(&reply);
        assert_eq!(line(&serde_json::from_slice::<Reply>(&written).expect("what was written is read")), written);
    }
}
