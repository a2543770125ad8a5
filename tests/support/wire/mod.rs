//! HTTP in a form that does not depend on its version: origins and agents of the same tests over HTTP/1.1 and HTTP/2.
//!
//! Everything here is asynchronous; [`run`] runs a test of it. Operations end in `Result<_, Ending>`: an error is how the exchange ended.

pub mod agent;
pub mod agent_h1;
pub mod agent_h2;
pub mod h1;
pub mod origin;
pub mod origin_h1;
pub mod origin_h2;
pub mod stage;

use std::future::Future;
use std::io;
use std::time::Duration;

pub use agent::{Answer, Ask, Content, Down, Line, Up, WireAgent};
pub use origin::{Offer, Seen, Turn, WireOrigin};
pub use stage::Stage;

/// How long a step may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Header or trailer fields in the order of their arrival, names in lower case.
pub type Fields = Vec<(String, Vec<u8>)>;

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
}

impl Protocol {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::H1, Self::H2];

    /// Its name in ALPN.
    pub fn alpn(self) -> &'static str {
        match self {
            Self::H1 => "http/1.1",
            Self::H2 => "h2",
        }
    }
}

/// The four pairings: the agent's protocol, the origin's.
pub const PAIRINGS: [(Protocol, Protocol); 4] =
    [(Protocol::H1, Protocol::H1), (Protocol::H1, Protocol::H2), (Protocol::H2, Protocol::H1), (Protocol::H2, Protocol::H2)];

/// How a message ended, or a stream of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It has not ended.
    Open,
    /// As its framing says.
    Whole,
    /// By `RST_STREAM` with this code (RFC 9113 7).
    Reset(u32),
    /// With its connection, before its framing's end.
    Cut,
}

impl From<h2::Error> for Ending {
    fn from(error: h2::Error) -> Self {
        if error.is_reset() { error.reason().map_or(Self::Cut, |reason| Self::Reset(reason.into())) } else { Self::Cut }
    }
}

impl From<io::Error> for Ending {
    fn from(_: io::Error) -> Self {
        Self::Cut
    }
}

/// The head of an answer, interim or final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// The reason phrase; HTTP/2 has none.
    pub reason: String,
    /// The fields.
    pub fields: Fields,
}

/// Fields from literals.
pub fn fields<V: AsRef<[u8]> + ?Sized>(pairs: &[(&str, &V)]) -> Fields {
    pairs.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_ref().to_vec())).collect()
}

/// The values of a field.
pub fn values<'a>(fields: &'a Fields, name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_slice()).collect()
}

fn to_map(fields: &Fields) -> http::HeaderMap {
    let mut map = http::HeaderMap::new();
    for (name, value) in fields {
        map.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), http::HeaderValue::from_bytes(value).unwrap());
    }
    map
}

fn from_map(map: &http::HeaderMap) -> Fields {
    map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// Runs a test on a runtime of its own; a test that hangs fails.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), test).await });
    runtime.shutdown_background();
    done.expect("the test ends within two minutes")
}

/// The result of one step, which must come in time.
#[track_caller]
pub fn patiently<T>(what: &str, step: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move { tokio::time::timeout(PATIENCE, step).await.unwrap_or_else(|_| panic!("{place}: not within {PATIENCE:?}: {what}")) }
}

/// Waits until the thing is so, asking again and again.
pub async fn until<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
