//! An origin that speaks HTTP/1.1 and HTTP/2 by ALPN, demands a value in `Authorization`, and remembers what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::stage::{HOSTS, RealKey};
use crate::support::origin::AUTHORITY;

/// A request as it reached the origin.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The version it came by.
    pub version: Version,
    /// The method.
    pub method: Method,
    /// The target.
    pub uri: Uri,
    /// The fields.
    pub fields: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Asked {
    /// The values of a field.
    pub fn values(&self, name: &str) -> Vec<String> {
        self.fields.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect()
    }
}

type Handler = dyn Fn(&Asked) -> Response<Vec<u8>> + Send + Sync;

struct Shared {
    wanted: String,
    handler: Box<Handler>,
    asked: Mutex<Vec<Asked>>,
}

/// A running origin; it stops when the value is dropped.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

/// Both protocols.
pub const BOTH: &[&str] = &["h2", "http/1.1"];
/// HTTP/1.1 alone.
pub const H1: &[&str] = &["http/1.1"];

impl Origin {
    /// An origin which offers these protocols, answers 401 without the key, and else what the handler says.
    pub fn start(protocols: &[&str], key: &RealKey, handler: impl Fn(&Asked) -> Response<Vec<u8>> + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let tls = TlsAcceptor::from(AUTHORITY.server(&HOSTS, protocols).unwrap());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { wanted: key.shown(), handler: Box::new(handler), asked: Mutex::default() });
        let own = shared.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, tls.clone(), own.clone()));
            }
        });
        Self { address, shared, _runtime: runtime }
    }

    /// An origin that says `{"ok":true}` to everything that has the key.
    pub fn agreeable(protocols: &[&str], key: &RealKey) -> Self {
        Self::start(protocols, key, |_| Response::builder().header("content-type", "application/json").body(b"{\"ok\":true}".to_vec()).unwrap())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The last request so far.
    #[track_caller]
    pub fn last(&self) -> Asked {
        self.asked().pop().expect("a request reached the origin")
    }

    /// Fails unless something was asked and every request had the real key, and nothing else in `Authorization`.
    #[track_caller]
    pub fn expect_key_on_all(&self) {
        let asked = self.asked();
        assert!(!asked.is_empty(), "a request reached the origin");
        for one in asked {
            assert_eq!(one.values("authorization"), [self.shared.wanted.as_str()], "{one:?}");
        }
    }
}

/// One connection. A client that goes away is no concern of the origin's.
async fn serve(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = tls.accept(stream).await else { return };
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| answer(request, shared.clone()));
    let wire = TokioIo::new(stream);
    if h2 {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(wire, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(wire, service).await;
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let asked = Asked { version: parts.version, method: parts.method, uri: parts.uri, fields: parts.headers, body };
    shared.asked.lock().unwrap().push(asked.clone());
    if asked.values("authorization") != [shared.wanted.as_str()] {
        let refusal = Response::builder().status(401).header("www-authenticate", "Basic realm=\"origin\"");
        return Ok(refusal.body(Full::from("no key")).unwrap());
    }
    // Some handlers run programs.
    let answer = tokio::task::spawn_blocking(move || (shared.handler)(&asked)).await.unwrap();
    Ok(answer.map(|body| Full::from(Bytes::from(body))))
}
