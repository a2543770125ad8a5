//! HTTP/2 to the proxy itself: tunnels by CONNECT (RFC 9113 8.5), and requests for other authorities.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use h2::Reason;
use http::{Method, Request, Version};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::listeners::tls_address;
use crate::support::clients::{Client, found};
use crate::support::over_h2::{Proxy, code, get_inside, over, run, told};
use crate::support::raw::{authorization, trusting};
use crate::support::world::{HOSTS, configuration};
use crate::support::{Home, Origin, Recorded, Serve, World, fresh_key, skip};

const LISTENERS: &str = "[proxy]\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\ntls_names = [\"proxy.internal\", \"127.0.0.1\"]\n";

fn stage(origin: Origin, key: String, more: &str) -> World {
    World::with_configuration(origin, key, &format!("{LISTENERS}{more}"))
}

pub(super) fn demanding(more: &str) -> World {
    let key = fresh_key();
    stage(Origin::demanding(&HOSTS, &key), key, more)
}

fn proof(world: &World) -> String {
    authorization(&world.serve.env["HTTPS_PROXY"])
}

async fn tls_to(world: &World, name: &str, alpn: &[&str]) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let tcp = tokio::net::TcpStream::connect(tls_address(&world.serve)).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let tls = TlsConnector::from(trusting(&world.home.path().join("ca.pem"), alpn));
    tls.connect(ServerName::try_from(name.to_owned()).unwrap(), tcp).await.unwrap()
}

