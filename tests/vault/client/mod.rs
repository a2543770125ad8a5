//! The client for Vault, against a real server.

mod engines;
mod faults;
mod life;
mod login;
mod reading;
mod refusals;
mod strangers;
mod transport;
mod wrapped;

use std::fmt::Debug;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyhatch::credential::Secret;
use keyhatch::vault::hashicorp::{Login, Reading, Vault, VaultError, VaultErrorKind, VaultSettings};

use crate::support::Bao;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn settings(address: &str, login: Login) -> VaultSettings {
    VaultSettings::new(address, login)
}

fn token(token: &str) -> Login {
    Login::Token(Secret::from_opened(token.as_bytes()))
}

fn vault(bao: &Bao, login: Login) -> Arc<Vault> {
    Vault::new(settings(&bao.addr(), login)).unwrap()
}

/// Vault as root.
fn root(bao: &Bao) -> Arc<Vault> {
    vault(bao, token(bao.root_token()))
}

fn field(reading: &Reading, name: &str) -> String {
    String::from_utf8(reading.fields.get(name).unwrap_or_else(|| panic!("no {name}")).expose().to_vec()).unwrap()
}

/// The error of a call that must fail, after a look that it holds none of the secrets.
#[track_caller]
fn failed<T>(result: Result<T, VaultError>, kind: VaultErrorKind, secrets: &[&str]) -> String {
    let error = result.err().expect("it fails");
    let (shown, debug) = (error.to_string(), format!("{error:?}"));
    assert_eq!(error.kind, kind, "{shown}");
    for secret in secrets {
        assert!(!secret.is_empty() && !shown.contains(secret) && !debug.contains(secret), "{debug}");
    }
    assert!(!shown.contains('\n'), "one line: {shown:?}");
    shown
}

/// Asks again until it is so.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A file that holds this.
fn file(bao: &Bao, name: &str, content: &str) -> PathBuf {
    let path = bao.dir().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Puts something else into a file, in one step, as a Vault Agent does.
fn swap(path: &PathBuf, content: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// A server of HTTP/1 that answers every request alike, and counts them. It ends with the process.
struct Stub {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Stub {
    /// `answer` makes status line, header fields and body of a request's head.
    fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let mut stream = stream.unwrap();
                let head = read_request(&mut stream);
                let _ = stream.write_all(answer(&head).as_bytes());
            }
        });
        Self { address, asked }
    }

    fn json(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Head and body of a request with a length.
fn read_request(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => all.extend_from_slice(&buffer[..n]),
            _ => return text,
        }
    }
}

/// Whether a type has `Debug`: an inherent constant is found before the trait's.
macro_rules! has_debug {
    ($type:ty) => {{
        #[allow(dead_code)]
        trait Otherwise {
            const HAS: bool = false;
        }
        struct Probe<T>(std::marker::PhantomData<T>);
        impl<T> Otherwise for Probe<T> {}
        #[allow(dead_code)]
        impl<T: Debug> Probe<T> {
            const HAS: bool = true;
        }
        <Probe<$type>>::HAS
    }};
}

#[test]
fn what_holds_secrets_cannot_be_printed() {
    assert!(has_debug!(VaultError), "the macro sees Debug");
    assert!(!has_debug!(Vault) && !has_debug!(VaultSettings) && !has_debug!(Login) && !has_debug!(Reading));
    assert!(!has_debug!(keyhatch::vault::hashicorp::Fields));
}
