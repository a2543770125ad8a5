//! One request: decided on, given its credential, sent, answered, recorded.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderValue, Method, Version};

use super::authenticate::Proof;
use super::error::{Code, ProxyError};
use super::limits::{Counted, Gauge, Place, TOO_MANY_TUNNELS};
use super::live::Proxy;
use super::outcome::Progress;
use super::outgoing::{asks_upgrade, path_of, pick};
use super::record::Record;
use super::side::AgentSide;
use super::taken::Taken;
use super::ticker::Ticker;
use crate::credential::Material;
use crate::host::Authority;
use crate::message::h1::{RequestHead, Target};
use crate::policy::{AgentView, Decision, Facts, Permit, Rule, Scheme, Snapshot};
use crate::upstream::{Connected, Protocols, Route, Want};
use crate::vault::{Fetched, Unavailable};

mod plan;
mod send;
mod suspend;
mod upgraded;

use plan::Plan;
use send::{Again, Sending};

/// So often a request goes again that no origin has looked at.
const MOST_TRIES: usize = 3;
/// So often a decision is taken anew that another state overtook.
const MOST_SUPERSEDED: usize = 8;
/// From the second time on it waits for so long: the origin is likely full.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What becomes of the agent's connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It takes another request.
    Again,
    /// It is over.
    Close,
}

/// How requests come to name their host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A CONNECT did, and a credential covered it: its TLS ends here.
    Tunnel,
    /// Each in its own target (RFC 9112 3.2.2).
    Absolute,
}

/// Carries one agent's requests to one authority, many at once where the agent's connection has streams.
pub(super) struct Carrier {
    proxy: Arc<Proxy>,
    proof: Proof,
    gauge: Arc<Gauge>,
    scheme: Scheme,
    form: Form,
    authority: Authority,
    /// The authority as a `Host` field has it.
    host: HeaderValue,
    plan: ArcSwap<Plan>,
}

/// A request that was decided on, and the connection that it goes out on.
struct Ready {
    plan: Arc<Plan>,
    injected: Option<Injected>,
    route: Route,
}

/// A credential on its way onto a request.
pub(super) struct Injected {
    pub(super) rule: Arc<Rule>,
    pub(super) material: Arc<Material>,
    /// The leave that the material was fetched with.
    permit: Permit,
}

/// The leave for a request to carry a credential.
struct Leave {
    permit: Permit,
    rule: Arc<Rule>,
}

/// Why a credential that a request has leave for does not go onto it.
enum Closed {
    /// The decision is to be taken anew.
    Superseded,
    Refused(ProxyError),
}

impl Injected {
    /// Whether a request would get some value now.
    fn can_be_had(&self, proxy: &Proxy) -> bool {
        !matches!(proxy.source.fetch(&self.permit), Fetched::Now(Err(_)))
    }
}

impl Carrier {
    pub(super) fn new(proxy: &Arc<Proxy>, proof: Proof, scheme: Scheme, form: Form, authority: Authority) -> Self {
        let plan = ArcSwap::from_pointee(Plan::make(&proxy.live(), &proof.agent, scheme, &authority));
        let gauge = proxy.counts.agent(&proof.agent.name);
        let host = HeaderValue::try_from(authority.host_field(scheme.default_port())).expect("a host is plain ASCII");
        Self { proxy: Arc::clone(proxy), proof, gauge, scheme, form, authority, host, plan }
    }

    /// Whether a `Host` field or an `:authority` names the authority that requests go to.
    pub(super) fn is_named_by(&self, text: &[u8]) -> bool {
        // Nearly always it is spelled as we do; else it is compared as what it means.
        text.eq_ignore_ascii_case(self.host.as_bytes()) || self.authority.is_named_by(text, self.scheme.default_port())
    }

    /// What can carry a request.
    fn protocols_for(&self, head: &RequestHead) -> Protocols {
        match head.version {
            _ if asks_upgrade(head) => Protocols::WebSocket,
            // Whoever speaks HTTP/2 without TLS inside a tunnel knows that the origin does; to a listener it says nothing of that.
            Version::HTTP_2 if self.scheme == Scheme::Http && self.form == Form::Tunnel => Protocols::PriorKnowledge,
            _ => Protocols::Any,
        }
    }