/// A connection to `tls_listen` on which HTTP/2 was agreed on.
pub(super) async fn open(world: &World) -> Proxy {
    let stream = tls_to(world, "proxy.internal", &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    over(stream, proof(world)).await
}

#[track_caller]
fn expect_key(world: &World, got: &Recorded) {
    assert_eq!((got.values("authorization"), got.values("proxy-authorization").len()), (vec![world.bearer()], 0));
}

#[test]
fn tunnels_of_both_kinds_run_side_by_side_on_one_connection() {
    let world = demanding("");
    run(async {
        let proxy = open(&world).await;
        let tunnels = (0..24).map(|i| {
            let (proxy, world) = (&proxy, &world);
            async move {
                let host = if i % 3 == 0 { "example.net" } else { "openrouter.ai" };
                let answer = get_inside(world, proxy.tunnel(&format!("{host}:443")).await, host).await;
                // A host without a credential is reached unread: its origin says 401.
                assert!(answer.starts_with(if i % 3 == 0 { "HTTP/1.1 401" } else { "HTTP/1.1 200" }), "{host}: {answer}");
            }
        });
        futures_util::future::join_all(tunnels).await;
        let got = world.origin.recorded();
        assert_eq!(got.iter().filter(|r| r.values("authorization") == [world.bearer()]).count(), 16);
        assert_eq!(got.iter().filter(|r| r.sni.as_deref() == Some("example.net") && r.values("authorization").is_empty()).count(), 8);
    });
    let log = std::fs::read_to_string(world.home.path().join("audit.jsonl")).unwrap();
    assert!(log.lines().any(|l| l.contains("\"CONNECT\"") && l.contains("example.net") && l.contains("HTTP/2")), "{log}");
}

#[test]
fn http2_inside_a_tunnel_over_http2() {
    let world = demanding("");
    run(async {
        let tunnel = open(&world).await.tunnel("openrouter.ai:443").await;
        let tls = TlsConnector::from(trusting(&world.home.path().join("ca.pem"), &["h2"]));
        let inner = over(tls.connect("openrouter.ai".try_into().unwrap(), tunnel).await.unwrap(), String::new()).await;
        for _ in 0..3 {
            let request = Request::get("https://openrouter.ai/inner").version(Version::HTTP_2).body(()).unwrap();
            assert_eq!(told(inner.request(request, true).await.0.unwrap()).await.0, 200);
        }
        expect_key(&world, &world.origin.last());
    });
}

#[test]
fn a_refusal_is_an_answer_on_its_stream_and_the_connection_goes_on() {
    let world = demanding("[egress]\ndeny_hosts = [\"api.example.com\"]\n");
    run(async {
        let proxy = open(&world).await;
        let own = proxy.proof.clone();
        for (target, proof, expected) in [
            ("openrouter.ai:443", None, (407, "proxy_auth_required")),
            ("openrouter.ai:443", Some("Basic ZGVmYXVsdDp3cm9uZw=="), (407, "proxy_auth_required")),
            ("api.example.com:443", Some(own.as_str()), (403, "egress_denied")),
            ("openrouter.ai:8443", Some(own.as_str()), (403, "port_denied")),
            ("nowhere.invalid:443", Some(own.as_str()), (502, "dns_error")),
            ("openrouter.ai:0", Some(own.as_str()), (400, "bad_request")),
        ] {
            let (answer, _send) = proxy.connect_as(target, proof).await;
            assert_eq!(answer.headers().contains_key("proxy-authenticate"), expected.0 == 407, "{target}");
            assert!(answer.headers()["proxy-status"].to_str().unwrap().starts_with("keyhatch; error="), "{target}");
            assert_eq!(code(&told(answer).await), expected, "{target}");
        }
        assert!(get_inside(&world, proxy.tunnel("openrouter.ai:443").await, "openrouter.ai").await.starts_with("HTTP/1.1 200"));
    });
}

/// Go offers `h2` to a TLS proxy and then writes an HTTP/1.1 CONNECT.
#[test]
fn the_first_bytes_decide_whatever_was_negotiated() {
    let world = demanding("");
    run(async {
        for alpn in [&["h2", "http/1.1"][..], &["h2"], &["http/1.1"], &[]] {
            let mut stream = tls_to(&world, "proxy.internal", alpn).await;
            let head = format!("CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\nProxy-Authorization: {}\r\n\r\n", proof(&world));
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = [0; 39];
            stream.read_exact(&mut answer).await.unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{alpn:?}: {}", String::from_utf8_lossy(&answer));
            assert!(get_inside(&world, stream, "openrouter.ai").await.starts_with("HTTP/1.1 200"), "{alpn:?}");
            let proxy = over(tls_to(&world, "127.0.0.1", alpn).await, proof(&world)).await;
            assert!(get_inside(&world, proxy.tunnel("openrouter.ai:443").await, "openrouter.ai").await.starts_with("HTTP/1.1 200"), "{alpn:?}");
        }
    });
}

#[test]
fn prior_knowledge_serves_on_the_plain_port_and_on_a_unix_socket() {
    let world = demanding("");
    run(async {
        let tcp = tokio::net::TcpStream::connect(world.serve.proxy()).await.unwrap();
        let proxy = over(tcp, proof(&world)).await;
        assert!(get_inside(&world, proxy.tunnel("openrouter.ai:443").await, "openrouter.ai").await.starts_with("HTTP/1.1 200"));
    });
    let home = Home::bare("");
    let socket = home.outside().join("proxy.sock");
    home.configure(&configuration(&home, &world.origin, &format!("[proxy]\nlisten = \"unix:{}\"\n", socket.display())));
    home.ok(&["init"]);
    let serve = Serve::start_asking(&home, &[], &[], &["--proxy-url", "http://proxy.internal:3128"]);
    run(async {
        let proxy = over(tokio::net::UnixStream::connect(&socket).await.unwrap(), authorization(&serve.env["HTTPS_PROXY"])).await;
        assert!(get_inside(&world, proxy.tunnel("example.net:443").await, "example.net").await.starts_with("HTTP/1.1 401"));
    });
}

#[test]
fn requests_for_other_authorities_are_carried_as_in_absolute_form() {
    let world = demanding("");
    run(async {
        let proxy = open(&world).await;
        assert_eq!(proxy.get("https://openrouter.ai/api?x=1", &[("authorization", "Bearer own")]).await.0, 200);
        let got = world.origin.last();
        assert_eq!((got.tls, got.target.as_str(), got.value("host").as_str()), (true, "/api?x=1", "openrouter.ai"));
        expect_key(&world, &got);
        // In plaintext, and where no credential matches, the key stays away.
        for (uri, tls) in [("http://openrouter.ai/api", false), ("https://example.net/api", true)] {
            assert_eq!(proxy.get(uri, &[]).await.0, 401, "{uri}");
            assert_eq!((world.origin.last().tls, world.origin.last().values("authorization").len()), (tls, 0), "{uri}");
        }
        let many = (0..40).map(|i| {
            let proxy = &proxy;
            async move { assert_eq!(proxy.get(&format!("https://api.openrouter.ai/{i}"), &[]).await.0, 200) }
        });
        futures_util::future::join_all(many).await;
        let before = world.origin.recorded().len();
        assert_eq!(code(&proxy.get("https://openrouter.ai/", &[("host", "example.net")]).await), (421, "misdirected"));
        assert_eq!(code(&proxy.get("https://openrouter.ai:8443/", &[]).await), (403, "port_denied"));
        let own = format!("https://proxy.internal:{}/", tls_address(&world.serve).port());
        assert_eq!(code(&proxy.get(&own, &[]).await), (400, "bad_request"));
        let trace = Request::builder().method(Method::TRACE).uri("https://openrouter.ai/").version(Version::HTTP_2);
        let trace = trace.header("proxy-authorization", &proxy.proof).body(()).unwrap();
        assert_eq!(code(&told(proxy.request(trace, true).await.0.unwrap()).await), (405, "method_denied"));
        let bare = Request::get("https://openrouter.ai/").version(Version::HTTP_2).body(()).unwrap();
        assert_eq!(code(&told(proxy.request(bare, true).await.0.unwrap()).await), (407, "proxy_auth_required"));
        assert_eq!(world.origin.recorded().len(), before, "nothing of these was sent");
    });
}

/// A listener that a blind tunnel leads to.
pub(super) fn far_end() -> (TcpListener, World) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::bare("");
    let origin = Origin::agreeable(&HOSTS);
    let text = configuration(&home, &origin, LISTENERS);
    let text = text.replace(
        &format!("\"example.net:443\" = \"{}\"", origin.address()),
        &format!("\"example.net:443\" = \"{}\"", listener.local_addr().unwrap()),
    );
    home.configure(&text);
    home.ok(&["init"]);
    let serve = Serve::start(&home);
    (listener, World { serve, origin, home, key: String::new() })
}

