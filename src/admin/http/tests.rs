use super::*;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[derive(Default)]
struct Problems(Mutex<Vec<String>>);

impl Readiness for Problems {
    fn problems(&self) -> Vec<String> {
        self.0.lock().expect("no test panics with it").clone()
    }

    fn notes(&self) -> Vec<String> {
        self.0.lock().expect("free").iter().map(|p| format!("note of {p}")).collect()
    }
}

const TOKEN: &str = "0123456789abcdef";

struct Running {
    address: SocketAddr,
    problems: Arc<Problems>,
    server: tokio::task::JoinHandle<io::Result<()>>,
}

impl Running {
    async fn start(token: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let problems = Arc::<Problems>::default();
        let token = token.then(|| AdminToken::parse(&Zeroizing::new(format!(" {TOKEN}\n").into_bytes())).expect("a token"));
        let shown = AdminHttp { metrics: Arc::new(Metrics::new(false)), readiness: problems.clone(), token };
        let server = tokio::spawn(shown.serve(listener, std::future::pending()));
        Self { address, problems, server }
    }

    /// Sends a request as it is; returns the status and the whole answer.
    async fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("read");
        let answer = String::from_utf8(answer).expect("UTF-8");
        let status = answer.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
        (status, answer)
    }

    async fn get(&self, path: &str, host: &str) -> u16 {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tokio::test]
async fn health_readiness_and_metrics() {
    let server = Running::start(false).await;
    assert_eq!(server.get("/healthz", "localhost").await, 200);
    let (status, answer) = server.raw("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(status, 200);
    assert!(answer.ends_with("{\"problems\":[],\"ready\":true}\n"), "{answer}");
    server.problems.0.lock().expect("free").push("the audit log cannot be written".into());
    let (status, answer) = server.raw("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(status, 503);
    assert!(answer.contains("[\"the audit log cannot be written\"]"), "{answer}");
    let (status, answer) = server.raw("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(status, 200);
    assert!(answer.contains("keyhatch_tunnels_open 0") && answer.contains("application/openmetrics-text"), "{answer}");
    assert_eq!(server.get("/healthz", "localhost").await, 200, "alive, ready or not");
}

#[tokio::test]
async fn only_get_and_only_what_there_is() {
    let server = Running::start(false).await;
    for method in ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let (status, answer) = server.raw(&format!("{method} /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(status, 405, "{method}");
        assert!(answer.to_ascii_lowercase().contains("allow: get\r\n"), "{answer}");
    }
    assert_eq!(server.get("/", "localhost").await, 404);
    assert_eq!(server.get("/healthz/", "localhost").await, 404);
    assert_eq!(server.get("/healthz?x=1", "localhost").await, 200);
}

#[tokio::test]
async fn a_foreign_host_is_refused() {
    let server = Running::start(false).await;
    let own = server.address.to_string();
    for host in ["localhost", "LOCALHOST:9", "a.localhost", "127.0.0.1", "127.9.9.9:80", "[::1]:8879", "[::ffff:127.0.0.1]", &own] {
        assert_eq!(server.get("/metrics", host).await, 200, "{host}");
    }
    for host in ["evil.example", "evil.example:8879", "localhost.evil.example", "evillocalhost", "10.0.0.1", "", "a@localhost"] {
        assert_eq!(server.get("/metrics", host).await, 421, "{host}");
        assert_eq!(server.get("/healthz", host).await, 421, "{host}");
    }
    assert_eq!(server.raw("GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.0, 421);
    assert_eq!(server.raw("GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n").await.0, 400);
    assert_eq!(server.raw("GET /metrics HTTP/1.1\r\n\r\n").await.0, 400);
    assert_eq!(server.raw("GET /metrics HTTP/1.0\r\n\r\n").await.0, 200, "no browser");
}

#[tokio::test]
async fn a_token_is_asked_for_where_names_and_reasons_are() {
    let server = Running::start(true).await;
    assert_eq!(server.get("/healthz", "localhost").await, 200);
    let readyz = async |more: &str| server.raw(&format!("GET /readyz HTTP/1.1\r\nHost: localhost\r\n{more}\r\n")).await;
    assert!(readyz("").await.1.ends_with("{\"ready\":true}\n"));
    server.problems.0.lock().expect("free").push("the audit log cannot be written".into());
    let (status, answer) = readyz("").await;
    assert!(status == 503 && answer.ends_with("{\"ready\":false}\n"), "whether, but not why: {answer}");
    assert!(readyz(&format!("Authorization: Bearer {TOKEN}\r\n")).await.1.contains("the audit log cannot be written"));
    for path in ["/metrics", "/nothing"] {
        assert_eq!(server.get(path, "localhost").await, 401, "{path}");
    }
    let with = |value: String| {
        let server = &server;
        async move { server.raw(&format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{value}\r\n")).await.0 }
    };
    assert_eq!(with(format!("Authorization: Bearer {TOKEN}\r\n")).await, 200);
    assert_eq!(with(format!("Authorization: bearer {TOKEN}\r\n")).await, 200);
    for bad in [
        format!("Bearer {TOKEN}x"),
        format!("Basic {TOKEN}"),
        TOKEN.to_owned(),
        "Bearer".into(),
        format!("Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}"),
    ] {
        assert_eq!(with(format!("Authorization: {bad}\r\n")).await, 401, "{bad}");
    }
}

#[tokio::test]
async fn off_loopback_needs_a_token() {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("bound");
    let shown = AdminHttp { metrics: Arc::new(Metrics::new(false)), readiness: Arc::new(Problems::default()), token: None };
    let error = shown.serve(listener, std::future::pending()).await.expect_err("refused");
    assert!(error.to_string().contains("token_file"), "{error}");
}

#[tokio::test]
async fn it_ends_when_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let shown = AdminHttp { metrics: Arc::new(Metrics::new(false)), readiness: Arc::new(Problems::default()), token: None };
    shown.serve(listener, std::future::ready(())).await.expect("ended");
}

#[tokio::test]
async fn a_slow_head_is_cut_off() {
    let short = Duration::from_millis(20);
    for (head, whole) in [(short, WHOLE), (WHOLE, short)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut stream = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
        let shown = AdminHttp { metrics: Arc::new(Metrics::new(false)), readiness: Arc::new(Problems::default()), token: None };
        let server = tokio::spawn(shown.serve_within(listener, std::future::pending(), head, whole));
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await.expect("sent");
        // Without the limit this would never come to an end.
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.windows(3).any(|w| w == b"200"));
        server.abort();
    }
}

#[test]
fn tokens_have_a_form() {
    for bad in ["", "short", "0123456789 abcdef", "0123456789\nabcdef", "0123456789äbcdef"] {
        assert!(AdminToken::parse(&Zeroizing::new(bad.as_bytes().to_vec())).is_err(), "{bad}");
    }
}
