//! The admin listener: `/healthz`, `/readyz`, `/metrics`. It reads nothing and changes nothing.
//!
//! A page in the operator's browser can send requests to loopback, and by DNS rebinding read the answers; such a request carries the page's own
//! host name, so on loopback a foreign `Host` is refused. Off loopback there is a token.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::agent::TokenDigest;
use crate::host::{Authority, Host};
use crate::telemetry::metrics::{self, Metrics};

/// How many connections are served at once; others wait to be accepted.
const CONNECTIONS: usize = 64;
/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may take in all; each serves one request.
const WHOLE: Duration = Duration::from_secs(15);
/// The longest head, in bytes.
const HEAD_MAX: usize = 16 * 1024;
/// A token that is shorter could be guessed.
const TOKEN_MIN: usize = 16;

/// What stands in the way of serving.
pub trait Readiness: Send + Sync + 'static {
    /// What is wrong, each in a few words and without a secret; nothing where all is well.
    fn problems(&self) -> Vec<String>;
    /// What is to be known though it is ready: a Vault that cannot be asked, say.
    fn notes(&self) -> Vec<String>;
}

/// The token that `/metrics` asks for. Only its digest is kept.
pub struct AdminToken(TokenDigest);

/// Why a token file's content is no token. Says nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the admin token must be 16 or more visible ASCII characters on one line")]
pub struct AdminTokenError;

impl AdminToken {
    /// Takes a token file's content; white space at both ends is cut.
    ///
    /// # Errors
    /// [`AdminTokenError`] where it is too short, or no header field could carry it.
    pub fn parse(content: &Zeroizing<Vec<u8>>) -> Result<Self, AdminTokenError> {
        let token = content.trim_ascii();
        let good = token.len() >= TOKEN_MIN && token.iter().all(u8::is_ascii_graphic);
        if good { Ok(Self(TokenDigest::of(token))) } else { Err(AdminTokenError) }
    }

    /// Whether the request carries it: `Authorization: Bearer TOKEN`. Compared in constant time.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, token)) = value.as_bytes().split_at_checked(7) else { return false };
        scheme.eq_ignore_ascii_case(b"bearer ") && TokenDigest::of(token.trim_ascii()) == self.0
    }
}

/// What the listener shows.
pub struct AdminHttp {
    /// `/metrics`
    pub metrics: Arc<Metrics>,
    /// `/readyz`
    pub readiness: Arc<dyn Readiness>,
    /// Asked for on `/metrics`, and for the problems of `/readyz`, where there is one.
    pub token: Option<AdminToken>,
}

/// The listener's side of a request's answer.
struct Server {
    shown: AdminHttp,
    address: SocketAddr,
    head: Duration,
}

impl AdminHttp {
    /// Serves until `shutdown` is ready.
    ///
    /// # Errors
    /// Where the listener is off loopback and there is no token, or has no address.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        self.serve_within(listener, shutdown, HEAD, WHOLE).await
    }

    async fn serve_within(self, listener: TcpListener, shutdown: impl Future<Output = ()>, head: Duration, whole: Duration) -> io::Result<()> {
        let address = listener.local_addr()?;
        if !is_loopback(address.ip()) && self.token.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "[admin] listen is off loopback: set [admin] token_file, or listen on 127.0.0.1",
            ));
        }
        let server = Arc::new(Server { shown: self, address, head });
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accept = async {
                let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
                (listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                () = &mut shutdown => return Ok(()),
                accepted = accept => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    let server = Arc::clone(&server);
                    connections.spawn(async move {
                        // Neither a broken connection nor one that took too long is anybody's concern.
                        let _ = tokio::time::timeout(whole, server.connection(stream)).await;
                        drop(place);
                    });
                }
                Err(e) => {
                    tracing::warn!("the admin listener did not accept a connection: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Server {
    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let head = self.head;
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let response = self.respond(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(head).keep_alive(false).max_buf_size(HEAD_MAX);
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }

    fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        // RFC 9112 3.2: one Host, unless the client is of HTTP/1.0 (and then it is no browser).
        let hosts = request.headers().get_all(header::HOST).iter().count();
        if hosts > 1 || (hosts == 0 && request.version() >= http::Version::HTTP_11) {
            return text(StatusCode::BAD_REQUEST, "one Host is wanted\n");
        }
        if is_loopback(self.address.ip()) && !self.knows_host(request) {
            return text(StatusCode::MISDIRECTED_REQUEST, "this Host is not the admin listener's; ask for it by its address\n");
        }
        if *request.method() != Method::GET {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
            return response;
        }
        let path = request.uri().path();
        if path == "/healthz" {
            return text(StatusCode::OK, "ok\n");
        }
        let trusted = self.shown.token.as_ref().is_none_or(|t| t.is_in(request.headers()));
        if path == "/readyz" {
            return self.ready(trusted);
        }
        if !trusted {
            let mut response = text(StatusCode::UNAUTHORIZED, "the admin token is wanted: Authorization: Bearer ...\n");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"keyhatch\""));
            return response;
        }
        match path {
            "/metrics" => answer(StatusCode::OK, metrics::CONTENT_TYPE, self.shown.metrics.render()),
            _ => text(StatusCode::NOT_FOUND, "there is /healthz, /readyz and /metrics\n"),
        }
    }

    /// Whether it is ready is for everyone (a supervisor's probe has no token), why it is not for the operator.
    fn ready(&self, trusted: bool) -> Response<Full<Bytes>> {
        let problems = self.shown.readiness.problems();
        let ready = problems.is_empty();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut body = serde_json::json!({ "ready": ready });
        if trusted {
            body["problems"] = problems.into();
            let notes = self.shown.readiness.notes();
            if !notes.is_empty() {
                body["notes"] = notes.into();
            }
        }
        answer(status, "application/json", format!("{body}\n"))
    }

    /// Whether every host that the request names is this machine.
    fn knows_host<B>(&self, request: &Request<B>) -> bool {
        let field = request.headers().get(header::HOST).map(|f| f.to_str().unwrap_or_default());
        let target = request.uri().authority().map(http::uri::Authority::as_str);
        field.into_iter().chain(target).all(|text| Authority::parse(text, Some(80)).is_ok_and(|a| self.is_own(&a.host)))
    }

    fn is_own(&self, host: &Host) -> bool {
        match host {
            // RFC 6761 6.3: names under localhost are loopback too.
            Host::Dns(name) => &**name == "localhost" || name.ends_with(".localhost"),
            Host::Ip(ip) => is_loopback(*ip) || *ip == self.address.ip(),
        }
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", body)
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
