//! A tunnel to a host that a credential covers: its TLS ends here, with a leaf certificate for the CONNECT host.

use std::io::ErrorKind;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use http::{Method, Uri, Version};
use rustls::server::Acceptor;
use tokio_rustls::LazyConfigAcceptor;

use super::authenticate::Proof;
use super::connection::{Awaited, Drain, next_head, refuse};
use super::error::{Code, ProxyError};
use super::forward::{Carrier, Form, Next};
use super::live::{Proxy, Settings};
use super::outcome::Progress;
use super::record::Record;
use super::side::AgentH1;
use super::stream::ClientStream;
use super::streams;
use super::ticker::Ticker;
use super::wire::{Half, Wire};
use crate::agent::AgentName;
use crate::audit::Verdict;
use crate::host::{Authority, Host};
use crate::message::h1::{RequestHead, Target};
use crate::policy::Scheme;
use crate::tls::{ReadAhead, describe_agent_tls_error, tls_error};

/// The first byte of a TLS record that carries a handshake (RFC 8446 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Serves an accepted tunnel to its end.
pub(super) async fn serve(proxy: Arc<Proxy>, mut half: Half<ClientStream>, proof: Proof, authority: Authority, mut ticker: Ticker, mut drain: Drain) {
    let settings = Arc::clone(&proxy.live().settings);
    match first_bytes(&mut half, &settings, &mut ticker, &mut drain).await {
        // Clients open spare tunnels and drop them: that is no error.
        None => {}
        Some(Speech::Tls) => {
            let prefix = half.input.take();
            let Shaken { stream, names_agree, http2 } = match handshake(&proxy, &proof.agent.name, prefix, half, &authority).await {
                Ok(Some(shaken)) => shaken,
                Ok(None) => return,
                Err(why) => {
                    if proxy.refusals.is_told() {
                        tracing::info!(agent = proof.agent.name.as_str(), host = %authority, "the agent's TLS handshake failed: {why}");
                    }
                    let mut record = Record::to(&proxy, &Method::CONNECT, &authority, "");
                    record.agent(proof.agent.name.as_str()).protocol("");
                    return record.done(Verdict::Failed, "agent_tls", &Progress { status: 200, ..Progress::default() });
                }
            };
            let carrier = Carrier::new(&proxy, proof, Scheme::Https, Form::Tunnel, authority);
            if http2 {
                return streams::serve(&proxy, stream, &carrier, names_agree, ticker, drain).await;
            }
            let mut inner: Half<dyn Wire> = Half::new(stream);
            requests(&proxy, &mut inner, &carrier, names_agree, ticker, drain).await;
        }
        Some(Speech::Http) => {
            let carrier = Carrier::new(&proxy, proof, Scheme::Http, Form::Tunnel, authority);
            requests(&proxy, &mut half, &carrier, true, ticker, drain).await;
        }
        Some(Speech::Http2) => {
            let carrier = Carrier::new(&proxy, proof, Scheme::Http, Form::Tunnel, authority);
            let stream = Box::new(ReadAhead::new(half.input.take(), *half.io));
            streams::serve(&proxy, stream, &carrier, true, ticker, drain).await;
        }
        Some(Speech::Other) => {
            let mut record = Record::to(&proxy, &Method::CONNECT, &authority, "");
            record.agent(proof.agent.name.as_str()).protocol("");
            record.done(Verdict::Denied, "not_tls", &Progress { status: 200, ..Progress::default() });
        }
    }
}

/// What a tunnel speaks, as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// TLS.
    Tls,
    /// HTTP/1 in plaintext.
    Http,
    /// HTTP/2 by prior knowledge (RFC 9113 3.3).
    Http2,
    /// Anything else.
    Other,
}

