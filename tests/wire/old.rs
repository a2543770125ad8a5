//! Clients of HTTP/1.0, which know neither interim answers nor chunks (RFC 9110 15.2, RFC 9112 7.1).

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::wire::stage::host;
use crate::support::wire::{Head, Protocol, Stage, fields, patiently, run};

#[test]
fn a_client_of_http_1_0_gets_neither_interim_answers_nor_chunks() {
    run(async {
        let stage = Stage::start(|mut turn| async move {
            turn.read_all().await?;
            turn.interim(103, &fields(&[("link", "</a.css>")])).await?;
            turn.head(&Head { status: 200, reason: "OK".to_owned(), fields: fields(&[("x-a", "1")]) }, false).await?;
            turn.data("one").await?;
            turn.data("two").await?;
            turn.finish(Some(&fields(&[("x-sum", "7")]))).await
        })
        .await;
        for origin in Protocol::BOTH {
            let (mut stream, _socket) = stage.agent().stream(host(origin, true), &[Protocol::H1]).await.unwrap();
            stream.write_all(format!("GET / HTTP/1.0\r\nHost: {}\r\n\r\n", host(origin, true)).as_bytes()).await.unwrap();
            let mut answer = String::new();
            patiently("the answer and the end", stream.read_to_string(&mut answer)).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n") || head.starts_with("HTTP/1.0 200 OK\r\n"), "origin {origin:?}: {answer}");
            assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "origin {origin:?}: {answer}");
            assert_eq!(body, "onetwo", "origin {origin:?}");
        }
    });
}
