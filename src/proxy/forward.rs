//! One request: decided on, given its credential, sent, answered, recorded.

use std::sync::Arc;

use http::HeaderMap;

use super::authenticate::Proof;
use super::connection::{Drain, refuse};
use super::error::{Code, ProxyError};
use super::exchange::{Asked, Exchange};
use super::filter::ResponseFilter;
use super::limits::{Counted, Gauge};
use super::live::{Proxy, Seen, Transport};
use super::outcome::{End, Fail, Progress};
use super::outgoing::{Outgoing, path_of, pick};
use super::record::Record;
use super::respond::write_error;
use super::ticker::Ticker;
use super::wire::{Half, Wire};
use crate::audit::Verdict;
use crate::credential::Material;
use crate::host::Authority;
use crate::message::h1::{Framing, RequestHead, Target, write_request};
use crate::message::hop_by_hop;
use crate::policy::{AgentView, Decision, Facts, Permit, Rule, Scheme, Snapshot};
use crate::upstream::{Connected, DialError, PoolKey, Protocols, Route, Slot, UpstreamStream, Want};
use crate::vault::{Fetched, Unavailable};

mod plan;
mod upgraded;

use plan::Plan;

/// What becomes of the agent's connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It takes another request.
    Again,
    /// It is over.
    Close,
}

/// Carries one agent's requests to one authority.
pub(super) struct Carrier {
    proxy: Arc<Proxy>,
    proof: Proof,
    gauge: Arc<Gauge>,
    scheme: Scheme,
    authority: Authority,
    plan: Plan,
    path: Option<(Arc<Transport>, Arc<Slot>)>,
}

/// A request that was decided on, and the connection that it goes out on.
struct Ready {
    injected: Option<Injected>,
    stream: UpstreamStream,
    /// The connection had been idle.
    reused: bool,
}

/// A credential on its way onto a request.
pub(super) struct Injected {
    pub(super) rule: Arc<Rule>,
    pub(super) material: Arc<Material>,
    /// The leave that the material was fetched with.
    permit: Permit,
}

impl Injected {
    /// Whether a request would get the same value now.
    fn is_current(&self, proxy: &Proxy) -> bool {
        matches!(proxy.source.fetch(&self.permit), Fetched::Now(Ok(now)) if Arc::ptr_eq(&now, &self.material))
    }

    /// Whether a request would get some value now.
    fn can_be_had(&self, proxy: &Proxy) -> bool {
        !matches!(proxy.source.fetch(&self.permit), Fetched::Now(Err(_)))
    }
}

