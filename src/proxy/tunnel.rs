//! Bytes passed unread: blind tunnels, and what follows a 101.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::connection::Drain;
use super::outcome::Progress;
use super::splice::{Lend, Pipe};
use super::ticker::Ticker;
use super::wire::{Half, Wire, poll_transfer};

/// While the proxy drains, a tunnel that is silent for so long ends.
const DRAIN_IDLE: Duration = Duration::from_millis(500);
/// Pieces of at least this size count as a flow, in which a byte costs more than a call.
const LARGE: usize = 8 * 1024;
/// After so many bytes in large pieces a direction is moved by the kernel.
const FLOW: usize = 256 * 1024;
/// After so many small pieces in a row it is copied again.
const TRICKLE: u8 = 8;
/// A flow that has stopped for so long gives its pipe back.
const FLOW_OVER: Duration = Duration::from_millis(500);

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

/// How to the sockets under both sides, where they may be nothing else.
pub(super) type Sockets<A, B> = Option<(Lend<A>, Lend<B>)>;

/// Copies both ways until both sides have closed; a side that closes is closed on the other end, which may go on
/// sending. `revoked` ends it at once when it completes.
#[expect(clippy::too_many_arguments, reason = "the two sides, and what ends them")]
pub(super) async fn copy<A: Wire + ?Sized, B: Wire + ?Sized>(
    agent: &mut Half<A>,
    upstream: &mut Half<B>,
    sockets: Sockets<A, B>,
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
            let moved_up = up.poll(agent, upstream, sockets, &mut progress.bytes_up, cx);
            let moved_down = down.poll(upstream, agent, sockets.map(|(a, b)| (b, a)), &mut progress.bytes_down, cx);
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
            // An idle tunnel holds none.
            if (up.pipe.is_some() || down.pipe.is_some()) && ticker.poll_at(last + FLOW_OVER, cx) {
                up.rest();
                down.rest();
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
    /// What came in large pieces since the last small one.
    flow: usize,
    /// Small pieces in a row that went through the pipe.
    trickle: u8,
    /// Where a flow passes, instead of through memory.
    pipe: Option<Pipe>,
}

impl Direction {
    /// Moves what can be moved from one side to the other. Says whether anything was.
    fn poll<A: Wire + ?Sized, B: Wire + ?Sized>(
        &mut self,
        from: &mut Half<A>,
        to: &mut Half<B>,
        sockets: Sockets<A, B>,
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
        // Only what has gone out is overtaken by nothing.
        if self.flow >= FLOW && to.output.is_empty() {
            self.begin(from, to, sockets);
        }
        if self.pipe.is_some() {
            moved |= self.splice(from, to, sockets, count, cx)?;
        }
        while self.pipe.is_none() && !self.ended && to.output.is_empty() {
            match poll_transfer(from, to, cx)? {
                Poll::Ready(0) => self.ended = true,
                Poll::Ready(n) => {
                    *count += n as u64;
                    self.flow = if n >= LARGE { self.flow.saturating_add(n) } else { 0 };
                }
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
            if self.ended && self.is_drained() && !self.closed && Pin::new(&mut *to.io).poll_shutdown(cx).is_ready() {
                self.closed = true;
                moved = true;
            }
        }
        Ok(moved)
    }

    fn is_drained(&self) -> bool {
        self.pipe.as_ref().is_none_or(Pipe::is_empty)
    }

    /// Takes a pipe. Where there is none to be had, it is asked for again after another [`FLOW`].
    fn begin<A: ?Sized, B: ?Sized>(&mut self, from: &Half<A>, to: &Half<B>, sockets: Sockets<A, B>) {
        (self.flow, self.trickle) = (0, 0);
        let are_sockets = sockets.is_some_and(|(a, b)| a(&from.io).is_some() && b(&to.io).is_some());
        self.pipe = if are_sockets { Pipe::open() } else { None };
    }

    /// Moves through the pipe what can be moved. Says whether anything was.
    fn splice<A: Wire + ?Sized, B: Wire + ?Sized>(
        &mut self,
        from: &Half<A>,
        to: &mut Half<B>,
        sockets: Sockets<A, B>,
        count: &mut u64,
        cx: &mut Context<'_>,
    ) -> io::Result<bool> {
        let ends = sockets.and_then(|(a, b)| Some((a(&from.io)?, b(&to.io)?)));
        let (Some((source, sink)), Some(pipe)) = (ends, &mut self.pipe) else { return Ok(false) };
        let mut moved = false;
        loop {
            if !pipe.is_empty() {
                match pipe.poll_empty(sink, cx) {
                    Poll::Ready(Ok(())) => moved = true,
                    Poll::Ready(Err(error)) if Pipe::is_unfit(&error) => {
                        pipe.take_back(&mut to.output.data)?;
                        self.pipe = None;
                        return Ok(true);
                    }
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Pending => return Ok(moved),
                }
            }
            if self.ended || self.trickle == TRICKLE {
                self.pipe = None;
                return Ok(true);
            }
            match pipe.poll_fill(source, cx) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(n)) => {
                    *count += n as u64;
                    self.trickle = if n >= LARGE { 0 } else { self.trickle + 1 };
                }
                Poll::Ready(Err(error)) if Pipe::is_unfit(&error) => {
                    self.pipe = None;
                    return Ok(true);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(moved),
            }
            moved = true;
        }
    }

    /// Gives the pipe back while nothing is in it.
    fn rest(&mut self) {
        if self.is_drained() {
            self.pipe = None;
        }
    }
}
