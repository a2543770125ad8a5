//! Content that comes over HTTP/1.1, from either side.

use std::io;
use std::task::{Context, Poll, ready};

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
