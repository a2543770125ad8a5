//! One request and its answer, both ways at once: the content of both passes as it comes, nothing is gathered.
//!
//! Which protocol either side speaks is the sides' affair (`side`); here are the order of things, the limits, and what
//! the agent is not to see.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};

use super::filter::ResponseFilter;
use super::outcome::{End, Fail, Progress};
use super::side::{AgentSide, Came, HTTP2, OriginSide};
use super::taken::Taken;
use super::ticker::{LONG, Ticker};
use super::wire::HIGH_WATER;
use crate::message::h1::{Framing, ResponseHead};
use crate::message::hop_by_hop;

/// Interim answers to one request.
const MAX_INTERIM: u8 = 32;
/// What their fields may have in all.
const MAX_INTERIM_BYTES: usize = 64 * 1024;
/// While an upload is stuck, the agent is looked after so often.
const LOOK: Duration = Duration::from_millis(500);

/// What an exchange needs to know of its request.
pub(super) struct Asked<'a> {
    pub(super) framing: Framing,
    /// The request asks for an upgrade that was passed on.
    pub(super) upgrade: bool,
    /// Fields of the agent's that are dropped from its trailers too.
    pub(super) drop_trailers: &'a (dyn Fn(&mut HeaderMap) + Send + Sync),
    /// Told of the answer's status before any of it goes out.
    pub(super) answered: &'a (dyn Fn(u16) + Send + Sync),
    /// How long nothing may come from either side.
    pub(super) idle: Duration,
    /// The request may have to be sent again: what is taken of it is kept.
    pub(super) keep: bool,
}

enum Down {
    Head,
    Body,
    Done,
    Upgraded,
}

/// The state of an exchange.
pub(super) struct Exchange<'a, A, O> {
    agent: &'a mut A,
    origin: O,
    asked: &'a Asked<'a>,
    filter: ResponseFilter,
    taken: &'a mut Taken,
    up_done: bool,
    /// The origin takes no more of the request.
    write_failed: bool,
    down: Down,
    /// The answer's head, as long as it waits for the first of the body.
    waiting: Option<ResponseHead>,
    interim: u8,
    interim_bytes: usize,
    started: Instant,
    last: Instant,
    /// When a stuck upload's agent is looked after next.
    look: Option<Instant>,
    long_reported: bool,
    pub(super) progress: Progress,
}

impl<'a, A: AgentSide, O: OriginSide> Exchange<'a, A, O> {
    /// An exchange whose request head is on its way already. What was `taken` for an earlier try goes again.
    pub(super) fn new(agent: &'a mut A, mut origin: O, asked: &'a Asked<'a>, filter: ResponseFilter, taken: &'a mut Taken, started: Instant) -> Self {
        let mut up_done = asked.framing == Framing::None;
        let mut progress = Progress::default();
        if !taken.content.is_empty() {
            origin.push(&taken.content);
            progress.bytes_up = taken.content.len() as u64;
        }
        if let Some(trailers) = &taken.end {
            origin.end(trailers.clone());
            up_done = true;
        }
        if !asked.keep {
            taken.forget();
        }
        Self {
            agent,
            origin,
            asked,
            filter,
            taken,
            up_done,
            write_failed: false,
            down: Down::Head,
            waiting: None,
            interim: 0,
            interim_bytes: 0,
            started,
            last: started,
            look: None,
            long_reported: false,
            progress,
        }
    }

    /// Runs to the end. `opened` is called once, when the exchange has lasted for [`LONG`].
    pub(super) async fn run(&mut self, ticker: &mut Ticker, opened: &mut (dyn FnMut(&Progress) + Send)) -> Result<End, Fail> {
        let ended = std::future::poll_fn(|cx| self.poll(ticker, opened, cx)).await;
        if matches!(ended, Err(Fail::Upstream { .. })) {
            // What came before the answer broke off is the agent's; where even that fails, the first fault counts.
            let _ = self.release_held();
        }
        ended
    }

