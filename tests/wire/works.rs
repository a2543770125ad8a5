//! The test bed itself: the origins and agents of `support::wire` understand one another without a proxy.

use crate::support::wire::{Ask, Content, Protocol, Stage, fields, run, stage::host};

#[test]
fn an_agent_and_an_origin_understand_one_another_directly() {
    run(async {
        let stage = Stage::start(|mut turn| async move {
            turn.interim(103, &fields(&[("link", "</a.css>")])).await?;
            turn.read_all().await?;
            let size = turn.received;
            turn.answer(200, &size.to_string()).await
        })
        .await;
        for protocol in Protocol::BOTH {
            let line = stage.direct(protocol).open(host(protocol, true), protocol).await;
            for size in [0, 1, 100_000] {
                let answer = line.ask(&Ask::post("/a?b", vec![b'x'; size])).await;
                answer.expect(200, &size.to_string());
                assert_eq!(answer.interim[0].status, 103);
                let seen = stage.origin(protocol).seen().pop().unwrap();
                assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.authority.as_str()), ("POST", "/a?b", host(protocol, true)));
                assert_eq!((seen.body.len(), seen.connection), (size, 0));
            }
            let ask = Ask {
                content: Content::Unknown(vec![b"ab".to_vec(), b"c".to_vec()]),
                trailers: Some(fields(&[("x-sum", "3")])),
                ..Ask::new("PUT", "/")
            };
            line.ask(&ask).await.expect(200, "3");
            assert_eq!(stage.origin(protocol).seen().pop().unwrap().trailers, Some(fields(&[("x-sum", "3")])));
        }
    });
}

#[test]
fn an_agent_and_an_origin_understand_one_another_through_the_proxy() {
    run(async {
        let stage = Stage::start(|mut turn| async move {
            turn.read_all().await?;
            turn.answer(200, "hello").await
        })
        .await;
        let line = stage.agent().open(host(Protocol::H1, true), Protocol::H1).await;
        line.ask(&Ask::get("/")).await.expect(200, "hello");
        assert_eq!(stage.h1.seen().pop().unwrap().value("authorization"), Some(stage.bearer()));
    });
}
