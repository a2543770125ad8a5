//! Bytes passed unread: blind tunnels, and what follows a 101.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::connection::Drain;
use super::outcome::Progress;
use super::ticker::Ticker;
use super::wire::{Half, Wire, poll_transfer};

/// While the proxy drains, a tunnel that is silent for so long ends.
const DRAIN_IDLE: Duration = Duration::from_millis(500);

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TunnelEnd {
    /// Both sides closed.
    Closed,
    /// One side broke off.
    Broken,
    /// Nothing came from either side for too long.
    Idle,
    /// It was told to end.
    Revoked,
}

impl TunnelEnd {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Closed => "ok",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::Revoked => "revoked",
        }
    }
}

/// Copies both ways until both sides have closed; a side that closes is closed on the other end, which may go on
/// sending. `revoked` ends it at once when it completes.
pub(super) async fn copy<A: Wire + ?Sized, B: Wire + ?Sized>(
    agent: &mut Half<A>,
    upstream: &mut Half<B>,
    idle: Duration,
    ticker: &mut Ticker,
    progress: &mut Progress,
    revoked: impl Future<Output = ()>,
    drain: &mut Drain,
) -> TunnelEnd {
    let mut revoked = std::pin::pin!(revoked);
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let mut last = Instant::now();
    let (mut idle, mut draining) = (idle, false);
    std::future::poll_fn(|cx| {
        if revoked.as_mut().poll(cx).is_ready() {
            return Poll::Ready(TunnelEnd::Revoked);
        }
        if !draining && drain.as_mut().poll(cx).is_ready() {
            // What is passing may finish; what is silent is over.
            draining = true;
            idle = idle.min(DRAIN_IDLE);
        }
        loop {
            let moved_up = up.poll(agent, upstream, &mut progress.bytes_up, cx);
            let moved_down = down.poll(upstream, agent, &mut progress.bytes_down, cx);
            match (moved_up, moved_down) {
                (Err(_), _) | (_, Err(_)) => return Poll::Ready(TunnelEnd::Broken),
                (Ok(false), Ok(false)) => {}
                _ => {
                    last = Instant::now();
                    continue;
                }
            }
            if up.closed && down.closed {
                return Poll::Ready(TunnelEnd::Closed);
            }
            return if ticker.poll_at(last + idle, cx) { Poll::Ready(TunnelEnd::Idle) } else { Poll::Pending };
        }
    })
    .await
}

#[derive(Default)]
struct Direction {
    ended: bool,
    closed: bool,
}

impl Direction {
    /// Moves what can be moved from one side to the other. Says whether anything was.
    fn poll<A: Wire + ?Sized, B: Wire + ?Sized>(
        &mut self,
        from: &mut Half<A>,
        to: &mut Half<B>,
        count: &mut u64,
        cx: &mut Context<'_>,
    ) -> io::Result<bool> {
        let mut moved = false;
        // What came with the head goes first.
        if !from.input.is_empty() {
            let bytes = from.input.take();
            *count += bytes.len() as u64;
            to.output.data.extend_from_slice(&bytes);
            moved = true;
        }
        while !self.ended && to.output.is_empty() {
            match poll_transfer(from, to, cx)? {
                Poll::Ready(0) => self.ended = true,
                Poll::Ready(n) => *count += n as u64,
                Poll::Pending => break,
            }
            moved = true;
        }
        let blocked = !to.output.is_empty();
        if let Poll::Ready(sent) = to.poll_send(cx) {
            sent?;
            to.output.release();
            // There is room again, and nobody else would wake the reading side.
            moved |= blocked;
            if self.ended && !self.closed && Pin::new(&mut *to.io).poll_shutdown(cx).is_ready() {
                self.closed = true;
                moved = true;
            }
        }
        Ok(moved)
    }
}