    /// The plan of this moment.
    fn plan(&self) -> Arc<Plan> {
        let plan = self.plan.load_full();
        if plan.serial == self.proxy.serial() {
            return plan;
        }
        let plan = Arc::new(Plan::make(&self.proxy.live(), &self.proof.agent, self.scheme, &self.authority));
        self.plan.store(Arc::clone(&plan));
        plan
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

    /// Whether this is the way of a request with that proof to that authority.
    pub(super) fn goes(&self, proof: &Proof, scheme: Scheme, authority: &Authority) -> bool {
        self.scheme == scheme && self.authority == *authority && self.proof.is_same(proof)
    }

    /// Refuses a request that is not carried at all.
    pub(super) async fn refuse<A: AgentSide>(&self, agent: &mut A, head: &RequestHead, error: ProxyError) -> Next {
        let asked = match &head.target {
            Target::Origin(uri) | Target::Absolute(uri) => Target::path_and_query(uri),
            Target::Authority(_) | Target::Asterisk => String::new(),
        };
        self.refused(agent, &head.method, self.record(agent, head, &asked), &error, true).await
    }

    fn record<A: AgentSide>(&self, agent: &A, head: &RequestHead, target: &str) -> Record {
        let mut record = Record::to(&self.proxy, &head.method, &self.authority, path_of(target));
        record.agent(self.proof.agent.name.as_str()).protocol(agent.protocol());
        record
    }

    /// Carries a request whose target and names were checked.
    pub(super) async fn carry<A: AgentSide>(&self, agent: &mut A, ticker: &mut Ticker, head: &RequestHead, target: &str) -> Next {
        let mut record = self.record(agent, head, target);
        let _places = match self.places(head) {
            Ok(places) => places,
            Err(error) => return self.refused(agent, &head.method, record, &error, false).await,
        };
        let mut taken = Taken::default();
        let mut protocols = self.protocols_for(head);
        // A connection that failed is not taken again, nor is a request sent for ever.
        let mut tries = 0;
        loop {
            if tries > 1 {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            let ready = match self.ready(head, target, Want { fresh: tries > 0, protocols }, &mut record).await {
                Ok(ready) => ready,
                Err(error) => return self.refused(agent, &head.method, record, &error, false).await,
            };
            let request = Sending { head, target, last_try: tries == MOST_TRIES };
            match self.send(agent, ticker, &request, ready, &mut taken, record).await {
                Ok(next) => return next,
                Err(Again { record: same, http1 }) => {
                    record = same;
                    if http1 {
                        protocols = Protocols::Http1;
                    }
                    tries += 1;
                }
            }
        }
    }

    /// A request's place among those in flight; one that asks to become a tunnel takes its place there, too, since it cannot be
    /// refused any more once it is accepted.
    fn places(&self, head: &RequestHead) -> Result<(Place, Option<Place>), ProxyError> {
        let plan = self.plan();
        let take = |what, full| {
            let place = self.proxy.counts.take(what, Some(&self.gauge), &plan.settings.ceilings);
            place.ok_or_else(|| ProxyError::new(Code::Overloaded, full))
        };
        let request = take(Counted::Request, "there are too many requests in flight; try again soon")?;
        let tunnel = asks_upgrade(head).then(|| take(Counted::Tunnel, TOO_MANY_TUNNELS)).transpose()?;
        Ok((request, tunnel))
    }

    /// Decides on a request, connects to its origin, and only then has the secret opened: none is for an origin that cannot be
    /// verified. Either may take seconds: where the state changed meanwhile the decision is taken anew, so that no request is sent by
    /// a state that is gone.
    async fn ready(&self, head: &RequestHead, target: &str, want: Want, record: &mut Record) -> Result<Ready, ProxyError> {
        let mut superseded = 0;
        loop {
            let (plan, leave) = self.decide(head, target, record)?;
            let mut connected = plan.slot.connect(&plan.transport.dialer, want).await;
            if plan.transport.gave_way(connected.as_ref().err()) {
                connected = plan.slot.connect(&plan.transport.dialer, want).await;
            }
            let route = match connected {
                Ok(route) => route,
                Err(error) => {
                    if let Some(address) = error.address {
                        record.upstream(address, "");
                    }
                    return Err(error.into());
                }
            };
            self.proxy.metrics.upstream_connection(route.reused);
            let opened = match leave {
                None => Ok(None),
                Some(leave) => self.open(&plan, leave).await.map(Some),
            };
            let closed = match opened {
                Ok(injected) if self.proxy.serial() == plan.serial && self.proof.holds(&self.proxy) => return Ok(Ready { plan, injected, route }),
                Ok(_) => None,
                Err(closed) => Some(closed),
            };
            if let Connected::H1(stream) = route.connected {
                plan.slot.put(stream, None);
            }
            match closed {
                Some(Closed::Refused(error)) => return Err(error),
                Some(Closed::Superseded) => superseded += 1,
                None => {}
            }
            if superseded == MOST_SUPERSEDED {
                return Err(ProxyError::new(Code::CredentialUnavailable, "the credential was being changed; try again"));
            }
        }
    }

    /// Answers a refusal. `close` asks for the end of the connection.
    async fn refused<A: AgentSide>(&self, agent: &mut A, method: &Method, record: Record, error: &ProxyError, close: bool) -> Next {
        let id = record.id();
        record.failed(error, &Progress::default());
        let close = close || error.code == Code::CredentialUnavailable || self.proxy.is_draining();
        agent.answer(error, id, method, close).await
    }

    /// Decides on a request by the state of this moment. Without a leave it goes on without a credential.
    fn decide(&self, head: &RequestHead, target: &str, record: &mut Record) -> Result<(Arc<Plan>, Option<Leave>), ProxyError> {
        let plan = self.plan();
        if !plan.agent_alive || !self.proof.holds(&self.proxy) {
            let message = "this agent was removed, its token replaced, or its session is over; get a new environment";
            return Err(ProxyError::new(Code::CredentialUnavailable, message));
        }
        let candidates = match &plan.candidates {
            Ok(Some(candidates)) => candidates,
            Ok(None) => return self.without_credential(&self.proxy.live().snapshot).map(|()| (plan, None)),
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
        self.refuse_suspended(&chosen.rule)?;
        if plan.settings.deny_without_audit && !self.proxy.audit.healthy() {
            return Err(ProxyError::new(Code::CredentialUnavailable, "the audit log cannot be written, and [audit] on_failure is \"deny\""));
        }
        Ok((plan, Some(Leave { permit, rule: chosen.rule })))
    }

    /// Fetches what a request may carry.
    async fn open(&self, plan: &Plan, leave: Leave) -> Result<Injected, Closed> {
        let Leave { permit, rule } = leave;
        let fetched = match self.proxy.source.fetch(&permit) {
            Fetched::Now(result) => result,
            Fetched::Later(later) => later.await,
        };
        match fetched {
            Ok(material) => Ok(Injected { rule, material, permit }),
            Err(_) if self.proxy.serial() != plan.serial => Err(Closed::Superseded),
            // The source is replaced a moment before the state is.
            Err(Unavailable { reason: "superseded", .. }) => {
                self.proxy.leaves_behind(plan.serial).await;
                Err(Closed::Superseded)
            }
            Err(unavailable) => {
                self.proxy.metrics.credential_failure(unavailable.reason);
                let message = format!("the credential `{}` cannot be had now; the request was not sent", rule.name);
                let error = ProxyError::new(Code::CredentialUnavailable, message).with_detail(unavailable.to_string());
                Err(Closed::Refused(ProxyError { retry_after: unavailable.retry_after, ..error }))
            }
        }
    }

    /// A request that no granted credential is for. Inside TLS that we ended it cannot go on: it came for a credential. One in
    /// absolute form goes as its scheme says: over verified TLS, or in plaintext.
    fn without_credential(&self, snapshot: &Snapshot) -> Result<(), ProxyError> {
        if self.scheme == Scheme::Https && self.form == Form::Tunnel {
            let message = "this host no longer matches a granted credential; open a new connection";
            return Err(ProxyError::new(Code::CredentialUnavailable, message));
        }
        match snapshot.agent(self.proof.agent.name.as_str()) {
            None => Err(ProxyError::new(Code::CredentialUnavailable, "this agent was removed")),
            // A host that a credential covers over TLS was let pass by that; any other by [egress].
            Some(now) if self.scheme == Scheme::Http && snapshot.candidates(now, Scheme::Https, &self.authority).is_some() => Ok(()),
            Some(_) => snapshot.egress().check(&self.authority).map_err(ProxyError::from),
        }
    }
}
