//! The decisions: where a connection goes, and whether a request carries a credential.

use std::sync::Arc;

use http::Method;

use super::egress::{Egress, EgressRefusal};
use super::rule::RuleRefusal;
use super::snapshot::{AgentView, Candidate, Snapshot};
use crate::credential::{CredentialId, CredentialName};
use crate::host::{Authority, PatternPort};

/// The leave to fetch one credential for one request. Only [`Candidates::decide`] makes one.
pub struct Permit {
    credential: CredentialId,
    version: u64,
}

impl Permit {
    /// The credential that may be fetched.
    #[must_use]
    pub fn credential(&self) -> CredentialId {
        self.credential
    }

    /// Its version when the decision was taken.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// One without a decision, for the tests of those who take permits.
    #[cfg(test)]
    pub(crate) fn undecided(credential: CredentialId, version: u64) -> Self {
        Self { credential, version }
    }
}

/// The scheme by which an origin is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// TLS.
    Https,
    /// Plaintext.
    Http,
}

impl Scheme {
    /// The port that is meant where none is named (RFC 9110 4.2).
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// What becomes of a connection to a host, before any request is known.
pub enum Route {
    /// A granted credential covers it: requests are read, and decided on one by one.
    Matched(Candidates),
    /// No granted credential covers it, and egress lets it pass.
    Unmatched {
        /// Whether a credential covers the host that this agent was not granted.
        not_granted: bool,
    },
    /// Refused.
    Denied(Denial),
}

/// The granted credentials that cover a host, the narrowest first; never empty.
pub struct Candidates(Vec<Candidate>);

/// A refusal by policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Which code of the contract.
    pub code: DenialCode,
    /// Why, for a person.
    pub reason: String,
    /// The credential concerned.
    pub credential: Option<CredentialName>,
}

/// The codes of policy refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialCode {
    /// 403 `egress_denied`.
    Egress,
    /// 403 `port_denied`.
    Port,
    /// 403 `path_denied`.
    Path,
    /// 405 `method_denied`.
    Method,
    /// 403 `ambiguous_credential`.
    Ambiguous,
    /// 503 `credential_unavailable`.
    Unavailable,
}

impl DenialCode {
    /// The code's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "egress_denied",
            Self::Port => "port_denied",
            Self::Path => "path_denied",
            Self::Method => "method_denied",
            Self::Ambiguous => "ambiguous_credential",
            Self::Unavailable => "credential_unavailable",
        }
    }
}

/// A credential that the agent names in its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick<'a> {
    /// `keyhatch:NAME`: that one or none.
    Explicit(&'a str),
    /// A placeholder that carries a name: settles a tie, nothing else.
    Placeholder(&'a str),
}

/// The facts of a request that a decision looks at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it is sent, without the query.
    pub path: &'a str,
    /// The credential that the agent names, if any.
    pub pick: Option<Pick<'a>>,
}

/// A request's decision.
pub enum Decision {
    /// It carries this credential.
    Inject(Permit, Candidate),
    /// It is refused.
    Deny(Denial),
}

impl Snapshot {
    /// Decides on a connection, by names alone.
    #[must_use]
    pub fn route(&self, agent: &AgentView, scheme: Scheme, authority: &Authority) -> Route {
        if self.egress.denies(authority) {
            return Route::Denied(egress_denial(EgressRefusal::DeniedHost, authority));
        }
        if let Some(candidates) = self.candidates(agent, scheme, authority) {
            return Route::Matched(candidates);
        }
        match self.egress.judge(authority) {
            Ok(()) => Route::Unmatched { not_granted: scheme == Scheme::Https && self.covers(authority) },
            Err(refusal) => Route::Denied(egress_denial(refusal, authority)),
        }
    }

    /// Whether any credential covers the host over TLS, granted or not.
    #[must_use]
    pub fn covers(&self, authority: &Authority) -> bool {
        self.all.lookup(authority, &[443]).next().is_some()
    }

