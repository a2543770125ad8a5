//! What stands where an origin should.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::raw::PATIENCE;
use crate::support::{holds, package_dir, skip, target_dir, within};

/// An address at which nobody listens.
pub(super) fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A ServerHello (RFC 5246 7.4.1.3) of that version and suite; its random ends in `tail`.
pub(super) fn hello(version: u16, suite: u16, tail: [u8; 8]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([0x5a; 24]);
    body.extend(tail);
    body.push(0);
    body.extend(suite.to_be_bytes());
    // No compression; renegotiation_info and extended_master_secret, as any server has them.
    body.extend([0, 0, 9, 0xff, 0x01, 0, 1, 0, 0, 0x17, 0, 0]);
    let length = u8::try_from(body.len()).unwrap();
    let record = version.to_be_bytes();
    [&[0x16, record[0], record[1], 0, length + 4, 2, 0, 0, length][..], &body].concat()
}

/// Answers the first bytes with some of its own, and keeps all that comes.
pub(super) struct Bytes {
    pub(super) address: SocketAddr,
    got: Arc<Mutex<Vec<u8>>>,
}

impl Bytes {
    /// With `ends` it closes its side after that, else it stays silent.
    pub(super) fn start(answer: Vec<u8>, ends: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let got: Arc<Mutex<Vec<u8>>> = Arc::default();
        let all = got.clone();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let (answer, all) = (answer.clone(), all.clone());
                std::thread::spawn(move || -> io::Result<()> {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    let mut buffer = [0; 16 << 10];
                    let first = stream.read(&mut buffer)?;
                    all.lock().unwrap().extend_from_slice(&buffer[..first]);
                    stream.write_all(&answer)?;
                    if ends {
                        stream.shutdown(Shutdown::Write)?;
                    }
                    let mut rest = Vec::new();
                    let ended = stream.read_to_end(&mut rest);
                    all.lock().unwrap().extend_from_slice(&rest);
                    ended.map(drop)
                });
            }
        });
        Self { address, got }
    }

    /// What came is a handshake and alerts, record for record (RFC 8446 5.1), and no word of HTTP.
    #[track_caller]
    pub(super) fn got_no_request(&self) {
        let got = self.got.lock().unwrap();
        assert!(got.first() == Some(&0x16) && !holds(&got, "HTTP/1.1") && !holds(&got, "GET ") && !holds(&got, "Bearer"), "{got:?}");
        let mut rest = &got[..];
        while let [kind, _, _, high, low, after @ ..] = rest {
            assert!(matches!(kind, 0x14..=0x16), "a record of type {kind:#x}");
            rest = after.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
        }
    }
}

/// Passes connections on, and notes what each ClientHello offers.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    to: Arc<Mutex<Option<SocketAddr>>>,
    offers: Arc<Mutex<Vec<Vec<u16>>>>,
}

impl Relay {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let relay = Self { address, to: Arc::default(), offers: Arc::default() };
        let (to, offers) = (relay.to.clone(), relay.offers.clone());
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (to, offers) = (to.clone(), offers.clone());
                std::thread::spawn(move || pass(stream, &to, &offers));
            }
        });
        relay
    }

    pub(super) fn lead_to(&self, place: SocketAddr) {
        *self.to.lock().unwrap() = Some(place);
    }

    /// The types of the extensions of each ClientHello so far.
    pub(super) fn offers(&self) -> Vec<Vec<u16>> {
        self.offers.lock().unwrap().clone()
    }
}

fn pass(mut near: TcpStream, to: &Mutex<Option<SocketAddr>>, offers: &Mutex<Vec<Vec<u16>>>) -> io::Result<()> {
    let place = to.lock().unwrap().ok_or(io::ErrorKind::NotConnected)?;
    let mut far = TcpStream::connect(place)?;
    let mut first = vec![0; 5];
    near.read_exact(&mut first)?;
    first.resize(5 + usize::from(u16::from_be_bytes([first[3], first[4]])), 0);
    near.read_exact(&mut first[5..])?;
    offers.lock().unwrap().push(extensions(&first[5..]).unwrap_or_default());
    far.write_all(&first)?;
    let (mut back, mut home) = (far.try_clone()?, near.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut back, &mut home);
        home.shutdown(Shutdown::Both)
    });
    let _ = io::copy(&mut near, &mut far);
    far.shutdown(Shutdown::Both)
}

/// The types of a ClientHello's extensions (RFC 8446 4.1.2).
fn extensions(hello: &[u8]) -> Option<Vec<u16>> {
    fn long(bytes: &[u8]) -> Option<usize> {
        Some(usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?])))
    }
    // Type, length, version, random; then the session, the suites and the compressions, each after its length.
    let rest = hello.get(4 + 2 + 32..)?;
    let rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    let rest = rest.get(2 + long(rest)?..)?;
    let rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    let mut rest = rest.get(2..)?;
    let mut out = Vec::new();
    while rest.len() >= 4 {
        out.push(u16::from_be_bytes([rest[0], rest[1]]));
        rest = rest.get(4 + long(&rest[2..])?..)?;
    }
    Some(out)
}

/// A server of OpenSSL's, in Python, which still does what rustls does not.
const SERVER: &str = r#"
import socket, ssl, sys
name, version, ciphers = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.set_ciphers(ciphers + ":@SECLEVEL=0")
context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
context.load_cert_chain(name + ".pem", name + ".key")
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    stream, _ = listener.accept()
    stream.settimeout(20)
    try:
        with context.wrap_socket(stream, server_side=True) as secured:
            print("got", secured.recv(4096), flush=True)
    except OSError:
        stream.close()
"#;

/// The process; killed when the value is dropped.
pub(super) struct Foreign {
    pub(super) address: SocketAddr,
    child: Child,
    got: Arc<Mutex<String>>,
}

impl Foreign {
    /// `None` where this machine has no Python, or one whose OpenSSL does not do it either.
    pub(super) fn start(test: &str, arguments: &[&str]) -> Option<Self> {
        let own = target_dir().join("venv/bin/python");
        let python = if own.exists() { own } else { "python3".into() };
        let mut command = Command::new(python);
        command.args(["-W", "ignore", "-c", SERVER]).args(arguments).current_dir(package_dir().join("tests/hostile/testdata"));
        let spawned = command.env("OPENSSL_CONF", "/dev/null").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut child) = spawned else {
            skip(test, "no python3 on this machine");
            return None;
        };
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut port = String::new();
        said.read_line(&mut port).unwrap();
        let Ok(port) = port.trim().parse::<u16>() else {
            let _ = child.wait();
            skip(test, "the OpenSSL of this machine's Python does not serve that");
            return None;
        };
        let got: Arc<Mutex<String>> = Arc::default();
        let all = got.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            while said.read_line(&mut line).is_ok_and(|n| n > 0) {
                all.lock().unwrap().push_str(&std::mem::take(&mut line));
            }
        });
        Some(Self { address: SocketAddr::from(([127, 0, 0, 1], port)), child, got })
    }

    /// A handshake may have ended on its side, but no byte came after it.
    #[track_caller]
    pub(super) fn got_nothing(&self) {
        let got = self.got.lock().unwrap().clone();
        assert!(got.lines().all(|line| line == "got b''"), "{got}");
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        within(Duration::from_secs(5), "the server ends", || self.child.try_wait().unwrap());
    }
}
