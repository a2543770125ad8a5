//! The rules at the door: who is there, is there room, where may they go. They are the same whatever a client speaks to a
//! listener.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method, Uri};

use super::authenticate::{Proof, authenticate};
use super::blind::Blind;
use super::entry::Entry;
use super::error::{Code, ProxyError};
use super::forward::{Carrier, Form};
use super::limits::{Counted, Counts, Place};
use super::live::{Live, Proxy, Seen, Settings};
use super::outcome::Progress;
use super::record::Record;
use crate::audit::RequestId;
use crate::host::Authority;
use crate::message::h1::RequestHead;
use crate::policy::{Route, Scheme};

/// So many ways to origins are remembered of one connection.
const MOST_CARRIERS: usize = 64;

/// One client's connection to a listener, and who has proved to be on it.
pub(super) struct Gate {
    proxy: Arc<Proxy>,
    protocol: &'static str,
    entry: Arc<Entry>,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    /// Among each agent's own connections, for every agent that has proved to be on this one.
    places: Vec<Place>,
    /// The ways to origins that requests in absolute form took, the latest last.
    carriers: Vec<Arc<Carrier>>,
}

/// A refusal, which was recorded: what the client is told.
pub(super) struct Refused {
    pub(super) error: ProxyError,
    pub(super) id: RequestId,
}

impl Refused {
    pub(super) fn new(record: Record, error: impl Into<ProxyError>) -> Self {
        let (error, id) = (error.into(), record.id());
        record.failed(&error, &Progress::default());
        Self { error, id }
    }
}

/// What becomes of a CONNECT that is let pass.
pub(super) enum Way {
    /// A credential covers the host: nothing is dialled before a request needs it.
    Intercepted(Proof, Authority),
    /// None does: it is dialled first, and passed unread.
    Blind(Box<Blind>),
}

impl Gate {
    /// `protocol` is `HTTP/1.1` or `HTTP/2`, for the records.
    pub(super) fn new(proxy: Arc<Proxy>, protocol: &'static str, entry: Arc<Entry>) -> Self {
        Self { proxy, protocol, entry, inside: Mutex::default() }
    }

    /// Completes when the connection has to go, having proved nothing.
    pub(super) async fn has_to_go(&self) {
        self.entry.has_to_go().await;
    }

