//! A request that may go: sent, its answer passed on, its end recorded.

use std::sync::Arc;
use std::task::Poll;

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, TE};

use super::plan::Plan;
use super::{Carrier, Injected, Next, Ready};
use crate::audit::Verdict;
use crate::message::h1::RequestHead;
use crate::message::hop_by_hop;
use crate::message::scrub::ScrubError;
use crate::policy::Scheme;
use crate::proxy::error::{Code, ProxyError};
use crate::proxy::exchange::{Asked, Exchange};
use crate::proxy::filter::{ResponseFilter, is_grpc};
use crate::proxy::live::Seen;
use crate::proxy::outcome::{End, Fail, Progress};
use crate::proxy::outgoing::Outgoing;
use crate::proxy::record::Record;
use crate::proxy::side::{AgentSide, HTTP1, HTTP2, OriginH1, OriginH2, OriginSide};
use crate::proxy::taken::Taken;
use crate::proxy::ticker::Ticker;
use crate::upstream::{Connected, Route};

/// A request, and whether it may go again.
pub(super) struct Sending<'a> {
    pub(super) head: &'a RequestHead,
    pub(super) target: &'a str,
    pub(super) last_try: bool,
}

/// A request that goes again, over HTTP/1.1 alone where the origin asked for that.
pub(super) struct Again {
    pub(super) record: Record,
    pub(super) http1: bool,
}

/// What an exchange needs, whichever protocol its origin speaks.
struct Prepared<'a> {
    request: &'a Sending<'a>,
    plan: Arc<Plan>,
    injected: Option<Injected>,
    outgoing: Outgoing,
    /// An idle connection of HTTP/1.1 was taken.
    was_idle: bool,
}

impl Carrier {
    /// Sends a request and passes its answer on, or has it go again.
    pub(super) async fn send<A: AgentSide>(
        &self,
        agent: &mut A,
        ticker: &mut Ticker,
        request: &Sending<'_>,
        ready: Ready,
        taken: &mut Taken,
        mut record: Record,
    ) -> Result<Next, Again> {
        let Ready { plan, injected, route: Route { connected, reused, peer } } = ready;
        let head = request.head;
        // While it was dialled the agent may have gone: then nothing is sent.
        if std::future::poll_fn(|cx| Poll::Ready(agent.poll_gone(cx).is_ready())).await {
            let verdict = if injected.is_some() { Verdict::Injected } else { Verdict::Forwarded };
            record.done(verdict, "agent_closed", &Progress::default());
            return Ok(Next::Close);
        }
        let outgoing = Outgoing::prepare(head, request.target, &self.host, injected.as_ref());
        let was_idle = reused && matches!(connected, Connected::H1(_));
        let mut prepared = Prepared { request, plan, injected, outgoing, was_idle };
        match connected {
            Connected::H1(stream) => {
                record.upstream(peer, HTTP1);
                let origin = OriginH1::new(stream, &head.method, head.version, head.framing, &mut prepared.outgoing);
                self.exchange(agent, ticker, origin, prepared, taken, record).await
            }
            Connected::H2(lane) => {
                record.upstream(peer, HTTP2);
                match OriginH2::new(lane, &head.method, self.scheme == Scheme::Https, head.framing, &mut prepared.outgoing) {
                    Ok(origin) => self.exchange(agent, ticker, origin, prepared, taken, record).await,
                    Err(fail) => self.failed(agent, &prepared, record, fail, Progress::default(), taken).await,
                }
            }
        }
    }

    async fn exchange<A: AgentSide, O: OriginSide>(
        &self,
        agent: &mut A,
        ticker: &mut Ticker,
        origin: O,
        prepared: Prepared<'_>,
        taken: &mut Taken,
        mut record: Record,
    ) -> Result<Next, Again> {
        let Prepared { request: Sending { head, last_try, .. }, plan, injected, outgoing, was_idle } = &prepared;
        let verdict = prepared.verdict();
        let drop_trailers = |trailers: &mut HeaderMap| prepared.drop_trailers(trailers);
        let used = injected.as_ref().map(|i| i.rule.id);
        let answered = |status: u16| used.iter().for_each(|id| (self.proxy.seen)(Seen::Credential(*id, status)));
        // HTTP/2 says what it did not process; of an idle HTTP/1.1 connection that closes that is never known, so there
        // a request goes again only where it may be carried out twice (RFC 9110 9.2.2).
        let keep = !last_try && (origin.protocol() == HTTP2 || (*was_idle && head.method.is_idempotent()));
        let asked = Asked {
            framing: head.framing,
            upgrade: outgoing.upgrade,
            drop_trailers: &drop_trailers,
            answered: &answered,
            idle: plan.settings.idle,
            keep,
        };
        let filter = match injected {
            Some(i) if i.rule.scrub => ResponseFilter::scrubbing(&i.material, agent.protocol() == HTTP2 && is_grpc_call(head)),
            _ => ResponseFilter::none(),
        };
        let mut exchange = Exchange::new(agent, origin, &asked, filter, taken, record.started);
        let ended = exchange.run(ticker, &mut |progress| record.opened(verdict, progress)).await;
        let progress = exchange.progress;
        let hits = exchange.hits();
        let origin = exchange.into_origin();
        if hits > 0
            && let Some(injected) = injected
        {
            self.hit(&injected.rule, &mut record);
        }
        match ended {
            Ok(End::Upgraded) => {
                let Prepared { request, plan, injected, outgoing, .. } = prepared;
                match (agent.raw(), origin.raw()) {
                    (Some(mut agent), Some(mut origin)) => {
                        self.upgraded(agent.half(), &mut origin, ticker, request.head, &outgoing, &plan, injected, record, progress).await;
                    }
                    // The agent's stream was over before the answer could go out.
                    _ => record.done(verdict, "agent_closed", &progress),
                }
                Ok(Next::Close)
            }
            Ok(End::Answered { whole }) => {
                origin.give_back(&plan.slot, whole);
                let word = if plan.not_granted { "not_granted" } else { "ok" };
                record.done(verdict, word, &progress);
                Ok(agent.finish(whole).await)
            }
            Err(fail) => {
                // What a broken stream holds is let go before the agent is told.
                drop(origin);
                self.failed(agent, &prepared, record, fail, progress, taken).await
            }
        }
    }