impl Carrier {
    pub(super) fn new(proxy: &Arc<Proxy>, proof: Proof, scheme: Scheme, authority: Authority) -> Self {
        let plan = Plan::make(&proxy.live(), &proof.agent, scheme, &authority);
        let gauge = proxy.counts.agent(&proof.agent.name);
        Self { proxy: Arc::clone(proxy), proof, gauge, scheme, authority, plan, path: None }
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(super) fn agent(&self) -> &AgentView {
        &self.proof.agent
    }

    pub(super) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Goes on with another request's proof, where it is of the same agent and for the same authority.
    pub(super) fn goes_on(&mut self, proof: &Proof, authority: &Authority) -> bool {
        let (own, other) = (&self.proof.agent, &proof.agent);
        let same = own.name == other.name && own.generation == other.generation && self.authority == *authority;
        if same {
            self.proof = proof.clone();
        }
        same
    }

    /// Refuses a request that is not carried at all.
    pub(super) async fn refuse<A: Wire + ?Sized>(&self, half: &mut Half<A>, head: &RequestHead, error: ProxyError) {
        let asked = match &head.target {
            Target::Origin(uri) | Target::Absolute(uri) => Target::path_and_query(uri),
            Target::Authority(_) | Target::Asterisk => String::new(),
        };
        let record = self.record(head, &asked);
        let id = record.id();
        record.failed(&error, &Progress::default());
        refuse(half, &error, id, &head.method).await;
    }

    fn record(&self, head: &RequestHead, target: &str) -> Record {
        let mut record = Record::to(&self.proxy, &head.method, &self.authority, path_of(target));
        record.agent(self.proof.agent.name.as_str());
        record
    }

    /// Carries a request whose target and names were checked.
    pub(super) async fn carry<A: Wire + ?Sized>(
        &mut self,
        half: &mut Half<A>,
        ticker: &mut Ticker,
        drain: &mut Drain,
        head: RequestHead,
        target: &str,
    ) -> Next {
        let mut record = self.record(&head, target);
        let Some(_place) = self.proxy.counts.take(Counted::Request, Some(&self.gauge), &self.plan.settings.ceilings) else {
            let error = ProxyError::new(Code::Overloaded, "there are too many requests in flight; try again soon");
            return self.refused(half, &head, record, &error).await;
        };
        // Once nothing of the body has been taken, an idempotent request may go again over a fresh connection when
        // an idle one turns out to have been closed (RFC 9110 9.2.2).
        let mut reuse = true;
        loop {
            let ready = match self.ready(&head, target, reuse, &mut record).await {
                Ok(ready) => ready,
                Err(error) => return self.refused(half, &head, record, &error).await,
            };
            match self.exchange(half, ticker, drain, &head, target, ready, record).await {
                Ok(next) => return next,
                Err(again) => (record, reuse) = (again, false),
            }
        }
    }

    /// Decides on a request and connects to its origin. Dialling may take seconds: where the state changed meanwhile
    /// the decision is taken anew, so that no request is sent by a state that is gone.
    async fn ready(&mut self, head: &RequestHead, target: &str, reuse: bool, record: &mut Record) -> Result<Ready, ProxyError> {
        loop {
            let injected = self.decide(head, target, record).await?;
            let (stream, reused) = match self.connection(reuse).await {
                Ok(connected) => connected,
                Err(error) => {
                    if let Some(address) = error.address {
                        record.upstream(address, "");
                    }
                    return Err(error.into());
                }
            };
            // A value may have ended in Vault meanwhile, which changes no state.
            let current = reused || injected.as_ref().is_none_or(|i| i.is_current(&self.proxy));
            if current && self.proxy.serial() == self.plan.serial && self.proof.holds(&self.proxy) {
                return Ok(Ready { injected, stream, reused });
            }
            if let Some((_, slot)) = &self.path {
                slot.put(stream, None);
            }
        }
    }

    /// Answers a refusal. The connection goes on where nothing of the request is left on it.
    async fn refused<A: Wire + ?Sized>(&self, half: &mut Half<A>, head: &RequestHead, record: Record, error: &ProxyError) -> Next {
        let id = record.id();
        record.failed(error, &Progress::default());
        let over = error.code == Code::CredentialUnavailable || head.framing != Framing::None || !head.keep_alive || self.proxy.is_draining();
        if over {
            refuse(half, error, id, &head.method).await;
            return Next::Close;
        }
        write_error(&mut half.output.data, error, id, &head.method, false);
        if half.send().await.is_ok() { Next::Again } else { Next::Close }
    }

    /// Decides on a request by the state of this moment. `None` is a request that goes on without a credential.
    async fn decide(&mut self, head: &RequestHead, target: &str, record: &mut Record) -> Result<Option<Injected>, ProxyError> {
        // A state may be replaced between decision and fetch; then the decision is taken anew.
        for _ in 0..8 {
            if self.proxy.serial() != self.plan.serial {
                self.plan = Plan::make(&self.proxy.live(), &self.proof.agent, self.scheme, &self.authority);
            }
            if !self.plan.agent_alive || !self.proof.holds(&self.proxy) {
                let message = "this agent was removed, its token replaced, or its session is over; get a new environment";
                return Err(ProxyError::new(Code::CredentialUnavailable, message));
            }
            let candidates = match &self.plan.candidates {
                Ok(Some(candidates)) => candidates,
                Ok(None) => return self.without_credential(&self.proxy.live().snapshot).map(|()| None),
                Err(denial) => return Err(denial.clone().into()),
            };
            let facts = Facts { method: &head.method, path: path_of(target), pick: pick(&head.headers, candidates) };
            let (permit, chosen) = match candidates.decide(&facts) {
                Decision::Inject(permit, chosen) => (permit, chosen),
                Decision::Deny(denial) => {
                    if let Some(name) = &denial.credential {
                        record.credential(name);
                    }
                    if denial.code == crate::policy::DenialCode::Unavailable {
                        self.proxy.metrics.credential_failure("disabled_or_broken");
                    }
                    return Err(denial.into());
                }
            };
            record.credential(&chosen.rule.name);
            if self.plan.settings.deny_without_audit && !self.proxy.audit.healthy() {
                return Err(ProxyError::new(Code::CredentialUnavailable, "the audit log cannot be written, and [audit] on_failure is \"deny\""));
            }
            let fetched = match self.proxy.source.fetch(&permit) {
                Fetched::Now(result) => result,
                Fetched::Later(later) => later.await,
            };
            match fetched {
                Ok(material) => return Ok(Some(Injected { rule: chosen.rule, material, permit })),
                Err(_) if self.proxy.serial() != self.plan.serial => {}
                // The source is replaced a moment before the state is.
                Err(Unavailable { reason: "superseded", .. }) => self.proxy.leaves_behind(self.plan.serial).await,
                Err(unavailable) => {
                    self.proxy.metrics.credential_failure(unavailable.reason);
                    let message = format!("the credential `{}` cannot be had now; the request was not sent", chosen.rule.name);
                    let error = ProxyError::new(Code::CredentialUnavailable, message).with_detail(unavailable.to_string());
                    return Err(ProxyError { retry_after: unavailable.retry_after, ..error });
                }
            }
        }
        Err(ProxyError::new(Code::CredentialUnavailable, "the credential was being changed; try again"))
    }

    /// A request that no granted credential is for. Inside TLS that we ended it cannot go on: it came for a credential.
    fn without_credential(&self, snapshot: &Snapshot) -> Result<(), ProxyError> {
        if self.scheme == Scheme::Https {
            let message = "this host no longer matches a granted credential; open a new connection";
            return Err(ProxyError::new(Code::CredentialUnavailable, message));
        }
        match snapshot.agent(self.proof.agent.name.as_str()) {
            None => Err(ProxyError::new(Code::CredentialUnavailable, "this agent was removed")),
            // A host that a credential covers over TLS was let pass by that; any other by [egress].
            Some(now) if snapshot.candidates(now, Scheme::Https, &self.authority).is_some() => Ok(()),
            Some(_) => snapshot.egress().check(&self.authority).map_err(ProxyError::from),
        }
    }

    /// Sends a request and passes its answer on. Gives the record back where the connection turned out to be closed
    /// and the request may go again.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, each with its own owner")]
    async fn exchange<A: Wire + ?Sized>(
        &mut self,
        half: &mut Half<A>,
        ticker: &mut Ticker,
        drain: &mut Drain,
        head: &RequestHead,
        target: &str,
        ready: Ready,
        mut record: Record,
    ) -> Result<Next, Record> {
        let Ready { injected, stream, reused } = ready;
        let outgoing = Outgoing::prepare(head, target, self.scheme, &self.authority, injected.as_ref());
        let verdict = if injected.is_some() { Verdict::Injected } else { Verdict::Forwarded };
        let drop_trailers = |trailers: &mut HeaderMap| {
            hop_by_hop::drop_placeholders(trailers);
            if let Some(injected) = &injected {
                hop_by_hop::drop_agent_auth(trailers, &injected.rule.auth_headers, injected.material.name());
                if injected.rule.has_rules() {
                    hop_by_hop::drop_overrides(trailers);
                }
            }
        };
        let settings = Arc::clone(&self.plan.settings);
        let used = injected.as_ref().map(|i| i.rule.id);
        let answered = |status: u16| used.iter().for_each(|id| (self.proxy.seen)(Seen::Credential(*id, status)));
        let asked = Asked {
            method: &head.method,
            version: head.version,
            framing: head.framing,
            upgrade: outgoing.upgrade,
            close: !head.keep_alive || self.proxy.is_draining(),
            drop_trailers: &drop_trailers,
            answered: &answered,
            idle: settings.idle,
            ahead: settings.head_bytes,
        };
        record.upstream(stream.peer(), "HTTP/1.1");
        let mut upstream = Half::new(Box::new(stream));
        write_request(&mut upstream.output.data, &head.method, &outgoing.target, &outgoing.headers, head.framing);
        let filter = match &injected {
            Some(i) if i.rule.scrub => ResponseFilter::scrubbing(&i.material),
            _ => ResponseFilter::none(),
        };
        let mut exchange = Exchange::new(half, &mut upstream, &asked, filter, record.started);
        let ended = exchange.run(ticker, &mut |progress| record.opened(verdict, progress)).await;
        let progress = exchange.progress;
        let hits = exchange.hits();
        drop(exchange);
        if hits > 0 {
            self.proxy.metrics.scrubbed();
            tracing::warn!(id = %record.id(), host = %self.authority, "the answer carried the secret; it was masked or cut off");
        }
        match ended {
            Err(Fail::UpstreamClosed(_)) if reused && progress.bytes_up == 0 && head.framing == Framing::None && head.method.is_idempotent() => {
                Err(record)
            }
            Ok(End::Upgraded) => {
                self.upgraded(half, &mut upstream, ticker, drain, head, &outgoing, injected, record, progress).await;
                Ok(Next::Close)
            }
            Ok(End::Whole { upstream_again, agent_again }) => {
                if upstream_again && let Some((_, slot)) = &self.path {
                    slot.put(*upstream.io, None);
                }
                record.done(verdict, if hits > 0 { "scrubbed" } else { "ok" }, &progress);
                if agent_again {
                    return Ok(Next::Again);
                }
                half.linger().await;
                Ok(Next::Close)
            }
            Err(fail) => Ok(self.failed(half, head, verdict, record, fail, progress).await),
        }
    }

    /// An exchange that did not end well. Where nothing of an answer has gone out, the agent gets one of ours.
    async fn failed<A: Wire + ?Sized>(
        &self,
        half: &mut Half<A>,
        head: &RequestHead,
        verdict: Verdict,
        record: Record,
        fail: Fail,
        progress: Progress,
    ) -> Next {
        let error = match fail {
            Fail::Agent("the request's body is malformed") if progress.status == 0 => {
                ProxyError::new(Code::BadRequest, "the request's body is malformed")
            }
            Fail::Agent(_) => {
                record.done(verdict, "agent_closed", &progress);
                return Next::Close;
            }
            Fail::UpstreamClosed(why) => ProxyError::new(Code::UpstreamClosed, "the host closed the connection without an answer").with_detail(why),
            Fail::Upstream(why) => ProxyError::new(Code::UpstreamProtocol, "the host's answer was cut short or breaks HTTP").with_detail(why),
            Fail::Idle => ProxyError::new(Code::UpstreamTimeout, "nothing came from the host for too long"),
            Fail::Scrubbed(why) => ProxyError::new(Code::UpstreamProtocol, "the host's answer could not be passed on safely").with_detail(why),
        };
        let id = record.id();
        record.failed(&error, &progress);
        if progress.status == 0 {
            // What may stand in the buffer is an interim answer at most.
            refuse(half, &error, id, &head.method).await;
        } else {
            // What came of the answer is sent; its missing end says that it is not whole.
            let _ = tokio::time::timeout(self.plan.settings.idle, half.send()).await;
        }
        Next::Close
    }

    /// A connection to the origin: an idle one of this agent's, or a new one.
    async fn connection(&mut self, reuse: bool) -> Result<(UpstreamStream, bool), DialError> {
        let tls = self.scheme == Scheme::Https;
        let transport = &self.plan.transport;
        if self.path.as_ref().is_none_or(|(own, _)| !Arc::ptr_eq(own, transport)) {
            let key = PoolKey { agent: self.proof.agent.name.as_str().into(), authority: self.authority.clone(), tls };
            self.path = Some((Arc::clone(transport), transport.pool.slot(&key)));
        }
        let (_, slot) = self.path.as_ref().expect("it was set just now");
        let want = Want { fresh: !reuse, protocols: Protocols::Http1 };
        let Route { connected, reused, .. } = slot.connect(&transport.dialer, want).await?;
        let Connected::H1(stream) = connected else { unreachable!("only HTTP/1.1 was asked for") };
        self.proxy.metrics.upstream_connection(reused);
        Ok((stream, reused))
    }
}
