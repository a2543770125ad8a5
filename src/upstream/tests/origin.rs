//! An origin that does as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::Response;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::HandshakeKind;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::super::resolve::Resolver;
use super::super::{Dialer, DialerSettings, Guard};
use crate::host::Authority;
use crate::tls::{OwnKeys, SystemStore, TrustFiles, UpstreamTrust};

/// SETTINGS without a value.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// GOAWAY, no stream was processed, NO_ERROR.
const GOAWAY_0: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What the origin speaks. Where it speaks HTTP/2 it also speaks HTTP/1.1, in silence.
#[derive(Debug, Clone, Copy)]
pub(super) enum Speaks {
    Http1,
    Http2 {
        streams: Option<u32>,
        connect: bool,
    },
    /// HTTP/2 that says its SETTINGS when told, and nothing else: no answer, no acknowledgement.
    Mute,
    /// HTTP/2 that answers the first request with a GOAWAY for stream 0.
    Going,
    /// Closes without a word.
    Nothing,
}

/// What a connection is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    /// GOAWAY, and serve what is open.
    Go,
    /// GOAWAY for what came so far, and close.
    Stop,
    /// Close without a word.
    Close,
    /// Answer what is held.
    Answer,
    /// Say the SETTINGS.
    Settings,
}

pub(super) struct Origin {
    address: SocketAddr,
    tls: Arc<UpstreamTrust>,
    gate: Arc<Semaphore>,
    seen: Arc<Mutex<Seen>>,
    tell: broadcast::Sender<Tell>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    accepted: usize,
    handshakes: Vec<(Option<HandshakeKind>, String)>,
    requests: usize,
    ended: usize,
}

impl Origin {
    pub(super) async fn start(speaks: Speaks, open: usize) -> Self {
        let (server, tls) = certificates(speaks);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let (gate, seen, tell) = (Arc::new(Semaphore::new(open)), Arc::<Mutex<Seen>>::default(), broadcast::Sender::new(8));
        let (door, log, orders) = (Arc::clone(&gate), Arc::clone(&seen), tell.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                log.lock().expect("whole").accepted += 1;
                let (server, door, log, orders) = (server.clone(), Arc::clone(&door), Arc::clone(&log), orders.subscribe());
                tokio::spawn(async move {
                    if !matches!(speaks, Speaks::Nothing) {
                        door.acquire().await.expect("open").forget();
                        serve(stream, &server, speaks, &log, orders).await;
                    }
                    log.lock().expect("whole").ended += 1;
                });
            }
        });
        Self { address, tls: Arc::new(tls), gate, seen, tell, accepting }
    }

    pub(super) fn authority(&self) -> Authority {
        Authority::parse(&self.address.to_string(), None).expect("an authority")
    }

    pub(super) fn dialer(&self, tls_timeout: Duration) -> Dialer {
        let settings = DialerSettings {
            overrides: Default::default(),
            guard: Guard { allow_private: true, ..Guard::default() },
            connect_timeout: Duration::from_secs(20),
            tls_timeout,
            is_spare: |_| false,
            tls: self.tls.client.clone(),
        };
        Dialer::new(settings, Arc::new(Resolver::system()))
    }

    /// Lets that many more handshakes through.
    pub(super) fn open(&self, more: usize) {
        self.gate.add_permits(more);
    }

    /// Tells every connection.
    pub(super) fn tell(&self, what: Tell) {
        self.tell.send(what).expect("a connection");
    }

    pub(super) fn accepted(&self) -> usize {
        self.seen.lock().expect("whole").accepted
    }

    /// The protocols of the connections, in order.
    pub(super) fn protocols(&self) -> Vec<String> {
        self.seen.lock().expect("whole").handshakes.iter().map(|(_, protocol)| protocol.clone()).collect()
    }

    pub(super) fn resumed(&self) -> usize {
        self.seen.lock().expect("whole").handshakes.iter().filter(|(kind, _)| *kind == Some(HandshakeKind::Resumed)).count()
    }

    pub(super) fn requests(&self) -> usize {
        self.seen.lock().expect("whole").requests
    }

    /// How many connections have ended.
    pub(super) fn ended(&self) -> usize {
        self.seen.lock().expect("whole").ended
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn certificates(speaks: Speaks) -> (TlsAcceptor, UpstreamTrust) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("made")).expect("made");
    let key = KeyPair::generate().expect("made");
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name").signed_by(&key, &ca).expect("made");
    let dir = tempfile::tempdir().expect("made");
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, ca.pem()).expect("written");
    let files = TrustFiles { extra_ca: &[file], crl: &[] };
    let trust = UpstreamTrust::load(&SystemStore::default(), files, &OwnKeys::default(), crate::clock::now()).expect("loads");
    let mut server = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(crate::tls::VERSIONS)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .expect("a pair");
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if matches!(speaks, Speaks::Http1) {
        server.alpn_protocols.remove(0);
    }
    (TlsAcceptor::from(Arc::new(server)), trust)
}