    pub(super) fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// How long the connection may be silent between requests: not for long before anybody has proved anything.
    pub(super) fn patience(&self, settings: &Settings) -> Duration {
        if self.inside().places.is_empty() { settings.request_head } else { settings.idle }
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses what names no host.
    pub(super) fn refuse(&self, method: &Method, error: ProxyError) -> Refused {
        let mut record = Record::new(&self.proxy, method, "", 0, "");
        record.protocol(self.protocol);
        Refused::new(record, error)
    }

    fn record(&self, method: &Method, authority: &Authority, path: &str) -> Record {
        let mut record = Record::to(&self.proxy, method, authority, path);
        record.protocol(self.protocol);
        record
    }

    /// Decides on a CONNECT, by the state of this moment: a token may have been replaced while the head was awaited.
    pub(super) fn connect(&self, target: &str, headers: &HeaderMap) -> Result<Way, Refused> {
        let live = self.proxy.live();
        let authority = match Authority::parse(target, None) {
            Ok(authority) => authority,
            Err(error) => {
                let mut record = Record::new(&self.proxy, &Method::CONNECT, target, 0, "");
                record.protocol(self.protocol);
                return Err(Refused::new(record, ProxyError::new(Code::BadRequest, format!("the CONNECT target is refused: {error}"))));
            }
        };
        let mut record = self.record(&Method::CONNECT, &authority, "");
        let proof = match self.admit(&live, headers, &mut record) {
            Ok(proof) => proof,
            Err(error) => return Err(Refused::new(record, error)),
        };
        match live.snapshot.route(&proof.agent, Scheme::Https, &authority) {
            Route::Denied(denial) => Err(Refused::new(record, denial)),
            Route::Matched(_) => Ok(Way::Intercepted(proof, authority)),
            Route::Unmatched { not_granted } => Ok(Way::Blind(Box::new(Blind {
                proxy: Arc::clone(&self.proxy),
                settings: Arc::clone(&live.settings),
                transport: Arc::clone(&live.transport),
                record,
                proof,
                authority,
                not_granted,
            }))),
        }
    }

    /// Decides who sends a request in absolute form, and gives what carries it.
    pub(super) fn request(&self, head: &RequestHead, uri: &Uri) -> Result<Arc<Carrier>, Refused> {
        let (scheme, authority) = match absolute(head, uri) {
            Ok(named) => named,
            Err(error) => {
                let mut record = Record::new(&self.proxy, &head.method, uri.host().unwrap_or_default(), 0, uri.path());
                record.protocol(self.protocol);
                return Err(Refused::new(record, error));
            }
        };
        let mut record = self.record(&head.method, &authority, uri.path());
        let proof = match self.admit(&self.proxy.live(), &head.headers, &mut record) {
            Ok(proof) => proof,
            Err(error) => return Err(Refused::new(record, error)),
        };
        // TRACE would have the origin send back what it got.
        if matches!(head.method, Method::TRACE | Method::CONNECT) {
            return Err(Refused::new(record, ProxyError::new(Code::MethodDenied, format!("{} is not passed on", head.method))));
        }
        Ok(self.carrier(proof, scheme, authority))
    }

    /// Who proves to be there, with one of that agent's own places.
    fn admit(&self, live: &Live, headers: &HeaderMap, record: &mut Record) -> Result<Proof, ProxyError> {
        let Some(proof) = authenticate(live, headers, &self.proxy) else {
            let message = "the proxy needs the agent's name and token: use the proxy URL that `keyhatch env` or `keyhatch run` gives";
            return Err(ProxyError::new(Code::ProxyAuthRequired, message));
        };
        record.agent(proof.agent.name.as_str());
        let gauge = self.proxy.counts.agent(&proof.agent.name);
        let mut inside = self.inside();
        if !inside.places.iter().any(|place| place.is_of(&gauge)) {
            let place = Counts::take_own(Counted::Connection, &gauge, &live.settings.ceilings);
            let message = "this agent has too many connections; close some and try again ([limits.per_agent] connections)";
            inside.places.push(place.ok_or_else(|| ProxyError::new(Code::Overloaded, message))?);
        }
        drop(inside);
        if !self.entry.proved(&gauge) {
            return Err(no_room());
        }
        (self.proxy.seen)(Seen::Agent(&proof.agent.name));
        Ok(proof)
    }

    /// The carrier that went the same way for the same proof, or a new one.
    fn carrier(&self, proof: Proof, scheme: Scheme, authority: Authority) -> Arc<Carrier> {
        let carriers = &mut self.inside().carriers;
        let carrier = match carriers.iter().position(|c| c.goes(&proof, scheme, &authority)) {
            Some(at) => carriers.remove(at),
            None => Arc::new(Carrier::new(&self.proxy, proof, scheme, Form::Absolute, authority)),
        };
        if carriers.len() == MOST_CARRIERS {
            carriers.remove(0);
        }
        carriers.push(Arc::clone(&carrier));
        carrier
    }
}

/// What is said where there are too many connections.
pub(super) fn no_room() -> ProxyError {
    ProxyError::new(Code::Overloaded, "the proxy has too many connections; try again soon")
}

/// Scheme and authority of an absolute URI; a `Host` field that names another one is refused (RFC 9112 3.2.2 would overrule
/// it, but a disagreement is how bypasses begin).
fn absolute(head: &RequestHead, uri: &Uri) -> Result<(Scheme, Authority), ProxyError> {
    let bad = |message: String| ProxyError::new(Code::BadRequest, message);
    let scheme = match uri.scheme_str() {
        Some("http" | "ws") => Scheme::Http,
        Some("https" | "wss") => Scheme::Https,
        _ => return Err(bad("in absolute form only http:// and https:// are taken".to_owned())),
    };
    let text = uri.authority().map_or("", http::uri::Authority::as_str);
    let authority = Authority::parse(text, Some(scheme.default_port())).map_err(|e| bad(format!("the request's host is refused: {e}")))?;
    let host = head.headers.get(http::header::HOST);
    if host.is_some_and(|host| !authority.is_named_by(host.as_bytes(), scheme.default_port())) {
        return Err(ProxyError::new(Code::Misdirected, "the Host field names another host than the request's URI"));
    }
    Ok((scheme, authority))
}
