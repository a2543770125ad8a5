//! Reads more than is asked for, and keeps the rest.
//!
//! rustls asks for 4 KiB at a time, so that a record of 16 KiB costs it five system calls. Here one call takes what has
//! come, up to 64 KiB, by way of memory that the thread's connections share: a connection that waits holds none.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read at once.
const SCRATCH: usize = 64 * 1024;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// A connection under TLS. Bytes that were read already come first.
#[derive(Debug)]
pub struct ReadAhead<S> {
    kept: Vec<u8>,
    taken: usize,
    inner: S,
}

impl<S> ReadAhead<S> {
    /// A connection of which `first` was read already.
    pub fn new(first: Vec<u8>, inner: S) -> Self {
        Self { kept: first, taken: 0, inner }
    }

    /// The connection below.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.taken < this.kept.len() {
            let n = (this.kept.len() - this.taken).min(buf.remaining());
            buf.put_slice(&this.kept[this.taken..this.taken + n]);
            this.taken += n;
            if this.taken == this.kept.len() {
                (this.kept, this.taken) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        SHARED.with(|shared| {
            // TLS inside TLS: the outer one has it already.
            let Ok(mut shared) = shared.try_borrow_mut() else { return Pin::new(&mut this.inner).poll_read(cx, buf) };
            let mut came = ReadBuf::new(&mut shared);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut came))?;
            let (now, later) = came.filled().split_at(came.filled().len().min(buf.remaining()));
            buf.put_slice(now);
            this.kept.extend_from_slice(later);
            Poll::Ready(Ok(()))
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn what_was_read_ahead_comes_in_order_and_leaves_no_memory() {
        let (mut far, near) = tokio::io::duplex(1 << 20);
        let mut stream = ReadAhead::new(b"first".to_vec(), near);
        far.write_all(&[7; 100_000]).await.expect("room");
        let mut got = vec![0; 100_005];
        for piece in got.chunks_mut(999) {
            stream.read_exact(piece).await.expect("all of it");
        }
        assert!(got.starts_with(b"first") && got[5..].iter().all(|b| *b == 7));
        assert_eq!(stream.kept.capacity(), 0);
        drop(far);
        assert_eq!(stream.read(&mut [0; 8]).await.expect("an end"), 0);
    }
}
