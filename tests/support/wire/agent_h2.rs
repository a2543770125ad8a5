//! The agent over HTTP/2, on bare `h2`.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::agent::{Ask, Content};
use super::{Ending, Fields, Head, from_map, to_map};

/// A connection, driven by a task of its own.
#[derive(Clone)]
pub struct Connection {
    send: SendRequest<Bytes>,
}

/// The way of a request's body.
pub struct Up {
    send: SendStream<Bytes>,
    over: bool,
}

/// The way of an answer.
pub struct Down {
    head: ResponseFuture,
    body: Option<RecvStream>,
    pub(super) trailers: Option<Fields>,
}

impl Connection {
    pub(super) async fn new(stream: TlsStream<TcpStream>, window: u32) -> std::io::Result<Self> {
        let mut builder = h2::client::Builder::new();
        // The connection's window never holds a stream back.
        builder.initial_window_size(window).initial_connection_window_size(1 << 30).enable_push(false);
        builder.max_send_buffer_size(64 << 10).max_header_list_size(1 << 20);
        let (send, connection) = builder.handshake(stream).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { send })
    }

    pub(super) async fn begin(&self, host: &str, ask: &Ask) -> Result<(Up, Down), Ending> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(http::uri::Scheme::HTTPS);
        parts.authority = Some(host.parse().unwrap());
        parts.path_and_query = Some(ask.target.parse().unwrap());
        let uri = http::Uri::from_parts(parts).unwrap();
        let mut request = http::Request::builder().method(ask.method.as_str()).uri(uri).version(http::Version::HTTP_2).body(()).unwrap();
        *request.headers_mut() = to_map(&ask.fields);
        for crumb in &ask.cookies {
            request.headers_mut().append("cookie", crumb.parse().unwrap());
        }
        if let Content::Length(body) = &ask.content {
            request.headers_mut().insert("content-length", body.len().into());
        }
        let end = ask.content == Content::None && ask.trailers.is_none();
        let mut ready = self.send.clone().ready().await?;
        let (head, send) = ready.send_request(request, end)?;
        Ok((Up { send, over: end }, Down { head, body: None, trailers: None }))
    }
}

impl Up {
    pub(super) async fn data(&mut self, mut data: Bytes) -> Result<(), Ending> {
        while !data.is_empty() {
            self.send.reserve_capacity(data.len());
            let room = match poll_fn(|cx| self.send.poll_capacity(cx)).await {
                Some(room) => room?.min(data.len()),
                None => return Err(Ending::Cut),
            };
            self.send.send_data(data.split_to(room), false)?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Ending> {
        if std::mem::replace(&mut self.over, true) {
            return Ok(());
        }
        Ok(match trailers {
            Some(trailers) => self.send.send_trailers(to_map(trailers))?,
            None => self.send.send_data(Bytes::new(), true)?,
        })
    }

    pub(super) fn reset(&mut self, code: u32) {
        self.send.send_reset(Reason::from(code));
    }
}

impl Down {
    pub(super) async fn head(&mut self) -> Result<Head, Ending> {
        enum Came {
            Interim(http::Response<()>),
            Final(http::Response<RecvStream>),
        }
        let came = poll_fn(|cx| match self.head.poll_informational(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(interim)) => Poll::Ready(interim.map(Came::Interim)),
            Poll::Ready(None) => Future::poll(Pin::new(&mut self.head), cx).map_ok(Came::Final),
        });
        let (status, fields) = match came.await? {
            Came::Interim(head) => (head.status(), from_map(head.headers())),
            Came::Final(answer) => {
                let (head, body) = answer.into_parts();
                self.body = Some(body);
                (head.status, from_map(&head.headers))
            }
        };
        Ok(Head { status: status.as_u16(), reason: String::new(), fields })
    }

    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Ending> {
        let body = self.body.as_mut().expect("a final head came before");
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        self.trailers = body.trailers().await?.as_ref().map(from_map);
        Ok(None)
    }
}
