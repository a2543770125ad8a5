//! A tunnel that is passed unread: dialled first, so that a failure is the CONNECT's own answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::authenticate::Proof;
use super::connection::Drain;
use super::error::{Code, ProxyError};
use super::gate::Refused;
use super::limits::{Counted, Place, TOO_MANY_TUNNELS};
use super::live::{Proxy, Settings, Transport};
use super::outcome::Progress;
use super::record::Record;
use super::splice::Socket;
use super::stream::ClientStream;
use super::ticker::Ticker;
use super::tunnel::{self, Sockets, TunnelEnd};
use super::wire::Half;
use crate::audit::Verdict;
use crate::host::Authority;
use crate::policy::still_tunnelled;

/// A tunnel that is let pass. It keeps what it needs of the state, not the state: it may stay for days.
pub(super) struct Blind {
    pub(super) proxy: Arc<Proxy>,
    pub(super) settings: Arc<Settings>,
    pub(super) transport: Arc<Transport>,
    pub(super) record: Record,
    pub(super) proof: Proof,
    pub(super) authority: Authority,
    /// A credential covers the host that this agent was not granted.
    pub(super) not_granted: bool,
}

/// The same with its connection to the host.
pub(super) struct Dialled {
    proxy: Arc<Proxy>,
    record: Record,
    proof: Proof,
    authority: Authority,
    not_granted: bool,
    idle: Duration,
    upstream: Half<TcpStream>,
    changes: watch::Receiver<u64>,
    _place: Place,
}

impl Blind {
    /// Connects to the host.
    pub(super) async fn dial(self) -> Result<Dialled, Refused> {
        let Self { proxy, settings, transport, mut record, proof, authority, not_granted } = self;
        let gauge = proxy.counts.agent(&proof.agent.name);
        let Some(place) = proxy.counts.take(Counted::Tunnel, Some(&gauge), &settings.ceilings) else {
            let error = ProxyError::new(Code::Overloaded, TOO_MANY_TUNNELS);
            return Err(Refused::new(record, error));
        };
        // Subscribed before the dial: a change meanwhile is not missed.
        let changes = proxy.changes();
        let dial = || transport.dialer.tcp(&authority, proof.agent.name.as_str());
        let mut dialled = dial().await;
        if transport.gave_way(dialled.as_ref().err()) {
            dialled = dial().await;
        }
        match dialled {
            Ok((upstream, peer)) => {
                record.upstream(peer, "");
                let upstream = Half::new(Box::new(upstream));
                Ok(Dialled { proxy, record, proof, authority, not_granted, idle: settings.idle, upstream, changes, _place: place })
            }
            Err(error) => {
                if let Some(address) = error.address {
                    record.upstream(address, "");
                }
                Err(Refused::new(record, error))
            }
        }
    }
}

impl Dialled {
    /// The client went away meanwhile.
    pub(super) fn abandoned(self) {
        self.record.done(Verdict::Tunnelled, TunnelEnd::Broken.word(), &Progress::default());
    }

    /// Passes everything both ways, for as long as the tunnel would be let pass again.
    pub(super) async fn copy(self, agent: &mut Half<ClientStream>, ticker: &mut Ticker, drain: &mut Drain) {
        let Self { proxy, record, proof, authority, not_granted, idle, mut upstream, changes, _place } = self;
        let mut progress = Progress { status: 200, ttfb: Some(record.started.elapsed()), ..Progress::default() };
        record.opened(Verdict::Tunnelled, &progress);
        let _open = proxy.metrics.tunnel_opened();
        let revoked = proof.revoked(&proxy, changes, || still_tunnelled(&proxy.live().snapshot, &proof.agent, &authority));
        let sockets: Sockets<ClientStream, TcpStream> = Some((ClientStream::socket, |tcp| Some(Socket::Tcp(tcp))));
        let end = tunnel::copy(agent, &mut upstream, sockets, idle, ticker, &mut progress, revoked, drain).await;
        if end == TunnelEnd::Broken {
            agent.io.fail();
        }
        let word = match end {
            _ if not_granted => "not_granted",
            TunnelEnd::Closed => "unmatched",
            _ => end.word(),
        };
        record.done(Verdict::Tunnelled, word, &progress);
    }
}
