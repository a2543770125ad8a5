//! One request and its answer, both ways at once: the bytes of both bodies pass as they come, nothing is gathered.

use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::filter::ResponseFilter;
use super::outcome::{End, Fail, Progress};
use super::ticker::{LONG, Ticker};
use super::wire::{HIGH_WATER, Half, Wire};
use crate::message::h1::{
    BodyError, BodyReader, Framing, HeadError, Piece, ResponseHead, head_end, parse_response, write_chunk_head, write_last_chunk, write_response,
};
use crate::message::hop_by_hop;
use crate::upstream::UpstreamStream;

/// The longest response head.
const RESPONSE_HEAD: usize = 256 * 1024;
/// Interim answers to one request.
const MAX_INTERIM: u8 = 32;
/// What an exchange needs to know of its request.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) version: Version,
    pub(super) framing: Framing,
    /// The request asks for an upgrade that was passed on.
    pub(super) upgrade: bool,
    /// The connection to the agent ends after the answer.
    pub(super) close: bool,
    /// Fields of the agent's that are dropped from its trailers too.
    pub(super) drop_trailers: &'a (dyn Fn(&mut HeaderMap) + Send + Sync),
    /// Told of the answer's status before any of it goes out.
    pub(super) answered: &'a (dyn Fn(u16) + Send + Sync),
    /// How long nothing may come from either side.
    pub(super) idle: Duration,
    /// How many bytes of a next request are taken in meanwhile.
    pub(super) ahead: usize,
}

enum Down {
    Head { scanned: usize },
    Body { reader: BodyReader, chunked: bool },
    Done,
    Upgraded,
}

/// The state of an exchange.
pub(super) struct Exchange<'a, A: Wire + ?Sized> {
    agent: &'a mut Half<A>,
    upstream: &'a mut Half<UpstreamStream>,
    asked: &'a Asked<'a>,
    filter: ResponseFilter,
    up: BodyReader,
    up_done: bool,
    /// The origin takes no more of the request.
    write_failed: bool,
    down: Down,
    interim: u8,
    upstream_keeps: bool,
    any_answer: bool,
    started: Instant,
    last: Instant,
    long_reported: bool,
    pub(super) progress: Progress,
}

impl<'a, A: Wire + ?Sized> Exchange<'a, A> {
    /// An exchange whose request head stands in the upstream's output already.
    pub(super) fn new(
        agent: &'a mut Half<A>,
        upstream: &'a mut Half<UpstreamStream>,
        asked: &'a Asked<'a>,
        filter: ResponseFilter,
        started: Instant,
    ) -> Self {
        let up = BodyReader::new(asked.framing);
        let up_done = asked.framing == Framing::None;
        Self {
            agent,
            upstream,
            asked,
            filter,
            up,
            up_done,
            write_failed: false,
            down: Down::Head { scanned: 0 },
            interim: 0,
            upstream_keeps: true,
            any_answer: false,
            started,
            last: started,
            long_reported: false,
            progress: Progress::default(),
        }
    }

    /// Runs to the end. `opened` is called once, when the exchange has lasted for [`LONG`].
    pub(super) async fn run(&mut self, ticker: &mut Ticker, opened: &mut (dyn FnMut(&Progress) + Send)) -> Result<End, Fail> {
        let ended = std::future::poll_fn(|cx| self.poll(ticker, opened, cx)).await;
        if matches!(ended, Err(Fail::Upstream(_))) {
            // What came before the answer broke off is the agent's; where even that fails, the first fault counts.
            let _ = self.release_held();
        }
        ended
    }

    fn poll(&mut self, ticker: &mut Ticker, opened: &mut (dyn FnMut(&Progress) + Send), cx: &mut Context<'_>) -> Poll<Result<End, Fail>> {
        loop {
            let moved = self.poll_up(cx)? | self.poll_down(cx)?;
            if let Some(end) = self.finished(cx) {
                return Poll::Ready(Ok(end));
            }
            if moved {
                self.last = Instant::now();
                continue;
            }
            if !self.long_reported && ticker.poll_at(self.started + LONG, cx) {
                self.long_reported = true;
                opened(&self.progress);
            }
            // Only an origin's silence is a pause: an agent that does not read could else choose where one falls.
            if self.agent.output.pending() < HIGH_WATER && self.filter.poll_pause(cx) {
                self.release_held()?;
                continue;
            }
            if ticker.poll_at(self.last + self.asked.idle, cx) {
                return Poll::Ready(Err(Fail::Idle));
            }
            return Poll::Pending;
        }
    }