    /// What a request to a host may carry, on whatever connection it came: `deny_hosts` comes before credentials.
    ///
    /// # Errors
    /// The [`Denial`] where `deny_hosts` names the host.
    pub fn request(&self, agent: &AgentView, scheme: Scheme, authority: &Authority) -> Result<Option<Candidates>, Denial> {
        if self.egress.denies(authority) {
            return Err(egress_denial(EgressRefusal::DeniedHost, authority));
        }
        Ok(self.candidates(agent, scheme, authority))
    }

    /// The granted credentials that cover a host, the narrowest first. Over plaintext only one that says
    /// `--allow-plaintext` counts, and only by a pattern that names the port.
    #[must_use]
    pub fn candidates(&self, agent: &AgentView, scheme: Scheme, authority: &Authority) -> Option<Candidates> {
        let plain = |c: &Candidate| c.rule.allow_plaintext && matches!(c.pattern.port(), PatternPort::Exact(_));
        let mut found: Vec<Candidate> = agent.granted.lookup(authority, &[443]).filter(|c| scheme == Scheme::Https || plain(c)).cloned().collect();
        found.sort_by_key(|c| std::cmp::Reverse(c.specificity()));
        // One credential may cover a host by several patterns: its narrowest one counts.
        let mut seen: Vec<CredentialId> = Vec::with_capacity(found.len());
        found.retain(|c| {
            !seen.contains(&c.rule.id) && {
                seen.push(c.rule.id);
                true
            }
        });
        (!found.is_empty()).then_some(Candidates(found))
    }
}

impl Candidates {
    /// Decides on one request to the host that these cover.
    #[must_use]
    pub fn decide(&self, facts: &Facts<'_>) -> Decision {
        let candidate = match self.choose(facts.pick) {
            Ok(candidate) => candidate,
            Err(denial) => return Decision::Deny(denial),
        };
        let rule = &candidate.rule;
        let deny = |code, reason: &str| Decision::Deny(Denial { code, reason: reason.to_owned(), credential: Some(rule.name.clone()) });
        match rule.judge(facts.method, facts.path) {
            Err(RuleRefusal::Path(why)) => return deny(DenialCode::Path, why),
            Err(RuleRefusal::Method) => return deny(DenialCode::Method, "the method is not among the credential's --method rules"),
            Ok(()) => {}
        }
        if let Some(why) = rule.unavailable {
            return deny(DenialCode::Unavailable, why);
        }
        Decision::Inject(Permit { credential: rule.id, version: rule.version }, candidate.clone())
    }

    /// The candidates, the narrowest first.
    #[must_use]
    pub fn as_slice(&self) -> &[Candidate] {
        &self.0
    }

    /// Whether any of them is enabled and opens: if not, a connection has nothing left to wait for.
    #[must_use]
    pub fn any_available(&self) -> bool {
        self.0.iter().any(|c| c.rule.unavailable.is_none())
    }

    fn choose(&self, pick: Option<Pick<'_>>) -> Result<&Candidate, Denial> {
        let named = |name: &str, among: &'_ [Candidate]| among.iter().position(|c| c.rule.name.as_str() == name);
        let refuse = |reason: String| Denial { code: DenialCode::Ambiguous, reason, credential: None };
        if let Some(Pick::Explicit(name)) = pick {
            return match named(name, &self.0) {
                Some(i) => Ok(&self.0[i]),
                None => Err(refuse("the request names a credential that was not granted or does not cover this host".to_owned())),
            };
        }
        let best = self.0[0].specificity();
        let tie = self.0.iter().take_while(|c| c.specificity() == best).count();
        if tie == 1 {
            return Ok(&self.0[0]);
        }
        if let Some(Pick::Placeholder(name)) = pick
            && let Some(i) = named(name, &self.0[..tie])
        {
            return Ok(&self.0[i]);
        }
        let names: Vec<&str> = self.0[..tie].iter().map(|c| c.rule.name.as_str()).collect();
        Err(refuse(format!("several credentials cover this host equally: {}; pick one with `Authorization: Bearer keyhatch:NAME`", names.join(", "))))
    }
}

