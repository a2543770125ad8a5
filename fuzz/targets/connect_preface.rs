//! A CONNECT and the first bytes after it: what the tunnel speaks, whom the ClientHello names, and no byte lost.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Method;
use keyhatch::host::{Authority, Host};
use keyhatch::message::h1::{Framing, Target, head_end, parse_request};
use keyhatch::proxy::fuzzed::{Speech, speech};
use keyhatch::tls::ReadAhead;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, ReadBuf};

use super::input::{Input, pieces};

/// The input: how it comes in pieces, how much of the tunnel came with the head, then head and tunnel.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (seed, with_head) = (input.byte(), input.byte());
    let data = input.rest();
    let Ok(Some(end)) = head_end(data, &mut 0, 64 * 1024) else { return first_bytes(data, seed, with_head) };
    let authority = match parse_request(Bytes::copy_from_slice(&data[..end])) {
        Ok(head) if head.method == Method::CONNECT => {
            assert_eq!(head.framing, Framing::None, "a CONNECT has no body");
            let Target::Authority(text) = head.target else { panic!("a CONNECT names an authority") };
            Authority::parse(&text, None).ok()
        }
        _ => return first_bytes(data, seed, with_head),
    };
    let tunnel = &data[end..];
    first_bytes(tunnel, seed, with_head);
    if let (Some(authority), Some(Speech::Tls)) = (authority, speech(tunnel)) {
        let (whole, split) = (named(&[tunnel]), named(&pieces(tunnel, seed)));
        assert_eq!(whole, split, "the ClientHello in pieces");
        if let Ok(Some(Some(name))) = whole {
            let agree = Host::parse(&name).is_ok_and(|host| host == authority.host);
            assert_eq!(agree, authority.is_named_by(format!("{name}:{}", authority.port).as_bytes(), 443), "{name} and {authority}");
        }
    }
}

fn first_bytes(tunnel: &[u8], seed: u8, with_head: u8) {
    let mut said = None;
    for end in 0..=tunnel.len().min(64) {
        let now = speech(&tunnel[..end]);
        assert!(said.is_none() || now == said, "what was decided is another thing with {end} bytes");
        assert_eq!(now, naive(&tunnel[..end]), "{:?}", tunnel[..end].escape_ascii().to_string());
        said = now;
    }
    let (early, late) = tunnel.split_at(usize::from(with_head).min(tunnel.len()));
    assert!(read_through(early, late, seed) == tunnel, "bytes of the tunnel are lost or doubled");
}

/// The contract: TLS, or HTTP in plaintext, or anything else.
fn naive(bytes: &[u8]) -> Option<Speech> {
    let preface = b"PRI * HTTP/2.0\r\n";
    match bytes {
        [] => None,
        [0x16, ..] => Some(Speech::Tls),
        _ if bytes.starts_with(preface) => Some(Speech::Http2),
        _ if preface.starts_with(bytes) => None,
        _ => match bytes.iter().position(|b| !(b.is_ascii_uppercase() || *b == b'-')) {
            Some(at) if bytes[at] == b' ' && (1..=20).contains(&at) => Some(Speech::Http),
            None if bytes.len() <= 20 => None,
            _ => Some(Speech::Other),
        },
    }
}

/// What rustls makes of a ClientHello: its server name, where it is whole; `Err` where it is none.
fn named(pieces: &[&[u8]]) -> Result<Option<Option<String>>, ()> {
    let mut acceptor = Acceptor::default();
    for piece in pieces {
        let mut piece = *piece;
        while !piece.is_empty() {
            if acceptor.read_tls(&mut piece).map_err(|_| ())? == 0 {
                break;
            }
            if let Some(accepted) = acceptor.accept().map_err(|_| ())? {
                return Ok(Some(accepted.client_hello().server_name().map(str::to_owned)));
            }
        }
    }
    Ok(None)
}

/// A connection that brings bytes in pieces.
struct Coming<'a>(Vec<&'a [u8]>);

impl AsyncRead for Coming<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.pop() {
            let (now, later) = piece.split_at(piece.len().min(buf.remaining()));
            buf.put_slice(now);
            if !later.is_empty() {
                self.0.push(later);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// All that a reader of small pieces gets of a tunnel of which `early` came with the head.
fn read_through(early: &[u8], late: &[u8], seed: u8) -> Vec<u8> {
    let mut coming = pieces(late, seed);
    coming.reverse();
    let mut ahead = ReadAhead::new(early.to_vec(), Coming(coming));
    let mut cx = Context::from_waker(Waker::noop());
    let mut out = Vec::new();
    loop {
        let mut room = [0; 37];
        let mut buf = ReadBuf::new(&mut room[..1 + usize::from(seed) % 37]);
        let Poll::Ready(Ok(())) = Pin::new(&mut ahead).poll_read(&mut cx, &mut buf) else { panic!("it is always ready") };
        if buf.filled().is_empty() {
            return out;
        }
        out.extend_from_slice(buf.filled());
    }
}
