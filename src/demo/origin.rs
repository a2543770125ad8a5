//! An origin on this machine that speaks as `openrouter.ai` does, and remembers what it was sent.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// A request as it reached the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The method.
    pub method: String,
    /// The request target, as it stood on the wire.
    pub target: String,
    /// Every header field, in order per name; names in lower case, values with what is no UTF-8 replaced.
    pub fields: Vec<(String, String)>,
    /// The body's length in bytes.
    pub body_len: u64,
    /// The body's SHA-256, in hex.
    pub body_sha256: String,
}

impl Received {
    /// The values of a field, by its lower-case name.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// What the origin is to the clients.
#[derive(Clone)]
pub enum Role {
    /// OpenRouter: it demands this value in `Authorization`.
    OpenRouter {
        /// `Bearer` and the key.
        authorization: Arc<str>,
    },
    /// Some other site: it answers 200 to everything.
    Plain,
}

/// A running origin; it stops when the value is dropped.
pub struct Origin {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    acceptor: tokio::task::JoinHandle<()>,
}

impl Origin {
    /// Starts an origin on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start(tls: Arc<rustls::ServerConfig>, role: Role) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = received.clone();
        let acceptor = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, TlsAcceptor::from(tls.clone()), role.clone(), log.clone()));
            }
        });
        Ok(Self { address, received, acceptor })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests that have reached it so far, in the order of their ends.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// One connection. A client that goes away is no concern of the origin's.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor, role: Role, log: Arc<Mutex<Vec<Received>>>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(move |request| {
        let (role, log) = (role.clone(), log.clone());
        async move {
            let (parts, body) = request.into_parts();
            let (digest, body) = read(body).await?;
            let received = record(&parts, digest, body.len() as u64);
            log.lock().unwrap_or_else(PoisonError::into_inner).push(received);
            Ok::<_, hyper::Error>(answer(&role, Request::from_parts(parts, body)))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// The body's digest, and its first 64 KiB for [`answer`] to look at.
async fn read(mut body: Incoming) -> Result<(Sha256, Bytes), hyper::Error> {
    let (mut hash, mut start) = (Sha256::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            hash.update(&data);
            start.extend_from_slice(&data[..data.len().min((64 << 10) - start.len().min(64 << 10))]);
        }
    }
    Ok((hash, start.into()))
}

fn record(parts: &http::request::Parts, digest: Sha256, body_len: u64) -> Received {
    Received {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        fields: parts.headers.iter().map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect(),
        body_len,
        body_sha256: digest.finalize().iter().map(|b| format!("{b:02x}")).collect(),
    }
}

type Answer = Response<Either<Full<Bytes>, Events>>;

fn answer(role: &Role, request: Request<Bytes>) -> Answer {
    let Role::OpenRouter { authorization } = role else {
        return json(StatusCode::OK, &serde_json::json!({ "hello": "from another site" }));
    };
    let sent = request.headers().get_all(header::AUTHORIZATION).iter().map(http::HeaderValue::as_bytes).collect::<Vec<_>>();
    let public = request.uri().path() == "/api/v1/models";
    if !public && sent != [authorization.as_bytes()] {
        return error(StatusCode::UNAUTHORIZED, "No auth credentials found");
    }
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/api/v1/chat/completions") => completion(request.body()),
        (&Method::GET, "/api/v1/auth/key" | "/api/v1/key") => json(
            StatusCode::OK,
            &serde_json::json!({ "data": { "label": "sk-or-v1-demo", "limit": 10.0, "limit_remaining": 9.5, "usage": 0.5, "is_free_tier": false } }),
        ),
        (&Method::GET, "/api/v1/models") => json(StatusCode::OK, &serde_json::json!({ "data": [{ "id": "demo/hello", "name": "Demo: Hello" }] })),
        _ => error(StatusCode::NOT_FOUND, "Not Found"),
    }
}

/// A completion; the model's name chooses its fate.
fn completion(body: &[u8]) -> Answer {
    let Ok(asked) = serde_json::from_slice::<serde_json::Value>(body) else { return error(StatusCode::BAD_REQUEST, "Invalid JSON") };
    let model = asked.get("model").and_then(serde_json::Value::as_str).unwrap_or_default();
    match model {
        "demo/payment-required" => return error(StatusCode::PAYMENT_REQUIRED, "Insufficient credits"),
        "demo/rate-limited" => {
            let mut answer = error(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded");
            answer.headers_mut().insert(header::RETRY_AFTER, const { http::HeaderValue::from_static("7") });
            return answer;
        }
        _ => {}
    }
    let usage = serde_json::json!({ "prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "cost": 0.000_01 });
    if asked.get("stream").and_then(serde_json::Value::as_bool) == Some(true) {
        return stream(model, &usage);
    }
    let mut answer = json(
        StatusCode::OK,
        &serde_json::json!({
            "id": "gen-demo", "object": "chat.completion", "created": 1_700_000_000, "model": model, "provider": "Demo",
            "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": "Hello there." } }],
            "usage": usage,
        }),
    );
    answer.headers_mut().insert("x-generation-id", const { http::HeaderValue::from_static("gen-demo") });
    answer
}

/// Server-sent events as OpenRouter sends them: comments first, then the words, then the usage, then `[DONE]`.
fn stream(model: &str, usage: &serde_json::Value) -> Answer {
    let chunk = |choices: serde_json::Value, usage: Option<&serde_json::Value>| {
        let mut chunk =
            serde_json::json!({ "id": "gen-demo", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model, "choices": choices });
        if let Some(usage) = usage {
            chunk["usage"] = usage.clone();
        }
        format!("data: {chunk}\n\n")
    };
    let word =
        |text: &str| chunk(serde_json::json!([{ "index": 0, "delta": { "role": "assistant", "content": text }, "finish_reason": null }]), None);
    let events = vec![
        ": OPENROUTER PROCESSING\n\n".to_owned(),
        ": OPENROUTER PROCESSING\n\n".to_owned(),
        word("Hello"),
        word(" there."),
        chunk(serde_json::json!([{ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": "stop" }]), None),
        chunk(serde_json::json!([]), Some(usage)),
        "data: [DONE]\n\n".to_owned(),
    ];
    Response::builder()
        .header(header::CONTENT_TYPE, "text/event-stream")
        .header(header::CACHE_CONTROL, "no-cache")
        .header("x-generation-id", "gen-demo")
        .body(Either::Right(Events::start(events)))
        .expect("the parts are fixed and sound")
}

fn error(status: StatusCode, message: &str) -> Answer {
    json(status, &serde_json::json!({ "error": { "code": status.as_u16(), "message": message, "metadata": {} } }))
}

fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Either::Left(Full::new(value.to_string().into())))
        .expect("the parts are fixed and sound")
}

/// A body whose events come one by one, as from a model at work.
struct Events(mpsc::Receiver<String>);

impl Events {
    fn start(events: Vec<String>) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for event in events {
                // The pace of a quick model; nothing waits on it for its outcome.
                tokio::time::sleep(Duration::from_millis(30)).await;
                if sender.send(event).await.is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|event| event.map(|text| Ok(Frame::data(text.into()))))
    }
}
