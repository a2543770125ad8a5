//! The origin's turn over HTTP/2, on bare `h2`.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_rustls::server::TlsStream;

use super::origin::{Seen, Shared, Side as Sides, Socket, Turn};
use super::{Ending, Fields, Head, Protocol, from_map, to_map};

/// One request of a connection.
pub struct Side {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
    over: bool,
    pub(super) trailers: Option<Fields>,
    goodbye: UnboundedSender<Option<u32>>,
}

pub(super) async fn serve(stream: TlsStream<TcpStream>, socket: Socket, shared: Arc<Shared>, connection: usize) -> Result<(), Ending> {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(shared.offer.window).initial_connection_window_size(64 << 20);
    // What a stream is let to send is then near to what has left.
    builder.max_send_buffer_size(64 << 10).max_header_list_size(1 << 20);
    if let Some(streams) = shared.offer.streams {
        builder.max_concurrent_streams(streams);
    }
    if shared.offer.connect_protocol {
        builder.enable_connect_protocol();
    }
    let mut conn = builder.handshake::<_, Bytes>(stream).await?;
    let (goodbye, mut said) = unbounded_channel();
    loop {
        tokio::select! {
            accepted = conn.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted?;
                let (shared, socket, goodbye) = (shared.clone(), socket.clone(), goodbye.clone());
                tokio::spawn(async move {
                    let turn = turn(request, respond, shared.clone(), socket, connection, goodbye);
                    let _ = (shared.handler)(turn).await;
                });
            }
            Some(goodbye) = said.recv() => match goodbye {
                None => conn.graceful_shutdown(),
                Some(code) => conn.abrupt_shutdown(Reason::from(code)),
            },
        }
    }
}

fn turn(
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    shared: Arc<Shared>,
    socket: Socket,
    connection: usize,
    goodbye: UnboundedSender<Option<u32>>,
) -> Turn {
    let (head, body) = request.into_parts();
    let seen = Seen {
        protocol: Protocol::H2,
        connection,
        method: head.method.to_string(),
        scheme: head.uri.scheme_str().unwrap_or_default().to_owned(),
        authority: head.uri.authority().map(ToString::to_string).unwrap_or_default(),
        target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        fields: from_map(&head.headers),
        body: Vec::new(),
        trailers: None,
        ending: Ending::Open,
    };
    let side = Side { body, respond, send: None, over: false, trailers: None, goodbye };
    Turn::new(seen, Sides::H2(side), shared, socket)
}

impl Side {
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, Ending> {
        while let Some(piece) = self.body.data().await {
            let piece = piece?;
            self.body.flow_control().release_capacity(piece.len())?;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        self.trailers = self.body.trailers().await?.as_ref().map(from_map);
        Ok(None)
    }

    pub(super) fn interim(&mut self, status: u16, fields: &Fields) -> Result<(), Ending> {
        let mut answer = http::Response::builder().status(status).body(()).unwrap();
        *answer.headers_mut() = to_map(fields);
        Ok(self.respond.send_informational(answer)?)
    }

    pub(super) fn head(&mut self, head: &Head, end: bool) -> Result<(), Ending> {
        let mut answer = http::Response::builder().status(head.status).body(()).unwrap();
        *answer.headers_mut() = to_map(&head.fields);
        // The HTTP/1.1 origin's way to say that the connection's end is the body's.
        answer.headers_mut().remove(http::header::CONNECTION);
        self.send = Some(self.respond.send_response(answer, end)?);
        self.over = end;
        Ok(())
    }

    pub(super) async fn data(&mut self, mut data: Bytes, taken: &AtomicUsize) -> Result<(), Ending> {
        let send = self.send.as_mut().expect("a head came before");
        while !data.is_empty() {
            send.reserve_capacity(data.len());
            let room = match poll_fn(|cx| send.poll_capacity(cx)).await {
                Some(room) => room?.min(data.len()),
                // The stream is over; this says how.
                None => return Err(poll_fn(|cx| send.poll_reset(cx)).await.map_or_else(Ending::from, |reason| Ending::Reset(reason.into()))),
            };
            send.send_data(data.split_to(room), false)?;
            taken.fetch_add(room, Ordering::SeqCst);
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Ending> {
        let send = self.send.as_mut().expect("a head came before");
        if std::mem::replace(&mut self.over, true) {
            return Ok(());
        }
        Ok(match trailers {
            Some(trailers) => send.send_trailers(to_map(trailers))?,
            None => send.send_data(Bytes::new(), true)?,
        })
    }

    pub(super) fn reset(&mut self, code: u32) {
        match &mut self.send {
            Some(send) => send.send_reset(Reason::from(code)),
            None => self.respond.send_reset(Reason::from(code)),
        }
    }

    pub(super) fn go_away(&mut self, code: Option<u32>) {
        let _ = self.goodbye.send(code);
    }

    pub(super) async fn gone(&mut self) -> Ending {
        let reset = match &mut self.send {
            Some(send) => poll_fn(|cx| send.poll_reset(cx)).await,
            None => poll_fn(|cx| self.respond.poll_reset(cx)).await,
        };
        reset.map_or_else(Ending::from, |reason| Ending::Reset(reason.into()))
    }
}