async fn serve(stream: TcpStream, server: &TlsAcceptor, speaks: Speaks, seen: &Mutex<Seen>, mut orders: broadcast::Receiver<Tell>) {
    let Ok(mut stream) = server.accept(stream).await else { return };
    let (_, tls) = stream.get_ref();
    let protocol = String::from_utf8_lossy(tls.alpn_protocol().unwrap_or_default()).into_owned();
    seen.lock().expect("whole").handshakes.push((tls.handshake_kind(), protocol.clone()));
    match speaks {
        Speaks::Http2 { streams, connect } if protocol == "h2" => serve_h2(stream, (streams, connect), seen, orders).await,
        Speaks::Going if protocol == "h2" => {
            stream.write_all(&SETTINGS).await.expect("written");
            read_until(&mut stream, 1).await;
            stream.write_all(&GOAWAY_0).await.expect("written");
            silent(stream, orders).await;
        }
        Speaks::Mute if protocol == "h2" => {
            if matches!(orders.recv().await, Ok(Tell::Settings)) {
                stream.write_all(&SETTINGS).await.expect("written");
            }
            silent(stream, orders).await;
        }
        _ => silent(stream, orders).await,
    }
}

/// Reads and says nothing.
async fn silent(mut stream: TlsStream<TcpStream>, mut orders: broadcast::Receiver<Tell>) {
    let mut bytes = [0; 4096];
    loop {
        tokio::select! {
            read = stream.read(&mut bytes) => if !matches!(read, Ok(1..)) { return },
            order = orders.recv() => if matches!(order, Ok(Tell::Close) | Err(_)) { return },
        }
    }
}

/// Reads frames up to one of that kind.
async fn read_until(stream: &mut TlsStream<TcpStream>, kind: u8) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.expect("the preface");
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("a frame");
        let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.expect("its payload");
        if head[3] == kind {
            return;
        }
    }
}

/// `/held` is answered when told, `/refused` is refused, all else is answered at once.
async fn serve_h2(stream: TlsStream<TcpStream>, (streams, connect): (Option<u32>, bool), seen: &Mutex<Seen>, mut orders: broadcast::Receiver<Tell>) {
    let mut builder = h2::server::Builder::new();
    if let Some(streams) = streams {
        builder.max_concurrent_streams(streams);
    }
    if connect {
        builder.enable_connect_protocol();
    }
    let mut held: Vec<SendResponse<Bytes>> = Vec::new();
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, mut respond))) = accepted else { return };
                seen.lock().expect("whole").requests += 1;
                match request.uri().path() {
                    "/held" => held.push(respond),
                    "/refused" => respond.send_reset(Reason::REFUSED_STREAM),
                    _ => drop(respond.send_response(Response::new(()), true)),
                }
            }
            order = orders.recv() => match order.unwrap_or(Tell::Close) {
                Tell::Go => connection.graceful_shutdown(),
                Tell::Stop => connection.abrupt_shutdown(Reason::NO_ERROR),
                Tell::Close => return,
                Tell::Answer => held.drain(..).for_each(|mut respond| drop(respond.send_response(Response::new(()), true))),
                Tell::Settings => {}
            },
        }
    }
}