    /// The request's body, agent to origin. Says whether anything moved.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<bool, Fail> {
        let mut moved = false;
        while !self.up_done && !self.write_failed && self.upstream.output.pending() < HIGH_WATER {
            match self.up.next(self.agent.input.bytes()).map_err(|_| Fail::Agent("the request's body is malformed"))? {
                Piece::Data { skip, len } => {
                    let data = &self.agent.input.bytes()[skip..skip + len];
                    push_body(&mut self.upstream.output.data, data, self.asked.framing == Framing::Chunked);
                    self.progress.bytes_up += len as u64;
                    self.agent.input.consume(skip + len);
                    moved = true;
                }
                Piece::End { skip, mut trailers } => {
                    self.agent.input.consume(skip);
                    if let Some(trailers) = &mut trailers {
                        hop_by_hop::strip_request(trailers);
                        hop_by_hop::drop_framing(trailers);
                        (self.asked.drop_trailers)(trailers);
                    }
                    if self.asked.framing == Framing::Chunked {
                        write_last_chunk(&mut self.upstream.output.data, trailers.as_ref());
                    }
                    self.up_done = true;
                    moved = true;
                }
                Piece::More => match self.agent.poll_fill(cx) {
                    Poll::Ready(Ok(n)) if n > 0 => {}
                    Poll::Ready(_) => return Err(Fail::Agent("the agent closed its connection within the request")),
                    Poll::Pending => break,
                },
            }
        }
        self.watch_agent(cx)?;
        let full = self.upstream.output.pending() >= HIGH_WATER;
        match self.upstream.poll_send(cx) {
            // The origin may have answered before it closed: its answer is still to be read.
            Poll::Ready(Err(_)) => self.write_failed = true,
            // There is room again, and nobody else would wake the reading side.
            Poll::Ready(Ok(())) => moved |= full,
            Poll::Pending => {}
        }
        Ok(moved)
    }

    /// While the answer is awaited, an agent that hangs up is noticed; what it sends ahead is kept for later.
    fn watch_agent(&mut self, cx: &mut Context<'_>) -> Result<(), Fail> {
        while (self.up_done || self.write_failed) && self.agent.input.bytes().len() < self.asked.ahead {
            match self.agent.poll_fill_idle(cx) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(_) => return Err(Fail::Agent("the agent closed its connection")),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// The answer, origin to agent. Says whether anything moved.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<bool, Fail> {
        let mut moved = false;
        while self.agent.output.pending() < HIGH_WATER {
            let step = match self.down {
                Down::Head { .. } => self.poll_head(cx)?,
                Down::Body { .. } => self.poll_body(cx)?,
                Down::Done | Down::Upgraded => false,
            };
            if !step {
                break;
            }
            moved = true;
        }
        let full = self.agent.output.pending() >= HIGH_WATER;
        match self.agent.poll_send(cx) {
            Poll::Ready(Err(_)) => Err(Fail::Agent("the agent closed its connection within the answer")),
            Poll::Ready(Ok(())) => Ok(moved | full),
            Poll::Pending => Ok(moved),
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Result<bool, Fail> {
        let Down::Head { scanned } = &mut self.down else { return Ok(false) };
        let bad = |e: HeadError| Fail::Upstream(format!("the origin's answer is refused: {e}"));
        if let Some(end) = head_end(self.upstream.input.bytes(), scanned, RESPONSE_HEAD).map_err(bad)? {
            let head = bytes::Bytes::copy_from_slice(&self.upstream.input.bytes()[..end]);
            self.upstream.input.consume(end);
            let head = parse_response(head, self.asked.method).map_err(bad)?;
            self.any_answer = true;
            self.on_head(head)?;
            return Ok(true);
        }
        match self.upstream.poll_fill(cx) {
            Poll::Ready(Ok(n)) if n > 0 => Ok(true),
            Poll::Ready(ended) => {
                let why = ended.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()).to_string();
                let nothing = self.upstream.input.is_empty() && !self.any_answer;
                Err(if nothing { Fail::UpstreamClosed(why) } else { Fail::Upstream(format!("the origin's answer was cut short: {why}")) })
            }
            Poll::Pending => Ok(false),
        }
    }

    fn on_head(&mut self, mut head: ResponseHead) -> Result<(), Fail> {
        let upgrade = head.headers.get(http::header::UPGRADE).cloned();
        hop_by_hop::strip_response(&mut head.headers);
        self.filter.head(&mut head.headers);
        head.reason = self.filter.reason(head.reason);
        if head.status.is_informational() || head.status == StatusCode::NO_CONTENT {
            // RFC 9110 8.6: these have none, and a client that believed it would take the next answer for content.
            head.headers.remove(http::header::CONTENT_LENGTH);
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            if !self.asked.upgrade || !self.up_done {
                return Err(Fail::Upstream("the origin switched protocols unasked".to_owned()));
            }
            head.headers.insert(http::header::CONNECTION, HeaderValue::from_static("Upgrade"));
            head.headers.insert(http::header::UPGRADE, upgrade.unwrap_or(HeaderValue::from_static("websocket")));
            self.first_byte(head.status);
            write_response(&mut self.agent.output.data, head.status, &head.reason, &head.headers, Framing::None);
            self.down = Down::Upgraded;
            return Ok(());
        }
        if head.status.is_informational() {
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(Fail::Upstream("the origin sent too many interim answers".to_owned()));
            }
            if self.asked.version == Version::HTTP_11 {
                write_response(&mut self.agent.output.data, head.status, &head.reason, &head.headers, Framing::None);
            }
            self.down = Down::Head { scanned: 0 };
            return Ok(());
        }
        self.final_head(head)
    }

    fn final_head(&mut self, mut head: ResponseHead) -> Result<(), Fail> {
        self.filter.body(&head).map_err(Fail::Scrubbed)?;
        self.first_byte(head.status);
        self.upstream_keeps = head.keep_alive;
        let framing = match head.framing {
            Framing::UntilClose | Framing::Chunked if self.asked.version == Version::HTTP_11 => Framing::Chunked,
            Framing::UntilClose | Framing::Chunked => Framing::UntilClose,
            other => other,
        };
        if framing != Framing::None {
            head.headers.remove(http::header::CONTENT_LENGTH);
        }
        // An early answer after which the origin hangs up: the rest of the request has nowhere to go.
        let given_up = !self.up_done && !head.keep_alive;
        if self.asked.close || given_up || framing == Framing::UntilClose {
            head.headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        write_response(&mut self.agent.output.data, head.status, &head.reason, &head.headers, framing);
        self.down = if head.framing == Framing::None {
            Down::Done
        } else {
            Down::Body { reader: BodyReader::new(head.framing), chunked: framing == Framing::Chunked }
        };
        Ok(())
    }

    fn first_byte(&mut self, status: StatusCode) {
        (self.asked.answered)(status.as_u16());
        self.progress.status = status.as_u16();
        self.progress.ttfb = Some(self.started.elapsed());
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<bool, Fail> {
        let Down::Body { reader, chunked } = &mut self.down else { return Ok(false) };
        let cut = |e: BodyError| Fail::Upstream(format!("the origin's answer is broken: {e}"));
        match reader.next(self.upstream.input.bytes()).map_err(cut)? {
            Piece::Data { skip, len } => {
                let data = &self.upstream.input.bytes()[skip..skip + len];
                let passed = self.filter.data(data).map_err(Fail::Scrubbed)?;
                push_body(&mut self.agent.output.data, passed, *chunked);
                self.progress.bytes_down += passed.len() as u64;
                self.upstream.input.consume(skip + len);
                Ok(true)
            }
            Piece::End { skip, trailers } => {
                self.upstream.input.consume(skip);
                self.end_body(trailers)?;
                Ok(true)
            }
            Piece::More => match self.upstream.poll_fill(cx) {
                Poll::Ready(Ok(n)) if n > 0 => Ok(true),
                Poll::Ready(Ok(_)) => {
                    reader.closed().map_err(cut)?;
                    self.end_body(None)?;
                    Ok(true)
                }
                Poll::Ready(Err(e)) => Err(Fail::Upstream(format!("the origin's answer was cut short: {e}"))),
                Poll::Pending => Ok(false),
            },
        }
    }

    fn end_body(&mut self, mut trailers: Option<HeaderMap>) -> Result<(), Fail> {
        let Down::Body { chunked, .. } = self.down else { return Ok(()) };
        let rest = self.filter.finish().map_err(Fail::Scrubbed)?;
        push_body(&mut self.agent.output.data, rest, chunked);
        self.progress.bytes_down += rest.len() as u64;
        if let Some(trailers) = &mut trailers {
            hop_by_hop::strip_response(trailers);
            hop_by_hop::drop_framing(trailers);
            self.filter.head(trailers);
        }
        if chunked {
            write_last_chunk(&mut self.agent.output.data, trailers.as_ref());
        }
        self.down = Down::Done;
        Ok(())
    }

    /// What the filter held back goes on after a pause.
    fn release_held(&mut self) -> Result<(), Fail> {
        let Down::Body { chunked, .. } = self.down else { return Ok(()) };
        let held = self.filter.pause().map_err(Fail::Scrubbed)?;
        push_body(&mut self.agent.output.data, held, chunked);
        self.progress.bytes_down += held.len() as u64;
        Ok(())
    }

    /// How often the secret was found in the answer.
    pub(super) fn hits(&self) -> u64 {
        self.filter.hits()
    }

    fn finished(&mut self, cx: &mut Context<'_>) -> Option<End> {
        if !self.agent.output.is_empty() {
            return None;
        }
        match self.down {
            Down::Upgraded => return Some(End::Upgraded),
            Down::Done => {}
            Down::Head { .. } | Down::Body { .. } => return None,
        }
        let whole_up = self.up_done && self.upstream.output.is_empty();
        if whole_up || self.write_failed || !self.upstream_keeps {
            let upstream_again = whole_up && self.upstream_keeps && !self.write_failed && self.upstream.input.is_empty();
            return Some(End::Whole { upstream_again, agent_again: whole_up && !self.asked.close });
        }
        // An early answer: the rest of the request is still passed on, unless the origin hangs up.
        match self.upstream.poll_fill_idle(cx) {
            Poll::Pending => None,
            Poll::Ready(_) => Some(End::Whole { upstream_again: false, agent_again: false }),
        }
    }
}

/// Content, as a chunk or plain. Nothing is nothing: an empty chunk would end the body.
fn push_body(out: &mut Vec<u8>, data: &[u8], chunked: bool) {
    if data.is_empty() {
        return;
    }
    if chunked {
        write_chunk_head(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    } else {
        out.extend_from_slice(data);
    }
}