    /// An exchange that did not end well. Where nothing of an answer has gone out, the agent gets one of ours, or the
    /// request goes again.
    async fn failed<A: AgentSide>(
        &self,
        agent: &mut A,
        prepared: &Prepared<'_>,
        record: Record,
        fail: Fail,
        progress: Progress,
        taken: &Taken,
    ) -> Result<Next, Again> {
        let Sending { head, last_try, .. } = prepared.request;
        let again = match &fail {
            Fail::NotProcessed(_) | Fail::Http1Required(_) => true,
            Fail::UpstreamClosed(_) => prepared.was_idle && head.method.is_idempotent(),
            _ => false,
        };
        if again && !last_try && taken.is_whole() {
            return Err(Again { record, http1: matches!(fail, Fail::Http1Required(_)) });
        }
        let (mut reset, mut reason) = (None, None);
        let error = match fail {
            Fail::Malformed if progress.status == 0 => ProxyError::new(Code::BadRequest, "the request's body is malformed"),
            Fail::Agent | Fail::Malformed => {
                record.done(prepared.verdict(), "agent_closed", &progress);
                agent.break_off(Some(h2::Reason::CANCEL)).await;
                return Ok(Next::Close);
            }
            Fail::UpstreamClosed(why) | Fail::NotProcessed(why) | Fail::Http1Required(why) => {
                ProxyError::new(Code::UpstreamClosed, "the host closed the connection without an answer").with_detail(why)
            }
            Fail::Upstream { why, reset: code } => {
                reset = code;
                ProxyError::new(Code::UpstreamProtocol, "the host's answer was cut short or breaks HTTP").with_detail(why)
            }
            Fail::Idle => ProxyError::new(Code::UpstreamTimeout, "nothing came from the host for too long"),
            Fail::Scrubbed(why) => {
                reason = Some(word(why));
                ProxyError::new(Code::UpstreamProtocol, "the host's answer could not be passed on safely").with_detail(why.to_string())
            }
        };
        let id = record.id();
        record.failed_by(&error, reason.unwrap_or(error.code.word()), &progress);
        if progress.status == 0 {
            // What may have gone out is an interim answer at most.
            return Ok(agent.answer(&error, id, &head.method, self.proxy.is_draining()).await);
        }
        agent.break_off(reset).await;
        Ok(Next::Close)
    }
}

/// Why the scrubber ended an answer, as records have it.
fn word(error: ScrubError) -> &'static str {
    match error {
        ScrubError::Hit => "scrubbed",
        ScrubError::Coding => "unknown_coding",
        ScrubError::Undecodable => "undecodable",
        ScrubError::Expansion => "expands_too_much",
    }
}

/// Whether a request is a call of gRPC, as its protocol has it.
fn is_grpc_call(head: &RequestHead) -> bool {
    let trailers = head.headers.get(TE).is_some_and(|te| te == "trailers");
    head.method == Method::POST && trailers && head.headers.get(CONTENT_TYPE).is_some_and(|kind| is_grpc(kind.as_bytes()))
}

impl Prepared<'_> {
    fn verdict(&self) -> Verdict {
        if self.injected.is_some() { Verdict::Injected } else { Verdict::Forwarded }
    }

    /// Fields of the agent's that are dropped from its trailers, too.
    fn drop_trailers(&self, trailers: &mut HeaderMap) {
        hop_by_hop::drop_placeholders(trailers);
        if let Some(injected) = &self.injected {
            hop_by_hop::drop_agent_auth(trailers, &injected.rule.auth_headers, injected.material.name());
            if injected.rule.has_rules() {
                hop_by_hop::drop_overrides(trailers);
            }
        }
    }
}