/// What HTTP/2 begins with (RFC 9113 3.4). No HTTP/1.1 method is `PRI`.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Whether these bytes begin as HTTP/2 does; `None` where more are needed to tell.
pub(super) fn is_preface(bytes: &[u8]) -> Option<bool> {
    let seen = bytes.len().min(PREFACE.len());
    if !PREFACE.starts_with(&bytes[..seen]) {
        return Some(false);
    }
    (seen == PREFACE.len()).then_some(true)
}

/// The longest method that is taken for one.
const METHOD_MAX: usize = 20;

/// What these bytes begin: TLS, or HTTP in plaintext, which opens with a method and a space. `None` where more are needed to tell.
#[must_use]
pub fn speech(bytes: &[u8]) -> Option<Speech> {
    if *bytes.first()? == TLS_HANDSHAKE {
        return Some(Speech::Tls);
    }
    if is_preface(bytes)? {
        return Some(Speech::Http2);
    }
    let letters = bytes.iter().take_while(|b| b.is_ascii_uppercase() || **b == b'-').count();
    match bytes.get(letters) {
        Some(b' ') if (1..=METHOD_MAX).contains(&letters) => Some(Speech::Http),
        None if letters <= METHOD_MAX => None,
        _ => Some(Speech::Other),
    }
}

