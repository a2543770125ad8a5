//! An agent that speaks HTTP/2 frame by frame: inside a tunnel, over TLS or not, or to the listener itself.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::support::raw::trusting;
use crate::support::wire::frames::{DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, field, frame};
use crate::support::{Agent, World};

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// One connection of HTTP/2.
pub(super) struct Framed {
    wire: Box<dyn Wire>,
    socket: TcpStream,
}

/// How a stream ended, or its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// An answer: the block of its head, and its content.
    Answered(Vec<u8>, String),
    /// `RST_STREAM` with this code.
    Reset(u32),
    /// `GOAWAY` with this code, which is not 0.
    Farewell(u32),
    /// Without a word.
    Closed,
}

impl Ended {
    /// Whether the proxy ended the connection.
    pub(super) fn is_of_connection(&self) -> bool {
        matches!(self, Self::Farewell(_) | Self::Closed)
    }
}

impl Framed {
    /// In an intercepted tunnel. The preface and empty SETTINGS have gone out.
    #[track_caller]
    pub(super) fn in_tunnel(world: &World, host: &str) -> Self {
        let (reply, stream) = world.agent().connect(&format!("{host}:443"));
        assert_eq!(reply.status, 200, "{reply:?}");
        let socket = stream.try_clone().unwrap();
        let tls = trusting(&world.home.path().join("ca.pem"), &["h2"]);
        let mut wire = StreamOwned::new(ClientConnection::new(tls, ServerName::try_from(host.to_owned()).unwrap()).unwrap(), stream);
        while wire.conn.is_handshaking() {
            wire.conn.complete_io(&mut wire.sock).unwrap();
        }
        assert_eq!(wire.conn.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(Box::new(wire), socket)
    }

    /// In a tunnel to a port, without TLS.
    #[track_caller]
    pub(super) fn in_plain_tunnel(world: &World, target: &str) -> Self {
        let (reply, stream) = world.agent().connect(target);
        assert_eq!(reply.status, 200, "{reply:?}");
        let socket = stream.try_clone().unwrap();
        Self::over(Box::new(stream), socket)
    }

    /// To the listener.
    pub(super) fn to_listener(agent: &Agent) -> Self {
        let stream = agent.dial();
        let socket = stream.try_clone().unwrap();
        Self::over(Box::new(stream), socket)
    }

    fn over(wire: Box<dyn Wire>, socket: TcpStream) -> Self {
        let mut framed = Self { wire, socket };
        assert!(framed.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()));
        framed
    }

    /// Bytes as they are; false where the other end has hung up.
    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        self.wire.write_all(bytes).and_then(|()| self.wire.flush()).is_ok()
    }

    /// How long a frame is waited for.
    pub(super) fn patience(&self, limit: Duration) {
        self.socket.set_read_timeout(Some(limit)).unwrap();
    }

    /// The next frame; SETTINGS and PING are acknowledged.
    pub(super) fn frame(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.wire.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.wire.read_exact(&mut payload)?;
        let found = Frame { kind: head[3], flags: head[4], stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]), payload };
        if matches!(found.kind, SETTINGS | PING) && found.flags & 1 == 0 {
            let payload = if found.kind == PING { &found.payload[..] } else { &[] };
            self.send(&frame(found.kind, 1, 0, payload));
        }
        Ok(found)
    }

    /// How the stream ends, or the connection before it.
    #[track_caller]
    pub(super) fn ended(&mut self, stream: u32) -> Ended {
        let (mut head, mut content) = (Vec::new(), Vec::new());
        loop {
            let found = match self.frame() {
                Ok(found) => found,
                Err(e) => {
                    assert!(!matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "stream {stream} goes on: {e}");
                    return Ended::Closed;
                }
            };
            match found.kind {
                GOAWAY if found.payload[4..8] != [0; 4] => return Ended::Farewell(code(&found.payload[4..])),
                RST_STREAM if found.stream == stream => return Ended::Reset(code(&found.payload)),
                HEADERS if found.stream == stream => head = found.payload,
                DATA if found.stream == stream => content.extend_from_slice(&found.payload),
                _ => continue,
            }
            if matches!(found.kind, HEADERS | DATA) && found.flags & END_STREAM != 0 {
                return Ended::Answered(head, String::from_utf8_lossy(&content).into_owned());
            }
        }
    }

    /// How the connection ends, whatever still comes.
    #[track_caller]
    pub(super) fn end(&mut self) -> Ended {
        // No stream has this number.
        self.ended(0x7fff_fffe)
    }
}

fn code(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Fields as a block of HPACK.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// A request without content.
pub(super) fn get(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))
}

/// A request that content follows.
pub(super) fn open(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(fields))
}

/// The pseudo-fields of a request to `openrouter.ai`, with these fields behind them.
pub(super) fn request<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![(":method", method), (":scheme", "https"), (":authority", "openrouter.ai"), (":path", path)];
    fields.extend_from_slice(more);
    fields
}
