//! Content that comes, from either side: over a connection of HTTP/1.1, or a stream of HTTP/2.

use std::io;
use std::task::{Context, Poll, ready};

use h2::RecvStream;

use super::{Came, Take};
use crate::message::h1::{BodyError, BodyReader, Piece};
use crate::proxy::outcome::Fail;
use crate::proxy::wire::{Half, Wire};

/// Why content cannot be had.
pub(super) enum Fault {
    /// It breaks its framing, or was cut short.
    Framing(BodyError),
    /// The connection failed.
    Io(io::Error),
    /// Whoever took it could not go on.
    Taker(Fail),
}

/// What was made of some bytes.
enum Read {
    Some,
    End(Option<http::HeaderMap>),
    More,
}

/// The next content, handed to `take`: what stands in the connection's buffer, else what comes, which is handed on from
/// where it was read to and not kept.
pub(super) fn poll_content<S: Wire + ?Sized>(
    half: &mut Half<S>,
    reader: &mut BodyReader,
    cx: &mut Context<'_>,
    take: Take<'_>,
) -> Poll<Result<Came, Fault>> {
    loop {
        let mut used = 0;
        let read = read(half.input.bytes(), &mut used, reader, take);
        half.input.consume(used);
        match read? {
            Read::Some => return Poll::Ready(Ok(Came::Some)),
            Read::End(trailers) => return Poll::Ready(Ok(Came::End(trailers))),
            Read::More => {}
        }
        let mut made = Ok(Read::More);
        let whole = half.input.is_empty();
        let came = half.poll_read(cx, |bytes| {
            let mut used = 0;
            if whole {
                made = self::read(bytes, &mut used, reader, take);
            }
            used
        });
        if ready!(came).map_err(Fault::Io)? == 0 {
            reader.closed().map_err(Fault::Framing)?;
            return Poll::Ready(Ok(Came::End(None)));
        }
        match made? {
            Read::Some => return Poll::Ready(Ok(Came::Some)),
            Read::End(trailers) => return Poll::Ready(Ok(Came::End(trailers))),
            Read::More => {}
        }
    }
}

/// Hands on all the content there is in `bytes`, and counts what of them it used.
fn read(bytes: &[u8], used: &mut usize, reader: &mut BodyReader, take: Take<'_>) -> Result<Read, Fault> {
    let mut any = false;
    loop {
        match reader.next(&bytes[*used..]).map_err(Fault::Framing)? {
            Piece::Data { skip, len } => {
                let at = *used + skip;
                *used = at + len;
                if len > 0 {
                    any = true;
                    take(&bytes[at..at + len]).map_err(Fault::Taker)?;
                }
            }
            Piece::End { skip, trailers } => {
                *used += skip;
                return Ok(Read::End(trailers));
            }
            Piece::More => return Ok(if any { Read::Some } else { Read::More }),
        }
    }
}

/// Why content of a stream cannot be had.
pub(super) enum StreamFault {
    /// The stream was reset, or its connection is gone.
    Stream(h2::Error),
    /// Whoever took it could not go on.
    Taker(Fail),
}

impl From<h2::Error> for StreamFault {
    fn from(error: h2::Error) -> Self {
        Self::Stream(error)
    }
}

/// The next content of a stream, handed to `take`. Only what was passed on makes room for more.
pub(super) fn poll_stream(content: &mut RecvStream, cx: &mut Context<'_>, take: Take<'_>) -> Poll<Result<Came, StreamFault>> {
    match ready!(content.poll_data(cx)) {
        Some(data) => {
            let data = data?;
            let taken = take(&data);
            let released = content.flow_control().release_capacity(data.len());
            taken.map_err(StreamFault::Taker)?;
            released?;
            Poll::Ready(Ok(Came::Some))
        }
        None => Poll::Ready(Ok(Came::End(ready!(content.poll_trailers(cx))?))),
    }
}