#[test]
fn half_close_is_kept_over_a_stream() {
    let (listener, world) = far_end();
    let sent: Vec<u8> = (0..=255_u8).cycle().take(1 << 20).collect();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
        all.len()
    });
    run(async {
        let mut tunnel = open(&world).await.tunnel("example.net:443").await;
        tunnel.write_all(&sent).await.unwrap();
        tunnel.shutdown().await.unwrap();
        let mut back = Vec::new();
        tunnel.read_to_end(&mut back).await.unwrap();
        assert!(back == sent, "{} bytes came back", back.len());
    });
    assert_eq!(peer.join().unwrap(), sent.len());
}

#[test]
fn the_end_of_one_side_is_told_to_the_other() {
    let (listener, world) = far_end();
    run(async {
        let proxy = open(&world).await;
        // A connection that is reset is a stream with CONNECT_ERROR.
        let (answer, _send) = proxy.connect_as("example.net:443", Some(&proxy.proof)).await;
        let (stream, _) = listener.accept().unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        let error = answer.into_body().data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CONNECT_ERROR), "{error}");
        // A stream that is reset closes its connection.
        let (answer, mut send) = proxy.connect_as("example.net:443", Some(&proxy.proof)).await;
        assert_eq!(answer.status(), 200);
        let (mut stream, _) = listener.accept().unwrap();
        send.send_reset(Reason::CANCEL);
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert!(matches!(stream.read(&mut [0; 8]), Ok(0) | Err(_)));
        // So does the end of the client's connection, for all of its tunnels.
        let held = [proxy.tunnel("example.net:443").await, proxy.tunnel("example.net:443").await];
        let mut ends = [listener.accept().unwrap().0, listener.accept().unwrap().0];
        drop((held, proxy));
        for end in &mut ends {
            end.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            assert!(matches!(end.read(&mut [0; 8]), Ok(0)));
        }
    });
}

