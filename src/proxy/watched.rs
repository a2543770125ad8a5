//! An agent's HTTP/2 connection whose frames are counted as they pass.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::Wire;
use crate::message::h2::Frames;

/// What is known of a connection's frames.
#[derive(Clone)]
pub(super) struct Watch(Arc<Mutex<Inside>>);

pub(super) struct Inside {
    pub(super) frames: Frames,
    /// The agent went too far: nothing more is read.
    pub(super) flooded: bool,
}

impl Watch {
    /// Both used in the connection's own task, so nobody ever waits for it.
    pub(super) fn look(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection.
pub(super) struct Watched {
    io: Box<dyn Wire>,
    watch: Watch,
}

impl Watched {
    pub(super) fn new(io: Box<dyn Wire>) -> (Self, Watch) {
        let watch = Watch(Arc::new(Mutex::new(Inside { frames: Frames::of_agent(), flooded: false })));
        (Self { io, watch: watch.clone() }, watch)
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.watch.look().flooded {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut *self.io).poll_read(cx, buf))?;
        let mut inside = self.watch.look();
        inside.flooded = inside.frames.came(&buf.filled()[before..], Instant::now());
        if inside.flooded {
            // Whoever reads looks at the watch next, and ends the connection.
            buf.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut *self.io).poll_write(cx, bytes))?;
        self.watch.look().frames.went(&bytes[..sent]);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut *self.io).poll_write_vectored(cx, parts))?;
        self.watch.look().frames.went_of(parts, sent);
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}
