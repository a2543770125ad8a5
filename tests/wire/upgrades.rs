//! WebSockets that an HTTP/2 agent asks for by extended CONNECT (RFC 8441), where the origin speaks HTTP/1.1.

use bytes::Bytes;

use crate::support::wire::stage::host;
use crate::support::wire::{Protocol, Stage, run};

/// Asks for a WebSocket over HTTP/2 and gives the status of the answer.
async fn asked(stage: &Stage, target: &str) -> u16 {
    let (tls, _socket) = stage.agent().stream(host(Protocol::H1, true), &[Protocol::H2]).await.unwrap();
    let (client, connection) = h2::client::handshake(tls).await.unwrap();
    let driven = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let mut request = http::Request::new(());
    *request.method_mut() = http::Method::CONNECT;
    *request.uri_mut() = format!("https://{}{target}", host(Protocol::H1, true)).parse().unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    let (answer, sending) = client.send_request(request, false).unwrap();
    let status = answer.await.unwrap().status().as_u16();
    let _: h2::SendStream<Bytes> = sending;
    driven.abort();
    status
}

#[test]
fn an_ordinary_answer_to_a_handshake_is_not_taken_for_an_accepted_one() {
    run(async {
        let stage = Stage::start(|mut turn| async move {
            turn.read_all().await?;
            match turn.request.target.as_str() {
                "/fine" => turn.answer(200, "<html>").await,
                _ => turn.answer(403, "no").await,
            }
        })
        .await;
        assert_eq!(asked(&stage, "/fine").await, 502, "any 2xx would say that the WebSocket is open");
        assert_eq!(asked(&stage, "/refused").await, 403);
        assert!(stage.h1.seen().iter().all(|seen| seen.method == "GET" && seen.value("upgrade").as_deref() == Some("websocket")));
    });
}