#[test]
fn a_tunnel_that_is_not_read_holds_back_no_other() {
    let (listener, world) = far_end();
    let pouring = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let (piece, mut taken) = (vec![7; 64 << 10], 0);
        while let Ok(written) = stream.write(&piece) {
            taken += written;
        }
        taken
    });
    run(async {
        let proxy = open(&world).await;
        let (_unread, _send) = proxy.connect_as("example.net:443", Some(&proxy.proof)).await;
        assert!(pouring.join().unwrap() < 16 << 20, "what is not read is not taken either");
        let host = "api.example.com";
        assert!(get_inside(&world, proxy.tunnel("api.example.com:443").await, host).await.starts_with("HTTP/1.1 200"));
    });
}

fn url(address: SocketAddr, world: &World) -> String {
    let plain = &world.serve.env["HTTPS_PROXY"];
    let user = plain.split_once("://").unwrap().1.rsplit_once('@').unwrap().0;
    format!("https://{user}@{address}")
}

#[test]
fn curl_reaches_an_origin_over_http2_to_the_proxy() {
    let test = "curl_reaches_an_origin_over_http2_to_the_proxy";
    let knows = found("curl").is_some_and(|curl| {
        let help = std::process::Command::new(curl).args(["--help", "proxy"]).output().unwrap();
        String::from_utf8_lossy(&help.stdout).contains("--proxy-http2")
    });
    if !knows {
        return skip(test, "no curl on this machine that knows --proxy-http2 (8.1)");
    }
    let world = demanding("");
    let (ca, url) = (world.home.path().join("ca.pem").display().to_string(), url(tls_address(&world.serve), &world));
    let args = ["-sS", "--max-time", "20", "--proxy-http2", "--proxy-cacert", &ca, "-x", &url, "-w", "%{http_code} ", "-o", "/dev/null"];
    let said = Client::Curl
        .run(test, &world.serve.env, &[&args[..], &["https://openrouter.ai/1", "-o", "/dev/null", "https://api.openrouter.ai/2"]].concat())
        .unwrap();
    assert_eq!((said.code, said.stdout.trim()), (0, "200 200"), "{said:?}");
    expect_key(&world, &world.origin.last());
    assert!(std::fs::read_to_string(world.home.path().join("audit.jsonl")).unwrap().contains("\"GET\""));
}

#[test]
fn node_reaches_an_origin_over_http2_to_the_proxy() {
    let world = demanding("");
    let script = format!(
        "import http2 from 'node:http2'; import tls from 'node:tls';
        const proxy = http2.connect('https://127.0.0.1:{}', {{}});
        const ask = (host) => new Promise((done, fail) => {{
          const tunnel = proxy.request({{':method': 'CONNECT', ':authority': host + ':443', 'proxy-authorization': '{}'}});
          tunnel.on('error', fail).on('response', (head) => {{
            if (head[':status'] !== 200) return done(head[':status']);
            const inner = tls.connect({{socket: tunnel, servername: host}}, () => inner.write('GET / HTTP/1.1\\r\\nHost: ' + host + '\\r\\nConnection: close\\r\\n\\r\\n'));
            let all = '';
            inner.on('data', (data) => all += data).on('end', () => done(all.split(' ')[1])).on('error', fail);
          }});
        }});
        console.log((await Promise.all(Array.from({{length: 10}}, () => ask('openrouter.ai')))).join(','), await ask('openrouter.ai.evil.invalid'));
        proxy.close();",
        tls_address(&world.serve).port(),
        proof(&world)
    );
    let Some(said) = Client::Node.script("node_reaches_an_origin_over_http2_to_the_proxy", &world.serve.env, &script) else { return };
    assert_eq!((said.code, said.stdout.trim()), (0, "200,200,200,200,200,200,200,200,200,200 502"), "{said:?}");
    expect_key(&world, &world.origin.last());
}
