//! A connection with its buffers: bytes that have come and are not yet read, bytes that are to go and are not yet sent.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use zeroize::Zeroize as _;

use crate::message::h1::write_chunk_head;
use crate::upstream::UpstreamStream;

/// What a connection must be able to do.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {
    /// Whether the other side has closed its sending side or broken off, also where bytes that were not read stand before
    /// that. `false` where it cannot be told.
    fn is_hung_up(&self) -> bool {
        false
    }
}

impl Wire for TcpStream {}
impl Wire for UpstreamStream {}

/// So small a buffer is kept for the next request.
const SMALL: usize = 1024;
/// How much is read at once.
const SCRATCH_SIZE: usize = 64 * 1024;
/// Above so many unsent bytes, no more is taken in from the other side.
pub(super) const HIGH_WATER: usize = 64 * 1024;

/// How long and how much is read on after a last answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

thread_local! {
    /// Where a connection without a buffer of its own reads into: an idle one holds no memory for what may come.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_SIZE].into_boxed_slice());
}

/// A connection and its two buffers.
pub(super) struct Half<S: ?Sized = dyn Wire> {
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) io: Box<S>,
}

/// Bytes that have come.
#[derive(Default)]
pub(super) struct Input {
    data: Vec<u8>,
    start: usize,
}

/// Bytes that are to go.
#[derive(Default)]
pub(super) struct Output {
    pub(super) data: Vec<u8>,
    written: usize,
    unflushed: bool,
    /// So many bytes at the front hold a secret: they are wiped when they have gone.
    secret: usize,
}

impl Input {
    /// What has come and was not yet taken.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.data[self.start..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.data.len()
    }

    /// Takes bytes off the front.
    pub(super) fn consume(&mut self, n: usize) {
        self.start += n;
        if self.is_empty() {
            self.data.clear();
            self.start = 0;
        }
    }

    /// Puts bytes that were read elsewhere at the end.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start >= self.data.len() / 2 {
            self.data.drain(..self.start);
            self.start = 0;
        }
        self.data.extend_from_slice(bytes);
    }

    /// Gives memory back while nothing is there.
    pub(super) fn release(&mut self) {
        if self.is_empty() && self.data.capacity() > SMALL {
            *self = Self::default();
        }
    }

    /// Takes all that is there.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut data = std::mem::take(&mut self.data);
        data.drain(..self.start);
        self.start = 0;
        data
    }
}

impl Output {
    /// Whether all has been sent. What TLS still holds has not.
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.data.len() && !self.unflushed
    }

    pub(super) fn pending(&self) -> usize {
        self.data.len() - self.written
    }

    pub(super) fn release(&mut self) {
        if self.is_empty() && self.data.capacity() > SMALL {
            self.data = Vec::new();
            self.written = 0;
        }
    }

    /// What stands here so far holds a secret.
    pub(super) fn is_secret(&mut self) {
        self.secret = self.data.len();
    }

    /// Makes room for so many bytes. A buffer that is outgrown with a secret in it is wiped.
    pub(super) fn reserve(&mut self, more: usize) {
        if self.secret > 0 && self.data.capacity() - self.data.len() < more {
            let mut larger = Vec::with_capacity((self.data.len() + more).max(2 * self.data.capacity()));
            larger.extend_from_slice(&self.data);
            self.data[..self.secret].zeroize();
            self.data = larger;
        }
    }

    /// All has gone.
    fn clear(&mut self) {
        self.wipe();
        self.data.clear();
        self.written = 0;
    }

    fn wipe(&mut self) {
        self.data[..self.secret].zeroize();
        self.secret = 0;
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Reads once from one side and sends it to the other, by way of memory that neither holds: only what the other does
/// not take at once is kept. `0` is the end. Nothing may be waiting to be sent.
pub(super) fn poll_transfer<A: Wire + ?Sized, B: Wire + ?Sized>(
    from: &mut Half<A>,
    to: &mut Half<B>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buf = ReadBuf::new(scratch);
        ready!(Pin::new(&mut *from.io).poll_read(cx, &mut buf))?;
        let read = buf.filled();
        let mut sent = 0;
        while sent < read.len() {
            match Pin::new(&mut *to.io).poll_write(cx, &read[sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(n) => sent += n,
                Poll::Pending => break,
            }
        }
        to.output.unflushed |= sent > 0;
        to.output.data.extend_from_slice(&read[sent..]);
        Poll::Ready(Ok(read.len()))
    })
}

