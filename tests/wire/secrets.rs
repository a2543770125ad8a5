//! What an origin writes into frames that no agent sees: it may echo there what it got.

use crate::support::wire::frames::{HEADERS, RawOrigin, frame};
use crate::support::wire::stage::{agent, serve_with};
use crate::support::wire::{Ask, Ending, Protocol, patiently, run};
use crate::support::within;

/// GOAWAY (RFC 9113 6.8).
const GOAWAY: u8 = 7;
/// As an origin may echo a credential.
const ECHOED: &str = "echoed-by-the-origin";

#[test]
fn the_text_of_a_goaway_is_in_no_log_and_no_answer() {
    run(async {
        let origin = RawOrigin::start(&["*.matched.test"], |mut peer| async move {
            while peer.next().await?.kind != HEADERS {}
            let payload = [&[0, 0, 0, 0, 0, 0, 0, 11][..], ECHOED.as_bytes()].concat();
            peer.send(&frame(GOAWAY, 0, 0, &payload)).await?;
            tokio::io::AsyncWriteExt::shutdown(&mut peer.io).await
        })
        .await;
        let hosts = [("a.matched.test".to_owned(), origin.address)];
        let (home, serve, _key) = serve_with(&hosts, "", &[("KEYHATCH_LOG", "trace")]);
        for protocol in [Protocol::H1, Protocol::H2] {
            let line = agent(&home, &serve).open("a.matched.test", protocol).await;
            let answer = patiently("an answer", line.ask(&Ask::get("/"))).await;
            assert_eq!((answer.status, answer.ending), (502, Ending::Whole), "{answer:?}");
            assert!(!format!("{} {:?}", answer.text(), answer.fields).contains(ECHOED), "{answer:?}");
        }
        within(std::time::Duration::from_secs(5), "the ends of the connections are logged", || {
            (serve.log().matches("an HTTP/2 connection to an origin ended").count() >= 2).then_some(())
        });
        assert!(!serve.log().contains(ECHOED), "{}", serve.log());
    });
}