    /// The origin's side, after the end.
    pub(super) fn into_origin(self) -> O {
        self.origin
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
            if self.agent.pending() < HIGH_WATER && self.filter.poll_pause(cx) {
                self.release_held()?;
                continue;
            }
            if self.filter.poll_head_pause(cx) {
                self.send_waiting(false);
                continue;
            }
            if self.is_stuck() {
                let look = *self.look.get_or_insert_with(|| Instant::now() + LOOK);
                if ticker.poll_at(look, cx) {
                    self.look = None;
                    continue;
                }
            }
            if ticker.poll_at(self.last + self.asked.idle, cx) {
                return Poll::Ready(Err(Fail::Idle));
            }
            return Poll::Pending;
        }
    }

    /// The origin reads no more of the request for now, so that an agent that hangs up is not felt by itself.
    fn is_stuck(&self) -> bool {
        !self.up_done && (self.write_failed || self.origin.pending() >= HIGH_WATER)
    }

    /// The request's content, agent to origin. Says whether anything moved.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<bool, Fail> {
        let mut moved = false;
        while !self.up_done && !self.write_failed && self.origin.pending() < HIGH_WATER {
            let (origin, taken, progress) = (&mut self.origin, &mut *self.taken, &mut self.progress);
            let mut pass = |content: &[u8]| {
                origin.push(content);
                taken.keep(content);
                progress.bytes_up += content.len() as u64;
                Ok(())
            };
            match self.agent.poll_content(cx, &mut pass)? {
                Poll::Ready(Came::Some) => moved = true,
                Poll::Ready(Came::End(trailers)) => {
                    self.end_request(trailers);
                    moved = true;
                }
                Poll::Pending => break,
            }
        }
        let reads_no_more = self.up_done || self.is_stuck();
        if reads_no_more && let Poll::Ready(gone) = self.agent.poll_gone(cx) {
            return Err(gone);
        }
        let full = self.origin.pending() >= HIGH_WATER;
        // The origin may have answered before it closed: its answer is still to be read.
        if let Poll::Ready(Err(_)) = self.origin.poll_send(cx) {
            self.write_failed = true;
        }
        // There is room again, and nobody else would wake the reading side.
        Ok(moved | (full && self.origin.pending() < HIGH_WATER))
    }

    fn end_request(&mut self, mut trailers: Option<HeaderMap>) {
        if let Some(trailers) = &mut trailers {
            hop_by_hop::strip_request(trailers);
            hop_by_hop::drop_framing(trailers);
            (self.asked.drop_trailers)(trailers);
        }
        if self.taken.is_whole() {
            self.taken.end = Some(trailers.clone());
        }
        self.origin.end(trailers);
        self.up_done = true;
    }

    /// The answer, origin to agent. Says whether anything moved.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<bool, Fail> {
        let mut moved = false;
        // Heads are taken however little the agent reads: nothing else holds back an origin that sends interim ones without end.
        while self.agent.pending() < HIGH_WATER || matches!(self.down, Down::Head) {
            let step = match self.down {
                Down::Head => self.poll_head(cx)?,
                Down::Body => self.poll_body(cx)?,
                Down::Done | Down::Upgraded => false,
            };
            if !step {
                break;
            }
            moved = true;
        }
        let full = self.agent.pending() >= HIGH_WATER;
        let _ = self.agent.poll_send(cx)?;
        Ok(moved | (full && self.agent.pending() < HIGH_WATER))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Result<bool, Fail> {
        match self.origin.poll_head(cx)? {
            Poll::Ready(head) => self.on_head(head).map(|()| true),
            Poll::Pending => Ok(false),
        }
    }

    fn on_head(&mut self, mut head: ResponseHead) -> Result<(), Fail> {
        let to_websocket = switches_to_websocket(&head.headers);
        hop_by_hop::strip_response(&mut head.headers);
        self.filter.head(&mut head.headers);
        head.reason = self.filter.reason(head.reason);
        if head.status.is_informational() || head.status == StatusCode::NO_CONTENT {
            // RFC 9110 8.6: these have none, and a client that believed it would take the next answer for content.
            head.headers.remove(http::header::CONTENT_LENGTH);
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            if !self.asked.upgrade || !self.up_done {
                return Err(Fail::upstream("the origin switched protocols unasked"));
            }
            if !to_websocket {
                return Err(Fail::upstream("the origin switched to another protocol than was asked for"));
            }
            head.headers.insert(http::header::UPGRADE, http::HeaderValue::from_static("websocket"));
            self.taken.forget();
            self.first_byte(head.status);
            self.agent.switch(head);
            self.down = Down::Upgraded;
            return Ok(());
        }
        if head.status.is_informational() {
            self.interim += 1;
            self.interim_bytes += head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
            if self.interim > MAX_INTERIM || self.interim_bytes > MAX_INTERIM_BYTES {
                return Err(Fail::upstream("the origin sent too many interim answers"));
            }
            self.agent.interim(head);
            return Ok(());
        }
        if self.asked.upgrade && head.status.is_success() && self.agent.protocol() == HTTP2 {
            // To an extended CONNECT any 2xx says that it is accepted (RFC 8441 5).
            return Err(Fail::upstream("the origin answered a WebSocket's handshake as an ordinary request"));
        }
        self.filter.body(&mut head)?;
        self.down = if head.framing == Framing::None { Down::Done } else { Down::Body };
        // It is answered: nothing will be sent again.
        self.taken.forget();
        if self.filter.head_waits() {
            self.waiting = Some(head);
        } else {
            self.send_head(head);
        }
        Ok(())
    }

    fn send_head(&mut self, head: ResponseHead) {
        self.first_byte(head.status);
        // An early answer after which the origin hangs up: the rest of the request has nowhere to go.
        let given_up = !self.up_done && self.origin.hangs_up();
        self.agent.head(head, given_up);
    }

    /// A head that waited goes, and what of the body waited for it. `whole`: the body has ended.
    fn send_waiting(&mut self, whole: bool) {
        if let Some(mut head) = self.waiting.take() {
            let first = self.filter.head_goes(&mut head, whole).to_vec();
            self.send_head(head);
            self.agent.push(&first);
            self.progress.bytes_down += first.len() as u64;
        }
    }

    fn first_byte(&mut self, status: StatusCode) {
        (self.asked.answered)(status.as_u16());
        self.progress.status = status.as_u16();
        self.progress.ttfb = Some(self.started.elapsed());
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<bool, Fail> {
        let (agent, filter, progress) = (&mut *self.agent, &mut self.filter, &mut self.progress);
        let mut pass = |content: &[u8]| {
            let passed = filter.data(content)?;
            agent.push(passed);
            progress.bytes_down += passed.len() as u64;
            Ok(())
        };
        match self.origin.poll_content(cx, &mut pass)? {
            Poll::Ready(Came::Some) => {
                if self.filter.head_may_go() {
                    self.send_waiting(false);
                }
                Ok(true)
            }
            Poll::Ready(Came::End(trailers)) => self.end_body(trailers).map(|()| true),
            Poll::Pending => Ok(false),
        }
    }

    fn end_body(&mut self, mut trailers: Option<HeaderMap>) -> Result<(), Fail> {
        let rest = self.filter.finish()?;
        self.agent.push(rest);
        self.progress.bytes_down += rest.len() as u64;
        self.send_waiting(true);
        if let Some(trailers) = &mut trailers {
            hop_by_hop::strip_response(trailers);
            hop_by_hop::drop_framing(trailers);
            self.filter.trailers(trailers);
        }
        self.agent.end(trailers);
        self.down = Down::Done;
        Ok(())
    }

    /// What the filter held back goes on after a pause.
    fn release_held(&mut self) -> Result<(), Fail> {
        if matches!(self.down, Down::Body) {
            self.send_waiting(false);
            let held = self.filter.pause()?;
            self.agent.push(held);
            self.progress.bytes_down += held.len() as u64;
        }
        Ok(())
    }

    /// How often the secret was found in the answer.
    pub(super) fn hits(&self) -> u64 {
        self.filter.hits()
    }

    fn finished(&mut self, cx: &mut Context<'_>) -> Option<End> {
        if !self.agent.is_sent() {
            return None;
        }
        match self.down {
            Down::Upgraded => return Some(End::Upgraded),
            Down::Done => {}
            Down::Head | Down::Body => return None,
        }
        let whole = self.up_done && self.origin.is_sent();
        if whole || self.write_failed || self.origin.hangs_up() {
            return Some(End::Answered { whole: whole && !self.write_failed });
        }
        // An early answer: the rest of the request is still passed on, unless the origin wants no more of it.
        match self.origin.poll_stopped(cx) {
            Poll::Pending => None,
            Poll::Ready(()) => Some(End::Answered { whole: false }),
        }
    }
}

/// Whether an answer names one protocol that it switches to, and that is the one that is passed on (RFC 9110 7.8).
fn switches_to_websocket(fields: &HeaderMap) -> bool {
    let mut protocols = fields.get_all(http::header::UPGRADE).iter();
    let first = protocols.next().is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    first && protocols.next().is_none()
}
