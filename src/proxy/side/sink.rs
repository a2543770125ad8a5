//! Content that goes out on an HTTP/2 stream, no faster than the peer's windows allow (RFC 9113 5.2).

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use http::HeaderMap;

/// So little is handed over at once with the end of a message, without asking for room first.
const SHORT: usize = 16 * 1024;

/// The sending side of a stream, with what waits to go.
#[derive(Default)]
pub(super) struct Sink {
    stream: Option<SendStream<Bytes>>,
    waiting: BytesMut,
    end: End,
    /// No stream was opened, or it was broken off: nothing goes out any more.
    gone: bool,
}

#[derive(Default)]
enum End {
    /// More may come.
    #[default]
    Open,
    /// This is all, but it has not gone out whole.
    Wanted(Option<HeaderMap>),
    /// It has.
    Sent,
}

impl Sink {
    /// The stream is open for content, or ended with its head.
    pub(super) fn open(&mut self, stream: SendStream<Bytes>, ended: bool) {
        self.stream = Some(stream);
        if ended {
            self.end = End::Sent;
        }
    }

    /// No stream was opened, and none will be.
    pub(super) fn give_up(&mut self) {
        self.waiting.clear();
        self.end = End::Sent;
        self.gone = true;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    pub(super) fn push(&mut self, content: &[u8]) {
        if !self.gone {
            self.waiting.extend_from_slice(content);
        }
    }

    pub(super) fn end(&mut self, trailers: Option<HeaderMap>) {
        if matches!(self.end, End::Open) {
            self.end = End::Wanted(trailers);
        }
    }

    pub(super) fn pending(&self) -> usize {
        self.waiting.len()
    }

    /// Whether all that was given has been handed over.
    pub(super) fn is_sent(&self) -> bool {
        self.waiting.is_empty() && !matches!(self.end, End::Wanted(_))
    }

    /// Hands over what the windows allow. An error says that the peer has reset the stream, or is gone.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if self.gone {
            return Poll::Ready(Err(h2::Reason::CANCEL.into()));
        }
        let Some(stream) = &mut self.stream else { return if self.is_sent() { Poll::Ready(Ok(())) } else { Poll::Pending } };
        while !self.waiting.is_empty() {
            if matches!(self.end, End::Wanted(None)) && self.waiting.len() <= SHORT {
                let last = self.waiting.split().freeze();
                self.end = End::Sent;
                stream.send_data(last, true)?;
                return Poll::Ready(Ok(()));
            }
            stream.reserve_capacity(self.waiting.len());
            let mut room = stream.capacity();
            while room == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    Some(more) => room = more?,
                    // The stream is over: whoever reads from it learns why.
                    None => return Poll::Ready(Err(h2::Reason::CANCEL.into())),
                }
            }
            let piece = self.waiting.split_to(room.min(self.waiting.len())).freeze();
            let last = self.waiting.is_empty() && matches!(self.end, End::Wanted(None));
            stream.send_data(piece, last)?;
            if last {
                self.end = End::Sent;
            }
        }
        if let End::Wanted(trailers) = &mut self.end {
            let trailers = trailers.take().filter(|t| !t.is_empty());
            self.end = End::Sent;
            match trailers {
                Some(trailers) => stream.send_trailers(trailers)?,
                None => stream.send_data(Bytes::new(), true)?,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Completes when the peer has reset the stream.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<h2::Reason, h2::Error>> {
        match &mut self.stream {
            _ if self.gone => Poll::Ready(Err(h2::Reason::CANCEL.into())),
            Some(stream) => stream.poll_reset(cx),
            None => Poll::Pending,
        }
    }

    /// Breaks the stream off.
    pub(super) fn reset(&mut self, reason: h2::Reason) {
        if let Some(stream) = &mut self.stream {
            stream.send_reset(reason);
        }
        self.give_up();
    }

    /// Takes the stream, for raw bytes.
    pub(super) fn take_stream(&mut self) -> Option<SendStream<Bytes>> {
        self.stream.take()
    }
}
