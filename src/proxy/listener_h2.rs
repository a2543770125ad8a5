//! A client that speaks HTTP/2 to a listener: each CONNECT is a tunnel over one stream (RFC 9113 8.5), each other request is
//! for the authority that it names.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::ext::Protocol;
use h2::server::SendResponse;
use http::{Method, Request, Uri};

use super::connection::{Drain, NOT_AN_ORIGIN, drain};
use super::error::{Code, ProxyError};
use super::gate::{Gate, Refused, Way};
use super::side::{AgentH2, AgentSide as _};
use super::stream::{ClientStream, Reached};
use super::streams::Bounds;
use super::ticker::Ticker;
use super::wire::{Half, Wire};
use super::{intercept, streams};
use crate::host::Authority;
use crate::message::h1::{RequestHead, Target};
use crate::message::h2::request_head;

/// Serves the connection to its end. `reached` is what the client takes this proxy for.
pub(super) async fn serve(gate: &Gate, io: Box<dyn Wire>, reached: &Reached, ticker: Ticker, drain: Drain) {
    let patience = || gate.patience(&gate.proxy().live().settings);
    let request = |request, respond| one(gate, reached, request, respond);
    let refused = |error| drop(gate.refuse(&Method::GET, error));
    let head_bytes = gate.proxy().live().settings.head_bytes;
    streams::run(gate.proxy(), io, Bounds { head_bytes, patience }, request, refused, ticker, drain).await;
}

/// Carries out one request or one tunnel. The connection is of use after either.
async fn one(gate: &Gate, reached: &Reached, request: Request<RecvStream>, respond: SendResponse<Bytes>) -> bool {
    let (parts, content) = request.into_parts();
    let ended = content.is_end_stream();
    let mut agent = AgentH2::new(content, respond, &gate.proxy().live().settings);
    let protocol = parts.extensions.get::<Protocol>().cloned();
    if parts.method == Method::CONNECT && protocol.is_none() {
        let target = parts.uri.authority().map_or("", http::uri::Authority::as_str);
        match gate.connect(target, &parts.headers) {
            Ok(way) => tunnel(gate, agent, way).await,
            Err(refused) => refuse(&mut agent, &refused, &Method::CONNECT).await,
        }
        return false;
    }
    let (method, uri) = (parts.method.clone(), parts.uri.clone());
    let refused = match request_head(parts, protocol.as_ref().map(Protocol::as_str), ended) {
        Ok(_) if is_ours(&uri, reached) => gate.refuse(&method, ProxyError::new(Code::BadRequest, NOT_AN_ORIGIN)),
        Ok(head) => match carry(gate, &mut agent, &head, &uri).await {
            Ok(()) => return false,
            Err(refused) => refused,
        },
        Err(error) => gate.refuse(&method, error.into()),
    };
    refuse(&mut agent, &refused, &method).await;
    false
}

async fn carry(gate: &Gate, agent: &mut AgentH2, head: &RequestHead, uri: &Uri) -> Result<(), Refused> {
    let carrier = gate.request(head, uri)?;
    let target = match &head.target {
        Target::Asterisk => "*".to_owned(),
        _ => Target::path_and_query(uri),
    };
    carrier.carry(agent, &mut Ticker::new(), head, &target).await;
    Ok(())
}

/// Carries out a CONNECT over its stream.
async fn tunnel(gate: &Gate, mut agent: AgentH2, way: Way) {
    let proxy = gate.proxy();
    let open = |agent: AgentH2| Some(Half::new(Box::new(ClientStream::Stream(Box::new(agent.into_tunnel()?)))));
    match way {
        Way::Intercepted(proof, authority) => {
            if let Some(half) = open(agent) {
                intercept::serve(Arc::clone(proxy), half, proof, authority, Ticker::new(), drain(proxy)).await;
            }
        }
        Way::Blind(blind) => match blind.dial().await {
            Ok(dialled) => match open(agent) {
                Some(mut half) => dialled.copy(&mut half, &mut Ticker::new(), &mut drain(proxy)).await,
                None => dialled.abandoned(),
            },
            Err(refused) => refuse(&mut agent, &refused, &Method::CONNECT).await,
        },
    }
}

async fn refuse(agent: &mut AgentH2, refused: &Refused, method: &Method) {
    agent.answer(&refused.error, refused.id, method, false).await;
}

/// Whether a request is for the proxy itself, as HTTP/1.1 has it in origin form.
fn is_ours(uri: &Uri, reached: &Reached) -> bool {
    let default = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    uri.authority().is_none_or(|named| Authority::parse(named.as_str(), Some(default)).is_ok_and(|named| reached.is(&named)))
}