/// So much a chunk is longer than its content, at most.
pub(super) const CHUNK: usize = "ffffffffffffffff\r\n\r\n".len();

/// Content, as a chunk or plain. Nothing is nothing: an empty chunk would end the body.
pub(super) fn push_chunk(out: &mut Vec<u8>, content: &[u8], chunked: bool) {
    if content.is_empty() {
        return;
    }
    if chunked {
        write_chunk_head(out, content.len());
        out.extend_from_slice(content);
        out.extend_from_slice(b"\r\n");
    } else {
        out.extend_from_slice(content);
    }
}

impl<S: Wire + ?Sized> Half<S> {
    pub(super) fn new(io: Box<S>) -> Self {
        Self { input: Input::default(), output: Output::default(), io }
    }

    /// Reads once and hands over what came; of that the first bytes are used, as many as `with` says, and the rest is kept.
    /// `0` is the end. While nothing comes no memory is held.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, with: impl FnOnce(&[u8]) -> usize) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *self.io).poll_read(cx, &mut buf))?;
            let came = buf.filled();
            let used = if came.is_empty() { 0 } else { with(came) };
            self.input.extend(&came[used..]);
            Poll::Ready(Ok(came.len()))
        })
    }

    /// Reads once into the own buffer; `0` is the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_read(cx, |_| 0)
    }

    /// Reads once into the own buffer; `0` is the end.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Sends what is to go, and flushes it.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let out = &mut self.output;
        while out.written < out.data.len() {
            let Poll::Ready(n) = Pin::new(&mut *self.io).poll_write(cx, &out.data[out.written..])? else {
                // Whoever takes less than comes must not have it all kept.
                if out.written >= HIGH_WATER && out.written >= out.secret {
                    out.wipe();
                    out.data.drain(..out.written);
                    out.written = 0;
                }
                return Poll::Pending;
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            out.written += n;
            out.unflushed = true;
        }
        out.clear();
        if out.unflushed {
            ready!(Pin::new(&mut *self.io).poll_flush(cx))?;
            out.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is to go.
    pub(super) async fn send(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_send(cx)).await
    }

    /// Sends what is to go, to an end that may take so long for it.
    pub(super) async fn send_within(&mut self, limit: Duration) -> io::Result<()> {
        tokio::time::timeout(limit, self.send()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends what is to go, closes the sending side, and reads on for a moment: a connection closed with unread
    /// bytes would be reset, and the answer lost with it (RFC 9112 9.6).
    pub(super) async fn linger(&mut self) {
        let closing = async {
            self.send().await?;
            std::future::poll_fn(|cx| Pin::new(&mut *self.io).poll_shutdown(cx)).await?;
            let mut left = LINGER_BYTES;
            while left > 0 {
                self.input.take();
                match self.fill().await? {
                    0 => break,
                    n => left = left.saturating_sub(n),
                }
            }
            io::Result::Ok(())
        };
        // Whether the client took it or not, the connection is over.
        let _ = tokio::time::timeout(LINGER, closing).await;
    }

    /// Closes the sending side in order, without waiting for the other.
    pub(super) async fn close(&mut self) {
        let closing = std::future::poll_fn(|cx| Pin::new(&mut *self.io).poll_shutdown(cx));
        let _ = tokio::time::timeout(LINGER, closing).await;
    }

    /// Gives the buffers' memory back while they are empty.
    pub(super) fn release(&mut self) {
        self.input.release();
        self.output.release();
    }
}
