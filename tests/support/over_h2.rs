//! A client that speaks HTTP/2 to the proxy itself.

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response, Version};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio_rustls::TlsConnector;

use super::World;
use super::raw::{PATIENCE, trusting};

/// Runs a test on a runtime of its own.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(3 * PATIENCE, test).await.expect("in time") })
}

/// One HTTP/2 connection to the proxy.
#[derive(Clone)]
pub struct Proxy {
    /// Where requests go.
    pub send: SendRequest<Bytes>,
    /// What `Proxy-Authorization` says.
    pub proof: String,
}

/// HTTP/2 on a connection.
pub async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, proof: String) -> Proxy {
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(64 << 10)
        .initial_connection_window_size(16 << 20)
        .enable_push(false)
        .handshake(io)
        .await
        .unwrap();
    // Its end is what some tests are about; they see it on their streams.
    tokio::spawn(async move { drop(connection.await) });
    Proxy { send, proof }
}

impl Proxy {
    /// A request, and where its content goes.
    pub async fn request(&self, request: Request<()>, end: bool) -> (Result<Response<RecvStream>, h2::Error>, SendStream<Bytes>) {
        let (answer, send) = self.send.clone().ready().await.unwrap().send_request(request, end).unwrap();
        (answer.await, send)
    }

    /// CONNECT with some proof, or none.
    pub async fn connect_as(&self, target: &str, proof: Option<&str>) -> (Response<RecvStream>, SendStream<Bytes>) {
        let mut request = Request::builder().method(Method::CONNECT).uri(target).version(Version::HTTP_2);
        if let Some(proof) = proof {
            request = request.header("proxy-authorization", proof);
        }
        let (answer, send) = self.request(request.body(()).unwrap(), false).await;
        (answer.unwrap(), send)
    }

    /// A tunnel that must open.
    pub async fn tunnel(&self, target: &str) -> DuplexStream {
        let (answer, send) = self.connect_as(target, Some(&self.proof)).await;
        assert_eq!(answer.status(), 200, "{target}");
        raw(answer.into_body(), send)
    }

    /// A request for some authority, without content.
    pub async fn get(&self, uri: &str, fields: &[(&str, &str)]) -> (u16, serde_json::Value) {
        let mut request = Request::builder().uri(uri).version(Version::HTTP_2).header("proxy-authorization", &self.proof);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        told(self.request(request.body(()).unwrap(), true).await.0.unwrap()).await
    }
}

/// The status, and the content as JSON.
pub async fn told(answer: Response<RecvStream>) -> (u16, serde_json::Value) {
    let (parts, mut body) = answer.into_parts();
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    (parts.status.as_u16(), serde_json::from_slice(&all).unwrap_or_default())
}

/// The status, and the code of the proxy's own answer.
pub fn code(told: &(u16, serde_json::Value)) -> (u16, &str) {
    (told.0, told.1["error"]["code"].as_str().unwrap_or_default())
}

/// A stream as a pipe.
fn raw(mut from: RecvStream, mut to: SendStream<Bytes>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(16 << 10);
    let (mut reading, mut writing) = tokio::io::split(far);
    tokio::spawn(async move {
        while let Some(Ok(data)) = from.data().await {
            if writing.write_all(&data).await.is_err() {
                return;
            }
            let _ = from.flow_control().release_capacity(data.len());
        }
        let _ = writing.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(got) = reading.read(&mut buffer).await {
            if to.send_data(Bytes::copy_from_slice(&buffer[..got]), got == 0).is_err() || got == 0 {
                // A stream dropped before the other half has ended would be reset.
                let _ = std::future::poll_fn(|cx| to.poll_reset(cx)).await;
                return;
            }
        }
    });
    near
}

/// TLS inside a tunnel, and one `GET` over HTTP/1.1: all of its answer.
pub async fn get_inside(world: &World, tunnel: impl AsyncRead + AsyncWrite + Unpin, host: &str) -> String {
    let tls = TlsConnector::from(trusting(&world.home.path().join("ca.pem"), &["http/1.1"]));
    let mut stream = tls.connect(ServerName::try_from(host.to_owned()).unwrap(), tunnel).await.unwrap();
    stream.write_all(format!("GET /inside HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Some(length) = head.to_ascii_lowercase().split_once("content-length: ").and_then(|(_, l)| l.lines().next()?.parse::<usize>().ok())
            && body.len() == length
        {
            return text;
        }
        let got = stream.read(&mut buffer).await.unwrap();
        assert!(got > 0, "the answer is whole: {text}");
        all.extend_from_slice(&buffer[..got]);
    }
}
