//! What follows a 101: bytes of another protocol, passed raw.

use super::plan::Plan;
use super::{Carrier, Injected};
use crate::audit::Verdict;
use crate::message::h1::RequestHead;
use crate::policy::{Decision, Facts};
use crate::proxy::connection::drain;
use crate::proxy::outcome::Progress;
use crate::proxy::outgoing::{Outgoing, path_of, pick};
use crate::proxy::record::Record;
use crate::proxy::ticker::Ticker;
use crate::proxy::tunnel;
use crate::proxy::wire::{Half, Wire};

impl Carrier {
    /// What follows a 101 is copied raw, as long as the decision that opened it would still be the same.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, each with its own owner")]
    pub(super) async fn upgraded<A: Wire + ?Sized, B: Wire + ?Sized>(
        &self,
        agent: &mut Half<A>,
        upstream: &mut Half<B>,
        ticker: &mut Ticker,
        head: &RequestHead,
        outgoing: &Outgoing,
        plan: &Plan,
        injected: Option<Injected>,
        record: Record,
        mut progress: Progress,
    ) {
        let verdict = if injected.is_some() { Verdict::Injected } else { Verdict::Forwarded };
        let settings = &plan.settings;
        record.opened(verdict, &progress);
        let _open = self.proxy.metrics.tunnel_opened();
        let still = || self.still(head, &outgoing.target, injected.as_ref());
        let revoked = self.proof.revoked(&self.proxy, self.proxy.changes(), still);
        let end = tunnel::copy(agent, upstream, None, settings.idle, ticker, &mut progress, revoked, &mut drain(&self.proxy)).await;
        record.done(verdict, end.word(), &progress);
    }

    /// Whether a request would still be let pass, with the same credential or without one as before.
    fn still(&self, head: &RequestHead, target: &str, injected: Option<&Injected>) -> bool {
        let live = self.proxy.live();
        let own = &self.proof.agent;
        let Some(now) = live.snapshot.agent(own.name.as_str()).filter(|now| now.generation == own.generation) else { return false };
        match (live.snapshot.request(now, self.scheme, &self.authority), injected) {
            (Ok(Some(candidates)), Some(injected)) => {
                let facts = Facts { method: &head.method, path: path_of(target), pick: pick(&head.headers, &candidates) };
                // A new value lets it go on; one that cannot be had any more does not.
                matches!(candidates.decide(&facts), Decision::Inject(_, chosen) if chosen.rule.id == injected.rule.id)
                    && injected.can_be_had(&self.proxy)
            }
            (Ok(None), None) => self.without_credential(&live.snapshot).is_ok(),
            _ => false,
        }
    }
}