/// Waits until it is plain what is spoken; `None` where the client closes, idles for too long, or the proxy drains.
async fn first_bytes(half: &mut Half<ClientStream>, settings: &Settings, ticker: &mut Ticker, drain: &mut Drain) -> Option<Speech> {
    let mut until = Instant::now() + settings.idle;
    std::future::poll_fn(|cx| {
        loop {
            if let Some(speech) = speech(half.input.bytes()) {
                return Poll::Ready(Some(speech));
            }
            match half.poll_fill(cx) {
                Poll::Ready(Ok(n)) if n > 0 => until = Instant::now() + settings.request_head,
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending if ticker.poll_at(until, cx) || drain.as_mut().poll(cx).is_ready() => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// The agent's TLS, ended.
struct Shaken {
    stream: Box<dyn Wire>,
    /// The SNI, where there is one, names the CONNECT host.
    names_agree: bool,
    /// The agent chose HTTP/2.
    http2: bool,
}

/// Ends the agent's TLS. A client that just goes away is no error, and gives nothing.
async fn handshake(
    proxy: &Proxy,
    agent: &AgentName,
    prefix: Vec<u8>,
    half: Half<ClientStream>,
    authority: &Authority,
) -> Result<Option<Shaken>, String> {
    let begun = Instant::now();
    let limit = proxy.live().settings.tls;
    let shaking = async {
        let start = LazyConfigAcceptor::new(Acceptor::default(), ReadAhead::new(prefix, *half.io)).await?;
        let hello = start.client_hello();
        let names_agree = hello.server_name().is_none_or(|sni| Host::parse(sni).is_ok_and(|host| host == authority.host));
        let config = match proxy.leaves.cached(agent, &authority.host) {
            Some(config) => {
                proxy.metrics.leaf_cache(true);
                config
            }
            None => {
                proxy.metrics.leaf_cache(false);
                let leaf = proxy.leaves.get(agent, &authority.host).await;
                leaf.inspect_err(|e| tracing::error!("no leaf certificate: {e}")).map_err(std::io::Error::other)?.config
            }
        };
        let stream = start.into_stream(config).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        std::io::Result::Ok(Shaken { stream: Box::new(stream), names_agree, http2 })
    };
    match tokio::time::timeout(limit, shaking).await {
        Ok(Ok(shaken)) => {
            proxy.metrics.handshake(begun.elapsed());
            Ok(Some(shaken))
        }
        // A spare tunnel that was dropped midway.
        Ok(Err(e)) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(None),
        Ok(Err(e)) => Err(tls_error(&e).map_or_else(|| e.to_string(), describe_agent_tls_error)),
        Err(_) => Err("it took too long".to_owned()),
    }
}

/// The requests inside, one after the other.
async fn requests<A: Wire + ?Sized>(
    proxy: &Arc<Proxy>,
    half: &mut Half<A>,
    carrier: &Carrier,
    names_agree: bool,
    mut ticker: Ticker,
    mut drain: Drain,
) {
    loop {
        let settings = Arc::clone(&proxy.live().settings);
        let head = match next_head(half, settings.agent_head_bytes, &settings, settings.idle, &mut ticker, &mut drain).await {
            Awaited::Head(head) => head,
            Awaited::Closed => break,
            Awaited::Refused(error) => {
                let mut record = Record::to(proxy, &Method::GET, carrier.authority(), "");
                record.agent(carrier.agent().name.as_str());
                let id = record.id();
                record.failed(&error, &Progress::default());
                return refuse(half, &error, id, &Method::GET).await;
            }
        };
        let mut agent = AgentH1::new(half, &head, proxy.is_draining(), &settings);
        let carried = match checked_target(&head, None, carrier, names_agree) {
            Ok(target) => carrier.carry(&mut agent, &mut ticker, &head, &target).await,
            Err(error) => carrier.refuse(&mut agent, &head, error).await,
        };
        match carried {
            Next::Again => half.release(),
            Next::Close => return,
        }
    }
    // An orderly end: TLS says so with close_notify.
    half.close().await;
}

/// The request target to send, where SNI, `Host`, `:authority` and an absolute target all name the CONNECT host and port.
/// `pseudo` are an HTTP/2 request's `:scheme` and `:authority`.
pub(super) fn checked_target(head: &RequestHead, pseudo: Option<&Uri>, carrier: &Carrier, names_agree: bool) -> Result<String, ProxyError> {
    let misdirected = |what: &str| ProxyError::new(Code::Misdirected, format!("{what} names another host than the CONNECT did; nothing was sent"));
    if !names_agree {
        return Err(misdirected("the TLS server name (SNI)"));
    }
    if matches!(head.method, Method::TRACE | Method::CONNECT) {
        return Err(ProxyError::new(Code::MethodDenied, format!("{} is not passed on", head.method)));
    }
    let scheme = if carrier.scheme() == Scheme::Https { "https" } else { "http" };
    let of_here =
        |uri: &Uri| uri.scheme_str().is_none_or(|s| s == scheme) && uri.authority().is_none_or(|a| carrier.is_named_by(a.as_str().as_bytes()));
    match head.headers.get(http::header::HOST) {
        Some(host) if carrier.is_named_by(host.as_bytes()) => {}
        None if head.version == Version::HTTP_10 => {}
        _ => return Err(misdirected("the Host field")),
    }
    if !pseudo.is_none_or(of_here) {
        return Err(misdirected("the :scheme or the :authority"));
    }
    match &head.target {
        Target::Origin(uri) => Ok(Target::path_and_query(uri)),
        Target::Asterisk => Ok("*".to_owned()),
        Target::Absolute(uri) if of_here(uri) => Ok(Target::path_and_query(uri)),
        Target::Absolute(_) | Target::Authority(_) => Err(misdirected("the request target")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        for (bytes, expected) in [
            (&b""[..], None),
            (b"\x16", Some(Speech::Tls)),
            (b"GET", None),
            (b"GET ", Some(Speech::Http)),
            (b"M-SEARCH *", Some(Speech::Http)),
            (b"P", None),
            (b"PRI * HTTP/2.0", None),
            (b"PRI * HTTP/2.0\r\n\r\n", Some(Speech::Http2)),
            (b"PRI * HTTP/2.1\r\n", Some(Speech::Http)),
            (b"SSH-2.0-x\r\n", Some(Speech::Other)),
            (b" GET", Some(Speech::Other)),
            (b"\r\n", Some(Speech::Other)),
            (b"EHLO\r\n", Some(Speech::Other)),
            (b"\0\0", Some(Speech::Other)),
            (b"AAAAAAAAAAAAAAAAAAAAAAAAA", Some(Speech::Other)),
        ] {
            assert_eq!(speech(bytes), expected, "{bytes:?}");
        }
    }
}