impl Egress {
    /// [`Egress::judge`], with the refusal as a person reads it.
    ///
    /// # Errors
    /// The [`Denial`] with its reason.
    pub fn check(&self, authority: &Authority) -> Result<(), Denial> {
        self.judge(authority).map_err(|refusal| egress_denial(refusal, authority))
    }
}

fn egress_denial(refusal: EgressRefusal, authority: &Authority) -> Denial {
    let (code, reason) = match refusal {
        EgressRefusal::DeniedHost => (DenialCode::Egress, format!("{} is named in [egress] deny_hosts", authority.host)),
        EgressRefusal::NotAllowed => {
            (DenialCode::Egress, format!("{} matches no credential of this agent and is not in [egress] allow_hosts", authority.host))
        }
        EgressRefusal::Port => (DenialCode::Port, format!("port {} is not in [egress] ports", authority.port)),
    };
    Denial { code, reason, credential: None }
}

/// What `policy explain` says of a request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Explanation {
    /// `injected`, `tunnelled`, `forwarded` or `denied`.
    pub decision: &'static str,
    /// The credential that is put on, or that refuses.
    pub credential: Option<String>,
    /// The pattern by which it covers the host.
    pub pattern: Option<String>,
    /// `ok`, `unmatched`, `not_granted`, or a code of the contract.
    pub reason: String,
    /// Why, in a sentence.
    pub detail: String,
}

impl Snapshot {
    /// Says what would become of a request, and why; the same code decides as on the data path.
    #[must_use]
    pub fn explain(&self, agent: &AgentView, scheme: Scheme, authority: &Authority, facts: &Facts<'_>) -> Explanation {
        let plain = |decision, reason: &str, detail: &str| Explanation {
            decision,
            credential: None,
            pattern: None,
            reason: reason.to_owned(),
            detail: detail.to_owned(),
        };
        let passes = if scheme == Scheme::Https { "tunnelled" } else { "forwarded" };
        match self.route(agent, scheme, authority) {
            Route::Denied(denial) => plain("denied", denial.code.as_str(), &denial.reason),
            Route::Unmatched { not_granted: true } => {
                plain(passes, "not_granted", "a credential covers this host, but this agent was not granted it")
            }
            Route::Unmatched { not_granted: false } => plain(passes, "unmatched", "no credential covers this host; [egress] lets it pass"),
            Route::Matched(candidates) => match candidates.decide(facts) {
                Decision::Inject(_, chosen) => Explanation {
                    decision: "injected",
                    credential: Some(chosen.rule.name.to_string()),
                    pattern: Some(chosen.pattern.to_string()),
                    reason: "ok".to_owned(),
                    detail: format!("pattern {} covers {authority}", chosen.pattern),
                },
                Decision::Deny(denial) => Explanation {
                    decision: "denied",
                    pattern: pattern_of(&candidates, denial.credential.as_ref()),
                    credential: denial.credential.map(|n| n.to_string()),
                    reason: denial.code.as_str().to_owned(),
                    detail: denial.reason,
                },
            },
        }
    }
}

fn pattern_of(candidates: &Candidates, name: Option<&CredentialName>) -> Option<String> {
    let chosen: &Candidate = candidates.as_slice().iter().find(|c| Some(&c.rule.name) == name)?;
    Some(chosen.pattern.to_string())
}

/// Whether two pictures decide alike on an open tunnel: both must still pass it unread.
#[must_use]
pub fn still_tunnelled(snapshot: &Snapshot, agent: &Arc<AgentView>, authority: &Authority) -> bool {
    let current = snapshot.agent(agent.name.as_str()).filter(|now| now.generation == agent.generation);
    current.is_some_and(|now| matches!(snapshot.route(now, Scheme::Https, authority), Route::Unmatched { .. }))
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
